"""What all jobs of a run share in S3: the workflow's sources and the variables of `envvars:`."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.aws import join_s3_uri, split_s3_uri
from snakemake_executor_takeda.named_files import named_files

ENVIRONMENT = "environment.json"


class Delivery:
    """Puts a run's shared objects below its prefix, once per run.

    The sources stay when the run has ended: a job that outlives its controller still needs them.
    The variables do not: they may be secret. They are encrypted at rest and removed by `close`.
    """

    def __init__(self, s3: Any, prefix: str) -> None:
        self._s3 = s3
        self._prefix = prefix
        self._environment_uri: str | None = None

    def sources(self, workflow: Any) -> str:
        """Upload the sources as Snakemake packs them (tar.xz), and what they name; returns the URI, which
        tells what is in them: jobs of an earlier controller go on with theirs."""
        dag, more = workflow.dag, named_files(workflow)
        known = dag.get_sources
        # Snakemake (9.27) has no way to add to them.
        dag.get_sources = lambda: {*known(), *more}
        try:
            with tempfile.TemporaryDirectory() as directory:
                archive = Path(directory) / "sources.tar.xz"
                workflow.write_source_archive(archive)
                content = archive.read_bytes()
        finally:
            del dag.get_sources
        return self._put(f"sources-{hashlib.sha256(content).hexdigest()[:16]}.tar.xz", content)

    def environment(self, variables: dict[str, str]) -> str | None:
        """Upload the variables; returns the URI, None where there are none."""
        if variables:
            self._environment_uri = self._put(ENVIRONMENT, json.dumps(variables).encode())
        return self._environment_uri

    def close(self) -> None:
        if self._environment_uri:
            remove_environment(self._s3, self._prefix)

    def _put(self, name: str, body: bytes) -> str:
        uri = join_s3_uri(self._prefix, name)
        bucket, key = split_s3_uri(uri)
        # S3 encrypts every object. To say how would take a bucket's own KMS key out of use.
        self._s3.put_object(Bucket=bucket, Key=key, Body=body)
        return uri


def remove_environment(s3: Any, prefix: str) -> None:
    """Remove the variables of the run with this prefix, if there are any."""
    bucket, key = split_s3_uri(join_s3_uri(prefix, ENVIRONMENT))
    s3.delete_object(Bucket=bucket, Key=key)

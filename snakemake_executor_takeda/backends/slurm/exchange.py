"""How a run and its tasks hand things over: by a file system that both see, or by S3.

Both give the places that a job is told of, and the records that its tasks leave there.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.slurm.records import (
    TEMPORARY,
    ExitRecord,
    ExitRecords,
    Records,
    log_folder,
    log_on_node,
    parse_record,
)
from snakemake_executor_takeda.backends.slurm.request import submission_environment
from snakemake_executor_takeda.backends.slurm.states import Place
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.backends.slurm.request import JobRequest
    from snakemake_executor_takeda.values import Submission, Target

_READERS = 16
_log = logging.getLogger(__name__)


class Exchange(Protocol):
    """Where things lie, as the nodes see them."""

    records: Records
    exit_records: str
    """Where a task leaves its record: a folder or `s3://…`."""
    is_shared: bool
    """Whether the run's own directory is the nodes', too."""

    def check(self, target: Target) -> None:
        """Raises TakedaError where this cannot work for a target."""

    def prepare(self) -> None:
        """Make what must be there before anything is submitted."""

    def put_manifest(self, submission: Submission, content: bytes) -> str:
        """Where the manifest lies now."""

    def placed(self, request: JobRequest, submission: Submission) -> JobRequest:
        """The request with folder, log and environment as they are on the cluster."""

    def scratch(self, target: Target) -> Path:
        """Folder for tasks' work directories, on the nodes."""

    def on_nodes(self, submission: Submission) -> Submission:
        """The submission with what its target says as it holds on the nodes."""


class SharedFolders:
    """The run's own directory, which the nodes see."""

    is_shared = True

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._exits = context.state_dir / "exits"
        self.logs = context.state_dir / "logs"
        self._manifests = context.state_dir / "manifests"
        self.records: Records = ExitRecords(self._exits)
        self.exit_records = str(self._exits)

    def check(self, target: Target) -> None:
        scratch = self.scratch(target)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=scratch):
                pass
        except OSError as error:
            raise TakedaError(
                f"target {target.name}: its scratch {scratch} can't be written: {error.strerror}. "
                "Name a folder on a file system that this machine and the nodes share."
            ) from error

    def prepare(self) -> None:
        for folder in (self._exits, self.logs, self._manifests):
            folder.mkdir(parents=True, exist_ok=True)

    def put_manifest(self, submission: Submission, content: bytes) -> str:
        path = self._manifests / submission.submission_id
        # All of it or nothing, and for its owner only: a manifest holds command lines.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.touch(mode=0o600)
        temporary.write_bytes(content)
        temporary.replace(path)
        log_folder(self.logs, submission).mkdir(parents=True, exist_ok=True)
        return str(path)

    def placed(self, request: JobRequest, submission: Submission) -> JobRequest:
        return replace(request, environment=submission_environment(os.environ))

    def scratch(self, target: Target) -> Path:
        scratch: str | None = target.options.scratch
        return Path(scratch) if scratch else self._context.state_dir / "scratch"

    def on_nodes(self, submission: Submission) -> Submission:
        return submission


class ThroughS3:
    """Nothing is shared with the cluster: this machine may be anywhere."""

    is_shared = False

    def __init__(self, context: RunContext, s3: Any = None) -> None:
        if context.remote_prefix is None or context.sources_uri is None:
            raise TakedaError(
                "`exchange: s3` of a Slurm target needs a run whose files and sources are in S3: set "
                "`default-storage-provider: s3`, `default-storage-prefix` and `shared-fs-usage: none` "
                "in the profile."
            )
        self._prefix = context.remote_prefix
        self._s3 = s3 if s3 is not None else aws.client("s3")
        self.exit_records = aws.join_s3_uri(self._prefix, "exits")
        self.records: Records = S3Records(self._s3, self.exit_records)

    def check(self, target: Target) -> None:
        """Its folders are on the nodes: a task that misses one says so in its log."""

    def prepare(self) -> None:
        """S3 needs no folders."""

    def put_manifest(self, submission: Submission, content: bytes) -> str:
        uri = aws.join_s3_uri(self._prefix, "manifests", submission.submission_id)
        bucket, key = aws.split_s3_uri(uri)
        self._s3.put_object(Bucket=bucket, Key=key, Body=content)
        return uri

    def placed(self, request: JobRequest, submission: Submission) -> JobRequest:
        from snakemake_executor_takeda.backends.slurm.clients.rest_request import (
            DEFAULT_PATH,
            LOGIN_ENVIRONMENT,
        )

        workdir: str = submission.target.options.workdir or TEMPORARY
        log = str(log_on_node(submission, "\0")).replace("%", "%%").replace("\0", "%a")
        # The variables of this machine mean nothing there: the user's login environment does.
        environment = {LOGIN_ENVIRONMENT: "1", "PATH": DEFAULT_PATH}
        return replace(request, workdir=workdir, log=log, environment=environment)

    def scratch(self, target: Target) -> Path:
        options: SlurmOptions = target.options
        return Path(options.scratch or TEMPORARY)  # each task makes a private folder in it

    def on_nodes(self, submission: Submission) -> Submission:
        options: SlurmOptions = submission.target.options
        if "python" in options.model_fields_set:
            return submission
        # The default is the path of this machine's own.
        there = options.model_copy(update={"python": "python3"})
        return replace(submission, target=replace(submission.target, options=there))


class S3Records:
    """The objects that workers leave, one for each task. What was read is kept."""

    shows_logs = False

    def __init__(self, s3: Any, uri: str) -> None:
        self._s3 = s3
        self._bucket, self._prefix = aws.split_s3_uri(f"{uri}/")
        prefix = uri.rpartition("/")[0]
        self.place = Place(prefix, f"can they read {prefix}")
        self._known: dict[str, ExitRecord] = {}
        self._is_silent = False

    def names(self) -> set[str]:
        """Ids of the tasks whose record is there: one call for a thousand. New ones are read at once."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = set(self._listed())
            new = sorted(found - self._known.keys())
            with ThreadPoolExecutor(_READERS, thread_name_prefix="takeda-records") as readers:
                for name, record in zip(new, readers.map(self._fetch, new), strict=True):
                    if record is not None:
                        self._known[name] = record
        except (BotoCoreError, ClientError) as error:
            if not self._is_silent:
                _log.warning("S3 does not say which jobs have ended, asking again: %s", error)
            self._is_silent = True
        else:
            self._is_silent = False
        return set(self._known)

    def refresh(self) -> None:
        """S3 shows what there is."""

    def read(self, task_id: str) -> ExitRecord | None:
        from botocore.exceptions import BotoCoreError, ClientError

        if task_id not in self._known:
            try:
                record = self._fetch(task_id)
            except (BotoCoreError, ClientError):
                return None
            if record is None:
                return None
            self._known[task_id] = record
        return self._known[task_id]

    def has_room(self) -> bool:
        return True

    def _listed(self) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        names = (key.removeprefix(self._prefix) for key in keys if key.endswith(".json"))
        return [name.removesuffix(".json") for name in names]

    def _fetch(self, task_id: str) -> ExitRecord | None:
        from botocore.exceptions import ClientError

        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=f"{self._prefix}{task_id}.json")
        except ClientError as error:
            if aws.http_status(error) == 404:
                return None
            raise
        return parse_record(answer["Body"].read())


def exchange_of(targets: Sequence[Target], context: RunContext, *, from_afar: bool) -> Exchange:
    """As the targets say; else S3 for a client that may be far from the cluster, in a run with S3."""
    said = {
        target.options.exchange: target.name
        for target in targets
        if target.options.exchange != "auto"
    }
    if len(said) > 1:
        names = ", ".join(f"{name} says {word}" for word, name in said.items())
        raise TakedaError(f"the Slurm targets of a run have one `exchange`, but {names}")
    if "s3" in said or (not said and from_afar and context.sources_uri is not None):
        return ThroughS3(context)
    return SharedFolders(context)

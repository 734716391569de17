"""The sandbox's daemon, with jobs and HealthOmics as AWS clients of their own behind a recorder.

Started as `python iam_sandbox.py RECORDER_URL JOB_KEY OMICS_KEY …the daemon's own arguments`.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from snakemake_executor_takeda.sandbox import batch, daemon, omics
from snakemake_executor_takeda.sandbox.services import Context, Service
from snakemake_executor_takeda.sandbox.variables import client_variables


class _Of:
    """Stands for a module of a service, which gets the variables of one role."""

    def __init__(self, module: object, url: str, key: str) -> None:
        self._module = module
        self._url = url
        self._variables = client_variables(url, url, key)

    def service(self, context: Context) -> Service:
        own = replace(context, environment=self._variables, moto_url=self._url)
        made: Service = self._module.service(own)  # type: ignore[attr-defined]
        return made


if __name__ == "__main__":
    _, url, job_key, omics_key = sys.argv[:4]
    del sys.argv[1:4]
    sys.modules["iam_batch"] = _Of(batch, url, job_key)  # type: ignore[assignment]
    sys.modules["iam_omics"] = _Of(omics, url, omics_key)  # type: ignore[assignment]
    daemon.SERVICE_MODULES = ("iam_batch", "iam_omics")
    sys.exit(daemon.main())

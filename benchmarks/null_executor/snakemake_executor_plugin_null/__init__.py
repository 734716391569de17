"""A Snakemake executor that does nothing but what every executor must: it reports each job."""

from __future__ import annotations

from typing import Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
)


class Executor(RemoteExecutor):
    """Submitted and succeeded in the same breath."""

    def run_job(self, job: Any) -> None:
        info = SubmittedJobInfo(job, external_jobid="none")
        self.report_job_submission(info)
        self.report_job_success(info)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Nothing runs."""

    async def _wait_for_jobs(self) -> None:
        """Nothing is waited for, so the base class's thread ends at once."""

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> Any:
        """Part of the interface; never called."""
        for info in active_jobs:
            yield info

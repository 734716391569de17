"""The --takeda-* flags, and what Snakemake needs to know of the executor before it starts."""

# Snakemake reads the fields' types: no postponed annotations, and Optional rather than `| None`.
import os
import sys
from dataclasses import dataclass, field
from typing import Any, Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_takeda.regions import heed_aws_region

common_settings = CommonSettings(
    non_local_exec=True,
    # The profile decides (docs/storage.md); the plugin checks at start and says what is missing.
    implies_no_shared_fs=False,
    # The plugin keeps its own copy of the sources: Snakemake deletes its archive when it exits.
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    # Values of `envvars:` would be readable in the command.
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
)


def _flag(help_text: str, *, env_var: bool = False, default: Any = None) -> Any:
    return field(
        default=default,
        metadata={"help": help_text, "env_var": env_var, "required": False},
    )


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """One field a flag; all optional, all JSON-serialisable."""

    routing: Optional[str] = _flag(
        "Routing policy (YAML): which job runs where. Without one, the four targets below are used.",
        env_var=True,
    )
    batch_queue: Optional[str] = _flag(
        "AWS Batch job queue for ordinary jobs, where no routing policy is given.", env_var=True
    )
    slurm_partition: Optional[str] = _flag(
        "Slurm partition for MPI and multi-node jobs (for all jobs, where no Batch queue is given), "
        "where no routing policy is given. 'default' is the cluster's default partition, 'auto' the "
        "smallest that fits each job.",
        env_var=True,
    )
    omics_role_arn: Optional[str] = _flag(
        "IAM role that HealthOmics runs assume, where no routing policy is given.", env_var=True
    )
    omics_output_uri: Optional[str] = _flag(
        "S3 URI that HealthOmics runs write below, where no routing policy is given.", env_var=True
    )
    staging: Optional[str] = _flag(
        "S3 URI for what a run keeps for its jobs (sources, manifests). "
        "Default: .takeda/ below the default storage prefix."
    )
    ledger_copy: bool = _flag(
        "Keep a copy of the ledger in S3, beside what the run keeps for its jobs, so that the same command "
        "on another machine goes on with a run whose machine is gone. Default: False.",
        default=False,
    )
    coalesce_seconds: float = _flag(
        "Send waiting jobs off when no further one has become ready for this many seconds. Default: 0.5.",
        default=0.5,
    )
    coalesce_max_seconds: float = _flag(
        "Send waiting jobs off after this many seconds at the latest. Default: 3.", default=3.0
    )
    poll_seconds: float = _flag(
        "Longest pause between two looks at a service while nothing changes, in seconds. Default: 10.",
        default=10.0,
    )
    interruptions: int = _flag(
        "How often a job that lost its node is sent again to the same target before the target's "
        "fallback takes it. Does not count against --retries. Default: 2.",
        default=2,
    )
    on_interrupt: str = _flag(
        "What a Ctrl-C does with jobs that run: 'cancel' ends them, 'detach' leaves them running; the "
        "same command with --rerun-incomplete goes on with them. Default: cancel.",
        default="cancel",
    )
    progress: str = _flag(
        "A table of the jobs by target at the bottom of the terminal: 'auto' where there is a terminal and "
        "neither CI, --quiet nor --verbose, 'live' wherever there is a terminal, 'none' nowhere. "
        "Default: auto.",
        default="auto",
    )

    def __post_init__(self) -> None:
        """A run that was made for the aws-batch plugin, and says no word of this one, shares no files,
        as that plugin implied. Snakemake asks `common_settings` after it has read the flags."""
        heed_aws_region()
        targets = (
            *(self.routing, self.batch_queue, self.slurm_partition),
            *(self.omics_role_arn, self.omics_output_uri),
        )
        common_settings.implies_no_shared_fs = not any(targets) and _is_made_for_aws_batch()


def _is_made_for_aws_batch() -> bool:
    if (
        "SNAKEMAKE_AWS_BATCH_JOB_QUEUE" not in os.environ
        and "snakemake_executor_plugin_aws_batch" not in sys.modules
    ):
        return False
    from snakemake_executor_takeda.backends.batch.migrating import names_a_queue

    return names_a_queue()

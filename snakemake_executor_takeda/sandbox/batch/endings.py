"""How attempts end, in AWS Batch's words."""

from __future__ import annotations

from snakemake_executor_takeda.sandbox.batch.jobs import Ending

EXITED = "Essential container in task exited"
NOT_STARTED = "Task failed to start"
TIMED_OUT = "Job attempt duration exceeded timeout"
SPOT_TASK_INTERRUPTED = "Your Spot Task was interrupted."
"""What a Fargate Spot task ends with."""
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"


def host_terminated(instance_id: str, exit_code: int | None = None) -> Ending:
    """How an attempt ends whose machine went away."""
    return Ending(f"Host EC2 (instance {instance_id}) terminated.", exit_code)


def timed_out() -> Ending:
    return Ending(TIMED_OUT, exit_code=137, can_retry=False)

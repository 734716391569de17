"""An AWS Batch of the sandbox's own: `service(context)` makes it."""

from snakemake_executor_takeda.sandbox.batch.service import BatchService, service

__all__ = ["BatchService", "service"]

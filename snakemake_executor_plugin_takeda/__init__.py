"""What Snakemake discovers: three names, nothing else (Snakemake imports it at every start)."""

from snakemake_executor_takeda.executor import Executor
from snakemake_executor_takeda.settings import ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

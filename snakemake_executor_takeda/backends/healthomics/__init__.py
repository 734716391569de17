"""Backend `healthomics`: a rule with `handoff="….wdl"` runs as one AWS HealthOmics run."""

from __future__ import annotations

from snakemake_executor_takeda.backends.healthomics.handoffs import backend

__all__ = ["backend"]

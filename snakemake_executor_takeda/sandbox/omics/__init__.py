"""A HealthOmics that answers unmodified AWS clients and runs WDL workflows for real, by miniwdl."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakemake_executor_takeda.sandbox.services import Context, Service


def service(context: Context) -> Service:
    """The emulated service, as the sandbox's server asks for it."""
    # Not at the top: the process of each run imports this package, too.
    from snakemake_executor_takeda.sandbox.omics.service import OmicsService

    return OmicsService(context)

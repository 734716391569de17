"""A plan as plain values, for JSON and for the page."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_executor_takeda.planning.building import Planning


def facts_of(planning: Planning) -> dict[str, Any]:
    """Seconds, USD and bytes; None for what is not known."""
    plan, book = planning.plan, planning.book
    return {
        "policy": planning.policy.source,
        "rules": [asdict(row) for row in plan.rows],
        "totals": asdict(plan.totals),
        "refused": sum(row.jobs for row in plan.refused),
        "notes": list(plan.notes),
        "unstaged": {
            "files": len(planning.unstaged),
            "bytes": planning.unstaged_bytes,
            "uris": sorted(planning.unstaged),
        },
        "prices": {
            "region": planning.region,
            "date": book.ec2.date if book and book.ec2 else None,
            "source": book.ec2.text if book and book.ec2 else None,
            "spot_is_estimate": not (book and book.spot),
        },
    }

"""What jobs used of what they asked for: CPU time and memory, where a backend tells."""

from __future__ import annotations

from dataclasses import dataclass

from snakemake_executor_takeda.values import Outcome, Shape

_BYTES_PER_KIB = 1024


@dataclass
class Efficiency:
    """Of jobs that ended well: what they used, added up, by `cpu_seconds` and `max_rss_kib` of their
    outcomes' detail."""

    cpu_seconds: float = 0.0
    """Used, of those whose CPU time is known."""
    cpu_seconds_had: float = 0.0
    """CPUs times wall time of the same jobs."""
    most_kib: int = 0
    """The most memory that one of them had."""
    asked_mb: int = 0
    """The most that one of them asked for."""

    def add(self, shape: Shape, outcome: Outcome) -> None:
        used, wall = outcome.detail.get("cpu_seconds"), outcome.wall_seconds
        if outcome.succeeded and used and wall:
            self.cpu_seconds += used
            self.cpu_seconds_had += shape.cpus * shape.tasks * wall
        if outcome.succeeded and (kib := outcome.detail.get("max_rss_kib")):
            self.most_kib = max(self.most_kib, kib)
            # of all nodes, as the memory used is that of all ranks
            self.asked_mb = max(self.asked_mb, (shape.mem_mb or 0) * shape.nodes)

    def words(self) -> str:
        """`83 % of its CPUs and at most 3,200 of 8,000 MB (40 %)`, empty where nothing is known."""
        parts = []
        if self.cpu_seconds_had:
            parts.append(
                f"{self.cpu_seconds / self.cpu_seconds_had:.0%} of its CPUs".replace("%", " %")
            )
        if self.most_kib:
            used_mb = self.most_kib * _BYTES_PER_KIB / 1e6
            asked = (
                f" of {self.asked_mb:,} MB ({used_mb / self.asked_mb:.0%})"
                if self.asked_mb
                else " MB"
            )
            parts.append(f"at most {used_mb:,.0f}{asked}".replace("%", " %"))
        return " and ".join(parts)

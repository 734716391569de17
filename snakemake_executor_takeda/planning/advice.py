"""What of a plan is likely to cost time or money for nothing, with what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakemake_executor_takeda.planning.history import Past
    from snakemake_executor_takeda.planning.plan import Row
    from snakemake_executor_takeda.routing.market import Offer
    from snakemake_executor_takeda.values import Shape, Target

LONG_ON_SPOT_HOURS = 8
SHORT_SECONDS = 60
MANY_JOBS = 100
MUCH_INPUT_BYTES = 10**9
MUCH_IN_ALL_BYTES = 10**12


@dataclass(frozen=True)
class Warning_:
    code: str
    """`spot`, `waste`, `input`, `short`, `limit` or `time`."""
    text: str
    fix: str


def warnings_of(
    row: Row,
    target: Target,
    longest: Shape,
    offer: Offer | None,
    past: Past | None,
    *,
    shared_bytes: int,
) -> Iterator[Warning_]:
    """Those of one row. `longest` is the shape of it that may run longest, `shared_bytes` what all of its
    jobs read."""
    yield from _of_spot(row, past)
    for advice in offer.advice if offer else ():
        yield Warning_(
            "waste", advice, f"name another of its sizes or families in `instances` of {target.name}, "
            "or change `threads` and `mem_mb` (in a profile: `set-threads`, `set-resources`)"
        )  # fmt: skip
    yield from _of_input(row, shared_bytes)
    if row.basis == "history" and row.jobs >= MANY_JOBS and (row.seconds_each or 0) < SHORT_SECONDS:
        yield Warning_(
            "short",
            f"{row.jobs:,} jobs of {row.seconds_each:.0f} s each: a container's start takes as long",
            f"run some in one job: `groups: {row.rule}={row.rule}s` and `group-components: "
            f"{row.rule}s=20` in the profile",
        )
    limit = longest.runtime_min
    if past and limit and past.longest_seconds > limit * 60 * 0.8:
        yield Warning_(
            "limit",
            f"one took {past.longest_seconds / 60:.0f} min, and the rule asks `runtime` {limit} min, "
            "after which it is ended",
            f"`set-resources: {row.rule}:runtime={_round_up(past.longest_seconds / 60 * 1.5)}`",
        )
    if row.basis == "unknown" and row.backend != "healthomics":
        yield Warning_(
            "time",
            "nobody says how long it takes",
            f"give it a `runtime` (`set-resources: {row.rule}:runtime=60`); after a run its history tells",
        )


def _of_spot(row: Row, past: Past | None) -> Iterator[Warning_]:
    if row.capacity != "spot" or row.seconds_each is None:
        return
    longest = max(row.seconds_each, past.longest_seconds if past else 0.0) / 3600
    if longest >= LONG_ON_SPOT_HOURS:
        yield Warning_(
            "spot",
            f"up to {longest:.0f} h on Spot: an instance that is taken away costs all that its job has done",
            f"`set-resources: {row.rule}:capacity=on-demand`, or let the rule keep checkpoints",
        )


def _of_input(row: Row, shared_bytes: int) -> Iterator[Warning_]:
    each = row.input_bytes_each or 0
    if each < MUCH_INPUT_BYTES or each * row.jobs < MUCH_IN_ALL_BYTES:
        return
    text = (
        f"{row.jobs:,} jobs read {each / 1e9:.1f} GB each, {each * row.jobs / 1e12:.1f} TB in all"
    )
    if shared_bytes >= each / 2:
        yield Warning_(
            "input",
            f"{text}, of which {shared_bytes / 1e9:.1f} GB are the same for all",
            "put those into the container image, or on a file system that the target mounts (`mounts`)",
        )
    else:
        yield Warning_(
            "input", text, f"run some in one job: `group-components: {row.rule}s=20` in the profile"
        )


def _round_up(minutes: float) -> int:
    return int(-(-minutes // 10) * 10)

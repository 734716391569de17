"""What the instances of a Batch target say of its jobs. Pure; the types are in `routing/instances.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_takeda.routing.instances import architecture_of

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Target


def architecture_problem(target: Target) -> str | None:
    """What is wrong if a target's `instances` and its `architecture` do not go together.

    On EC2 a job definition cannot say it: the processor is that of the queue's instances.
    """
    wanted = target.options.architecture
    if wanted is None or target.options.platform != "EC2":
        return None
    other = [one for one in target.instances if architecture_of(one) != wanted]
    if not other:
        return None
    return (
        f"{target.where}: architecture {wanted}, but {', '.join(other)} in `instances` "
        f"{'is' if len(other) == 1 else 'are'} {architecture_of(other[0])}: on EC2 the queue's instances "
        "decide, so name the right ones, or correct `architecture`"
    )

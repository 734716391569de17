"""What SubmitJob says of a job's turn: share, priority, consumable resources. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch.grammar import SHARE_PATTERN
from snakemake_executor_takeda.backends.batch.options import (
    CONSUMABLE_RESOURCES,
    MAX_CONSUMABLES,
    MAX_PRIORITY,
    SCHEDULING_PRIORITY,
    SHARE_IDENTIFIER,
)
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.batch.options import BatchOptions

_SHARE = re.compile(SHARE_PATTERN)
_AMOUNT = re.compile(r"\s*(?P<name>[^=\s]+)\s*=\s*(?P<quantity>\d+)\s*")


def scheduling_words(
    resources: Mapping[str, int | float | str], options: BatchOptions
) -> dict[str, Any]:
    """Members of SubmitJob from a rule's resources and, for what these leave open, from the target.

    Raises SubmissionError(configuration).
    """
    found: dict[str, Any] = {}
    share = resources.get(SHARE_IDENTIFIER, options.share_identifier)
    if share is not None:
        if not _SHARE.fullmatch(str(share)):
            raise _wrong(SHARE_IDENTIFIER, share, "write up to 255 letters and digits")
        found["shareIdentifier"] = str(share)
    priority = resources.get(SCHEDULING_PRIORITY, options.scheduling_priority)
    if priority is not None:
        if not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
            raise _wrong(SCHEDULING_PRIORITY, priority, f"write a number from 0 to {MAX_PRIORITY}")
        found["schedulingPriorityOverride"] = priority
    consumables = consumable_resources(resources, options)
    if consumables:
        found["consumableResourcePropertiesOverride"] = {
            "consumableResourceList": [
                {"consumableResource": name, "quantity": quantity}
                for name, quantity in consumables.items()
            ]
        }
    return found


def consumable_resources(
    resources: Mapping[str, int | float | str], options: BatchOptions
) -> dict[str, int]:
    """Consumable resource → quantity for each job: the target's, and a rule's
    `batch_consumable_resources="licence=1,tape=2"`, whose quantity holds (0 for none)."""
    wanted = dict(options.consumable_resources)
    given = resources.get(CONSUMABLE_RESOURCES)
    for part in str(given).split(",") if given is not None else ():
        amount = _AMOUNT.fullmatch(part)
        if not amount:
            raise _wrong(CONSUMABLE_RESOURCES, given, "write 'licence=1' or 'licence=1,tape=2'")
        wanted[amount["name"]] = int(amount["quantity"])
    wanted = {name: quantity for name, quantity in wanted.items() if quantity}
    if len(wanted) > MAX_CONSUMABLES:
        raise _wrong(CONSUMABLE_RESOURCES, given, f"name at most {MAX_CONSUMABLES} in all")
    return wanted


def _wrong(name: str, value: object, advice: str) -> SubmissionError:
    return SubmissionError(FailureKind.CONFIGURATION, f"{name}={value!r} is not valid", advice)

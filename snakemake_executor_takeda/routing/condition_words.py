"""Which words a route's conditions may use: every numeric resource, but no misspelling."""

from __future__ import annotations

from typing import Any

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.routing.conditions import (
    HOW_TO_COMPARE,
    KNOWN_RESOURCES,
    When,
    parse_comparison,
)
from snakemake_executor_takeda.routing.mistakes import did_you_mean
from snakemake_executor_takeda.routing.source import shown

# A word like one of these is a misspelling, as nobody calls a resource so: a mistake.
_OWN_WORDS = (
    "rule",
    "wildcards",
    "container",
    "mpi",
    "handoff",
    "attempt",
    "input_gb",
    "threads",
    "time",
    "weekday",
    "timezone",
)
# A word like one of these may well be a resource of the user's own, such as mem_gb: a hint.
_STANDARD_RESOURCES = (
    "mem_mb",
    "disk_mb",
    "runtime",
    "gpu",
    "nodes",
    "tasks",
    "tasks_per_node",
)
_USUAL = {
    "memory": "mem_mb",
    "ram": "mem_mb",
    "cpus": "threads",
    "cores": "threads",
    "walltime": "runtime",
    "day": "weekday",
    "hour": "time",
}
_REFUSED = dict.fromkeys(
    ("target", "backend", "capacity", "instance_type", "efa"),
    "is no condition: a rule that sets it overrides the routes by itself. Remove it.",
) | {
    # Snakemake turns mem="8GB" into mem_mb=8000: the first is text and cannot be compared.
    "mem": "is text in Snakemake. Use mem_mb, in MB.",
    "disk": "is text in Snakemake. Use disk_mb, in MB.",
}


def _is_known(word: str) -> bool:
    return word in When.model_fields or word in KNOWN_RESOURCES


def complaint(word: str, value: Any, written: str) -> str | None:
    """What is wrong with a condition, beyond what its model finds; `written` is the value in the file."""
    name = f"`{shown(word)}`"
    if value is None:
        return f"{name} has no value."
    if _is_known(word):
        return None
    if word in _REFUSED:
        return f"{name} {_REFUSED[word]}"
    own_word = nearest(word, _OWN_WORDS, cutoff=0.8)
    if own_word:
        return f"unknown word {name}. Did you mean {own_word}?"
    try:
        parse_comparison(value)
    except ValueError:
        return (
            f"`{shown(word)}: {written}` is neither a condition nor a number to compare with a "
            f"resource of that name ({HOW_TO_COMPARE}). "
            f"{did_you_mean(word, When.model_fields, 'Conditions')}"
        )
    return None


def hint(word: str) -> str | None:
    """What looks like a mistake, but is right where a rule sets a resource of this name."""
    if _is_known(word):
        return None
    near = _USUAL.get(word) or nearest(word, _STANDARD_RESOURCES, cutoff=0.75)
    if near is None:
        return None
    name = f"`{shown(word)}`"
    return (
        f"{name} is no resource of Snakemake's own. Did you mean {near}? (If your rules set {name}, "
        "all is well.)"
    )

"""Words of sbatch that users write, for clients that have to say them otherwise. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from snakemake_executor_takeda.nearest import nearest

_UNITS_MIB = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
_LETTERS = {
    "A": "account",
    "C": "constraint",
    "D": "chdir",
    "G": "gpus",
    "H": "hold",
    "L": "licenses",
    "N": "nodes",
    "O": "overcommit",
    "c": "cpus-per-task",
    "d": "dependency",
    "i": "input",
    "k": "no-kill",
    "n": "ntasks",
    "p": "partition",
    "q": "qos",
    "s": "oversubscribe",
    "t": "time",
    "w": "nodelist",
    "x": "exclude",
}


def said_by(
    fields: Mapping[str, Callable[[str], dict[str, Any]]], word: str, client: str
) -> dict[str, Any]:
    """What a word such as `--mem=1G` or `-N2` is by `fields`: long option → how its value is said.

    Raises ValueError naming the word that this client has no field for, or whose value it can't take.
    """
    if word.startswith("--"):
        name, _, value = word[2:].partition("=")
    else:
        name, value = _LETTERS.get(word[1], ""), word[2:]
    field = fields.get(name)
    if field is None:
        close = nearest(name, fields)
        hint = f" Did you mean --{close}?" if close and name not in _LETTERS.values() else ""
        raise ValueError(f"{word!r} can't be said through {client}.{hint}")
    try:
        return field(value)
    except (ValueError, KeyError):
        raise ValueError(f"{word!r} can't be said through {client}: not its value") from None


def mebibytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMGT]?)B?", text.upper())
    if not match:
        raise ValueError
    # Less than a whole MiB is one, as sbatch has it.
    return max(1, -(-int(int(match[1]) * _UNITS_MIB[match[2] or "M"] * 1024) // 1024))


def minutes(text: str) -> int:
    """`min`, `min:sec`, `h:min:sec`, `d-h`, `d-h:min` or `d-h:min:sec`, in minutes, rounded up."""
    days, dash, rest = text.rpartition("-")
    numbers = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, minutes, seconds = 0, *(*numbers, 0)[:2]
    if len(numbers) > 3:
        raise ValueError
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return -(-total // 60)

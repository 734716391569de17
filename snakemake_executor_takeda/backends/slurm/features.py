"""Constraints as `sbatch --constraint` takes them: which features they name, which nodes they allow. Pure."""

from __future__ import annotations

import re
from collections.abc import Set

_NAME = re.compile(r"[^&|,()\[\]*:\s]+")
_COUNT = re.compile(r"\*\d+")


def names_in(constraint: str) -> list[str]:
    """The features that a constraint names: `[rack1*2&(a|b)]` → rack1, a, b."""
    return list(dict.fromkeys(_NAME.findall(_COUNT.sub("", constraint))))


def allows(constraint: str | None, features: Set[str]) -> bool:
    """Whether a node with these features may take part. What is not plain, such as counts, brackets,
    or & and | together, is left to Slurm: a node of which any feature is named may."""
    if not constraint:
        return True
    names = names_in(constraint)
    if re.search(r"[\[\]()*:]", constraint) or (
        "|" in constraint and re.search(r"[&,]", constraint)
    ):
        return any(name in features for name in names)
    if "|" in constraint:
        return any(name in features for name in names)
    return all(name in features for name in names)

"""Mistakes of a hand-off: each names rule, input, wanted type and the fix; all are told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snakemake_executor_takeda.values import TakedaError


@dataclass(frozen=True)
class Mistake:
    """One thing a rule says that its workflow does not take."""

    message: str
    name: str = ""
    """The input, param or output as the rule names it; empty where it is none of them."""
    expected: str = ""
    """The type that the workflow declares, as its language writes it."""
    where: str = ""
    """The rule's line, `path/to/Snakefile:12`."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Mistakes(TakedaError):
    """One line for each."""

    def __init__(self, found: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(one) for one in found))
        self.found = tuple(found)


def refuse(found: Iterable[Mistake]) -> None:
    """Raises Mistakes where there is any; equal ones are told once."""
    unique = tuple(dict.fromkeys(found))
    if unique:
        raise Mistakes(unique)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """` Did you mean …?` for the nearest word, or the list of the words there are."""
    known = sorted(words)
    if close := difflib.get_close_matches(word, known, n=1, cutoff=0.5):
        return f" Did you mean `{close[0]}`?"
    return f" There are: {', '.join(known)}." if known else " There are none."

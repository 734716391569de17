"""Options of sbatch that users write themselves: which are refused, and how none becomes a script. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_REFUSED = {
    "array": "tasks become arrays by themselves",
    "clusters": "name another target instead",
    "error": "logs are kept with the run",
    "help": "it submits nothing",
    "job-name": "jobs are found by their name",
    "output": "logs are kept with the run",
    "parsable": "it is always given",
    "quiet": "messages of sbatch would be lost",
    "requeue": "a task that lost its node is sent again anyway",
    "test-only": "it submits nothing",
    "uid": "jobs run as their owner",
    "gid": "jobs run as their owner",
    "usage": "it submits nothing",
    "version": "it submits nothing",
    "wait": "jobs are watched anyway",
    "wrap": "the script is written here",
}
"""Long option → why it can't be set."""
_REFUSED_LETTERS = {
    "a": "array",
    "M": "clusters",
    "e": "error",
    "h": "help",
    "J": "job-name",
    "o": "output",
    "Q": "quiet",
    "V": "version",
    "W": "wait",
}
_LETTERS_WITHOUT_VALUE = frozenset("HkOsv")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def split_extra(text: str) -> tuple[str, ...]:
    """The words of a `slurm_extra` resource. Raises ValueError for what is not allowed."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    return checked_extra(words)


def checked_extra(words: Sequence[str]) -> tuple[str, ...]:
    """The words, each option joined with its value: `--mail-user me` → `--mail-user=me`.

    Joined, no word is left that sbatch could take for the script to run. Raises ValueError naming
    the word that is not allowed.
    """
    joined: list[str] = []
    open_to_value = False
    for word in words:
        if _UNPRINTABLE.search(word):
            raise ValueError(f"{word!r} holds a control character")
        if word.startswith("-") and word.strip("-"):
            _check_option(word)
            joined.append(word)
            open_to_value = "=" not in word if word.startswith("--") else len(word) == 2
        elif open_to_value and word.strip("-"):
            joined[-1] += f"={word}" if joined[-1].startswith("--") else word
            open_to_value = False
        else:
            raise ValueError(f"{word!r} is neither an option of sbatch nor the value of one")
    return tuple(joined)


def _check_option(word: str) -> None:
    if word.startswith("--"):
        name = word[2:].partition("=")[0]
        # sbatch takes any beginning of a long option that fits only one.
        refused = [option for option in _REFUSED if option.startswith(name) and len(name) > 2]
        if name in _REFUSED:
            refused = [name]
        if refused:
            raise ValueError(f"{word!r} can't be set: {_REFUSED[refused[0]]}")
        return
    for letter in word[1:]:
        if letter in _REFUSED_LETTERS:
            raise ValueError(f"{word!r} can't be set: {_REFUSED[_REFUSED_LETTERS[letter]]}")
        if letter not in _LETTERS_WITHOUT_VALUE:
            return

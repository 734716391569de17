"""Which options the sbatch of this machine knows, by its own help."""

from __future__ import annotations

import re
from collections.abc import Iterable

from snakemake_executor_takeda.nearest import nearest

_NOT_IN_HELP = frozenset(
    {
        "acctg-freq",
        "batch",
        "container-id",
        "hint",
        "kill-on-invalid-dep",
        "mem-bind",
        "network",
        "ntasks-per-gpu",
        "ntasks-per-tres",
        "open-mode",
        "prefer",
        "tasks-per-node",
        "wait-all-nodes",
    }
)
"""Those that some version (22.05 to 24.11) takes without saying so."""
_LETTERS = frozenset("aAbBcCdDeFGHhikJLmMnNoOpqQsStvVwWx")
_FEWEST = 20
"""In less there is no help, but a site's own script or a complaint."""


def options_in(help_text: str) -> frozenset[str] | None:
    """The long options that `sbatch --help` tells, those of plugins too; None where it tells nothing."""
    found = frozenset(re.findall(r"(?<![\w-])--([a-zA-Z][\w-]*)", help_text))
    return found | _NOT_IN_HELP if len(found) >= _FEWEST else None


def check_options(words: Iterable[str], known: frozenset[str]) -> None:
    """Raises ValueError for an option that sbatch would not recognize. It takes any beginning of one."""
    for word in words:
        if not word.startswith("--"):
            if word[1] not in _LETTERS:
                raise ValueError(f"{word!r} is no option of sbatch")
            continue
        name = word[2:].partition("=")[0]
        if not any(option.startswith(name) for option in known):
            close = nearest(name, known)
            hint = f". Did you mean --{close}?" if close else ""
            raise ValueError(f"{word!r} is no option of the sbatch here{hint}")

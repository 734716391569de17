"""What Slurm says when it takes a job not → what to do about it, by cause. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CAUSES: Sequence[tuple[str, str]] = (
    (
        r"unrecognized option|invalid option|ambiguous|invalid --[\w-]+ specification"
        r"|requires an argument|doesn't allow an argument",
        "Change `slurm_extra` of the rule, or `extra` of target {target}; `sbatch --help` tells the "
        "options.",
    ),
    (
        r"reservation",
        "Change `reservation` of the rule or of target {target}; `scontrol show reservation` tells "
        "which there are, and for whom.",
    ),
    (
        r"\bqos\b",
        "Change `qos` of the rule or of target {target}; `sacctmgr show associations user=$USER "
        "format=account,qos` tells which are yours.",
    ),
    (
        r"invalid account|account/partition",
        "Change `slurm_account` of the rule, or `account` of target {target}; `sacctmgr show "
        "associations user=$USER format=account,partition` tells which are yours.",
    ),
    (
        r"feature",
        "Change `constraint` of the rule or of target {target}; `sinfo --format='%P %f'` tells the "
        "features of nodes.",
    ),
    (
        r"\bgres\b|generic resource",
        "Change `gres`, `gpu` or `gpu_model` of the rule; `sinfo --format='%P %G'` tells what nodes "
        "have.",
    ),
    (
        r"invalid partition|partition name",
        "Change `slurm_partition` of the rule, or `partition` of target {target}; `sinfo --all` tells "
        "the partitions.",
    ),
    (
        r"node configuration|more processors|node count",
        "No node, or too few, have all of what the rule asks for at once: ask for less (`threads`, "
        "`mem_mb`, `gpu`, `nodes`, `tasks`), or change target {target}; `sinfo --Node --long` tells "
        "what nodes have.",
    ),
)
"""The first that matches; Slurm's words (slurm_strerror, sbatch) in lower or upper case."""
_ANY = (
    "Change the rule's resources, or target {target} in the routing policy; `sinfo` and `scontrol "
    "show partition` show what the cluster has."
)


def advice_on(words: str, target: str) -> str:
    """What to do about a refusal in these words of a job for this target."""
    for pattern, advice in _CAUSES:
        if re.search(pattern, words, re.IGNORECASE):
            return advice.format(target=target)
    return _ANY.format(target=target)

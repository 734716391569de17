"""What Slurm's commands print, read into values. Pure; formats as of 21.08 to 24.11."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

QUEUE_FORMAT = "%i|%T|%M|%N|%r"
"""Of squeue: id, state, time used, nodes, reason."""


NO_INDEX = 0xFFFFFFFE
"""Slurm's NO_VAL: of an array all of whose waiting tasks were cancelled one by one."""


@dataclass(frozen=True)
class Sighting:
    """One task as Slurm shows it."""

    external_id: str
    """`4711`, or `4711_3` in an array."""
    state: str
    """Slurm's long word, such as RUNNING."""
    reason: str = ""
    nodes: str = ""
    """A host list such as `node-[1-2]`."""
    wall_seconds: float | None = None
    exit_code: int | None = None
    """Known from scontrol only; 128 + n for a signal n."""
    name: str = ""
    """Of the job, where it is told: an id may be another's by now."""


def read_job_id(text: str) -> str | None:
    """The job id of `sbatch --parsable`, which prints `id` or `id;cluster`; None if there is none."""
    for line in reversed(text.splitlines()):
        if match := re.fullmatch(r"(\d+)(;\S*)?", line.strip()):
            return match[1]
    return None


def read_queue(text: str) -> dict[str, Sighting]:
    """The lines of squeue with QUEUE_FORMAT, by id."""
    seen = map(_sighting, text.splitlines())
    return {one.external_id: one for one in seen if one is not None}


@lru_cache(maxsize=16_384)
def _sighting(line: str) -> Sighting | None:
    """Kept, as most lines are the same from look to look: only what runs changes."""
    fields = line.split("|", 4)
    if len(fields) != 5:
        return None
    external_id, state, used, nodes, reason = fields
    return Sighting(external_id, state, _reason(reason), _nodes(nodes), read_duration(used))


def read_jobs(text: str) -> dict[str, Sighting]:
    """The lines of `scontrol --oneliner show job`, by id; the part of an array that has not begun by
    `4711_*`."""
    found = {}
    for line in text.splitlines():
        job_id, array_id = _value(line, "JobId"), _value(line, "ArrayJobId")
        if job_id is None:
            continue
        index = _value(line, "ArrayTaskId")
        if index is None or not index.isdigit() or int(index) == NO_INDEX:
            index = "*"
        external_id = f"{array_id}_{index}" if array_id else job_id
        found[external_id] = Sighting(
            external_id,
            _value(line, "JobState") or "",
            _reason(_value(line, "Reason") or ""),
            _nodes(_value(line, "NodeList") or ""),
            read_duration(_value(line, "RunTime") or ""),
            _exit_code(_value(line, "ExitCode") or ""),
            _value(line, "JobName") or "",
        )
    return found


def read_settings(text: str) -> dict[str, str]:
    """`Name = value` lines of `scontrol show config`."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def read_duration(text: str) -> float | None:
    """Seconds of `[days-][[hours:]minutes:]seconds`; None for anything else."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(?:(\d+):)?(\d+)", text.strip())
    if not match:
        return None
    days, first, second, seconds = match.groups()
    hours, minutes = (first, second) if second is not None else (None, first)
    if days is not None and second is None:
        hours, minutes = first, None
    total = (int(days or 0) * 24 + int(hours or 0)) * 60 + int(minutes or 0)
    return float(total * 60 + int(seconds))


def expand_hosts(text: str) -> list[str]:
    """The names of a host list: `a-[1-2,07],b` → a-1, a-2, a-07, b."""
    names: list[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        names += _expanded(part.strip())
    return names


def task_id_of(external_id: str, index: int, count: int) -> str:
    """What Slurm calls task `index` of a submission of `count`."""
    return f"{external_id}_{index}" if count > 1 else external_id


def in_chunks(items: Iterable[str], size: int) -> list[list[str]]:
    """Lists of at most `size`, so that command lines stay short enough."""
    everything = list(items)
    return [everything[start : start + size] for start in range(0, len(everything), size)]


def _expanded(part: str) -> list[str]:
    match = re.fullmatch(r"([^\[]*)\[([^\]]*)\](.*)", part)
    if not match:
        return [part] if part else []
    before, numbers, after = match.groups()
    names = []
    for some in numbers.split(","):
        first, dash, last = some.partition("-")
        if dash and first.isdigit() and last.isdigit():
            these = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
        else:
            these = [some]
        names += [f"{before}{one}{rest}" for one in these for rest in _expanded(after) or [""]]
    return names


def _value(line: str, key: str) -> str | None:
    match = re.search(rf"(?:^|\s){key}=(\S*)", line)
    return match[1] if match else None


def _reason(text: str) -> str:
    return "" if text == "None" else text


def _nodes(text: str) -> str:
    return "" if text in ("(null)", "None assigned", "n/a") else text


def _exit_code(text: str) -> int | None:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        return None
    code, number = int(match[1]), int(match[2])
    return 128 + number if number else code

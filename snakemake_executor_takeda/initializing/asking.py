"""From flags, from what is found, and from a person's answers to the values of a profile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_takeda.initializing.finding import Candidate, Found
from snakemake_executor_takeda.initializing.slots import PARTITIONS, QUEUES, SLOTS
from snakemake_executor_takeda.values import TakedaError

_FARGATE = ("fargate_spot_queue", "fargate_queue")
_INSTANCES = ("spot_queue", "queue")


@dataclass(frozen=True)
class Missing:
    """A value that nobody gave, and the flag that does."""

    flag: str
    text: str

    def __str__(self) -> str:
        return f"{self.flag}: {self.text}"


Ask = Callable[[str, str, Sequence[Candidate]], str]
"""(question, default, what is found) → answer, empty where it is left out."""


class Answers:
    """The values, slot by slot: a flag counts before an answer, an answer before what is found."""

    def __init__(self, flags: Mapping[str, str], found: Found, ask: Ask | None) -> None:
        self.values = dict(flags)
        self.missing: list[Missing] = []
        self.notes: list[str] = []
        self._found = found
        self._ask = ask

    @property
    def is_asking(self) -> bool:
        return self._ask is not None

    def take(self, name: str, *, needed: bool, default: str = "") -> None:
        """Fill a slot. A flag that is empty leaves it out."""
        slot = SLOTS[name]
        if name in self.values:
            if needed and not self.values[name]:
                self.missing.append(Missing(slot.flag, f"{slot.what}; it cannot be left out"))
            return
        candidates = self._found.of(name)
        only = _only(candidates)
        if self._ask:
            self._asked(name, only.value if only else default, candidates, needed)
        elif only:
            self.values[name] = only.value
        elif default:
            self.values[name] = default
        elif candidates:
            names = ", ".join(one.value for one in candidates)
            text = f"{slot.what}: {names} are there; say which"
            self.missing.append(Missing(slot.flag, text if needed else f"{text}, or '' for none"))
        elif needed:
            self.missing.append(Missing(slot.flag, slot.what))

    def _asked(
        self, name: str, default: str, candidates: Sequence[Candidate], needed: bool
    ) -> None:
        assert self._ask is not None
        slot = SLOTS[name]
        question = slot.what
        while True:
            answer = self._ask(question, default, candidates)
            try:
                self.values[name] = slot.checked(answer)
            except TakedaError as error:
                question = f"{error}\n{slot.what}"
                continue
            if self.values[name] or not needed:
                return


def _only(candidates: Sequence[Candidate]) -> Candidate | None:
    first = [one for one in candidates if one.is_first]
    chosen = first or candidates
    return chosen[0] if len(chosen) == 1 else None


def project_name(folder: Path) -> str:
    """The folder's, as a prefix in S3 may be called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or "project"


def for_what_there_is(answers: Answers, found: Found, folder: Path) -> None:
    """Fills the slots of a profile that is composed."""
    values = answers.values
    for name in _places(answers, found):
        answers.take(name, needed=False)
    if found.of("omics_role") or answers.is_asking:
        answers.take("omics_role", needed=False)
    unsettled = {one.flag for one in answers.missing}
    if not any(values.get(one) or SLOTS[one].flag in unsettled for one in (*QUEUES, *PARTITIONS)):
        answers.missing.append(
            Missing(
                "--queue, --spot-queue, --partition",
                "a Batch queue or a Slurm partition; none was named, and none was found",
            )
        )
    on_batch = any(values.get(name) for name in QUEUES)
    if on_batch or values.get("omics_role"):
        answers.take("bucket", needed=True)
    if values.get("bucket"):
        answers.take("project", needed=True, default=project_name(folder))
    if on_batch:
        _of_containers(answers, found)


def _places(answers: Answers, found: Found) -> Iterable[str]:
    """Slots of queues and partitions that are named, seen, or, where none is seen, asked for."""
    places = (*QUEUES, *PARTITIONS)
    names = [name for name in places if name in answers.values]
    blind = answers.is_asking and not any(map(found.of, places))
    for group in (_INSTANCES, PARTITIONS):
        names += [name for name in group if blind or found.of(name)]
    # Instances hold more than Fargate: it is taken where there are none.
    if not any(name in QUEUES for name in names):
        names += [name for name in _FARGATE if found.of(name)]
    return dict.fromkeys(names)


def _of_containers(answers: Answers, found: Found) -> None:
    values = answers.values
    if answers.is_asking:
        answers.take("image", needed=False)
    if not values.get("image"):
        answers.notes.append(
            "no image is named, and outside the sandbox Batch needs one: --image, or `image` of its targets "
            "in routing.yaml"
        )
    for name in ("job_role", "execution_role"):
        if name not in values and (role := _only(_own(found.of(name)))):
            values[name] = role.value
    if any(values.get(name) for name in _FARGATE):
        answers.take("execution_role", needed=True)


def for_profile(answers: Answers, found: Found, wanted: Mapping[str, bool], folder: Path) -> None:
    """Fills the slots that a profile of the project has variables for."""
    values = answers.values
    roles = [
        values[name] for name in ("job_role", "execution_role", "omics_role") if name in values
    ]
    if "account" not in values and (of_role := next((r.split(":")[4] for r in roles if r), "")):
        values["account"] = of_role
    for name, needed in wanted.items():
        if name.endswith("_role"):
            if name not in values and (role := _only(_own(found.of(name)))):
                values[name] = role.value
            continue
        default = project_name(folder) if name == "project" else ""
        if needed or found.of(name):
            answers.take(name, needed=needed, default=default)


def _own(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Of roles for jobs those that are called as ours are: any other may be anybody's."""
    return [one for one in candidates if one.is_first]

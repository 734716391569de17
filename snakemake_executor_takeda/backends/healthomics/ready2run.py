"""Ready2Run workflows: AWS's and its partners', handed off to by their ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.healthomics import nextflow_engine, produced_files
from snakemake_executor_takeda.backends.healthomics.definition import (
    Delivery,
    Entry,
    Patterns,
    Signature,
)
from snakemake_executor_takeda.backends.healthomics.files import Files, NoSuchFile
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, did_you_mean
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.values import UNKNOWN, NamedFiles, TakedaError

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient

PREFIX = "ready2run:"


@dataclass(frozen=True)
class Ready2Run:
    """A workflow of which HealthOmics tells the parameters' names, and nothing else: neither their types
    nor its outputs."""

    id: str
    name: str
    template: Mapping[str, bool]
    """Each parameter, and whether it may be left out."""
    descriptions: Mapping[str, str]
    description: str = ""

    lists_outputs = False

    @property
    def path(self) -> Path:
        """There is no file; messages name the id."""
        return Path(f"{PREFIX}{self.id}")

    def signature(self) -> Signature:
        return Signature(
            self.name,
            "Ready2Run",
            self.id,
            tuple(
                Entry(name, "", "value", not optional, None, self.descriptions.get(name, ""))
                for name, optional in self.template.items()
            ),
            (),
            description=self.description,
        )

    def parameters(
        self,
        inputs: Sequence[NamedFiles],
        params: Mapping[str, Any],
        *,
        files: Files,
        where: str,
        defaults: Mapping[str, Any],
    ) -> tuple[dict[str, Any], list[Mistake]]:
        """Files by their addresses, params as they are; names are checked, types are not known."""
        given: dict[str, Any] = {}
        found: list[Mistake] = []
        for named in inputs:
            if named.name is None:
                continue
            try:
                uris = [files.address(f, directory=f.is_directory) for f in named.files]
            except NoSuchFile as error:
                found.append(Mistake(f"input `{named.name}`: {error}", named.name, "", where))
                continue
            given[named.name] = uris if named.is_list else uris[0]
        for more in (params, defaults):
            for name, value in more.items():
                if value is not None and name not in given:
                    given[name] = value
        for name, value in given.items():
            if name not in self.template:
                hint = did_you_mean(name, self.template)
                message = f"workflow {self.id} ({self.name}) has no parameter `{name}`{hint}"
                found.append(Mistake(message, name, "", where))
            elif value is not UNKNOWN and not _is_json(value):
                message = f"param `{name}`: {value!r} is nothing that JSON has a form for"
                found.append(Mistake(message, name, "", where))
        for name, optional in self.template.items():
            if not optional and name not in given:
                said = self.descriptions.get(name, "")
                message = f"workflow {self.id} ({self.name}) needs `{name}`"
                found.append(Mistake(message + (f": {said}" if said else ""), name, "", where))
        return given, found

    def from_words(self, name: str, words: Sequence[str]) -> Any:
        return words[0] if len(words) == 1 else list(words)

    def engine_settings(self, resources: Mapping[str, Any], where: str) -> dict[str, Any]:
        nextflow_engine.refuse_profile(resources, "Ready2Run", where)
        return {}

    def output_mistakes(
        self, outputs: Sequence[NamedFiles], where: str, patterns: Patterns
    ) -> list[Mistake]:
        return produced_files.mistakes(outputs, where, patterns)

    def match_outputs(
        self,
        outputs: Sequence[NamedFiles],
        produced: Mapping[str, Any],
        where: str,
        patterns: Patterns,
    ) -> tuple[Delivery, ...]:
        """By the files' paths: `produced` has URIs by paths below the run's output."""
        by_path = {path: str(uri) for path, uri in produced.items()}
        return produced_files.match(outputs, by_path, where, patterns)

    def notes(self) -> list[str]:
        return []

    def paths_in(self, name: str, value: Any) -> list[str]:
        return []

    def sources(self) -> Collection[Path]:
        return ()

    def package(self, given: Mapping[str, Any]) -> Package | None:
        return None


def id_of(handoff: str, where: str) -> str:
    """`ready2run:1234567` → `1234567`. Raises TakedaError."""
    found = handoff.removeprefix(PREFIX)
    if not (found.isascii() and found.isdecimal() and len(found) <= 18):
        raise TakedaError(
            f"{where}: handoff={handoff!r}: a Ready2Run workflow is named by its number, such as "
            f"{PREFIX}9500764; `aws omics list-workflows --type READY2RUN` shows them"
        )
    return found


def describe(omics: OmicsClient, workflow_id: str, where: str) -> Ready2Run:
    """Ask HealthOmics about a workflow. Raises TakedaError where there is none of that id."""
    try:
        found = omics.get_workflow(id=workflow_id, type="READY2RUN")
    except omics.exceptions.ResourceNotFoundException:
        raise TakedaError(
            f"{where}: this region has no Ready2Run workflow {workflow_id}; "
            "`aws omics list-workflows --type READY2RUN` shows those it has"
        ) from None
    template = found.get("parameterTemplate", {})
    return Ready2Run(
        workflow_id,
        found.get("name", workflow_id),
        {name: bool(one.get("optional")) for name, one in template.items()},
        {name: one.get("description", "") for name, one in template.items()},
        found.get("description", ""),
    )


class Known:
    """Descriptions of workflows, each asked for once."""

    def __init__(self, omics: Callable[[], OmicsClient]) -> None:
        self._omics = omics
        self._found: dict[str, Ready2Run] = {}

    def of(self, handoff: str, where: str) -> Ready2Run:
        workflow_id = id_of(handoff, where)
        if workflow_id not in self._found:
            self._found[workflow_id] = describe(self._omics(), workflow_id, where)
        return self._found[workflow_id]


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True

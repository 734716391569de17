"""What a rule hands off, opened by its kind; and a rule checked against it before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics import (
    cwl,
    input_json,
    produced_files,
    repositories,
)
from snakemake_executor_takeda.backends.healthomics.definition import Definition, Patterns
from snakemake_executor_takeda.backends.healthomics.files import RuleFiles, look_up
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, Mistakes, refuse
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.backends.healthomics.repositories import Repositories
from snakemake_executor_takeda.values import UNKNOWN, JobSpec, TakedaError


def open_definition(path: Path) -> Definition:
    """Read a workflow by the kind of its file, or a pipeline in a directory. Raises TakedaError for what
    is no workflow."""
    file, fragment = cwl.split(str(path))
    opener = _OPENERS.get(_suffix(Path(file)))
    if opener is None:
        raise TakedaError(f"{path} is no workflow that can be handed off: {_KINDS}")
    try:
        return opener(Path(file), fragment)
    except RecursionError:
        raise TakedaError(f"{path} is nested too deeply to be read") from None


def _suffix(path: Path) -> str:
    """A directory with a Nextflow pipeline is one, whatever its name."""
    return (
        _DIRECTORY
        if path.is_dir() and any((path / one).is_file() for one in _IN_IT)
        else path.suffix
    )


_DIRECTORY = ".nf"
_IN_IT = ("nextflow.config", "main.nf")


def _open_wdl(path: Path, _: str) -> Definition:
    from snakemake_executor_takeda.backends.healthomics import wdl_definition

    return wdl_definition.open_definition(path)


def _open_cwl(path: Path, fragment: str) -> Definition:
    from snakemake_executor_takeda.backends.healthomics import cwl_definition

    return cwl_definition.open_definition(path, fragment)


def _open_nextflow(path: Path, _: str) -> Definition:
    from snakemake_executor_takeda.backends.healthomics import nextflow_definition

    return nextflow_definition.open_definition(path)


_OPENERS: Mapping[str, Callable[[Path, str], Definition]] = {
    ".wdl": _open_wdl,
    ".cwl": _open_cwl,
    _DIRECTORY: _open_nextflow,
}
"""A file's suffix → what reads it, or one process in it; a language's reader is imported by the first that needs it."""
_KINDS = f"name a {' or '.join(_OPENERS)} file, or a directory with a Nextflow pipeline ({' or '.join(_IN_IT)})"


class Definitions:
    """Definitions by what a rule's `handoff` says, each read once as long as its file is the same."""

    def __init__(
        self, look_in: Sequence[Path], ready2run: Callable[[str, str], Definition] | None = None
    ) -> None:
        """`ready2run` gives the workflow that a `ready2run:ID` names, of the rule at a line."""
        self.look_in = tuple(look_in)
        self._ready2run = ready2run
        self._repositories = Repositories(
            self.look_in[-1] / ".snakemake" / "takeda" / "repositories"
        )
        self._known: dict[tuple[Path, str], tuple[tuple[int, int], Definition]] = {}

    def of(self, job: JobSpec) -> Definition:
        """Raises TakedaError with the rule's line."""
        given = str(job.resources.get("handoff", ""))
        if not given:
            raise TakedaError(
                f"{job.source_line}: rule {job.rule} has no `handoff` resource; "
                'HealthOmics runs what a rule hands off: resources: handoff="main.wdl"'
            )
        return self.named(given, job.source_line)

    def named(self, given: str, where: str) -> Definition:
        """What a `handoff` at a place names. Raises TakedaError."""
        if given.startswith("ready2run:"):
            if self._ready2run is None:
                raise TakedaError(
                    f"{where}: handoff={given!r}: only HealthOmics knows what it takes; a run "
                    "asks there before it starts anything"
                )
            return self._ready2run(given, where)
        file, fragment = cwl.split(given)
        path: Path | None
        place: repositories.Place | None = None
        if file.startswith(repositories.PREFIX):
            place = repositories.parse(file, where)
            path = self._repositories.file(place, where)
        else:
            path = look_up(file, self.look_in)
        kind = _suffix(path or Path(file))
        # What is not there and has no suffix may be meant as a directory.
        if kind not in _OPENERS and (path is not None or kind):
            raise TakedaError(
                f"{where}: handoff={given!r} is no workflow that can be handed off: {_KINDS}"
            )
        if path is None:
            places = " and ".join(dict.fromkeys(str(one / file) for one in self.look_in))
            raise TakedaError(f"{where}: handoff={given!r} does not exist; looked for {places}")
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        known = self._known.get((path, fragment))
        if known is None or known[0] != stamp:
            named = path.with_name(f"{path.name}#{fragment}") if fragment else path
            definition = open_definition(named)
            if place is not None:
                self._repositories.check(place, definition.sources(), where)
            known = self._known[path, fragment] = (stamp, definition)
        return known[1]


@dataclass(frozen=True)
class Prepared:
    """A rule that fits its workflow."""

    definition: Definition
    package: Package | None
    """None for a workflow that AWS has registered."""
    parameters: Mapping[str, Any]
    used: tuple[str, ...]
    """Addresses of all files that the parameters name; that of a directory ends with `/`."""
    engine_settings: Mapping[str, Any] = field(default_factory=dict)
    """What workflow and rule ask of the engine, for StartRun."""


def prepare(job: JobSpec, definitions: Definitions, *, in_s3: bool = True) -> Prepared:
    """Fit a rule to what it hands off, without a call to anywhere.

    `in_s3` False lets files be outside S3, and params be UNKNOWN: for a check before a run. Raises
    Mistakes with all that is wrong, or TakedaError where there is no telling.
    """
    definition = definitions.of(job)
    where = job.source_line
    found: list[Mistake] = []
    # A workflow may have an input of that name itself.
    own = any(one.name == input_json.NAME for one in definition.signature().inputs)
    ours = {produced_files.NAME} if own else {produced_files.NAME, input_json.NAME}
    params = {name: value for name, value in job.params.items() if name not in ours}
    defaults: dict[str, Any] = {}
    try:
        given = None if own else job.params.get(input_json.NAME)
        given = job.resources.get(input_json.NAME) if given is None else given
        if given is not UNKNOWN:
            defaults = input_json.read(given, definition.name, definitions.look_in)
    except TakedaError as error:
        found.append(Mistake(str(error), input_json.NAME, "JSON", where))
    files = RuleFiles(job.inputs, in_s3=in_s3)
    values, wrong = definition.parameters(
        job.inputs, params, files=files, where=where, defaults=defaults
    )
    found += wrong
    if in_s3:
        found += _unknown(values, where) + _not_in_s3(job)
    patterns: Patterns = {}
    settings: dict[str, Any] = {}
    try:
        patterns = produced_files.patterns_of(job)
        settings = definition.engine_settings(job.resources, where)
    except TakedaError as error:
        found.append(Mistake(str(error).removeprefix(f"{where}: "), "", "", where))
    found += definition.output_mistakes(job.outputs, where, patterns)
    try:
        package = definition.package(values)
    except Mistakes:
        raise
    except TakedaError as error:
        found.append(Mistake(str(error), "", "", where))
    refuse(found)
    return Prepared(definition, package, values, tuple(files.used), settings)


def _unknown(values: Mapping[str, Any], where: str) -> list[Mistake]:
    return [
        Mistake(
            f"param `{name}` depends on what is in a file that is not on this machine; "
            "let a rule write it to a file and hand that over as an input",
            name,
            "",
            where,
        )
        for name, value in values.items()
        if value is UNKNOWN
    ]


def _not_in_s3(job: JobSpec) -> list[Mistake]:
    return [
        Mistake(
            f"output {file.path} is not in S3, which a hand-off needs; "
            "use `default-storage-provider: s3`",
            named.name or "",
            "",
            job.source_line,
        )
        for named in job.outputs
        for file in named.files
        if not (file.uri or "").startswith("s3://")
    ]

"""What a rule hands off, opened by its kind; and a rule checked against it before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from snakemake_executor_takeda.backends.healthomics import (
    input_json,
    outputs,
    packaging,
    parameters,
    repositories,
    wdl,
)
from snakemake_executor_takeda.backends.healthomics.files import (
    AsWritten,
    Files,
    RuleFiles,
    look_up,
)
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, Mistakes, refuse
from snakemake_executor_takeda.backends.healthomics.outputs import Delivery
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.backends.healthomics.repositories import Repositories
from snakemake_executor_takeda.values import UNKNOWN, JobSpec, NamedFiles, TakedaError


@dataclass(frozen=True)
class Entry:
    """One input or output of a signature, in terms that every language has."""

    name: str
    type: str
    """As the language writes it."""
    kind: str
    """`file`, `directory`, `files` (a list), `pair` (of files), `value`, or `mixed`: a compound value
    with files in it."""
    required: bool = True
    """Of an output: False where a run may leave it empty."""
    default: str | None = None
    description: str = ""


@dataclass(frozen=True)
class Signature:
    """What a workflow takes and gives."""

    name: str
    language: str
    version: str
    inputs: tuple[Entry, ...]
    """In the order of the file."""
    outputs: tuple[Entry, ...]
    nested: tuple[Entry, ...] = ()
    """Inputs of its calls that may be set, as `call.input`."""
    description: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Definition(Protocol):
    """A workflow that can be handed off, whatever its language."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path:
        """Its main file."""
        ...

    @property
    def lists_outputs(self) -> bool:
        """True where a run says by the outputs' names what it produced; `match_outputs` gets the URIs of
        all that it left, by their paths, otherwise."""
        ...

    def signature(self) -> Signature: ...

    def parameters(
        self,
        inputs: Sequence[NamedFiles],
        params: Mapping[str, Any],
        *,
        files: Files,
        where: str,
        defaults: Mapping[str, Any],
    ) -> tuple[dict[str, Any], list[Mistake]]:
        """The run's parameters, and all that is wrong with what the rule gives."""
        ...

    def output_mistakes(self, outputs: Sequence[NamedFiles], where: str) -> list[Mistake]: ...

    def match_outputs(
        self, outputs: Sequence[NamedFiles], produced: Mapping[str, Any], where: str
    ) -> tuple[Delivery, ...]:
        """What of a run's outputs goes where. Raises TakedaError."""
        ...

    def paths_in(self, name: str, value: Any) -> list[str]:
        """The paths of files in a value of an input; empty where the value does not fit it."""
        ...

    def package(self, given: Mapping[str, Any]) -> Package | None:
        """What is registered of it, for a run with these parameters; None where AWS has done that.
        Raises TakedaError."""
        ...


class WdlDefinition:
    """A WDL file and all it imports."""

    lists_outputs = True

    def __init__(self, workflow: wdl.Workflow) -> None:
        self.workflow = workflow
        self.name = workflow.name
        self.path = workflow.path
        self._packages: dict[tuple[str, ...], Package] = {}

    def signature(self) -> Signature:
        workflow = self.workflow
        return Signature(
            workflow.name,
            "WDL",
            workflow.version,
            tuple(_entry(one) for one in workflow.inputs.values()),
            tuple(
                Entry(
                    one.name,
                    str(one.type),
                    _kind(one.type),
                    not one.type.optional,
                    None,
                    one.description,
                )
                for one in workflow.outputs.values()
            ),
            tuple(_entry(one) for one in workflow.nested.values()),
            workflow.description,
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
        return parameters.collect_parameters(
            self.workflow, inputs, params, files=files, where=where, defaults=defaults
        )

    def output_mistakes(self, outputs_: Sequence[NamedFiles], where: str) -> list[Mistake]:
        return outputs.output_mistakes(self.workflow, outputs_, where)

    def match_outputs(
        self, outputs_: Sequence[NamedFiles], produced: Mapping[str, Any], where: str
    ) -> tuple[Delivery, ...]:
        return outputs.match_outputs(self.workflow, outputs_, produced, where)

    def paths_in(self, name: str, value: Any) -> list[str]:
        files = AsWritten()
        parameters.collect_parameters(self.workflow, (), {name: value}, files=files)
        return files.paths

    def package(self, given: Mapping[str, Any]) -> Package:
        nested = tuple(sorted(name for name in given if name in self.workflow.nested))
        if nested not in self._packages:
            self._packages[nested] = packaging.build_package(self.workflow, nested)
        return self._packages[nested]


def open_definition(path: Path) -> Definition:
    """Read a workflow by the kind of its file. Raises TakedaError for what is no workflow."""
    opener = _OPENERS.get(path.suffix)
    if opener is None:
        raise TakedaError(f"{path} is not supported yet; name a {' or '.join(_OPENERS)} file")
    return opener(path)


_OPENERS: Mapping[str, Callable[[Path], Definition]] = {
    ".wdl": lambda path: WdlDefinition(wdl.load(path)),
}


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
        self._known: dict[Path, tuple[tuple[int, int], Definition]] = {}

    def of(self, job: JobSpec) -> Definition:
        """Raises TakedaError with the rule's line."""
        given = str(job.resources.get("handoff", ""))
        if not given:
            raise TakedaError(
                f"{job.source_line}: rule {job.rule} has no `handoff` resource; "
                'HealthOmics runs what a rule hands off: resources: handoff="main.wdl"'
            )
        if given.startswith("ready2run:"):
            if self._ready2run is None:
                raise TakedaError(
                    f"{job.source_line}: handoff={given!r}: only HealthOmics knows what it takes; a run "
                    "asks there before it starts anything"
                )
            return self._ready2run(given, job.source_line)
        if Path(given).suffix not in _OPENERS:
            raise TakedaError(
                f"{job.source_line}: handoff={given!r} is not supported yet; name a .wdl file"
            )
        path: Path | None
        if given.startswith(repositories.PREFIX):
            path = self._repositories.file(
                repositories.parse(given, job.source_line), job.source_line
            )
        else:
            path = look_up(given, self.look_in)
        if path is None:
            places = " and ".join(dict.fromkeys(str(one / given) for one in self.look_in))
            raise TakedaError(
                f"{job.source_line}: handoff={given!r} does not exist; looked for {places}"
            )
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, open_definition(path))
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
    params = {k: v for k, v in job.params.items() if own or k != input_json.NAME}
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
    found += definition.output_mistakes(job.outputs, where)
    try:
        package = definition.package(values)
    except Mistakes:
        raise
    except TakedaError as error:
        found.append(Mistake(str(error), "", "", where))
    refuse(found)
    return Prepared(definition, package, values, tuple(files.used))


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


def _entry(one: wdl.Input) -> Entry:
    return Entry(
        one.name, str(one.type), _kind(one.type), one.required, one.default, one.description
    )


def _kind(wanted: Any) -> str:
    import WDL

    kinds = WDL.Type
    paths = (kinds.File, kinds.Directory)
    if isinstance(wanted, kinds.File):
        return "file"
    if isinstance(wanted, kinds.Directory):
        return "directory"
    if isinstance(wanted, kinds.Array) and isinstance(wanted.item_type, paths):
        return "files"
    if isinstance(wanted, kinds.Pair) and all(isinstance(one, paths) for one in wanted.parameters):
        return "pair"
    return "mixed" if wdl.holds_files(wanted) else "value"

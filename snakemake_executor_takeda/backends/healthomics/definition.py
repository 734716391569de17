"""What every language's definition of a workflow can do, and the values that it speaks in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from snakemake_executor_takeda.values import File, NamedFiles

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.files import Files
    from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake
    from snakemake_executor_takeda.backends.healthomics.packaging import Package

EMPTY_MARK = ".empty"
"""The one file of a `directory()` that the run left empty: S3 knows no empty directories."""


@dataclass(frozen=True)
class Entry:
    """One input or output of a signature, in terms that every language has."""

    name: str
    type: str
    """As the language writes it; an enum by its symbols."""
    kind: str
    """`file`, `directory`, `files` (a list), `pair` (of files), `value`, or `mixed`: a compound value
    with files in it."""
    required: bool = True
    """Of an output: False where a run may leave it empty."""
    default: str | None = None
    description: str = ""
    beside: tuple[str, ...] = ()
    """What is added to a file's name for those that have to lie beside it, and are listed after it."""
    hidden: bool = False
    """True where the workflow's author keeps it from most users."""
    skeleton: Any = None
    """Of an input with members: what a value looks like, as `value_types.Type.skeleton` has it."""


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


@dataclass(frozen=True)
class Delivery:
    """One file or directory to bring from where the run left it to where the rule wants it."""

    source: str
    """As outputs.json has it: an S3 URI or a local path; empty for `content`."""
    target: File
    member: str | None = None
    """Path inside `target`, where that is a directory that gathers several files."""
    is_directory: bool = False
    """True where `source` itself is a directory."""
    content: bytes | None = None
    """What to write, for a value that is no file."""


Patterns = Mapping[str, tuple[str, ...]]
"""Globs by output name, of `handoff_outputs`, for workflows that do not name their outputs."""


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

    def from_words(self, name: str, words: Sequence[str]) -> Any:
        """The value of a param that a shell command gives as words, as `{params.name:q}` writes it."""
        ...

    def output_mistakes(
        self, outputs: Sequence[NamedFiles], where: str, patterns: Patterns
    ) -> list[Mistake]: ...

    def match_outputs(
        self,
        outputs: Sequence[NamedFiles],
        produced: Mapping[str, Any],
        where: str,
        patterns: Patterns,
    ) -> tuple[Delivery, ...]:
        """What of a run's outputs goes where. Raises TakedaError."""
        ...

    def engine_settings(self, resources: Mapping[str, Any], where: str) -> dict[str, Any]:
        """What workflow and rule ask of the engine, as StartRun's `engineSettings`; empty for nothing.
        Raises TakedaError for what the engine does not have."""
        ...

    def notes(self) -> list[str]:
        """What HealthOmics would not do as the workflow has it, as far as that can be seen; each a line."""
        ...

    def paths_in(self, name: str, value: Any) -> list[str]:
        """The paths of files in a value of an input; empty where the value does not fit it."""
        ...

    def sources(self) -> Collection[Path]:
        """The files of this machine that it is made of; none where AWS has it. Raises TakedaError."""
        ...

    def package(self, given: Mapping[str, Any]) -> Package | None:
        """What is registered of it, for a run with these parameters; None where AWS has done that.
        Raises TakedaError."""
        ...

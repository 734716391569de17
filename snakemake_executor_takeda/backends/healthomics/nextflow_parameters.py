"""A rule's named inputs and params → the params of a Nextflow run, by its schema where it has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from snakemake_executor_takeda.backends.healthomics import nextflow_schema
from snakemake_executor_takeda.backends.healthomics.files import Files, NoSuchFile
from snakemake_executor_takeda.backends.healthomics.fitting import parsed
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, did_you_mean
from snakemake_executor_takeda.backends.healthomics.nextflow_pipeline import Param, Pipeline
from snakemake_executor_takeda.backends.healthomics.nextflow_publishing import EXPORT_DIRECTORY
from snakemake_executor_takeda.values import UNKNOWN, NamedFiles

_PATHS = frozenset({"file-path", "directory-path", "path"})
_MAX_DESCRIPTION = 256
_JSON_TYPES = {"Integer": "integer", "Float": "number", "Boolean": "boolean", "String": "string"}


def collect(
    pipeline: Pipeline,
    inputs: Sequence[NamedFiles],
    params: Mapping[str, Any],
    *,
    files: Files,
    where: str,
    defaults: Mapping[str, Any],
) -> tuple[dict[str, Any], list[Mistake]]:
    """JSON values by param name, and all that is wrong with what the rule gives.

    Unnamed inputs are dependencies only. `defaults` are those of `input_json`. What the pipeline
    publishes below a param goes to the export directory, unless the rule sets that param.
    """
    reading = _Reading(pipeline, files, where)
    for named in inputs:
        if named.name is not None:
            reading.take_files(named.name, named)
    for name, value in params.items():
        reading.take("param", name, value)
    for name, value in defaults.items():
        if reading.name(name) not in reading.given:
            reading.take("input_json entry", name, value)
    given = {name: value for name, value in reading.given.items() if value is not None}
    for name in pipeline.publishing_params:
        given.setdefault(name, EXPORT_DIRECTORY)
    reading.check(given)
    return dict(sorted(given.items())), reading.mistakes


def from_words(pipeline: Pipeline, name: str, words: Sequence[str]) -> Any:
    """The value of a param that a shell command gives as words."""
    if list(words) == ["None"]:
        return None
    if list(words) == ["Ellipsis"]:
        return Ellipsis
    if not words:
        return [] if _is_list(pipeline.find(name)) else ""
    return words[0] if len(words) == 1 else list(words)


def paths_in(pipeline: Pipeline, name: str, value: Any) -> list[str]:
    """The paths of files in a value."""
    from snakemake_executor_takeda.backends.healthomics.files import AsWritten

    files = AsWritten()
    reading = _Reading(pipeline, files, "")
    reading.take("param", name, value)
    return files.paths


def file_kind(param: Param) -> str:
    """`file`, `directory`, `files` or `value`, as `Entry.kind` has it."""
    if param.declared is not None:
        items = param.declared.schema.get("items", {})
        if isinstance(items, dict) and items.get("format") in _PATHS:
            return "files"
        if param.declared.format in _PATHS:
            return "directory" if param.declared.format == "directory-path" else "file"
        return "value"
    bare = param.type.rstrip("?").replace(" ", "")
    if bare == "Path":
        return "file"
    return "files" if bare in ("List<Path>", "Set<Path>", "Bag<Path>") else "value"


class _Reading:
    def __init__(self, pipeline: Pipeline, files: Files, where: str) -> None:
        self.pipeline = pipeline
        self.files = files
        self.where = where
        self.given: dict[str, Any] = {}
        self.mistakes: list[Mistake] = []

    def name(self, word: str) -> str:
        param = self.pipeline.find(word)
        return param.name if param else word

    def take_files(self, word: str, named: NamedFiles) -> None:
        param = self._known("input", word)
        if param is None:
            return
        as_directory = file_kind(param) == "directory"
        try:
            found = [
                self.files.address(one, directory=as_directory or one.is_directory)
                for one in named.files
            ]
        except NoSuchFile as error:
            self._mistake(f"input `{word}`: {error}", word, param)
            return
        if _is_list(param):
            self._put(word, param, found)
        elif len(found) == 1:
            self._put(word, param, found[0])
        elif not found:
            self._put(word, param, None)
        elif _is_single(param):
            self._mistake(
                f"input `{word}`: param `{param.name}` takes one path, not {len(found)}: give a sample sheet, or "
                "the S3 URI of a glob under params:",
                word,
                param,
            )
        else:
            self._put(word, param, found)

    def take(self, section: str, word: str, value: Any) -> None:
        param = self._known(section, word)
        if param is None:
            return
        if value is Ellipsis:
            self._mistake(f"{section} `{word}` is `...`: write a value", word, param)
        elif value is UNKNOWN or value is None:
            self._put(word, param, value)
        else:
            try:
                self._put(word, param, self._fitted(param, value))
            except NoSuchFile as error:
                self._mistake(f"{section} `{word}`: {error}", word, param)

    def check(self, given: Mapping[str, Any]) -> None:
        """What the schema, or the script's own types, do not take; and what is missing."""
        told = {one.name for one in self.mistakes}
        if self.pipeline.schema is not None:
            known = {name: value for name, value in given.items() if value is not UNKNOWN}
            for one in self.pipeline.schema.violations(known):
                if one.param in told or given.get(one.param) is UNKNOWN:
                    continue
                if one.param not in given and self._has_default(one.param):
                    continue  # What a schema requires, a config may give.
                if one.param in given:
                    self._mistake(f"param `{one.param}` {one.message}", one.param, None, one.wanted)
                else:
                    needs = f"pipeline {self.pipeline.name}: {one.message}"
                    says = f" ({one.wanted})" if one.wanted and one.param else ""
                    self._mistake(needs + says, one.param, None, one.wanted)
        for param in self.pipeline.params.values():
            if not param.is_typed or param.declared is not None or param.name in told:
                continue
            if param.name not in given:
                if param.required:
                    message = f"pipeline {self.pipeline.name} needs `{param.name}` ({param.type})"
                    self._mistake(message, param.name, param)
            elif given[param.name] is not UNKNOWN and not _has_type(given[param.name], param.type):
                message = f"param `{param.name}` wants {param.type}, not {given[param.name]!r}"
                self._mistake(message, param.name, param)

    def _has_default(self, name: str) -> bool:
        param = self.pipeline.params.get(name)
        return param is not None and param.default not in (None, "")

    def _fitted(self, param: Param, value: Any) -> Any:
        kind = file_kind(param)
        if isinstance(value, (tuple, set)):
            value = list(value)
        if kind != "value" and param.name not in self.pipeline.publishing_params:
            if isinstance(value, str) and kind == "files":
                value = parsed(value)
            values = value if isinstance(value, list) else [value]
            found = [
                self.files.locate(str(one), directory=kind == "directory") if str(one) else one
                for one in values
            ]
            return found if isinstance(value, list) or kind == "files" else found[0]
        if isinstance(value, str) and (_is_list(param) or _is_map(param)):
            value = parsed(value)  # A shell command has a list or a dict as Python writes it.
        return nextflow_schema.coerced(value, _json_types(param))

    def _known(self, section: str, word: str) -> Param | None:
        """What a rule's name means, or a mistake."""
        param = self.pipeline.find(word)
        if param is not None:
            return param
        if not self.pipeline.declares or word in self.pipeline.mentioned:
            return Param(word)
        hint = did_you_mean(word, self.pipeline.params)
        self._mistake(
            f"pipeline {self.pipeline.name} has no param for the {section} `{word}`.{hint}",
            word,
            None,
        )
        return None

    def _put(self, word: str, param: Param, value: Any) -> None:
        if param.name in self.given:
            self._mistake(f"`{param.name}` is given twice, as input and as param", word, param)
        self.given[param.name] = value

    def _mistake(self, message: str, name: str, param: Param | None, wanted: str = "") -> None:
        expected = wanted or (param.type if param else "")
        self.mistakes.append(Mistake(message, name, expected, self.where))


def _json_types(param: Param) -> tuple[str, ...]:
    if param.declared is not None:
        return param.declared.types
    kind = _JSON_TYPES.get(param.type.rstrip("?"))
    # The type of a default says what a number in quotes is; text is anything to Groovy.
    return (kind,) if kind and (param.is_typed or kind != "string") else ()


def _is_list(param: Param | None) -> bool:
    if param is None:
        return False
    return "array" in _json_types(param) or param.type.startswith(("List", "Set", "Bag"))


def _is_map(param: Param) -> bool:
    return "object" in _json_types(param) or param.type.startswith("Map")


def _is_single(param: Param) -> bool:
    """Whether a list is certain not to fit."""
    return "string" in _json_types(param) or param.type.rstrip("?") in ("Path", "String")


def _has_type(value: Any, kind: str) -> bool:
    """For the types that a script's `params` block may have; what is not known fits."""
    bare, *_ = kind.rstrip("?").replace(" ", "").partition("<")
    checks: dict[str, tuple[type, ...]] = {
        "String": (str,),
        "Path": (str,),
        "Integer": (int,),
        "Float": (int, float),
        "Boolean": (bool,),
        # A file with the values stands for them, too.
        "List": (list, str),
        "Set": (list, str),
        "Bag": (list, str),
        "Map": (dict, str),
    }
    if bare not in checks:
        return True
    if isinstance(value, bool):
        return bare == "Boolean"
    return isinstance(value, checks[bare])


def template(pipeline: Pipeline, given: Iterator[str] | Sequence[str]) -> dict[str, dict[str, Any]]:
    """HealthOmics' parameter template: runs may give no param that is not in it."""
    found: dict[str, dict[str, Any]] = {}
    for one in pipeline.params.values():
        found[one.name] = {"optional": not one.required}
        # An empty one is refused.
        if said := ": ".join(part for part in (one.type, one.description) if part):
            found[one.name]["description"] = said[:_MAX_DESCRIPTION]
    for name in sorted({*given, *pipeline.publishing_params} - found.keys()):
        found[name] = {"optional": True}
    return found

"""Read a CWL document by cwltool: what it takes and gives, and the files it is made of."""

from __future__ import annotations

import logging
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from snakemake_executor_takeda.backends.healthomics.value_types import Secondary, Type
from snakemake_executor_takeda.plain_data import parse_yaml
from snakemake_executor_takeda.values import TakedaError

VERSIONS = ("v1.0", "v1.1", "v1.2")
"""What HealthOmics runs, by AWS's guide."""

_CLASSES = ("Workflow", "CommandLineTool", "ExpressionTool")
_ORIGINAL_VERSION = "http://commonwl.org/cwltool#original_cwlVersion"
_EXTENSIONS = {
    "v1.0": "extensions.yml",
    "v1.1": "extensions-v1.1.yml",
    "v1.2": "extensions-v1.2.yml",
    "v1.3.0-dev1": "extensions-v1.3.yml",
}
_MAX_LINES = 12
_Named = TypeVar("_Named")


@dataclass(frozen=True)
class Input:
    """One input of a workflow."""

    name: str
    type: Type
    required: bool
    description: str = ""
    default: Any = None
    """In JSON's terms; None where there is none."""


@dataclass(frozen=True)
class Output:
    """One output of a workflow."""

    name: str
    type: Type
    description: str = ""


@dataclass(frozen=True)
class Workflow:
    """What a document's process takes and gives."""

    path: Path
    fragment: str
    """Of `main.cwl#align`: `align`; empty for a document with one process, or its `main`."""
    name: str
    version: str
    """`v1.0`, `v1.1` or `v1.2`."""
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    texts: Mapping[Path, str] = field(repr=False, compare=False)
    """Every file that was read for it, and its text."""
    description: str = ""

    @property
    def nested(self) -> Mapping[str, Input]:
        """CWL has no inputs of steps that may be set from outside."""
        return {}

    def find(self, name: str) -> Input | None:
        """The input that a rule means by a name: `min-quality` is `min_quality` there."""
        return spelt(name, self.inputs)

    def find_output(self, name: str) -> Output | None:
        """The same of an output."""
        return spelt(name, self.outputs)


def spelt(name: str, known: Mapping[str, _Named]) -> _Named | None:
    """What a keyword of Python stands for; CWL's names may have dashes and dots."""
    if name in known:
        return known[name]
    wanted = {name, name.removesuffix("_"), name.replace("__", "_")}
    found = [one for word, one in known.items() if re.sub(r"\W", "_", word) in wanted]
    return found[0] if len(found) == 1 else None


def split(given: str) -> tuple[str, str]:
    """`main.cwl#align` → the path and `align`, one of several processes in a file."""
    found = re.fullmatch(r"(.*\.cwl)#([^#]*)", given, re.DOTALL)
    return (found[1], found[2]) if found else (given, "")


def load(path: Path, fragment: str = "") -> Workflow:
    """Parse and check a document and all it refers to.

    Raises TakedaError for what is missing or wrong, what HealthOmics does not run, and where cwltool
    is not installed.
    """
    if not path.is_file():
        raise TakedaError(f"there is no CWL file {path}")
    _check_version(path)
    tool, texts = load_tool(path, fragment)
    found = tool.tool
    if found["class"] not in _CLASSES:
        raise TakedaError(f"{path} is a {found['class']}; hand off one of {', '.join(_CLASSES)}")
    version = str(tool.metadata.get(_ORIGINAL_VERSION) or tool.metadata.get("cwlVersion"))
    tool.visit(lambda one: _refuse_operations(one, path))
    defined, _ = tool.get_requirement("SchemaDefRequirement")
    named = {str(one["name"]): one for one in (defined or {}).get("types", ())}
    order = _order(texts, path, fragment)
    own_name = "" if fragment in ("", "main") else fragment
    return Workflow(
        path=path,
        fragment=fragment,
        name=_name(path, own_name),
        version=version,
        inputs={
            name: Input(
                name,
                kind := _of_format(
                    _type(one["type"], named, _secondary(one.get("secondaryFiles"), True)),
                    one.get("format"),
                ),
                not kind.optional and one.get("default") is None,
                _text(one.get("label")) or _text(one.get("doc")),
                _plain(one.get("default")),
            )
            for name, one in _parameters(found["inputs"], order)
        },
        outputs={
            name: Output(
                name,
                _type(one["type"], named, _secondary(one.get("secondaryFiles"), False)),
                _text(one.get("label")) or _text(one.get("doc")),
            )
            for name, one in _parameters(found["outputs"], order)
        },
        texts=texts,
        description=_text(found.get("label")) or _text(found.get("doc")),
    )


def _check_version(path: Path) -> None:
    """Raises TakedaError for a document of another version, of which the parser says only that."""
    require()
    try:
        found = raw(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise TakedaError(f"{path} cannot be read: {error}") from error
    version = found.get("cwlVersion") if isinstance(found, dict) else None
    if isinstance(version, str) and version.removeprefix("cwl:") not in VERSIONS:
        raise TakedaError(f"{path} is CWL {version}; HealthOmics runs {', '.join(VERSIONS)}")


def load_tool(
    path: Path, fragment: str = "", construct: Callable[..., Any] | None = None
) -> tuple[Any, dict[Path, str]]:
    """cwltool's own object of the process, and the text of each file that was read for it.

    `construct` makes the objects of tools. Raises TakedaError.
    """
    require()
    fetching = _Fetching()
    try:
        tool = _load(path, fragment, construct, fetching)
    except TakedaError:
        if not _use_extensions(fetching.texts.values()):
            raise
        tool = None
    if tool is None or _use_extensions(fetching.texts.values()):
        tool = _load(path, fragment, construct, fetching)
    return tool, fetching.texts


def _load(
    path: Path, fragment: str, construct: Callable[..., Any] | None, fetching: _Fetching
) -> Any:
    from cwltool.context import LoadingContext
    from cwltool.errors import (
        GraphTargetMissingException,
        UnsupportedRequirement,
        WorkflowException,
    )
    from cwltool.load_tool import load_tool as load_by_cwltool
    from cwltool.workflow import default_make_tool
    from schema_salad.exceptions import SchemaSaladException

    # No JavaScript is tried, no ontology loaded, and a field of HealthOmics' own is no mistake.
    context = LoadingContext(
        {
            "construct_tool_object": construct or default_make_tool,
            "fetcher_constructor": fetching.make,
            "disable_js_validation": True,
            "skip_schemas": True,
            "strict": False,
            "do_update": True,
            # Names with spaces and the like, as a WDL takes them.
            "relax_path_checks": True,
        }
    )
    uri = path.resolve().as_uri() + (f"#{fragment}" if fragment else "")
    with quiet():
        try:
            return load_by_cwltool(uri, context)
        except (
            SchemaSaladException,
            WorkflowException,
            UnsupportedRequirement,
            GraphTargetMissingException,
            OSError,
            ValueError,
            KeyError,
        ) as error:
            remote = [url for url in fetching.refused if url in str(error)]
            if remote:
                raise TakedaError(
                    f"{path} refers to {remote[0]}, which is on the network; save a copy beside the "
                    "workflow and refer to that"
                ) from None
            raise TakedaError(f"{path} is not valid CWL: {_findings(error)}") from None


def require() -> None:
    """Raises TakedaError where cwltool is not installed."""
    try:
        import cwltool  # noqa: F401
    except ImportError:
        raise TakedaError(
            "CWL is read by cwltool, which is not installed here: "
            "pip install 'snakemake-executor-plugin-takeda[cwl]'"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """cwltool and its parser log to standard error what their errors say, too."""
    import cwltool.loghandler  # noqa: F401

    loggers = [logging.getLogger(name) for name in ("cwltool", "salad")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


_ALIAS = re.compile(r"(?:^|[\s\[,:-])\*\w")
"""YAML's word for what was said elsewhere."""


def _refuse_explosions(text: str, url: str) -> None:
    """Raises ValidationException for a text that stands for far more values than it has."""
    from schema_salad.exceptions import ValidationException
    from yaml import YAMLError

    try:
        parse_yaml(text)
    except YAMLError:
        return  # the parser says it better
    except ValueError as error:
        raise ValidationException(f"{url}: {error}") from None


class _Fetching:
    """Reads files, remembers their texts, and refuses the network."""

    def __init__(self) -> None:
        self.texts: dict[Path, str] = {}
        self.refused: list[str] = []
        """URLs on the network that were asked for."""

    def make(self, cache: Any, session: Any) -> Any:
        from schema_salad.exceptions import ValidationException
        from schema_salad.fetcher import DefaultFetcher

        outer = self

        class Fetcher(DefaultFetcher):
            def fetch_text(self, url: str, content_types: list[str] | None = None) -> str:
                if urllib.parse.urlsplit(url).scheme in ("http", "https"):
                    outer.refused.append(url)
                    raise ValidationException(f"{url} is on the network")
                text = str(super().fetch_text(url, content_types))
                if _ALIAS.search(text):
                    _refuse_explosions(text, url)
                if (path := local_path(url)) is not None:
                    outer.texts[path] = text
                return text

            def check_exists(self, url: str) -> bool:
                if urllib.parse.urlsplit(url).scheme in ("http", "https"):
                    outer.refused.append(url)
                    return False
                return bool(super().check_exists(url))

        return Fetcher(cache, None)


def local_path(uri: str) -> Path | None:
    """The path that a `file:` URI names, without its fragment."""
    parts = urllib.parse.urlsplit(uri)
    return Path(urllib.parse.unquote(parts.path)) if parts.scheme == "file" else None


_extended = False


def _use_extensions(texts: Iterable[str]) -> bool:
    """Let the parser know cwltool's own requirements, of which HealthOmics takes Loop and CUDA's, where
    a document has any; it is read anew then. True where they were not known before.
    """
    global _extended  # noqa: PLW0603
    if _extended or not any("commonwl.org/cwltool" in text for text in texts):
        return False
    from importlib.resources import files

    from cwltool.process import use_custom_schema

    for version, name in _EXTENSIONS.items():
        text = files("cwltool").joinpath(name).read_text("utf-8")
        use_custom_schema(version, "http://commonwl.org/cwltool", text)
    _extended = True
    return True


def _refuse_operations(process: Mapping[str, Any], path: Path) -> None:
    if process["class"] == "Operation":
        raise TakedaError(f"{path} has an Operation among its steps, which no engine can run")


def _name(path: Path, fragment: str) -> str:
    word = fragment or path.stem
    if not fragment and word in ("main", "workflow"):
        word = path.resolve().parent.name or word
    word = re.sub(r"\W+", "_", word).strip("_") or "workflow"
    return f"_{word}" if word[0].isdigit() else word


def _parameters(
    found: list[Mapping[str, Any]], order: Mapping[str, int]
) -> list[tuple[str, Mapping[str, Any]]]:
    """By name, in the order of the file: the parser sorts them."""
    named = [(_short(str(one["id"])), one) for one in found]
    return sorted(named, key=lambda pair: order.get(pair[0], len(order)))


def _order(texts: Mapping[Path, str], path: Path, fragment: str) -> dict[str, int]:
    """Places of inputs and outputs, as the document writes them."""
    document = raw(texts.get(path.resolve(), ""))
    if isinstance(document, dict) and isinstance(document.get("$graph"), list):
        wanted = fragment or "main"
        document = next(
            (
                one
                for one in document["$graph"]
                if isinstance(one, dict) and str(one.get("id", "")).lstrip("#") == wanted
            ),
            None,
        )
    if not isinstance(document, dict):
        return {}
    names: list[str] = []
    for section in ("inputs", "outputs"):
        found = document.get(section)
        if isinstance(found, dict):
            names += [str(name) for name in found]
        elif isinstance(found, list):
            names += [_short(str(one.get("id", ""))) for one in found if isinstance(one, dict)]
    return {name: number for number, name in reversed(list(enumerate(names)))}


def raw(text: str) -> Any:
    """A document as it is written; None for a text that is no YAML 1.2."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = True
    try:
        return reader.load(text)
    except (YAMLError, ValueError, RecursionError):
        return None


def _short(identifier: str) -> str:
    return identifier.rpartition("#")[2].rpartition("/")[2]


_SIMPLE = {
    "File": "file",
    "Directory": "directory",
    "Any": "any",
    "stdin": "file",
    "stdout": "file",
    "stderr": "file",
    **{word: word for word in ("boolean", "int", "long", "float", "double", "string")},
}


def _type(given: Any, named: Mapping[str, Any], secondary: tuple[Secondary, ...] = ()) -> Type:
    """Of a type as the parser leaves it; `named` are those of a SchemaDefRequirement."""
    if isinstance(given, list):
        return _union(given, named, secondary)
    if isinstance(given, str):
        return _word(given, named, secondary)
    makers = {"array": _array, "enum": _enum, "record": _record}
    maker = makers.get(given["type"]) if isinstance(given["type"], str) else None
    if maker is None:
        return _type(given["type"], named, secondary)
    return maker(given, named, secondary)


def _word(given: str, named: Mapping[str, Any], secondary: tuple[Secondary, ...]) -> Type:
    if given in named:
        return _type(named[given], named, secondary)
    kind = _SIMPLE.get(given, "any")
    text = "File" if kind == "file" else _short(given)
    return Type(kind, text, secondary=secondary if kind == "file" else ())


def _array(
    given: Mapping[str, Any], named: Mapping[str, Any], secondary: tuple[Secondary, ...]
) -> Type:
    item = _type(given["items"], named, secondary)
    text = f"{item}[]" if _is_brief(item) else f"{{type: array, items: {item}}}"
    return Type("array", text, items=(item,), secondary=secondary)


def _enum(given: Mapping[str, Any], _: Mapping[str, Any], __: tuple[Secondary, ...]) -> Type:
    symbols = tuple(_short(str(one)) for one in given["symbols"])
    text = _named(given, f"{{type: enum, symbols: [{', '.join(symbols)}]}}")
    return Type("enum", text, symbols=symbols)


def _record(given: Mapping[str, Any], named: Mapping[str, Any], _: tuple[Secondary, ...]) -> Type:
    members = {}
    for one in given.get("fields", ()):
        beside = _secondary(one.get("secondaryFiles"), True)
        kind = _type(one["type"], named, beside)
        members[_short(str(one["name"]))] = _of_format(kind, one.get("format"))
    fields = ", ".join(f"{name}: {one}" for name, one in members.items())
    text = _named(given, f"{{type: record, fields: {{{fields}}}}}")
    return Type("record", text, members=members)


def _of_format(kind: Type, given: Any) -> Type:
    """The type with the format of its files, where that is no expression."""
    found = given[0] if isinstance(given, list) and given else given
    if not isinstance(found, str) or "$(" in found or "${" in found:
        return kind
    items = tuple(_of_format(one, found) for one in kind.items)
    return replace(kind, items=items, format=found if kind.kind == "file" else "")


def _union(given: list[Any], named: Mapping[str, Any], secondary: tuple[Secondary, ...]) -> Type:
    choices = [_type(one, named, secondary) for one in given if one != "null"]
    optional = len(choices) < len(given) or any(one.optional for one in choices)
    if not choices:
        return Type("any", "null", optional=True)
    if len(choices) == 1:
        one = choices[0]
        if not optional or one.optional:
            return one
        text = f"{one}?" if _is_brief(one) else f"['null', {one}]"
        return Type(one.kind, text, True, one.items, one.members, one.symbols, one.secondary)
    words = [*(["'null'"] if optional else []), *(str(one) for one in choices)]
    return Type("union", f"[{', '.join(words)}]", optional, tuple(choices), secondary=secondary)


def _is_brief(one: Type) -> bool:
    return not one.optional and bool(re.fullmatch(r"\w+(\[\])*", one.text))


def _named(given: Mapping[str, Any], otherwise: str) -> str:
    """The name of a type that has one of its own."""
    name = str(given.get("name", ""))
    # The parser makes up names of types that have none.
    if not name or name.startswith("_:") or re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", name):
        return otherwise
    return _short(name)


def _secondary(given: Any, needed: bool) -> tuple[Secondary, ...]:
    """`needed` says what holds where a document says nothing: of inputs true, of outputs false."""
    found = []
    for one in [given] if isinstance(given, (str, dict)) else given or ():
        pattern = one if isinstance(one, str) else str(one["pattern"])
        required = None if isinstance(one, str) else one.get("required")
        if pattern.endswith("?") and "$" not in pattern:
            pattern, required = pattern[:-1], False
        # Whether an expression holds is known in the run only.
        required = False if isinstance(required, str) else required
        found.append(Secondary(pattern, needed if required is None else bool(required)))
    return tuple(found)


def _text(given: Any) -> str:
    words = " ".join(given) if isinstance(given, list) else given
    return " ".join(words.split()) if isinstance(words, str) else ""


def _plain(value: Any) -> Any:
    """The parser's own lists and maps as Python's."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _findings(error: BaseException) -> str:
    """What the parser says, a line for each place in a file; the first of them."""
    found: list[str] = []
    text = re.sub(r"\(\d{9,}\) ", "", str(error).replace("file://", ""))
    for line in text.splitlines():
        words = " ".join(line.split())
        if found and words and not re.match(r"\S+:\d+:\d+:", words):
            found[-1] += f" {words}"  # The parser breaks its lines.
        elif words:
            found.append(words)
    more = [f"… and {len(found) - _MAX_LINES} lines more"] if len(found) > _MAX_LINES else []
    return "\n  ".join(found[:_MAX_LINES] + more) or type(error).__name__

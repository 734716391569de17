"""A Nextflow pipeline as its files say it: its root, its main script, its params."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from snakemake_executor_takeda.backends.healthomics.nextflow_config import (
    Config,
    read_config,
    text_of,
)
from snakemake_executor_takeda.backends.healthomics.nextflow_publishing import (
    OUTDIR,
    Publishing,
    publishing,
)
from snakemake_executor_takeda.backends.healthomics.nextflow_schema import (
    NAME,
    Property,
    Schema,
    read_schema,
)
from snakemake_executor_takeda.backends.healthomics.nextflow_text import (
    Computed,
    Text,
    literal,
    read,
    statements,
)
from snakemake_executor_takeda.backends.healthomics.packaging import keep_inside
from snakemake_executor_takeda.values import TakedaError

CONFIG = "nextflow.config"
MAIN = "main.nf"

_IGNORED = frozenset({".git", ".snakemake", ".nf-test", "__pycache__", ".pytest_cache", ".venv"})
_IGNORED_AT_TOP = frozenset({"work", "results", ".takeda", ".github", ".devcontainer", ".vscode"})
_MENTIONED = re.compile(r"\bparams\.([A-Za-z_]\w*)\b(?!\s*\()")
_RESULTS = re.compile(r"(?i)(out|result|publish|pub_?dir)")
_TYPED = re.compile(r"(\w+)\s*:\s*([A-Z][\w<>, ]*\??)\s*(=)?\s*")
_TYPES = {bool: "Boolean", int: "Integer", float: "Float", str: "String", list: "List", dict: "Map"}


@dataclass(frozen=True)
class Param:
    """One param of a pipeline."""

    name: str
    type: str = ""
    """As the pipeline writes it, or of its default; empty where nothing says it."""
    is_typed: bool = False
    """Whether the script declares the type, and so a value has to have it."""
    required: bool = False
    default: Any = None
    """A Computed where it is no literal."""
    description: str = ""
    hidden: bool = False
    declared: Property | None = field(default=None, compare=False)
    """What the schema says of it."""

    @property
    def shown_default(self) -> str | None:
        if self.default is None:
            return None
        if isinstance(self.default, Computed):
            return "computed"
        return (
            {True: "true", False: "false"}.get(self.default, repr(self.default))
            if isinstance(self.default, bool)
            else repr(self.default).replace("'", '"')
        )


@dataclass(frozen=True)
class Pipeline:
    """All that is read of it, nothing of it run."""

    root: Path
    main: str
    """The main script, below the root."""
    name: str
    description: str
    version: str
    nextflow_version: str | None
    params: Mapping[str, Param]
    mentioned: frozenset[str]
    """Params that scripts use without declaring them."""
    config: Config
    schema: Schema | None
    publishing: Publishing
    files: tuple[str, ...] = field(repr=False)
    """All that is packaged, below the root, sorted."""

    @property
    def declares(self) -> bool:
        """Whether there is a list of params that a rule can be held to."""
        return bool(self.params)

    @property
    def is_strict(self) -> bool:
        """Whether only Nextflow's strict parser takes it: that one alone knows typed params."""
        return any(one.is_typed for one in self.params.values())

    @property
    def publishing_params(self) -> tuple[str, ...]:
        """Params that are set to the export directory, unless a rule sets them: what is published begins
        with them, and by name or default they are a place for results, not for a database."""
        found = [*self.publishing.params, *([OUTDIR] if OUTDIR in self.params else [])]
        return tuple(dict.fromkeys(name for name in found if self._is_for_results(name)))

    def _is_for_results(self, name: str) -> bool:
        param = self.params.get(name)
        default = param.default if param else None
        is_relative = isinstance(default, str) and bool(default) and "://" not in default
        return bool(_RESULTS.match(name)) or (is_relative and not str(default).startswith("/"))

    def find(self, name: str) -> Param | None:
        """The param that a rule means: `in_` is `in`, as a word of Python can be no keyword, and `a_b` may
        be `a-b`."""
        for word in (name, name.removesuffix("_")):
            if word in self.params:
                return self.params[word]
        return next((v for k, v in self.params.items() if k.replace("-", "_") == name), None)


def is_pipeline(directory: Path) -> bool:
    return (directory / MAIN).is_file() or (directory / CONFIG).is_file()


def load(path: Path) -> Pipeline:
    """Read the pipeline of a main script, or in a directory. Raises TakedaError."""
    root, main = _root(path)
    config = read_config(root / CONFIG)
    files = tuple(sorted(_files(root)))
    if main not in files:
        raise TakedaError(
            f"{root / main} is left out of what is packaged: name another main script"
        )
    scripts = [(str(root / one), read(text_of(root / one))) for one in files if one.endswith(".nf")]
    main_text = next(text for one, text in scripts if one == str(root / main))
    if not any(re.search(r"\b(workflow|process)\b", text.code) for _, text in scripts):
        raise TakedaError(f"{root / main} has neither a workflow nor a process")
    _refuse_dsl1(main_text, root / main)
    manifest = {name: one.value for name, one in config.below("manifest").items()}
    schema = read_schema(root / NAME)
    title = schema.title.split() if schema else []
    name = _text(manifest, "name") or (title[0] if title else root.name)
    return Pipeline(
        root=root,
        main=main,
        name=_identifier(name),
        description=_text(manifest, "description") or (schema.description if schema else ""),
        version=_text(manifest, "version"),
        nextflow_version=_text(manifest, "nextflowVersion") or None,
        params=_params(config, schema, main_text, scripts),
        mentioned=frozenset(word for _, text in scripts for word in _MENTIONED.findall(text.clean)),
        config=config,
        schema=schema,
        publishing=publishing(
            [(_below(root, Path(one)), text) for one, text in scripts], _relative(config, root)
        ),
        files=files,
    )


def _root(path: Path) -> tuple[Path, str]:
    """The pipeline's root and its main script below it, which the config may name."""
    path = path.resolve()
    if path.is_dir():
        script = read_config(path / CONFIG).below("manifest").get("mainScript")
        main = script.value if script else MAIN
        if not isinstance(main, str) or not (path / main).is_file():
            raise TakedaError(f"{path} is no Nextflow pipeline: it has no {main}")
        if not (path / main).resolve().is_relative_to(path):
            raise TakedaError(f"{path}: the main script {main} lies outside")
        return path, PurePosixPath(main).as_posix()
    for parent in path.parents[:3]:
        script = read_config(parent / CONFIG).below("manifest").get("mainScript")
        if script and isinstance(script.value, str) and (parent / script.value).resolve() == path:
            return parent, path.relative_to(parent).as_posix()
    return path.parent, path.name


def _files(root: Path) -> Iterator[str]:
    for folder, names, files in os.walk(root):
        here = Path(folder)
        below = here.relative_to(root)
        at_top = here == root
        names[:] = sorted(
            one
            for one in names
            if one not in _IGNORED
            and not one.startswith(".nextflow")
            and not (at_top and one in _IGNORED_AT_TOP)
        )
        for one in names:
            if (here / one).is_symlink():
                raise TakedaError(
                    f"{here / one} is a link to a directory, which a package cannot hold: put the files there"
                )
        for one in files:
            if one.endswith(".log") or one.startswith((".nextflow", ".DS_Store")):
                continue
            if (here / one).is_symlink():
                keep_inside(here / one, root)
            if (here / one).is_file():
                yield (below / one).as_posix()


def _params(
    config: Config, schema: Schema | None, main: Text, scripts: list[tuple[str, Text]]
) -> dict[str, Param]:
    """The schema's first, in its order; then what configs and scripts add."""
    defaults: dict[str, Any] = {}
    for _, text in scripts:
        defaults |= _assigned(text)
    defaults |= _assigned(main)
    typed = _typed(main)
    # A config's value comes before a script's.
    defaults |= {name: one.default for name, one in typed.items() if one.default is not None}
    defaults |= config.params()
    found: dict[str, Param] = {}
    for name, one in (schema.properties if schema else {}).items():
        default = one.schema.get("default", defaults.get(name))
        found[name] = Param(
            name,
            one.says,
            False,
            one.required and (default is None or default == ""),
            default,
            " ".join(str(one.schema.get("description", "")).split()),
            bool(one.schema.get("hidden")),
            one,
        )
    for name, param in typed.items():
        found.setdefault(name, param)
    for name, default in defaults.items():
        found.setdefault(name, Param(name, _TYPES.get(type(default), ""), default=default))
    return found


def _assigned(text: Text) -> dict[str, Any]:
    """`params.x = …` at the top of a script."""
    found: dict[str, Any] = {}
    for one in statements(text):
        if (assignment := one.assignment) is None:
            continue
        left, right = assignment
        parts = left.split(".")
        if parts[0] == "params" and len(parts) > 1:
            found[parts[1]] = literal(right) if len(parts) == 2 else Computed("a map")
    return found


def _typed(text: Text) -> dict[str, Param]:
    """The `params { x: Path }` block that scripts may have since Nextflow 25.10."""
    found: dict[str, Param] = {}
    for block in (one.block for one in statements(text)):
        if block is None or block[0] != "params":
            continue
        for one in statements(block[1]):
            if match := _TYPED.match(one.text.code):
                name, kind = match[1], match[2].strip()
                default = (
                    literal(one.text.part(match.end(), len(one.text.code))) if match[3] else None
                )
                required = match[3] is None and not kind.endswith("?") and kind != "Boolean"
                found[name] = Param(name, kind, True, required, default)
            elif (assignment := one.assignment) is not None:
                default = literal(assignment[1])
                name = assignment[0]
                found[name] = Param(name, _TYPES.get(type(default), ""), default=default)
    return found


def _refuse_dsl1(text: Text, path: Path) -> None:
    for one in statements(text):
        assignment = one.assignment
        if assignment and assignment[0] == "nextflow.enable.dsl" and literal(assignment[1]) == 1:
            raise TakedaError(
                f"{path}:{one.text.first_line}: DSL 1 is not supported; migrate it to DSL 2"
            )


def _relative(config: Config, root: Path) -> Config:
    """The same with places as a person in the pipeline's directory would name them."""
    from dataclasses import replace

    return replace(
        config,
        settings=tuple(
            replace(one, place=one.place.removeprefix(f"{root}/")) for one in config.settings
        ),
    )


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _text(manifest: Mapping[str, Any], name: str) -> str:
    found = manifest.get(name)
    return found if isinstance(found, str) else ""


def _identifier(name: str) -> str:
    """`nf-core/rnaseq` → `rnaseq`: also the name of a rule, and part of the registered workflow's."""
    words = re.sub(r"\W+", "_", name.rstrip("/").rpartition("/")[2], flags=re.ASCII).strip("_")
    return f"pipeline_{words}" if not words or words[0].isdigit() else words

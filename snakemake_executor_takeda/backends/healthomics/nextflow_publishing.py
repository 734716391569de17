"""Where a pipeline publishes to, and what of that a run exports.

HealthOmics exports what tasks publish below `/mnt/workflow/pubdir` (by AWS's guide), and from Nextflow
25.10 on what a workflow's `output` block has and what is written below `/mnt/workflow/output`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from snakemake_executor_takeda.backends.healthomics.nextflow_config import Config
from snakemake_executor_takeda.backends.healthomics.nextflow_text import (
    Computed,
    Text,
    literal,
    members,
    statements,
)

EXPORT_DIRECTORY = "/mnt/workflow/pubdir"
EXPORTED = (EXPORT_DIRECTORY, "/mnt/workflow/output")
_MAX_SHOWN = 80
OUTDIR = "outdir"
"""The param that nf-core's pipelines publish below."""

# `params.x`, `params.x + …`, `params.x ?: …`, `file(params.x)`; and at the head of a text, `"${params.x}/…"`. Not
# `params.x ? … : …`, where the param decides only.
_BARE_PARAM = re.compile(r"(?:file\(\s*)?params\.(\w+)\s*\)?\s*(?:(?:\+|\?:).*)?", re.DOTALL)
_TEXT_PARAM = re.compile(
    r"\"{1,3}\$(?:\{\s*(?:file\(\s*)?params\.(\w+)\s*\)?\s*(?:\?:[^}]*)?\}|params\.(\w+))(?:[/\"]|$)"
)
_PROCESS = re.compile(r"process\s+(\w+)")


class Kind(Enum):
    """Where a published path begins."""

    PARAM = "a param"
    EXPORTED = "the export directory"
    RELATIVE = "the launch directory"
    ELSEWHERE = "an absolute path or a URI"
    COMPUTED = "an expression"


@dataclass(frozen=True)
class Published:
    """One place that a pipeline publishes to."""

    kind: Kind
    path: str
    """As the pipeline has it; of a PARAM its name."""
    place: str
    """File and line."""


@dataclass(frozen=True)
class Redirect:
    """A process that publishes to places below the launch directory."""

    process: str
    entries: tuple[str, ...]
    """Its directives as maps of a config, `{}` for the directory that is exported."""


@dataclass(frozen=True)
class Publishing:
    """All that can be seen of it."""

    places: tuple[Published, ...]
    redirects: tuple[Redirect, ...]
    has_output_block: bool

    @property
    def params(self) -> tuple[str, ...]:
        """Params that published paths begin with: set to the export directory for a run."""
        return tuple(dict.fromkeys(one.path for one in self.places if one.kind is Kind.PARAM))

    def _is_told(self, expression: str) -> bool:
        """Whether all an expression may come to begins with a param that is set for a run."""
        heads = [found[1] or found[2] for found in _TEXT_PARAM.finditer(expression)]
        return bool(heads) and all(head in self.params for head in heads)

    def config(self, export_directory: str = EXPORT_DIRECTORY) -> str:
        """Settings that bring what a process publishes below the launch directory to the exported one.

        Empty where there is nothing to bring. A selector comes before a process's own directives.
        """
        if not self.redirects:
            return ""
        written = re.sub(r"([\\\"'$])", r"\\\1", export_directory)
        lines = ["process {"]
        for one in self.redirects:
            entries = ", ".join(entry.replace("{}", written) for entry in one.entries)
            several = f"[{entries}]" if len(one.entries) > 1 else entries
            lines.append(f"    withName: '{one.process}' {{ publishDir = {several} }}")
        return "\n".join([*lines, "}", ""])

    def notes(self) -> list[str]:
        """What a run will not export, as far as it can be seen."""
        found = []
        for one in self.places:
            if one.kind is Kind.ELSEWHERE:
                found.append(
                    f"{one.place}: publishes to {one.path}, which HealthOmics does not export: begin the "
                    "path with a param such as ${params.outdir}"
                )
            elif one.kind is Kind.COMPUTED and not self._is_told(one.path):
                found.append(
                    f"{one.place}: whether HealthOmics exports what is published to {_short(one.path)} cannot be "
                    f"told: it does below {EXPORT_DIRECTORY}"
                )
            elif one.kind is Kind.RELATIVE:
                found.append(
                    f"{one.place}: publishes to {one.path} below the launch directory, which HealthOmics "
                    "does not export: begin the path with a param such as ${params.outdir}"
                )
        if not self.places and not self.redirects and not self.has_output_block:
            found.append(
                "the pipeline has no publishDir and no output block, and so a run exports nothing"
            )
        return found


def publishing(scripts: Sequence[tuple[str, Text]], config: Config) -> Publishing:
    """`scripts` are the pipeline's, each with its path."""
    places: list[Published] = []
    redirects: list[Redirect] = []
    has_output = False
    for path, text in scripts:
        for one in statements(text):
            block = one.block
            if block is None:
                continue
            name, inside = block
            has_output = has_output or name == "output"
            if found := _PROCESS.fullmatch(name):
                left, redirect = _of_process(found[1], inside, path)
                places += left
                redirects += [redirect] if redirect else []
    for setting in config.settings:
        if setting.path[0] == "profiles":
            continue
        if setting.path[-1] == "publishDir":
            for one_path in _paths(setting.right):
                places.append(_published(one_path, setting.place))
        elif setting.path == ("outputDir",):
            places.append(_published(setting.right, setting.place))
    return Publishing(tuple(_once(places)), tuple(redirects), has_output)


def _of_process(name: str, inside: Text, path: str) -> tuple[list[Published], Redirect | None]:
    """The places of one process that stay as they are, or how all of them are redirected."""
    directives = [
        (one, given)
        for one in statements(inside)
        if (given := one.directive("publishDir")) is not None
    ]
    places: list[Published] = []
    entries: list[str | None] = []
    for one, given in directives:
        where = f"{path}:{one.text.first_line}"
        for part in _paths(given):
            places.append(_published(part, where))
        entries.append(_entry(given))
    if any(one.kind is Kind.RELATIVE for one in places) and all(entries):
        return [], Redirect(name, tuple(entry for entry in entries if entry))
    return places, None


def _entry(given: Text) -> str | None:
    """A directive as a map of a config; None where that could mean another thing there."""
    options = []
    path = None
    for name, value in _options(given):
        if name in (None, "path"):
            path = _inside_closure(value)
        elif isinstance(literal(value), Computed):
            return None
        else:
            options.append(f"{name}: {value.clean}")
    if path is None:
        return None
    kind = _published(path, "").kind
    inner = path.clean.strip("\"'")
    if kind is Kind.RELATIVE:
        inner = "{}/" + inner.removeprefix("./").removeprefix("/")
    elif kind is not Kind.EXPORTED:
        return None
    # A closure, as the names in it are known to the task only.
    closure = f'{{ "{inner}" }}' if "$" in inner else f"'{inner}'"
    return f"[{', '.join([f'path: {closure}', *options])}]"


def _options(given: Text) -> Iterator[tuple[str | None, Text]]:
    """`'x', mode: 'copy'`, with or without brackets around it."""
    given = given.stripped()
    if given.code[:1] in ("(", "[") and given.code[-1:] in (")", "]"):
        inside = given.part(1, len(given.code) - 1)
        found = members(inside)
        # A list of maps has one for each place.
        for name, value in found:
            if name is None and value.code[:1] == "[":
                yield from _options(value)
            else:
                yield name, value
        return
    yield from members(given)


def _paths(given: Text) -> Iterator[Text]:
    if given.stripped().code[:1] == "{":
        yield _inside_closure(given)
        return
    for name, value in _options(given):
        if name in (None, "path"):
            yield _inside_closure(value)


def _inside_closure(value: Text) -> Text:
    value = value.stripped()
    if value.code[:1] == "{" and value.code[-1:] == "}":
        inside = value.part(1, len(value.code) - 1).stripped()
        # `{ meta -> "…" }`
        arrow = re.match(r"[\w,\s]*->", inside.code)
        return inside.part(arrow.end(), len(inside.code)).stripped() if arrow else inside
    return value


def _published(path: Text, place: str) -> Published:
    text = path.stripped().clean
    if found := _BARE_PARAM.fullmatch(text) or _TEXT_PARAM.match(text):
        return Published(Kind.PARAM, next(one for one in found.groups() if one), place)
    value: Any = literal(path)
    inside = value if isinstance(value, str) else text.strip("\"'")
    if not isinstance(value, str) and (text[:1] not in "\"'" or inside.startswith("$")):
        return Published(Kind.COMPUTED, text, place)
    if any(inside == one or inside.startswith(f"{one}/") for one in EXPORTED):
        return Published(Kind.EXPORTED, inside, place)
    if inside.startswith("/") or "://" in inside:
        return Published(Kind.ELSEWHERE, inside, place)
    return Published(Kind.RELATIVE, inside, place)


def _short(expression: str) -> str:
    text = " ".join(expression.split())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _once(places: Iterable[Published]) -> list[Published]:
    """A param is of interest once, a path at each place."""
    return list(
        {
            (one.kind, one.path, "" if one.kind is Kind.PARAM else one.place): one for one in places
        }.values()
    )

"""`takeda handoff init`: a workflow's own signature as a ready rule."""

from __future__ import annotations

import argparse
import json
import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.healthomics.value_types import TO_FILL_IN, WORDS, Secondary
from snakemake_executor_takeda.cli.handoff.workflows import is_elsewhere, open_workflow
from snakemake_executor_takeda.cli.terminal import positive
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.definition import (
        Definition,
        Entry,
        Signature,
    )

# Names that Snakemake's lists of files and params have for themselves, beside those of every list.
_TAKEN = frozenset(
    {"get", "items", "keys", "update", "size", "size_files", "size_gb", "size_kb", "size_mb"}
    | {"size_files_gb", "size_files_kb", "size_files_mb", "size_tempfiles", "temp_size_mb"}
) | frozenset(dir(list))
_FILE_KINDS = frozenset({"file", "directory", "files", "pair"})


def register(commands: argparse._SubParsersAction[Any]) -> None:
    init = commands.add_parser(
        "init",
        help="print a rule for a workflow",
        description="Print a rule that hands a WDL workflow, a Nextflow pipeline or a CWL document off, "
        "from its own inputs and outputs. What it may leave out is there as comments.",
        epilog="example: takeda handoff init call.wdl --inputs inputs.json >> Snakefile",
    )
    init.add_argument(
        "definition",
        metavar="WORKFLOW",
        help="its file, such as call.wdl, main.nf or flow.cwl#main; a pipeline's directory; or as a rule "
        "names it: git+URL@REVISION#PATH, ready2run:ID",
    )
    init.add_argument(
        "--inputs", metavar="FILE", help="fill in the values of a JSON file of inputs"
    )
    init.add_argument("--rule", metavar="NAME", help="name of the rule (default: the workflow's)")
    init.add_argument("--threads", type=positive, default=2, metavar="N", help="of a plain run")
    init.add_argument("--json", action="store_true", help="the signature as a JSON object instead")
    init.set_defaults(run=_run_init)


def _run_init(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.backends.healthomics import input_json

    definition = open_workflow(args.definition, "init")
    values = input_json.read(args.inputs, definition.name, [Path.cwd()])
    _check(definition, values)
    if args.json:
        print(json.dumps({"path": args.definition, **definition.signature().as_json()}, indent=2))
        return 0
    for warning in _warnings(definition):
        print(f"takeda: {warning}", file=sys.stderr)
    name = args.rule or re.sub(r"\W+", "_", definition.name)
    if not name.isidentifier() or keyword.iskeyword(name):
        raise TakedaError(f"{name!r} is no name for a rule; give one with --rule")
    sys.stdout.write(render(definition, name, args.definition, values, args.threads))
    return 0


def _check(definition: Definition, values: Mapping[str, Any]) -> None:
    """Raises Mistakes for values that do not fit. What is not given is left to fill in."""
    from snakemake_executor_takeda.backends.healthomics.files import AsWritten
    from snakemake_executor_takeda.backends.healthomics.mistakes import refuse

    if not values:
        return
    _, mistakes = definition.parameters((), {}, files=AsWritten(), where="", defaults=values)
    refuse(one for one in mistakes if one.name in values)


def _warnings(definition: Definition) -> Iterator[str]:
    """What would keep HealthOmics from running it; a plain run may still."""
    if definition.lists_outputs and not definition.signature().outputs:
        yield (
            f"workflow {definition.name} has no outputs, and so its rule makes nothing; "
            "declare in it what other rules need"
        )
    yield from definition.notes()
    try:
        definition.package({})
    except TakedaError as error:
        yield str(error)


def render(
    definition: Definition, rule: str, path: str, values: Mapping[str, Any], threads: int
) -> str:
    """The text of the rule; `values` by input name."""
    signature = definition.signature()
    made = _outputs(signature, rule) if definition.lists_outputs else _published(rule)
    lines = [*_inputs(definition, signature, values), *made]
    by_section: dict[str, list[_Line]] = {"input": [], "output": [], "params": []}
    for line in lines:
        by_section[line.section].append(line)
    text = [f"rule {rule}:"]
    if signature.description:
        text.insert(0, f"# {signature.description}")
    for section, members in by_section.items():
        if members:
            # A section of nothing but comments is none to Snakemake.
            shut = "" if any(line.active for line in members) else "# "
            text.append(f"    {shut}{section}:")
            text += [f"        {line.declared}" for line in members]
    if not definition.lists_outputs:
        text += ["    # What is a file belongs under input:, by the same name"]
    if hidden := sum(
        one.hidden and not one.required and one.name not in values for one in signature.inputs
    ):
        text += [f"    # {hidden} more params are hidden by the workflow's author: see --json"]
    if signature.nested:
        text += [
            f"    # Inputs of its calls may be set as params, too: {_nested(signature)}",
        ]
    text += [
        "    resources:",
        f"        handoff={_path(path)},",
        f"    threads: {threads}",
        "    shell:",
        '        "takeda handoff run-local {resources.handoff:q} --cores {threads} "',
    ]
    text += [f"        {line.passed}" for line in lines if line.passed]
    return "\n".join(text) + "\n"


@dataclass(frozen=True)
class _Line:
    """One input or output of the rule, and the word for it in the shell command."""

    section: str
    active: bool
    """False for one that is there as a comment."""
    text: str
    comment: str
    words: str = ""

    @property
    def declared(self) -> str:
        about = f"  # {self.comment}" if self.comment else ""
        return f"{'' if self.active else '# '}{self.text},{about}"

    @property
    def passed(self) -> str:
        return f'{"" if self.active else "# "}"{self.words} "' if self.words else ""


# In the shell command a value always follows `=`, so that it may be empty, or begin with a dash.


def _inputs(
    definition: Definition, signature: Signature, values: Mapping[str, Any]
) -> Iterator[_Line]:
    entries = [*signature.inputs, *(one for one in signature.nested if one.name in values)]
    # Snakemake wants files without a name before those with one.
    for entry in entries:
        if entry.kind == "mixed" and entry.name in values:
            for path in dict.fromkeys(definition.paths_in(entry.name, values[entry.name])):
                yield _Line("input", True, _storage(path), f"in `{entry.name}`")
        elif entry.kind == "mixed" and entry.default is None and not entry.hidden:
            for path in dict.fromkeys(_places(entry.skeleton)):
                yield _Line("input", entry.required, _storage(path), f"in `{entry.name}`")
    for entry in entries:
        if not entry.hidden or entry.required or entry.name in values:
            yield _input(definition, entry, values)


def _input(definition: Definition, entry: Entry, values: Mapping[str, Any]) -> _Line:
    name = _keyword(entry.name)
    given = entry.name in values
    active = given or entry.required
    comment = _about(entry)
    if entry.kind in _FILE_KINDS:
        words = f"--input {name}={{input.{name}:q}}"
        value = _placeholder(entry)
        if given:
            found = definition.paths_in(entry.name, values[entry.name])
            value = _paths(entry, found or values[entry.name])
        return _Line("input", active, f"{name}={value}", comment, words)
    if entry.kind == "mixed" and not given:
        comment += "; its files by the paths under input:"
    words = f"--param {name}={{params.{name}:q}}"
    value = _literal(values[entry.name]) if given else _wanted(entry)
    return _Line("params", active, f"{name}={value}", comment, words)


def _wanted(entry: Entry) -> str:
    """The default, or what the user has to write."""
    if entry.default is not None:
        return _default(entry)
    if entry.skeleton is None:
        return "..."
    return repr(entry.skeleton).replace(repr(TO_FILL_IN), "...")


def _places(skeleton: Any) -> Iterator[str]:
    """The files in a skeleton."""
    if isinstance(skeleton, dict):
        skeleton = list(skeleton.values())
    if isinstance(skeleton, list):
        for one in skeleton:
            yield from _places(one)
    elif isinstance(skeleton, str) and skeleton != TO_FILL_IN:
        yield skeleton


def _outputs(signature: Signature, rule: str) -> Iterator[_Line]:
    for entry in signature.outputs:
        name = _keyword(entry.name)
        path = f"results/{rule}/{entry.name}"
        comment = _about(entry)
        option = "--output"
        if entry.kind == "value":
            word = entry.type.rstrip("?").lower() in WORDS
            value = json.dumps(f"{path}.{'txt' if word else 'json'}")
        elif entry.kind == "file" and entry.required:
            value = json.dumps(path)
        elif entry.type == "Pair[File,File]":
            value = json.dumps([f"{path}/left", f"{path}/right"])
        else:
            value, option = f'directory("{path}")', "--output-dir"
            if entry.kind == "files" and entry.required:
                comment += "; or list as many files as it makes, in order"
            elif entry.kind == "file":
                comment += "; has the file, or none"
            if entry.beside:
                comment += f"; with {', '.join(entry.beside)} beside it"
        words = f"{option} {name}={{output.{name}:q}}"
        yield _Line("output", True, f"{name}={value}", comment, words)


def _published(rule: str) -> Iterator[_Line]:
    """Of a workflow that names no outputs: all that it publishes, to begin with."""
    value = f'directory("results/{rule}/published")'
    comment = "name what other rules need, such as vcf=…, and its glob below"
    yield _Line("output", True, f"published={value}", comment)
    yield _Line(
        "params",
        True,
        'handoff_outputs={"published": "."}',
        "globs by output name, below what the pipeline publishes",
        "--handoff-outputs {params.handoff_outputs:q} --output-dir published={output.published:q}",
    )


def _about(entry: Entry) -> str:
    default = f" = {entry.default}" if entry.default is not None else ""
    said = f"{entry.type}{default}".strip()
    return ": ".join(part for part in (said, entry.description) if part)


def _nested(signature: Signature) -> str:
    names = [f"{_keyword(one.name)} ({one.type})" for one in signature.nested]
    more = f" and {len(names) - 3} more, see --json" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _keyword(name: str) -> str:
    """A name that Python and Snakemake take: `align.threads` is `align__threads`, `in` is `in_`."""
    word = re.sub(r"\W", "_", name.replace(".", "__"))
    word = f"_{word}" if word[:1].isdigit() else word
    return f"{word}_" if word in _TAKEN or keyword.iskeyword(word) else word


def _placeholder(entry: Entry) -> str:
    if entry.beside:
        named = [f"path/to/{entry.name}"]
        return json.dumps(named + [Secondary(one, True).beside(named[0]) for one in entry.beside])
    paths = {"files": 1, "pair": 2}.get(entry.kind)
    if paths is None:
        return json.dumps(f"path/to/{entry.name}")
    one = [f"path/to/{entry.name}{number + 1}" for number in range(paths)]
    return json.dumps(one)


def _paths(entry: Entry, value: Any) -> str:
    if isinstance(value, dict):
        value = [value[side] for side in sorted(value)]  # A pair: left, then right.
    if isinstance(value, (list, tuple)) and (len(value) != 1 or entry.kind == "files"):
        return f"[{', '.join(_storage(str(one)) for one in value)}]"
    one = value[0] if isinstance(value, (list, tuple)) else value
    return f"[{_storage(str(one))}]" if entry.kind == "files" else _storage(str(one))


def _storage(path: str) -> str:
    return f"storage.s3({json.dumps(path)})" if path.startswith("s3://") else json.dumps(path)


def _default(entry: Entry) -> str:
    """The default as Python has it, where that is the same; an expression is left to the WDL."""
    text = str(entry.default)
    if "~{" in text or "${" in text:
        return "..."
    try:
        return _literal(json.loads(text))
    except json.JSONDecodeError:
        return "..."


def _literal(value: Any) -> str:
    """A value as Python writes it. Snakemake takes braces in a string for wildcards."""
    text = repr(value)
    return f"lambda wildcards: {text}" if "{" in text and not isinstance(value, dict) else text


def _path(path: str) -> str:
    if Path(path).is_absolute() or is_elsewhere(path):
        return json.dumps(path)
    braces = path.replace("{", "{{").replace("}", "}}")
    return f'f"{{workflow.basedir}}/{braces}"'

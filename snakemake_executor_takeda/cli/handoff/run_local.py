"""`takeda handoff run-local`: the workflow of a rule on this machine, by the same mapping."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from snakemake_executor_takeda.cli.handoff import local_runs
from snakemake_executor_takeda.cli.handoff.workflows import open_local
from snakemake_executor_takeda.cli.terminal import positive
from snakemake_executor_takeda.sandbox.plain_path import plain
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.definition import Delivery


_DRAFT = ".takeda-handoff-"


def register(commands: argparse._SubParsersAction[Any]) -> None:
    local = commands.add_parser(
        "run-local",
        help="run a workflow on this machine",
        description="Run a workflow on this machine with the inputs and outputs of a rule, "
        "as HealthOmics would run it. NAME=VALUE may be written for NAME VALUE. A compound value "
        "is given as JSON, or as Python writes it.",
        epilog="example: takeda handoff run-local call.wdl --input bams a.bam b.bam "
        "--param ploidy 1 --output vcf calls.vcf",
    )
    local.add_argument(
        "workflow", metavar="WORKFLOW", help="its file, or git+URL@REVISION#PATH as a rule names it"
    )
    named = {"action": "append", "nargs": "+", "default": []}
    local.add_argument("--input", metavar=("NAME", "PATH"), help="files of one input", **named)
    local.add_argument("--param", metavar=("NAME", "VALUE"), help="value(s) of one input", **named)
    local.add_argument(
        "--input-json",
        metavar="FILE",
        help="values by input name, as a JSON file or text; --input and --param come before them",
    )
    local.add_argument(
        "--output", metavar=("NAME", "PATH"), help="where the files of one output go", **named
    )
    local.add_argument(
        "--output-dir", metavar=("NAME", "PATH"), help="the same for a directory", **named
    )
    local.add_argument(
        "--handoff-outputs",
        metavar="JSON",
        help="globs by output name, of a workflow that does not name its outputs",
    )
    local.add_argument(
        "--cores", type=positive, metavar="N", help="cores for all tasks (default: all)"
    )
    local.add_argument(
        "--runner",
        choices=("process", "docker"),
        default="process",
        help="process: tools of this environment (default); docker: the tasks' containers",
    )
    local.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="keep logs and intermediate files here"
    )
    local.add_argument(
        "--profile", metavar="NAMES", help="profile(s) of a Nextflow pipeline, with commas"
    )
    local.add_argument("--verbose", action="store_true", help="show the engine's progress")
    # One line: the usage of all options would hide the mistake.
    local.error = _usage_error(local)
    local.set_defaults(run=_run_local, parser=local)


def _usage_error(parser: argparse.ArgumentParser) -> Callable[[str], NoReturn]:
    def error(message: str) -> NoReturn:
        parser.exit(2, f"{parser.prog}: error: {message}; see `{parser.prog} --help`\n")

    return error


def _run_local(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.backends.healthomics import files, input_json, produced_files
    from snakemake_executor_takeda.backends.healthomics.mistakes import refuse
    from snakemake_executor_takeda.sandbox.wdl_run import WorkflowFailed

    inputs = [
        NamedFiles(name, tuple(File(path, None) for path in paths if path), len(paths) != 1)
        for name, paths in _pairs(args.parser, args.input, "--input", least=0)
    ]
    words = _pairs(args.parser, args.param, "--param", least=0)
    wanted = _wanted_outputs(args)
    workflow = open_local(args.workflow, "run-local")
    patterns = produced_files.read_patterns(args.handoff_outputs)
    given, mistakes = workflow.parameters(
        inputs,
        {name: workflow.from_words(name, values) for name, values in words},
        files=files.LocalFiles(),
        where="",
        defaults=input_json.read(
            args.input_json, workflow.name, [Path.cwd(), workflow.path.parent]
        ),
    )
    refuse([*mistakes, *workflow.output_mistakes(wanted, "", patterns)])
    wish = local_runs.Wish(args.runner, args.cores, args.verbose, args.profile)
    with _interruptible(), _run_directory(args, wanted) as run_dir:
        try:
            produced = local_runs.run(workflow, given, run_dir, wish)
        except WorkflowFailed as failure:
            _show(workflow.path, failure.task, failure.reason, failure.log_tail)
            return 1
        try:
            deliveries = workflow.match_outputs(wanted, produced, "", patterns)
        except TakedaError as error:
            where = "is gone; --run-dir DIR keeps it" if args.run_dir is None else args.run_dir
            raise TakedaError(f"{error}\nthe run's directory: {where}") from None
        for delivery in deliveries:
            may_move = args.run_dir is None and _movable(delivery, deliveries, run_dir)
            _place(delivery, move=may_move)
    return 0


def _pairs(
    parser: argparse.ArgumentParser, given: list[list[str]], option: str, least: int = 1
) -> list[tuple[str, list[str]]]:
    pairs = []
    for first, *rest in given:
        name, equals, value = first.partition("=")
        pairs.append((name, ([value] if equals else []) + rest))
    names = [name for name, _ in pairs]
    for name, values in pairs:
        if len(values) < least:
            parser.error(f"{option} {name}: give a name and at least {least} value")
        if names.count(name) > 1:
            parser.error(f"{option} {name} is given twice; list all values after one {option}")
    return pairs


def _wanted_outputs(args: argparse.Namespace) -> list[NamedFiles]:
    """A lone path without a name stands for a rule's one unnamed output."""
    wanted = []
    for option, given, directory in (
        ("--output", args.output, False),
        ("--output-dir", args.output_dir, True),
    ):
        lone = [words[0] for words in given if len(words) == 1 and "=" not in words[0]]
        named = [words for words in given if len(words) > 1 or "=" in words[0]]
        for path in lone:
            wanted.append(NamedFiles(None, (File(path, None, directory),), is_list=False))
        for name, paths in _pairs(args.parser, named, option):
            files = tuple(File(path, None, directory) for path in paths)
            wanted.append(NamedFiles(name, files, is_list=len(files) > 1))
    if not wanted:
        args.parser.error("give at least one --output NAME PATH")
    paths = [str(Path(file.path).absolute()) for one in wanted for file in one.files]
    for path in paths:
        if paths.count(path) > 1:
            args.parser.error(f"two outputs go to {path}")
    return wanted


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does: tasks ended, directories removed."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _run_directory(args: argparse.Namespace, wanted: Sequence[NamedFiles]) -> Iterator[Path]:
    """Beside the first output, so that outputs can be moved to their place within a file system.

    Tasks see it by a plain path: commands that leave `~{bam}` unquoted are right on HealthOmics.
    """
    # A container has plain paths of its own.
    seen_by = plain if args.runner == "process" else nullcontext
    kept: Path | None = args.run_dir
    if kept is not None:
        if kept.exists() and any(kept.iterdir()):
            raise TakedaError(f"--run-dir {kept} is not empty; name a new directory")
        kept.mkdir(parents=True, exist_ok=True)
        with seen_by(kept.absolute()) as seen:
            yield seen
        return
    beside = Path(wanted[0].files[0].path).absolute().parent
    beside.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=beside))
    try:
        with seen_by(made) as seen:
            yield seen / "run"
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _movable(delivery: Delivery, deliveries: Sequence[Delivery], run_dir: Path) -> bool:
    """True for what the run made and no other output holds or is part of; the rest is copied."""
    if delivery.content is not None:
        return False
    source = Path(delivery.source).resolve()
    others = [
        Path(one.source).resolve()
        for one in deliveries
        if one is not delivery and one.content is None
    ]
    return source.is_relative_to(run_dir.resolve()) and not any(
        source.is_relative_to(other) or other.is_relative_to(source) for other in others
    )


def _place(delivery: Delivery, *, move: bool) -> None:
    """Put one output at its path, whole or not at all."""
    source = Path(delivery.source).resolve()
    target = Path(delivery.target.path).absolute()
    if delivery.member is not None:
        target /= delivery.member
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=target.parent))
    try:
        fresh = draft / target.name
        if delivery.content is not None:
            fresh.write_bytes(delivery.content)
        elif move:
            shutil.move(source, fresh)
        elif delivery.is_directory:
            shutil.copytree(source, fresh)
        else:
            shutil.copyfile(source, fresh)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        fresh.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _show(path: Path, task: str, reason: str, log_tail: Sequence[str]) -> None:
    what = f"task {task}: {reason}" if task else reason
    print(f"takeda: {path}: {what}", file=sys.stderr)
    if log_tail:
        print("last lines of its standard error:", file=sys.stderr)
        for line in log_tail:
            print(f"  {line}", file=sys.stderr)

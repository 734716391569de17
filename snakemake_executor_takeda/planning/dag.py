"""A pipeline's DAG as a run would have it: Snakemake reads command line and profile, and nothing runs."""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.settings import ExecutorSettings

T = TypeVar("T")


@dataclass
class Dag:
    """A DAG that was built."""

    workflow: Any
    settings: ExecutorSettings
    unstaged: dict[str, Path] = field(default_factory=dict)
    """URI in S3 → file or directory beside the Snakefile: inputs that are not in S3 yet, and were taken as
    if they were."""
    in_both: dict[str, Path] = field(default_factory=dict)
    """Likewise of inputs that are in S3, too."""

    def jobs(self) -> Iterator[Any]:
        """What Snakemake would hand over or run itself: jobs, and group jobs for their members."""
        dag = self.workflow.dag
        groups = set()
        for job in dag.needrun_jobs():
            group = dag.get_job_group(job)
            if group is None:
                yield job
            elif group not in groups:
                groups.add(group)
                group.finalize()
                yield group


def with_dag(
    argv: Sequence[str],
    look: Callable[[Dag], T],
    first: Callable[[Dag], object] = id,
    *,
    offline: bool = False,
) -> T:
    """What `look` makes of the DAG that `snakemake ARGV` would run; `--executor takeda` is added, and
    inputs which are beside the Snakefile only count as uploaded. `first` is called before the jobs are
    built, which takes long where there are many. `offline` takes S3 as empty, and asks it nothing.

    Raises TakedaError where Snakemake has ended with an error, which it has said itself on stderr.
    SystemExit comes from Snakemake, too, where it does not know a flag.
    """
    from snakemake import cli
    from snakemake.workflow import Workflow

    parser, args = cli.parse_args(_for_takeda(argv))
    found: list[T] = []
    errors: list[Exception] = []

    def execute(
        workflow: Any, *, executor_plugin: Any, executor_settings: Any, **_others: Any
    ) -> None:
        workflow._executor_plugin = executor_plugin
        workflow.executor_settings = executor_settings
        dag = Dag(workflow, executor_settings)
        try:
            _check_variables(workflow.storage_settings.default_storage_prefix)
            first(dag)
            if not offline:
                _check_bucket(workflow)
        except TakedaError as error:
            errors.append(error)
            return
        with _taking_local_inputs_as_uploaded(dag, offline=offline):
            _build(workflow)
            try:
                found.append(look(dag))
            except Exception as error:  # noqa: BLE001 - Snakemake would show it as the pipeline's mistake
                errors.append(error)

    def output_settings(*told: Any) -> Any:
        settings = make_settings(*told)
        settings.enable_file_logging = False  # .snakemake/log is for runs
        if not args.verbose:
            settings.log_level_override = logging.WARNING
        return settings

    make_settings = cli.create_output_settings
    with (
        # What a Snakefile prints is not part of a plan.
        redirect_stdout(sys.stderr),
        _replaced(cli, "create_output_settings", output_settings),
        _replaced(Workflow, "execute", execute),
    ):
        try:
            cli.args_to_api(args, parser)
        except Exception as error:
            # Snakemake (9.27) may stumble over a mistake that it is about to show.
            cause = error.__context__ or error
            if isinstance(cause, SyntaxError):
                shown = f"{cause.filename}:{cause.lineno}: {cause.msg}"
            else:
                shown = f"{type(cause).__name__}: {cause}"
            raise TakedaError(f"Snakemake cannot read this pipeline: {shown}") from error
    if errors:
        raise errors[0]
    if not found:
        raise TakedaError("Snakemake could not build the jobs of this pipeline: see above")
    return found[0]


def _for_takeda(argv: Sequence[str]) -> list[str]:
    """Said last, a flag counts."""
    has_jobs = any(word.startswith(("-j", "--jobs", "-c", "--cores")) for word in argv)
    jobs = [] if has_jobs else ["--jobs", "100"]
    return [*argv, "--executor", "takeda", "--rerun-incomplete", *jobs]


def _check_variables(prefix: object) -> None:
    """Snakemake puts environment variables into a profile's values, and leaves those as they are that are
    not set: in a path it would take `${BUCKET}` for a wildcard."""
    unset = re.search(r"\$\{?(\w+)\}?", str(prefix or ""))
    if unset:
        raise TakedaError(
            f"default-storage-prefix is {prefix}, and {unset[1]} is not set in the environment: "
            f"export {unset[1]}=…, or write the prefix into the profile's config.yaml"
        )


def _build(workflow: Any) -> None:
    """What Workflow.execute (9.27) does before it has a scheduler."""
    workflow._prepare_dag(
        forceall=workflow.dag_settings.forceall,
        ignore_incomplete=workflow.execution_settings.ignore_incomplete,
        lock_warn_only=True,
        nolock=True,
        shadow_prefix=workflow.execution_settings.shadow_prefix,
    )
    # What a dry run has kept for a later run with --trust-io-cache stays, and so do local copies of what
    # would be made again.
    workflow.persistence.drop_iocache = lambda: None
    workflow.dag.sanitize_local_storage_copies = _nothing
    workflow._build_dag()
    workflow.async_run(workflow.dag.postprocess(update_needrun=False, check_initial=True))


async def _nothing() -> None:
    pass


@contextmanager
def _taking_local_inputs_as_uploaded(dag: Dag, *, offline: bool) -> Iterator[None]:
    """A file of the default storage that no rule makes is looked for beside the Snakefile, too. What is
    there and not in S3 is added to `unstaged`, the rest to `in_both`."""
    from snakemake.io import Mtime, _IOFile

    workflow = dag.workflow
    storage = workflow.storage_settings
    if storage.default_storage_provider is None or not storage.default_storage_prefix:
        yield
        return
    prefix = f"{str(storage.default_storage_prefix).rstrip('/')}/"
    original = _IOFile.exists_in_storage

    async def exists_in_storage(file: Any) -> bool:
        is_there = not offline and bool(await original(file))
        if not file.is_storage:
            return is_there
        uri = str(file.storage_object.query)
        path = Path(uri.removeprefix(prefix))
        if uri in dag.unstaged or not uri.startswith(prefix) or not is_within(path):
            return is_there or uri in dag.unstaged
        if any(rule.is_producer(file) for rule in workflow.rules):
            return is_there
        cache = workflow.iocache
        if is_there:
            dag.in_both[uri] = path
            return True
        dag.unstaged[uri] = path
        cache.exists_in_storage[file] = True
        cache.mtime[file] = Mtime(local=None, local_target=None, storage=path.stat().st_mtime)
        cache.size[file] = size_of(path)
        return True

    async def inventory(file: Any) -> None:
        if not offline:
            await look_around(file)

    async def size(file: Any) -> int:
        if offline and file.is_storage and file not in workflow.iocache.size:
            # Snakemake takes what is reckoned with it as not known yet, and looks for the file's name.
            raise FileNotFoundError(errno.ENOENT, "not looked for in S3", str(file))
        return int(await size_in_storage(file))

    look_around, size_in_storage = _IOFile.inventory, _IOFile.size
    with (
        _replaced(_IOFile, "exists_in_storage", exists_in_storage),
        _replaced(_IOFile, "inventory", inventory),
        _replaced(_IOFile, "size", size),
    ):
        yield


def _check_bucket(workflow: Any) -> None:
    """One clear word on an S3 that cannot be asked, rather than one for each file. Raises TakedaError."""
    storage = workflow.storage_settings
    if storage.default_storage_provider != "s3":
        return
    from botocore.exceptions import ClientError

    from snakemake_executor_takeda.backends.aws import client, error_code, readable_errors

    bucket = str(storage.default_storage_prefix).removeprefix("s3://").partition("/")[0]
    offline = "`takeda plan --offline` takes S3 as empty, and needs no account"
    try:
        with readable_errors("s3"):
            client("s3", max_attempts=2).head_bucket(Bucket=bucket)
    except ClientError as error:
        why = {
            "404": "there is no such bucket: make it, or name another as `default-storage-prefix`",
            "403": "it may not be read with these credentials: name one of yours as "
            "`default-storage-prefix`",
        }.get(error_code(error), str(error))
        raise TakedaError(f"s3://{bucket}: {why}. {offline}") from error
    except TakedaError as error:
        raise TakedaError(f"{error}. {offline}") from error


def is_within(path: Path) -> bool:
    """Whether there is such a file or directory below the working directory, by its name as it is written:
    a link may lead anywhere."""
    inside = not path.is_absolute() and ".." not in path.parts and path.parts
    return bool(inside) and path.exists()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    if path.is_dir():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    return path.stat().st_size


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)

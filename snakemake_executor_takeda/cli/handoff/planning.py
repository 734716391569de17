"""The jobs that a Snakefile would run, asked of Snakemake itself, with nothing run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.quiet_snakemake import quiet, reason
from snakemake_executor_takeda.values import JobSpec, TakedaError

_LINEMAPS = "_takeda_linemaps"
"""Where an exception keeps what leads from the Python that Snakemake made back to the Snakefile."""


@dataclass(frozen=True)
class Plan:
    """All jobs of a Snakefile that hand something off, whether or not their outputs are there."""

    snakefile: Path
    basedir: Path
    workdir: Path
    in_s3: bool
    """Whether the flags put files into S3, so that a file outside is a mistake."""
    jobs: tuple[JobSpec, ...]
    kept_here: Mapping[int | str, str] = field(default_factory=dict)
    """Why, by the id of a job that Snakemake would run on this machine in spite of its hand-off."""
    notes: list[str] = field(default_factory=list)


def planned(flags: Sequence[str]) -> Plan:
    """The plan of `snakemake FLAGS`. Raises TakedaError with what Snakemake says is wrong."""
    from snakemake.exceptions import MissingInputException

    with quiet() as said:
        try:
            args = _parsed(flags)
            try:
                return _plan(args, assume_inputs=False)
            except MissingInputException:
                plan = _plan(args, assume_inputs=True)
                plan.notes.append("inputs are missing here; only names and types were checked")
                return plan
        except SystemExit:
            raise TakedaError(
                f"Snakemake does not take these flags: {reason(said.getvalue())}"
            ) from None
        except TakedaError:
            raise
        except Exception as error:
            raise TakedaError(_told(error, getattr(error, _LINEMAPS, {}))) from error


def _parsed(flags: Sequence[str]) -> Any:
    from snakemake.cli import parse_args

    _, args = parse_args(list(flags))
    return args


def _plan(args: Any, *, assume_inputs: bool) -> Plan:
    """`assume_inputs` asks as a job of a run does, whose inputs Snakemake does not look for."""
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_config
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import (
        ConfigSettings,
        OutputSettings,
        ResourceSettings,
        StorageSettings,
        WorkflowSettings,
    )
    from snakemake_interface_executor_plugins.settings import ExecMode
    from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

    storages = StoragePluginRegistry()
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api:
        workflow_api = api.workflow(
            resource_settings=ResourceSettings(
                cores=args.cores or 1,
                nodes=args.jobs,
                max_threads=args.max_threads,
                resources=args.resources,
                overwrite_threads=args.set_threads,
                overwrite_scatter=args.set_scatter,
                overwrite_resources=args.set_resources,
                default_resources=args.default_resources,
            ),
            config_settings=ConfigSettings(
                config=parse_config(args.config),
                configfiles=args.configfile,
                config_args=args.config,
                replace_workflow_config=args.replace_workflow_config,
            ),
            storage_settings=StorageSettings(
                default_storage_provider=args.default_storage_provider,
                default_storage_prefix=args.default_storage_prefix,
                local_storage_prefix=args.local_storage_prefix,
                shared_fs_usage=args.shared_fs_usage,
                notemp=args.notemp,
            ),
            storage_provider_settings={
                name: storages.get_plugin(name).get_settings(args)
                for name in storages.get_registered_plugins()
            },
            workflow_settings=WorkflowSettings(
                wrapper_prefix=args.wrapper_prefix,
                exec_mode=ExecMode.SUBPROCESS if assume_inputs else ExecMode.DEFAULT,
            ),
            snakefile=args.snakefile,
            workdir=args.directory,
        )
        try:
            return _built(workflow_api, args)
        except Exception as error:
            store = workflow_api._workflow_store
            setattr(error, _LINEMAPS, store.linemaps if store else {})
            raise


def _built(workflow_api: Any, args: Any) -> Plan:
    from snakemake.settings.types import DAGSettings

    from snakemake_executor_takeda.jobs import describe, kept_here, source_line

    workflow = workflow_api._workflow
    handing = [rule for rule in workflow.rules if "handoff" in rule.resources]
    targets = list(args.targets)
    if not targets:
        # What the default target does not need is checked all the same.
        targets = [rule.name for rule in handing if not rule.has_wildcards()]
        targets += [workflow.default_target] if workflow.default_target else []
    workflow_api.dag(
        dag_settings=DAGSettings(
            targets=set(targets),
            forceall=True,
            until=args.until,
            omit_from=args.omit_from,
            allowed_rules=args.allowed_rules,
        )
    )
    workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True, nolock=True)
    workflow._build_dag()
    found = [job for job in workflow.dag.jobs if job.resources.get("handoff")]
    handed = {job.rule.name for job in found}
    needed = {job.rule.name for job in workflow.dag.jobs}
    empty = [rule for rule in handing if rule.name in needed - handed]
    left = sorted({rule.name for rule in handing} - needed)
    return Plan(
        Path(workflow.main_snakefile),
        Path(workflow.basedir),
        Path.cwd(),
        args.default_storage_provider == "s3",
        tuple(sorted(map(describe, found), key=lambda job: (job.rule, int(job.job_id)))),
        {int(job.jobid): why for job in found if (why := kept_here(job))},
        [
            f"{source_line(rule)}: rule {rule.name}: its `handoff` is empty, so it hands nothing off and its "
            'shell runs as any rule\'s; name a workflow: resources: handoff="main.wdl"'
            for rule in empty
        ]
        + [
            f"rule {name} makes nothing of these targets and was not checked; name a file of it: "
            f"takeda handoff check {workflow.main_snakefile} -- FILE"
            for name in left
        ],
    )


def _told(error: BaseException, linemaps: Mapping[str, Mapping[int, int]]) -> str:
    """Snakemake's own message, with the line of the Snakefile where it has one."""
    from snakemake.exceptions import get_exception_origin

    file, line = getattr(error, "snakefile", None), getattr(error, "lineno", None)
    if isinstance(error, SyntaxError):
        file, text = error.filename, error.msg
        if error.text:
            text += f": {error.text.strip()}"
    else:
        text = str(error).strip() or type(error).__name__
        if file is None and (origin := get_exception_origin(error, linemaps)):
            line, file = origin
            text = f"{type(error).__name__}: {text}"
    if file is None:
        return text
    lines = linemaps.get(str(file), {})
    return f"{file}:{lines.get(int(line or 0), line)}: {text}"

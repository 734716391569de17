"""The inner Snakemake: the command that runs one job, or group job, on its node."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.settings import SharedFSUsage

from snakemake_executor_takeda.commands import encode_targets
from snakemake_executor_takeda.commands.rewording import with_entry

MOST_FILES_ON_THE_COMMAND_LINE = 20
NODE_MODULE = "snakemake_executor_takeda.commands.node"


class InnerSnakemake:
    """Builds argument lists for the worker, which runs them without a shell: a wildcard such as
    `$(reboot)` stays a word. What all jobs of a run share is formatted once."""

    def __init__(self, executor: Any, state_dir: Path) -> None:
        self._waits = state_dir / "waits"
        workflow = executor.workflow
        usage = workflow.storage_settings.shared_fs_usage
        self._workflow = workflow
        self._waits_for_files = SharedFSUsage.INPUT_OUTPUT in usage
        self._snakefile = executor.get_snakefile()
        words = split_words(
            workflow.spawned_job_args_factory.general_args(
                executor_common_settings=executor.common_settings
            )
        )
        if SharedFSUsage.SOURCES not in usage:
            # Each task has a directory of its own there; the controller's path means nothing to it.
            words = _without_option(words, "--directory")
        self._shared_words = (
            *words,
            "--mode",
            "remote",
            # The default limiter's timer keeps a finished Snakemake alive for a second.
            "--max-jobs-per-timespan",
            "1000/0s",
        )

    def argv(self, job: Any) -> tuple[str, ...]:
        """The command for one job; `python` stands for the interpreter that the worker runs under."""
        is_group = job.is_group()
        words = [
            # -P: a module of the user's called `queue.py` beside the Snakefile must not be Python's.
            *("python", "-P", "-m", NODE_MODULE, "--snakefile", str(self._snakefile)),
            *("--target-jobs", *encode_targets(job.get_target_spec())),
            *("--allowed-rules", *sorted(map(str, job.rules))),
            *("--cores", str(max(1, int(job.threads)))),
            *("--attempt", str(job.attempt)),
        ]
        if is_group:
            words += ["--local-groupid", str(job.jobid)]
        else:
            words.append("--force-use-threads")
        unneeded = [*self._workflow.dag.get_unneeded_temp_files(job), *_pipes(job)]
        if unneeded:
            words += ["--unneeded-temp-files", *map(str, unneeded)]
        if self._waits_for_files:
            words += self._wait_for(job)
        return (*words, *self._shared_words)

    def _wait_for(self, job: Any) -> list[str]:
        waited_for = [str(f) for f in job.get_wait_for_files()]
        if len(waited_for) <= MOST_FILES_ON_THE_COMMAND_LINE:
            return ["--wait-for-files", *waited_for] if waited_for else []
        # A job that gathers 20,000 files would exceed what the system takes as arguments.
        self._waits.mkdir(exist_ok=True)
        listing = self._waits / f"{job.jobid}.{job.attempt}.txt"
        listing.write_text("".join(f"{path}\n" for path in waited_for))
        return ["--wait-for-files-file", str(listing)]


def with_memory(argv: tuple[str, ...], rule: str, mem_mb: int) -> tuple[str, ...]:
    """The same command in which the rule's `mem_mb` is this, whatever Snakefile or flags say."""
    return with_entry(argv, "--set-resources", f"{rule}:mem_mb=", str(mem_mb))


_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_WORD = re.compile(rf"(?:{_QUOTED}|[^\s'\"])+", re.DOTALL)
_LITERAL = re.compile(_QUOTED, re.DOTALL)


def split_words(text: str) -> list[str]:
    """The words of the one string that Snakemake formats for a shell, without expansion.

    Snakemake quotes values with Python's `repr` and paths with `shlex.quote`.
    """
    words: list[str] = []
    for word in _WORD.findall(text):
        words += [ast.literal_eval(word)] if _LITERAL.fullmatch(word) else shlex.split(word)
    return words


def _pipes(job: Any) -> list[str]:
    """Pipes inside a group: Snakemake on the node would wait for ever to store one in S3."""
    if not job.is_group():
        return []
    outputs = (f for member in job.jobs for f in member.output)
    return [str(f) for f in outputs if f.flags.get("pipe") or f.flags.get("service")]


def _without_option(words: list[str], option: str) -> list[str]:
    if option not in words:
        return words
    at = words.index(option)
    return words[:at] + words[at + 2 :]

"""The inner Snakemake: the command that runs one job, or group job, on its node."""

from __future__ import annotations

import shlex
from typing import Any

from snakemake_interface_executor_plugins.settings import SharedFSUsage

from snakemake_executor_takeda.commands import encode_targets

NODE_MODULE = "snakemake_executor_takeda.commands.node"


class InnerSnakemake:
    """Builds argument lists for the worker, which runs them without a shell: a wildcard such as
    `$(reboot)` stays a word. What all jobs of a run share is formatted once."""

    def __init__(self, executor: Any) -> None:
        workflow = executor.workflow
        usage = workflow.storage_settings.shared_fs_usage
        self._workflow = workflow
        self._waits_for_files = SharedFSUsage.INPUT_OUTPUT in usage
        self._snakefile = executor.get_snakefile()
        # Snakemake gives one string made for a shell. Splitting it the same way, but with no shell,
        # gives the same words without expansion.
        words = shlex.split(
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
        unneeded = list(self._workflow.dag.get_unneeded_temp_files(job))
        if unneeded:
            words += ["--unneeded-temp-files", *map(str, unneeded)]
        if self._waits_for_files:
            waited_for = job.get_wait_for_files()
            if waited_for:
                words += ["--wait-for-files", *map(str, waited_for)]
        return (*words, *self._shared_words)


def _without_option(words: list[str], option: str) -> list[str]:
    if option not in words:
        return words
    at = words.index(option)
    return words[:at] + words[at + 2 :]

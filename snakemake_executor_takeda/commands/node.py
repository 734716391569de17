"""Snakemake on the node: as `python -m snakemake`, but for three things that would go wrong there.

A rule's own `retries:` overrules the `--retries 0` of the command line, so that the node would try
again by itself, unseen and on the same machine, and the controller after it: with `retries: 2` a
failing job ran six times instead of three, and larger memory at the next attempt never came. And
`--target-jobs` is read as `commands.encode_targets` writes it.

An input function of the job that runs here may look into what a checkpoint has made. Snakemake asks
it before anything is fetched: it would find nothing, and the job would run without those inputs, and
succeed. So what the checkpoint has left in storage is fetched first.

On a target whose containers are Pyxis's, a first word says so: see `pyxis`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from snakemake_executor_takeda.commands.rewording import PYXIS_OPTION


def main() -> None:
    from snakemake import cli
    from snakemake.jobs import Job
    from snakemake.rules import Rule
    from snakemake_interface_executor_plugins.utils import TargetSpec

    from snakemake_executor_takeda.commands import decode_targets

    Rule.restart_times = property(lambda rule: 0, lambda rule, times: None)
    cli.parse_target_jobs_cli_args = lambda words: [
        TargetSpec(*one) for one in decode_targets(words)
    ]
    update = Job.updated

    async def updated(job: Any) -> Any:
        await _fetch_checkpoints_of(job)
        return await update(job)

    Job.updated = updated
    argv = sys.argv[1:]
    if argv[:1] == [PYXIS_OPTION]:
        from snakemake_executor_takeda.commands.pyxis import replace_apptainer

        replace_apptainer(json.loads(argv[1]))
        argv = argv[2:]
    cli.main(argv)


async def _fetch_checkpoints_of(job: Any) -> None:
    """Fetch the outputs of the checkpoints that a job, if it is one of those to run here, waits for."""
    if job not in job.dag.targetjobs:
        return
    made = job.dag.workflow.checkpoints.created_output
    for dependency in job.dag.job_dependencies(job):
        if dependency.is_checkpoint:
            for output in dependency.output:
                if output in made and output.is_storage:
                    await output.retrieve_from_storage()


if __name__ == "__main__":
    main()

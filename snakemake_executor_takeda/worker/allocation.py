"""Asks something of every node of a Slurm allocation, by one step over all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from snakemake_executor_takeda.worker import efa
from snakemake_executor_takeda.worker.exits import NODE_LOST, NODES_UNFIT

STEP_SECONDS = 60.0
"""A node that is gone is noticed by srun within some ten seconds; one that hangs is not."""


def node_count() -> int:
    return int(os.environ.get("SLURM_JOB_NUM_NODES") or 1)


def unfit_for_efa() -> int | None:
    """The exit code for an allocation in which a node has no EFA device. Each such node says so."""
    if node_count() == 1:
        return efa.main() or None
    code = _on_every_node(
        [sys.executable, "-P", "-m", "snakemake_executor_takeda.worker.efa"],
    )
    if code == 0:
        return None
    if code != NODES_UNFIT:
        _say(f"the look for EFA devices on all {node_count()} nodes failed (srun: {code})")
    return NODES_UNFIT


def exit_code_of(code: int) -> int:
    """The task's exit code, or another if it failed because a node of several is gone."""
    if code == 0 or node_count() == 1:
        return code
    answer = _on_every_node(["true"])
    if answer == 0:
        return code
    _say(
        f"the task failed (exit code {code}), and not all of its {node_count()} nodes answer any "
        f"more (srun: {answer}): it is taken for the loss of a node"
    )
    return NODE_LOST


def _on_every_node(command: Sequence[str]) -> int | str:
    """The worst exit code, or why there is none. Streams are the job's own."""
    count = str(node_count())
    step = [
        *("srun", "--overlap", "--mpi=none", "--cpu-bind=none", "--input=none"),
        *(f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", "--cpus-per-task=1"),
        *("--job-name=takeda-look", "--kill-on-bad-exit=0"),
        *command,
    ]
    try:
        return subprocess.run(
            step, stdin=subprocess.DEVNULL, timeout=STEP_SECONDS, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return f"no answer within {STEP_SECONDS:.0f} s"
    except OSError as error:
        return str(error)


def _say(text: str) -> None:
    print(f"takeda-worker: {text}", file=sys.stderr, flush=True)

"""What one look at the queue costs, by the commands and by slurmrestd.

    sudo env "PATH=$PATH" python benchmarks/slurm_clients.py --root "$(sudo scripts/make-slurm-root)"

A Slurm of its own with four nodes, all of whose jobs are held: arrays of 1,000 tasks, which are one record
each as long as they wait, then as many single jobs, which are one each, as begun tasks are. Prints a table:
seconds of a look, and CPU seconds of it in slurmctld, in slurmrestd, and here with the processes started.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snakemake_executor_takeda.backends.slurm.clients.base import SlurmClient
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.clients.rest import Rest
from snakemake_executor_takeda.backends.slurm.clients.token import Token
from snakemake_executor_takeda.backends.slurm.request import JobRequest
from snakemake_executor_takeda.sandbox import slurm
from snakemake_executor_takeda.sandbox.slurm_processes import members

ARRAY = 1000
SCRIPT = "#!/bin/sh\n:\n"
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="of scripts/make-slurm-root")
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--looks", type=int, default=20)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="takeda-clients-"))
    try:
        slurm.up(folder, root=args.root, rest=True, max_job_count=2 * args.tasks + 10)
        os.environ |= slurm.environment(folder)
        service = slurm.rest(folder)
        rest = Rest(service.url, Token(environ={"SLURM_JWT": service.token}))
        home = folder.resolve() / "slurm"
        print(f"load {os.getloadavg()[0]:.1f}, {args.tasks} tasks, mean of {args.looks} looks\n")
        print("| jobs | client | a look, s | slurmctld, CPU s | slurmrestd, CPU s | here, CPU s |")
        print("|---|---|---|---|---|---|")
        for what, size in (("arrays that wait", ARRAY), ("single jobs", None)):
            with held(rest, folder, args.tasks, size) as ids:
                for client in (CommandLine(), rest):
                    row = cost(client, ids, args, home)
                    print(f"| {what} | {client.name} | {' | '.join(row)} |", flush=True)
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(rest: Rest, folder: Path, tasks: int, size: int | None) -> Iterator[list[str]]:
    """Ids of jobs that wait until they are cancelled: arrays of `size` tasks, or single ones."""
    ids = []
    for number in range(tasks // (size or 1)):
        request = JobRequest(
            f"held-{size}-{number}",
            str(folder),
            "/dev/null",
            cpus_per_task=1,
            array_size=size,
            extra=("--hold",),
        )
        ids.append(rest.submit(request, SCRIPT))
    yield ids
    rest.cancel(ids)


def cost(client: SlurmClient, ids: list[str], args: argparse.Namespace, home: Path) -> list[str]:
    """Of one look, seconds and CPU seconds. What is asked for but once a minute is asked for before."""
    seen = client.queue(ids)
    assert len([task for task in seen.values() if task.state == "PENDING"]) == args.tasks, len(seen)
    before, began = cpu_seconds(home), time.monotonic()
    for _ in range(args.looks):
        client.queue(ids)
    took = time.monotonic() - began
    after = cpu_seconds(home)
    spent = [took, *(after[name] - before[name] for name in ("slurmctld", "slurmrestd", "here"))]
    return [f"{seconds / args.looks:.3f}" for seconds in spent]


def cpu_seconds(home: Path) -> dict[str, float]:
    """Of the daemons and of this process with those that it started and that have ended."""
    spent = {}
    for process in members(home):
        if process.name in ("slurmctld", "slurmrestd"):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            spent[process.name] = (int(fields[11]) + int(fields[12])) * TICK_SECONDS
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {**spent, "here": sum(one.ru_utime + one.ru_stime for one in used)}


if __name__ == "__main__":
    main()

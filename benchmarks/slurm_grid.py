"""Any --jobs with any number of ready jobs on a real Slurm: all run once, and calls of sbatch counted.

    eval "$(takeda sandbox env)"; python benchmarks/slurm_grid.py [--ready 10 250 2500] [--jobs 1 2 500]

Nodes run the worker, but no inner Snakemake. Prints a table; exit status 1 where a job is missing or
ran twice, or where calls are more than the chunks need.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "snakemake"))

from slurm_grid import run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ready", type=int, nargs="+", default=[10, 250, 2500])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 500, 10_000])
    parser.add_argument("--chunk", type=int, default=1000)
    parser.add_argument("--partition", default="hpc")
    args = parser.parse_args()
    print("| `-j` | ready jobs | calls of sbatch | largest array | ran once | s |")
    print("|---|---|---|---|---|---|")
    is_good = True
    for ready in args.ready:
        for jobs in args.jobs:
            is_good &= one(jobs, ready, args)
    return 0 if is_good else 1


def one(jobs, ready, args):
    """One run and its line of the table; whether it is as it should be."""
    with tempfile.TemporaryDirectory(prefix="takeda-grid-") as folder:
        done = run(
            Path(folder),
            dict(os.environ),
            jobs=jobs,
            ready=ready,
            chunk=args.chunk,
            partition=args.partition,
        )
    once = sum(count == 1 for count in done.ran.values())
    calls = len(done.calls)
    print(f"| {jobs} | {ready} | {calls} | {max(done.sizes)} | {once} | {done.seconds:.0f} |")
    sys.stdout.flush()
    if done.status:
        print(done.output, file=sys.stderr)
    chunks = -(-ready // args.chunk)
    is_one_wave = jobs >= ready
    return done.status == 0 and once == ready and (calls == chunks or not is_one_wave)


if __name__ == "__main__":
    sys.exit(main())

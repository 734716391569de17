"""A node's Python that runs the worker as it is, but for the inner Snakemake, which takes a second of
CPU time: `made/N` gets the memory that Slurm gave the task, and `ran` a line.

`python quick_node.py -P -m snakemake_executor_takeda.worker ...`
"""

import sys

from snakemake_executor_takeda.commands import decode_targets
from snakemake_executor_takeda.worker import __main__ as worker


def execute(argv, directory, environment):
    [(_, wildcards)] = decode_targets([argv[argv.index("--target-jobs") + 1]])
    number = wildcards["n"]
    with (directory / "ran").open("a") as ran:
        ran.write(f"{number}\n")
    (directory / "made" / number).write_text(f"{environment['SLURM_MEM_PER_NODE']}\n")
    return 0


if __name__ == "__main__":
    sys.argv = [sys.argv[0], *sys.argv[4:]]
    worker._execute = execute
    sys.exit(worker.main())

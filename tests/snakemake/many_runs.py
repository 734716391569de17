"""Runs Snakemake many times from one import: `python many_runs.py PROCESSES < {directory: arguments}`.

Each run is a fork with its own directory; its output goes to `output.txt` there, and its exit status
to `status.txt`.
"""

import json
import os
import sys
from pathlib import Path

import snakemake.cli


def run(directory, arguments):
    os.chdir(directory)
    with Path("output.txt").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    status = 1
    try:
        snakemake.cli.main(arguments)
    except SystemExit as end:
        status = end.code
    finally:
        Path("status.txt").write_text(str(status))
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(0)


def main():
    running = 0
    for directory, arguments in json.load(sys.stdin).items():
        if running >= int(sys.argv[1]):
            os.wait()
            running -= 1
        if os.fork() == 0:
            run(directory, arguments)
        running += 1
    while running:
        os.wait()
        running -= 1


main()

"""Runs one task on its node: find my entry, unpack the workflow, run, leave an exit record.

example: python -m snakemake_executor_takeda.worker --manifest s3://bucket/run/manifests/4
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.full_disks import is_full
from snakemake_executor_takeda.worker.exits import ALREADY_STARTED, DISK_FULL, UNREACHABLE
from snakemake_executor_takeda.worker.manifest import read_entry
from snakemake_executor_takeda.worker.objects import Unreachable, read, read_range, write

if TYPE_CHECKING:
    from snakemake_executor_takeda.worker.usage import Usage

_signals_heard: list[int] = []
_INDEX_VARIABLES = ("AWS_BATCH_JOB_ARRAY_INDEX", "SLURM_ARRAY_TASK_ID")


def main() -> int:
    try:
        return _work(_parse())
    except Unreachable as error:
        _say(str(error))
        return DISK_FULL if is_full(error) else UNREACHABLE
    except OSError as error:
        if not is_full(error):
            raise
        _say(str(error))
        return DISK_FULL


def _work(args: argparse.Namespace) -> int:
    if args.mpi:
        _allow_root_to_launch()
    started = time.time()
    usage = _usage() if args.exit_records else None
    index = args.index if args.index is not None else _index_from_environment()
    entry = read_entry(lambda start, end: read_range(args.manifest, start, end), index)
    if args.starts and not _claimed(args.starts, entry["task_id"]):
        return ALREADY_STARTED
    exit_code = _run_where_there_is_room(entry, args)
    if not usage:
        return exit_code
    record = {"exit_code": exit_code, "started": started, "ended": time.time(), **usage.stop()}
    try:
        _leave_record(args.exit_records, entry["task_id"], record)
    except Unreachable as error:
        how = f"ended with exit code {exit_code}" if exit_code else "ended well"
        _say(f"{error} (the command {how})")
        # An exit code is all that is left to tell it by. Outputs are not believed of a full disk.
        if is_full(error):
            return DISK_FULL
        return UNREACHABLE if exit_code else 0
    return exit_code


def _run_where_there_is_room(entry: dict[str, Any], args: argparse.Namespace) -> int:
    try:
        if args.nodes:
            return _run_on_nodes(entry, args)
        if args.allocation:
            return _run_in_allocation(entry, args)
        return _run(entry, args.scratch)
    except OSError as error:
        if not is_full(error):
            raise
        _say(f"no room for the task's directory: {error}")
        return DISK_FULL


def _say(line: str) -> None:
    # Past Python's own buffers: the log may be on a full disk, which would be an exit code of its own.
    with contextlib.suppress(OSError):
        os.write(2, f"takeda-worker: {line}\n".encode())


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="takeda-worker", description=__doc__)
    parser.add_argument("--manifest", required=True, help="path or s3:// URI of the manifest")
    parser.add_argument(
        "--index", type=int, help="entry to run (default: the array's variable, or 0)"
    )
    parser.add_argument("--exit-records", help="directory or s3:// URI for the exit record")
    parser.add_argument(
        "--starts", help="directory in which a task is claimed: it is run once, ever"
    )
    parser.add_argument("--scratch", help="where the task's directory is made")
    slurm = parser.add_argument_group("a job with ranks on Slurm")
    slurm.add_argument("--allocation", action="store_true", help="it may have several nodes")
    slurm.add_argument("--efa", action="store_true", help="every node must have an EFA device")
    parser.add_argument("--mpi", action="store_true", help="a launcher may start ranks as root")
    several = parser.add_argument_group("a job of several nodes")
    several.add_argument("--nodes", help="s3:// URI below which the nodes find each other")
    several.add_argument("--node-wait", type=float, default=900.0, help="seconds to wait for all")
    several.add_argument("--ranks", type=int, default=1, help="over all nodes")
    several.add_argument("--ranks-per-node", type=int, default=1)
    several.add_argument("--cpus-per-rank", type=int, default=1)
    several.add_argument("--efa-devices", type=int, default=0, help="that must be on every node")
    return parser.parse_args()


def _allow_root_to_launch() -> None:
    from snakemake_executor_takeda.worker.mpi import AS_ROOT

    for name in AS_ROOT:
        os.environ.setdefault(name, "1")


def _index_from_environment() -> int:
    for name in _INDEX_VARIABLES:
        if value := os.environ.get(name):
            return int(value)
    return 0


def _run_on_nodes(entry: dict[str, Any], args: argparse.Namespace) -> int:
    # Only here: other tasks start faster without it.
    from snakemake_executor_takeda.worker import nodes

    here = nodes.here(os.environ)
    if here is None:
        return _run(entry, args.scratch)
    plan = nodes.Plan(
        meeting=args.nodes,
        wait_s=args.node_wait,
        ranks=args.ranks,
        ranks_per_node=args.ranks_per_node,
        cpus_per_rank=args.cpus_per_rank,
        efa_devices=args.efa_devices,
    )
    if here.is_main:
        return nodes.run_main(here, plan, lambda prepare: _run(entry, args.scratch, prepare))

    def fill(directory: Path) -> None:
        if entry["sources_uri"] is not None:
            _unpack(read(entry["sources_uri"]), directory)

    return nodes.follow(here, plan, fill)


def _run_in_allocation(entry: dict[str, Any], args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.worker import allocation

    if args.efa and (unfit := allocation.unfit_for_efa()):
        return unfit
    code = _run(entry, args.scratch)
    # Whoever ended the task knows why it failed; its nodes answer no more steps.
    return code if _signals_heard else allocation.exit_code_of(code)


def _run(
    entry: dict[str, Any],
    scratch: str | None,
    prepare: Callable[[Path], dict[str, str]] = lambda directory: {},
) -> int:
    """Run the task; `prepare` is told its directory and gives more variables."""
    environment = dict(os.environ)
    if entry["environment_uri"]:
        environment.update(json.loads(read(entry["environment_uri"])))
    if entry["sources_uri"] is None:
        directory = Path(entry["workdir"])
        return _execute(entry["argv"], directory, environment | prepare(directory))
    if scratch:
        Path(scratch).mkdir(parents=True, exist_ok=True)
    # A directory of its own: tasks on one node would remove each other's local copies.
    directory = Path(tempfile.mkdtemp(prefix=f"{entry['task_id']}.", dir=scratch))
    try:
        _unpack(read(entry["sources_uri"]), directory)
        return _execute(entry["argv"], directory, environment | prepare(directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unpack(sources: bytes, directory: Path) -> None:
    """Unpack a tar.xz that must stay within its directory. Raises ValueError where it does not."""
    with tarfile.open(fileobj=io.BytesIO(sources), mode="r:xz") as archive:
        members = archive.getmembers()
        for member in members:
            inside = [member.name]
            if member.issym():
                inside.append(str(Path(member.name).parent / member.linkname))
            if member.islnk():
                inside.append(member.linkname)
            if member.isdev() or not all(_is_inside(path, directory) for path in inside):
                raise ValueError(f"the sources hold {member.name!r}, which leaves their directory")
        # Python 3.11.4 and later can check this too and warn where they are not asked; Debian 12's
        # 3.11.2 cannot.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(directory, members=members)  # noqa: S202 - checked above


def _is_inside(path: str, directory: Path) -> bool:
    root = os.path.realpath(directory)
    return os.path.commonpath([root, os.path.normpath(Path(root, path))]) == root


def _execute(argv: list[str], directory: Path, environment: dict[str, str]) -> int:
    command = [sys.executable if argv[0] == "python" else argv[0], *argv[1:]]
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        _signals_heard.append(number)
        if process is None:
            early.append(number)
            return
        if os.getpgrp() != os.getpid():
            process.send_signal(number)
            return
        # Snakemake lets its running job finish on SIGTERM, so that the job has to hear it itself.
        signal.signal(number, signal.SIG_IGN)
        os.killpg(0, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    process = subprocess.Popen(command, cwd=directory, env=environment)
    for number in early:
        pass_on(number, None)
    code = process.wait()
    return 128 - code if code < 0 else code


def _claimed(folder: str, task_id: str) -> bool:
    from snakemake_executor_takeda.processes import claim

    return claim(Path(folder), task_id)


def _usage() -> Usage:
    # Only here: other tasks start faster without it.
    from snakemake_executor_takeda.worker.usage import Usage

    return Usage()


def _leave_record(place: str, task_id: str, facts: Mapping[str, Any]) -> None:
    environ = os.environ
    record = {
        "task_id": task_id,
        "host": environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "slurm_job_id": environ.get("SLURM_ARRAY_JOB_ID") or environ.get("SLURM_JOB_ID", ""),
        **facts,
    }
    if place.startswith("s3://"):
        # Who reads this does not see the log.
        from snakemake_executor_takeda.worker import logs

        if log := logs.own_log():
            record |= {"log": f"{record['host']}:{log}", "log_tail": logs.tail(log)}
    write(f"{place.rstrip('/')}/{task_id}.json", json.dumps(record).encode())


if __name__ == "__main__":
    sys.exit(main())

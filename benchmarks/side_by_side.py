"""What the benchmarks beside peers share: an environment with all executors, and ratios pair by pair."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.record import BUCKET

HERE = Path(__file__).parent


def parser_of(
    doc: str, storages: Iterable[str], storage: str, help_on_storage: str
) -> argparse.ArgumentParser:
    """The words that all of them take; the first line of `doc` is the description."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--peer-repetitions",
        type=int,
        default=1,
        help="of the peer, which takes minutes (0: leave it out)",
    )
    parser.add_argument("--storage", choices=tuple(storages), default=storage, help=help_on_storage)
    parser.add_argument(
        "--venv", type=Path, help="an environment made by an earlier run of this script"
    )
    parser.add_argument("--keep", action="store_true", help="keep the runs' folders, and say where")
    return parser


def folder_of_runs(stack: contextlib.ExitStack, *, keep: bool) -> Path:
    """A new folder, deleted with the stack unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="takeda-benchmark-"))
    if keep:
        print(f"runs below {folder}", file=sys.stderr)
    else:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def in_turn(
    run: Callable[[str], Any], peer: str, repetitions: int, peer_repetitions: int
) -> dict[str, list[Any]]:
    """Runs of the executor that does nothing, of this plugin and of the peer, A B C A B C …"""
    runs: dict[str, list[Any]] = {"null": [], "takeda": [], peer: []}
    for repetition in range(repetitions):
        for executor, found in runs.items():
            if executor != peer or repetition < peer_repetitions:
                found.append(run(executor))
                print(executor, asdict(found[-1]), file=sys.stderr, flush=True)
    return {executor: found for executor, found in runs.items() if found}


def medians(executor: str, runs: list[Any], null: list[Any]) -> dict[str, Any]:
    """What all tables show of an executor, and ratios to the one that does nothing, pair by pair."""
    submitted = [run.seconds_until_submitted for run in runs if run.seconds_until_submitted]
    return {
        "executor": executor,
        "runs": len(runs),
        "cpu_seconds": statistics.median(run.cpu_seconds for run in runs),
        **ratios([run.cpu_seconds for run in runs], [run.cpu_seconds for run in null]),
        "wall_seconds": statistics.median(run.wall_seconds for run in runs),
        "peak_rss_mb": statistics.median(run.peak_rss_mb for run in runs),
        "seconds_until_submitted": statistics.median(submitted) if submitted else None,
    }


def make_environment(folder: Path, *packages: str) -> Path:
    """A virtual environment with this plugin, the executor that does nothing, and the packages;
    returns its interpreter. Of one that is there, only what is of this repository is installed anew:
    as users have it, compiled, which an editable one may not be."""
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet"]
    if not python.exists():
        venv.create(folder, with_pip=True)
        same = [
            f"{name}=={version(name)}"
            for name in ("snakemake", "boto3", "snakemake-storage-plugin-s3")
        ]
        subprocess.run([*install, *same, *packages, str(HERE.parent)], check=True)
    ours = [str(HERE.parent), str(HERE / "null_executor")]
    subprocess.run([*install, "--no-deps", "--force-reinstall", *ours], check=True)
    return python


@contextlib.contextmanager
def on_processor(number: int) -> Iterator[None]:
    """What is started here stays on one processor of this machine, counted from 0, if it has several:
    a cluster beside a controller makes the controller's CPU seconds dearer, which are machines of their own."""
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        os.sched_setaffinity(0, {sorted(before)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def put_empty(keys: Iterable[str], variables: Mapping[str, str]) -> None:
    """Empty objects in the bucket of the sandbox that the variables lead to."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3

    s3 = boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL_S3"],
        region_name=variables["AWS_DEFAULT_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    with ThreadPoolExecutor(4) as pool:
        for key in keys:
            pool.submit(s3.put_object, Bucket=BUCKET, Key=key, Body=b"")


def ratios(runs: list[float], null: list[float]) -> dict[str, float | list[float]]:
    """CPU seconds of an executor to those of the one that does nothing, pair by pair: the machine's
    speed drifts."""
    found = [ours / theirs for ours, theirs in zip(runs, null, strict=False)]
    return {
        "cpu_ratio": round(statistics.median(found), 3),
        "cpu_ratio_least_and_most": [round(min(found), 3), round(max(found), 3)],
    }

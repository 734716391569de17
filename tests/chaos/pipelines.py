"""The pipelines that are put through it: how each is started, and what must come out."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BINARIES = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
BUCKET = "takeda-sandbox"
PLAIN_SECONDS = 900.0


@dataclass(frozen=True)
class Pipeline:
    """A pipeline of this project with a profile for the sandbox."""

    name: str
    snakefile: str
    """As the profile, from the top of the project: both are copied to the working directory."""
    profile: str
    tasks: Mapping[str, int]
    """Rule → number of its jobs that go to a backend."""
    prepare: Callable[[], None]
    """What its first run needs; raises CalledProcessError."""
    wrong_outputs: Callable[[Path, str], list[str]]
    """Of the working directory and the prefix of its files in the bucket."""

    def copy_to(self, folder: Path) -> None:
        for path in (str(Path(self.snakefile).parent), self.profile):
            shutil.copytree(ROOT / path, folder / path, dirs_exist_ok=True)


def _wrong_in_s3(folder: Path, prefix: str) -> list[str]:
    import boto3
    from botocore.exceptions import ClientError

    s3 = boto3.Session().client("s3")
    wrong = []
    for line in (ROOT / "workflows/outbreak-small/expected.sha256").read_text().splitlines():
        digest, name = line.split()
        try:
            body = s3.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read()
        except ClientError as error:
            wrong.append(f"{name} is not there: {error}")
            continue
        if hashlib.sha256(body).hexdigest() != digest:
            wrong.append(f"{name} has other bytes than it must have")
    return wrong


def _wrong_demo(folder: Path, prefix: str) -> list[str]:
    command = [
        *(sys.executable, ROOT / "workflows/outbreak/compare"),
        *(folder / "results", _plain_demo() / "results"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.splitlines() if done.returncode else []


def _nothing() -> None:
    """Needs nothing."""


def _prepare_demo() -> None:
    subprocess.run([ROOT / "scripts/fetch-demo-data"], check=True)
    _plain_demo()


@cache
def _plain_demo() -> Path:
    """Where the demo was run without any backend: its results are the right ones."""
    folder = ROOT / ".takeda/demo-plain"
    command: list[Any] = [
        *(sys.executable, "-m", "snakemake", "--cores", "2"),
        *("--snakefile", "workflows/outbreak/Snakefile", "--directory", folder),
    ]
    environment = {**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}"}
    subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=PLAIN_SECONDS
    )
    return folder


PIPELINES = {
    "small": Pipeline(
        "small",
        "workflows/outbreak-small/Snakefile",
        "workflows/outbreak-small/sandbox",
        {
            **{"sequence": 6, "cut": 1, "find_sites": 4},
            **{"distances": 2, "share_sites": 1, "summarise": 2, "report": 1},
        },
        _nothing,
        _wrong_in_s3,
    ),
    "demo": Pipeline(
        "demo",
        "workflows/outbreak/Snakefile",
        "profiles/sandbox",
        {"index_genome": 1, "align": 25, "call_variants": 1, "infer_tree": 1},
        _prepare_demo,
        _wrong_demo,
    ),
}

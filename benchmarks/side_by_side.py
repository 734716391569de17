"""What the benchmarks beside peers share: an environment with all executors, and ratios pair by pair."""

from __future__ import annotations

import statistics
import subprocess
import venv
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from snakemake_executor_takeda.sandbox.record import BUCKET

HERE = Path(__file__).parent


def make_environment(folder: Path, *packages: str) -> Path:
    """A virtual environment with this plugin, the executor that does nothing, and the packages;
    returns its interpreter. One that is there is taken as it is."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        same = [
            f"{name}=={version(name)}"
            for name in ("snakemake", "boto3", "snakemake-storage-plugin-s3")
        ]
        editable = [
            *("--editable", str(HERE.parent)),
            *("--editable", str(HERE / "null_executor")),
        ]
        wanted = [*same, *packages, *editable]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


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

"""Twenty WDL files of all types: init, check, a plain run and a run by hand-off, equal outputs.

`wdl/` has a JSON of inputs beside each; data is made here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.healthomics.conftest import ROLE, Cloud, make_cloud

WDL = Path(__file__).parent / "wdl"
NAMES = sorted(path.stem for path in WDL.glob("*.wdl"))
DATA = {
    "one.txt": "a b c a\nsecond line\nthird\n",
    "two.txt": "b c c d\na b\n",
    "three.txt": "three\n",
    "folder/x.txt": "x\n",
    "folder/deeper/y.txt": "y\n",
}
BINARIES = Path(sys.executable).parent


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BINARIES / command[0]), *command[1:]],
        cwd=cwd,
        env={**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def snakefile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What init prints for each, and a target for all of it."""
    from contextlib import redirect_stdout
    from io import StringIO

    from snakemake_executor_takeda.cli import main

    text = StringIO()
    with redirect_stdout(text):
        for name in NAMES:
            inputs = str(WDL / f"{name}.json")
            assert main(["handoff", "init", str(WDL / f"{name}.wdl"), "--inputs", inputs]) == 0
    wanted = ", ".join(f"rules.{name}.output" for name in NAMES)
    return f"{text.getvalue()}\nrule all:\n    default_target: True\n    input: {wanted}\n"


def project(path: Path, snakefile: str) -> Path:
    (path / "Snakefile").write_text(snakefile)
    return path


def write_data(path: Path) -> None:
    for name, text in DATA.items():
        file = path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def results(path: Path) -> dict[str, bytes]:
    """What a rule made, without Snakemake's own marks in directories."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.startswith(".snakemake")
    }


def test_there_are_twenty() -> None:
    assert len(NAMES) == 20
    assert all((WDL / f"{name}.json").is_file() for name in NAMES)


def test_check_finds_nothing_wrong(
    snakefile: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from snakemake_executor_takeda.cli import main

    monkeypatch.chdir(project(tmp_path, snakefile))
    assert main(["handoff", "check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["rule"]: one["mistakes"] for one in found["handoffs"]} == {n: [] for n in NAMES}
    assert found["notes"] == ["inputs are missing here; only names and types were checked"]


@pytest.mark.sandbox
def test_a_run_by_hand_off_gives_what_a_plain_run_gives(
    snakefile: str, tmp_path: Path, sandbox_env: dict[str, str]
) -> None:
    plain = project(tmp_path_of(tmp_path, "plain"), snakefile)
    write_data(plain)
    done = run("snakemake", "--cores", "2", "--keep-going", cwd=plain)
    assert done.returncode == 0, done.stderr
    cloud = make_cloud()
    handed = hand_off(tmp_path_of(tmp_path, "handed"), snakefile, cloud)
    assert handed.returncode == 0, handed.stderr
    expected = {f"results/{name}": data for name, data in results(plain / "results").items()}
    produced = {
        key.removeprefix("work/"): body(cloud, key) for key in all_keys(cloud, "work/results/")
    }
    assert produced.keys() == expected.keys()
    assert {key for key in expected if produced[key] != expected[key]} == set()
    assert {key.split("/")[1] for key in expected} == set(NAMES)


def tmp_path_of(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def hand_off(
    path: Path, snakefile: str, cloud: Cloud, data: Mapping[str, str] = DATA
) -> subprocess.CompletedProcess[str]:
    project(path, snakefile)
    for name, text in data.items():
        cloud.s3.put_object(Bucket=cloud.bucket, Key=f"work/data/{name}", Body=text.encode())
    (path / "routing.yaml").write_text(
        "version: 1\ntargets:\n  omics:\n    backend: healthomics\n"
        f"    role_arn: {ROLE}\n    output_uri: {cloud.uri('runs')}\n"
        "    registration_poll_seconds: 0.1\n    start_runs_per_second: 100\ndefault: omics\n"
        "routes:\n  - {when: {handoff: true}, to: omics}\n"
    )
    return run(
        *("snakemake", "--executor", "takeda", "--takeda-routing", "routing.yaml", "--jobs", "20"),
        *("--takeda-poll-seconds", "0.5", "--keep-going"),
        *("--default-storage-provider", "s3", "--default-storage-prefix", cloud.uri("work")),
        *("--shared-fs-usage", "none", "--max-jobs-per-timespan", "100/1s"),
        cwd=path,
    )


def all_keys(cloud: Cloud, prefix: str) -> list[str]:
    pages = cloud.s3.get_paginator("list_objects_v2").paginate(Bucket=cloud.bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def body(cloud: Cloud, key: str) -> Any:
    return cloud.s3.get_object(Bucket=cloud.bucket, Key=key)["Body"].read()

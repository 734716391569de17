"""Whole runs on a Slurm with ParallelCluster's names: partitions are chosen, explained, or refused."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
RULES = {
    "small": ('mem_mb=1000, runtime=5, slurm_extra="--comment=x"', "spot"),
    "medium": ("mem_mb=20000", "spot"),
    "large": ("mem_mb=50000", "hpc"),
    "gpu": ('mem_mb=1000, gpu_model="L4"', "gpu"),
    "typed": ('mem_mb=1000, instance_type="c7i.xlarge"', "spot"),
    "named": ('mem_mb=1000, slurm_partition="hpc,gpu", constraint="hpc7a"', "hpc"),
}
RULE = """
rule {name}:
    output: "{name}.txt"
    resources: {resources}
    shell: "echo $SLURM_JOB_PARTITION $SLURMD_NODENAME > {{output}}"
"""
POLICY = """
version: 1
targets:
  any: {backend: slurm}
  c7i: {backend: slurm, instances: [c7i.xlarge]}
default: any
"""


@pytest.fixture(scope="module")
def environ(slurm_dir):
    """The environment of a Slurm with ParallelCluster's names; this machine has one, as `slurm_dir` says."""
    from snakemake_executor_takeda.sandbox import slurm

    folder = Path(tempfile.mkdtemp(prefix="takeda-slurm-test-"))
    try:
        slurm.up(folder, nodes=2, layout="parallelcluster")
        yield {**os.environ, **slurm.environment(folder)}
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


def run(folder, environ, rules, *arguments):
    names = ", ".join(f'"{name}.txt"' for name in rules)
    text = f"rule all:\n    input: {names}\n"
    text += "".join(RULE.format(name=name, resources=what) for name, what in rules.items())
    (folder / "Snakefile").write_text(text)
    (folder / "routing.yaml").write_text(POLICY)
    command = [sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "20", "--quiet"]
    command += ["--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.5", *arguments]
    return subprocess.run(
        [*command, "--latency-wait", "30"],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=500,
    )


def test_each_job_goes_where_it_fits_and_the_event_says_why(tmp_path, environ):
    done = run(tmp_path, environ, {name: resources for name, (resources, _) in RULES.items()})
    assert done.returncode == 0, done.stdout
    where = {name: (tmp_path / f"{name}.txt").read_text().split() for name in RULES}
    assert {name: words[0] for name, words in where.items()} == {
        name: partition for name, (_, partition) in RULES.items()
    }
    assert where["typed"][1].startswith("spot-dy-c7i-")
    assert where["medium"][1] == "spot-dy-memory-1"

    lines = (tmp_path / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    told = {event["rule"]: event["detail"] for event in events if event["event"] == "submitted"}
    assert {name: detail["partition"] for name, detail in told.items()} == {
        name: partition for name, (_, partition) in RULES.items()
    }
    assert told["small"]["reasons"] == [
        "partition spot has the smallest nodes that fit (c7i: 4 CPUs, 7782 MB)"
    ]
    assert "on nodes with c7i.xlarge" in told["typed"]["reasons"]
    assert "GPU model L4 is l4 here" in told["gpu"]["reasons"]
    assert "not gpu, which has no nodes with hpc7a" in told["named"]["reasons"]


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        ("mem_mb=70000", "the nearest of 3 is hpc, which gives jobs at most 64000 MB on a node"),
        ("mem_mb=1000, gpu=1, gpu_model='h100'", "no GPU model 'h100'. It has: l4."),
        ("mem_mb=1000, constraint='c8i'", "no feature 'c8i'. Did you mean 'c7i'?"),
        ("mem_mb=9000, instance_type='c7i.xlarge'", "at most 7782 MB on a node, and it asks 9000"),
        ("mem_mb=1000, nodes=5", "the nearest of 3 is spot, which has 3 nodes that fit"),
    ],
)
def test_what_fits_nowhere_stops_the_run_before_anything_starts(tmp_path, environ, resources, text):
    done = run(tmp_path, environ, {"good": "mem_mb=1000", "bad": resources})
    assert done.returncode == 1
    assert text in done.stdout
    assert "rule bad" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "good.txt").exists()

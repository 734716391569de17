"""No job is lost, sent twice or held for ever, whatever --jobs, --max-jobs-per-timespan and groups say."""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from instant_backend import ARRAY_LIMIT

HERE = Path(__file__).parent
JOBS = (1, 3, 1000)
RATES = (None, "4/1s", "100000/1s")
GROUP_COMPONENTS = (None, 1, 3)
GRID = list(itertools.product(JOBS, RATES, GROUP_COMPONENTS))
READY = 10
TOGETHER = (1000, "100000/1s")

SNAKEFILE = """
rule all:
    input: expand("{n}.txt", n=range(10))
rule make:
    output: "{n}.txt"
    resources: mem_mb=lambda wildcards: 1000 if int(wildcards.n) % 3 else 4000
    shell: "exit 1"
"""
IN_GROUPS = SNAKEFILE.replace("    shell", '    group: "bundle"\n    shell')


def arguments(jobs, rate, components):
    words = ["--executor", "takeda", "--takeda-routing", "routing.yaml", "--jobs", str(jobs)]
    # Where arrays are looked at, a busy machine must not tear apart what is ready together.
    words += ["--takeda-coalesce-seconds", "2" if (jobs, rate) == TOGETHER else "0.05"]
    if rate:
        words += ["--max-jobs-per-timespan", rate]
    if components:
        words += ["--group-components", f"bundle={components}"]
    return words


def folder(runs, jobs, rate, components):
    return runs / f"{jobs}-{rate}-{components}".replace("/", "per")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All runs of the grid, done: a directory each."""
    root = tmp_path_factory.mktemp("grid")
    plugin = root / "plugin" / "instant-1.0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: instant\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text(
        "[snakemake_executor_takeda.backends]\ninstant = instant_backend:backend\n"
    )
    for jobs, rate, components in GRID:
        directory = folder(root, jobs, rate, components)
        directory.mkdir()
        (directory / "Snakefile").write_text(IN_GROUPS if components else SNAKEFILE)
        (directory / "routing.yaml").write_text(
            "version: 1\ntargets: {here: {backend: instant}}\ndefault: here\n"
        )
    work = {str(folder(root, *point)): arguments(*point) for point in GRID}
    paths = [str(root / "plugin"), str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run(
        [sys.executable, str(HERE / "many_runs.py"), str(os.cpu_count() or 1)],
        input=json.dumps(work),
        env=environment,
        text=True,
        check=True,
        timeout=500,
    )
    return root


@pytest.mark.parametrize(("jobs", "rate", "components"), GRID)
def test_every_job_is_sent_once_and_made(runs, jobs, rate, components):
    directory = folder(runs, jobs, rate, components)
    assert (directory / "status.txt").read_text() == "0", (directory / "output.txt").read_text()
    assert sorted(path.stem for path in directory.glob("?.txt")) == [str(n) for n in range(READY)]

    arrays = [json.loads(line) for line in (directory / "sent.jsonl").read_text().splitlines()]
    assert all(1 <= len(array) <= ARRAY_LIMIT for array in arrays)
    assert all(len({mem_mb for _, mem_mb in array}) == 1 for array in arrays)
    sent = Counter(job_id for array in arrays for job_id, _ in array)
    assert set(sent.values()) == {1}
    assert len(sent) == -(-READY // (components or 1))

    events = (directory / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    counts = Counter(json.loads(event)["event"] for event in events)
    assert counts["submitted"] == counts["succeeded"] == len(sent)


def test_jobs_that_are_ready_together_share_arrays(runs):
    arrays = (folder(runs, *TOGETHER, None) / "sent.jsonl").read_text().splitlines()
    # What fills an array is cut by shape, of which there are two.
    assert len(arrays) <= 2 * -(-READY // ARRAY_LIMIT)

"""Memory that grew after a job ran out of it is asked for by the next controller, too."""

import json
import os
from pathlib import Path

import pytest
from runs_that_are_killed import KilledRun, again, end_controllers

HERE = Path(__file__).parent
POLICY = """
version: 1
targets: {here: {backend: hungry}}
default: here
retry: {out_of_memory: {factor: 2, times: 3}}
"""
SNAKEFILE = """
rule work:
    output: "out"
    resources: mem_mb=1000
    shell: "touch {output}"
"""


@pytest.fixture
def hungry(project, monkeypatch):
    plugin = project.path / "plugin" / "hungry-1.0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: hungry\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text(
        "[snakemake_executor_takeda.backends]\nhungry = hungry_backend:backend\n"
    )
    paths = [str(plugin.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    project.write("routing.yaml", POLICY)
    project.write("Snakefile", SNAKEFILE)
    yield project
    end_controllers()


def test_a_restart_goes_on_with_the_memory_that_the_last_failure_led_to(hungry):
    def asked():
        file = hungry.path / "sent.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [mem_mb for line in lines for _, mem_mb in json.loads(line)]

    KilledRun(hungry).kill_when(lambda: asked() == [1000, 2000, 4000], "the third try")
    (hungry.path / "go").touch()
    again(hungry).ends_well()
    assert asked() == [1000, 2000, 4000, 4000]

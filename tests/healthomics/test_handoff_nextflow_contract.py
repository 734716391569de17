"""CONTRACT tests of Nextflow hand-offs: a stand-in checks what a real `nextflow` would be given.

No Nextflow engine was to be had for them. The generated config is parsed by Groovy where that is on PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.healthomics.nextflow_pipeline import load
from snakemake_executor_takeda.sandbox import control
from snakemake_executor_takeda.sandbox.nextflow_run import command, config
from snakemake_executor_takeda.values import FailureKind, TakedaError
from tests.healthomics.conftest import Cloud, Controller, job, make_cloud
from tests.healthomics.test_handoff_nextflow import PROCESSES, pipeline

PAGE = Path(__file__).parents[2] / "docs" / "handoff.md"
STAND_IN = Path(__file__).with_name("nextflow_stand_in.py")
TAKEDA = Path(sys.executable).with_name("takeda")
READS = {"a": "AC\nACGT\nACGTA\n", "b": "A\nACGT\n"}
PLAN = {"publish": {"counts/a.txt": "min {min_length}", "counts/b.txt": "{reads}", "log/x": ""}}


def example(folder: Path) -> Path:
    """The pipeline and the Snakefile of the documentation, and what the stand-in is to publish."""
    section = PAGE.read_text().partition("\n## Nextflow\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```", section, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    for name, text in blocks:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "pipeline/stand_in.json").write_text(json.dumps(PLAN))
    (folder / "reads").mkdir()
    for name, text in READS.items():
        (folder / f"reads/{name}.fq").write_text(text)
    return folder


@pytest.fixture
def nextflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the stand-in on PATH; gives the file that it writes down its arguments in."""
    program = tmp_path / "bin" / "nextflow"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{TAKEDA.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("NEXTFLOW_STAND_IN_RECORD", str(tmp_path / "record.json"))
    return tmp_path / "record.json"


def run(cwd: Path, *argv: str) -> tuple[int, str]:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_contract_of_the_documented_rule_on_one_machine(tmp_path: Path, nextflow: Path) -> None:
    here = example(tmp_path / "here")
    code, said = run(here, str(TAKEDA.with_name("snakemake")), "-c2", "-q")
    assert code == 0, said
    assert (here / "counts/a.txt").read_text() == "min 4"
    assert (here / "counts/b.txt").read_text() == READS["a"] + READS["b"]
    assert not (here / "counts/a.txt").is_symlink()
    given = json.loads(nextflow.read_text())
    run_dir = Path(given["argv"][1]).parent
    main = str(here / "pipeline/main.nf")
    assert given["argv"] == [
        *("-log", f"{run_dir}/nextflow.log", "run", main),
        *("-c", f"{run_dir}/takeda.config", "-params-file", f"{run_dir}/params.json"),
        *("-work-dir", f"{run_dir}/work", "-ansi-log", "false"),
    ]
    assert given["params"] == {
        "min_length": 4,
        "outdir": f"{run_dir}/pubdir",
        "reads": [f"{here}/reads/a.fq", f"{here}/reads/b.fq"],
    }
    assert "executor.cpus = 2\n" in given["config"]
    assert not run_dir.exists()


def test_contract_of_profiles_and_tasks_environment(
    tmp_path: Path, nextflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for tasks")
    here = example(tmp_path / "here")
    common = ("handoff", "run-local", "pipeline", "--input", "reads", "reads/a.fq")
    wanted = ("--output-dir", "counts=out", "--run-dir", "kept")
    code, said = run(here, str(TAKEDA), *common, *wanted, "--profile", "docker")
    assert code == 0, said
    given = json.loads(nextflow.read_text())
    assert given["argv"][-2:] == ["-profile", "docker"]
    assert not [name for name in given["environment"] if name.startswith("AWS_")]
    assert sorted(path.name for path in (here / "out").iterdir()) == ["a.txt", "b.txt"]
    assert (here / "kept/params.json").is_file()
    code, said = run(here, str(TAKEDA), *common, *wanted[:2], "--profile", "doker")
    assert code == 1
    assert "has no profile `doker`. Did you mean `docker`?" in said


def test_contract_of_a_failure(tmp_path: Path, nextflow: Path) -> None:
    here = example(tmp_path / "here")
    (here / "pipeline/stand_in.json").write_text('{"exit": 3}')
    code, said = run(
        here, str(TAKEDA), "handoff", "run-local", "pipeline/main.nf", "--output", "x", "x.txt"
    )
    assert code == 1
    assert "task COUNT (a): the command failed with exit status 3" in said
    assert "a tool's last words" in said
    assert sorted(path.name for path in here.iterdir()) == ["Snakefile", "pipeline", "reads"]


def test_an_output_that_is_not_there_lists_what_was_published(
    tmp_path: Path, nextflow: Path
) -> None:
    here = example(tmp_path / "here")
    globs = '{"c": "count/*.txt"}'
    code, said = run(
        here,
        *(str(TAKEDA), "handoff", "run-local", "pipeline", "--output", "c", "c.txt"),
        *("--handoff-outputs", globs),
    )
    assert code == 1
    assert "count/*.txt matches no file of the run, the rule wants 1. It made counts/a.txt" in said


def test_without_nextflow_run_local_says_so(tmp_path: Path) -> None:
    if shutil.which("nextflow"):
        pytest.skip("there is a nextflow on PATH")
    here = example(tmp_path / "here")
    code, said = run(here, str(TAKEDA), "handoff", "run-local", "pipeline", "--output", "x", "x")
    assert code == 1
    assert "is run by `nextflow`, which is not on PATH: install Nextflow" in said


def test_contract_of_an_output_block(tmp_path: Path) -> None:
    found = pipeline(tmp_path, script="workflow { }\noutput { a { path '.' } }")
    argv = command(found, Path("/run"), None)
    assert argv[argv.index("-output-dir") + 1] == "/run/pubdir"


def test_groovy_parses_the_added_config(tmp_path: Path) -> None:
    if shutil.which("groovy") is None:
        pytest.skip("there is no groovy on PATH")
    found = pipeline(tmp_path / "p", "params { outdir = 'r'; results = 'r' }", PROCESSES)
    script = tmp_path / "read.groovy"
    script.write_text(
        "def slurper = new ConfigSlurper()\n"
        "slurper.setBinding([params: [outdir: 'r', results: 'r']])\n"
        "def text = new File(args[0]).text\n"
        # ConfigSlurper knows no selectors; as a call they are what Nextflow's parser makes of them.
        "text = text.replaceAll(/withName: '(\\w+)' \\{/, '$1 {')\n"
        "def read = slurper.parse(text)\n"
        "println groovy.json.JsonOutput.toJson([\n"
        "  paths: read.process.RELATIVE.publishDir.collect { it.path instanceof Closure ? 'closure' : it.path },\n"
        "  modes: read.process.RELATIVE.publishDir.collect { it.mode }, trace: read.trace.enabled,\n"
        "  cpus: read.executor.cpus, docker: read.docker.enabled])\n"
    )
    added = tmp_path / "takeda.config"
    added.write_text(config(found, Path("/it's/run"), runner="docker", cores=3))
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    done = subprocess.run(
        ["groovy", str(script), str(added)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "JAVA_HOME is not defined" in done.stderr:
        pytest.skip(f"groovy has no Java: {done.stderr}")
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert read["paths"] == ["/it's/run/pubdir/counts", "closure"]
    assert read["modes"] == ["copy", None]
    assert (read["trace"], read["cpus"]) == (True, 3)
    assert read["docker"] is True


# HealthOmics.


@pytest.fixture
def nextflow_cloud(nextflow: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A sandbox of its own, with the stand-in on its PATH."""
    from snakemake_executor_takeda.sandbox.omics import nextflow as engine

    monkeypatch.delenv("NEXTFLOW_STAND_IN_RECORD")
    try:
        engine.check()
    except TakedaError as error:
        pytest.skip(str(error))
    folder = Path(tempfile.mkdtemp(prefix="takeda-nfh-"))
    try:
        control.up(folder, control.Options(services_port=0, moto_port=0))
        for name, value in control.environment(folder).items():
            monkeypatch.setenv(name, value)
        yield make_cloud()
    finally:
        control.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cloud(nextflow_cloud: Cloud) -> Cloud:
    return nextflow_cloud


@pytest.mark.sandbox
def test_contract_of_a_hand_off(
    cloud: Cloud, controllers: type[Controller], tmp_path: Path
) -> None:
    here = example(tmp_path / "here")
    for name, text in READS.items():
        cloud.s3.put_object(Bucket=cloud.bucket, Key=f"{name}.fq", Body=text.encode())
    one = controllers(here, engine_settings={"agentMode": "true"})  # type: ignore[call-arg,arg-type]
    rule = job(
        "pipeline",
        inputs={"reads": [cloud.uri("a.fq"), cloud.uri("b.fq")]},
        outputs={"counts": [cloud.uri("out/b.txt"), cloud.uri("out/a.txt")]},
        params={"min_length": 4, "handoff_outputs": {"counts": "counts/*.txt"}},
    )
    rule.resources["nextflow_profile"] = "docker"  # type: ignore[index]
    run_id, outcome = one.run(rule)
    assert outcome.kind is None, outcome
    assert cloud.text("out/a.txt") == "min 4"
    assert cloud.text("out/b.txt") == READS["a"] + READS["b"]
    found = cloud.omics.get_run(id=run_id)
    assert found["engineSettings"] == {
        "agentMode": "true",
        "engineVersion": "24.10.8",
        "profile": "docker",
    }
    assert found["parameters"]["outdir"] == "/mnt/workflow/pubdir"
    workflow = cloud.omics.get_workflow(id=found["workflowId"])
    assert (workflow["name"], workflow["engine"]) == ("takeda-count", "NEXTFLOW")
    assert sorted(workflow["parameterTemplate"]) == ["min_length", "outdir", "reads"]
    again, _ = one.run(rule)
    assert again == run_id

    rule.params["handoff_outputs"] = {"counts": "counts/b.*"}  # type: ignore[index]
    _, outcome = one.run(rule)
    assert outcome.kind is FailureKind.USER
    assert "counts/b.* matches 1 file of the run, the rule wants 2. It made counts/b.txt" in (
        outcome.reason
    )


def test_the_documented_pipeline_is_what_it_says(tmp_path: Path) -> None:
    found = load(example(tmp_path / "here") / "pipeline")
    assert (found.name, found.main, list(found.params)) == (
        *("count", "main.nf"),
        ["reads", "min_length", "outdir"],
    )
    assert found.publishing.notes() == []

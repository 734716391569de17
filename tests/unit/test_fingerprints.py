"""Which changes of a workflow make other work of a job, by Snakemake's own objects."""

import json
import linecache
import os
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    DAGSettings,
    ExecutionSettings,
    OutputSettings,
    ResourceSettings,
    StorageSettings,
)

from snakemake_executor_takeda import jobs
from snakemake_executor_takeda.fingerprints import Fingerprints

SNAKEFILE = """
class Opaque:
    pass

rule work:
    input: "in"
    output: "out"
    params: "a", one=1, many={"x", "y", "z"}, deep=[{"k": {"p", "q", "r"}}], which=Opaque(),
    threads: 2
    resources: mem_mb=100
    container: "docker://a/b:1"
    SHELL
"""
SHELL = 'shell: "cat {input} > {output}"'


def identity_and_fingerprint(snakefile):
    """Of the one job of a workflow in the current directory, or of the group of all of its jobs."""
    Path("Snakefile").write_text(snakefile)
    linecache.clearcache()  # a run is a process of its own
    with SnakemakeApi(OutputSettings()) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=100),
            storage_settings=StorageSettings(),
            snakefile=Path("Snakefile"),
            workdir=Path.cwd(),
        )
        targets = {"out", "out2"} if "out2" in snakefile else {"out"}
        workflow.dag(DAGSettings(targets=targets)).summary()
        made = workflow._workflow
        made.execution_settings = ExecutionSettings()
        (job, *more) = list(made.dag.jobs)
        if more:
            job = made.dag.group_job_factory.new("g", [job, *more], made.global_resources)
            job.finalize()
        spec = jobs.describe(job, fingerprints=Fingerprints())
        return spec.identity, spec.fingerprint


def with_shell(line=SHELL):
    return SNAKEFILE.replace("SHELL", line)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in", "in2"):
        Path(name).touch()
    Path("do.py").write_text("print(1)")
    Path("env.yaml").write_text("channels: []")


def test_another_process_finds_the_same():
    mine = identity_and_fingerprint(with_shell())
    finding = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "from test_fingerprints import *\n"
        "print('FOUND' + json.dumps(identity_and_fingerprint(with_shell())))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", finding, str(Path(__file__).parent)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        (line,) = [one for one in done.stdout.splitlines() if one.startswith("FOUND")]
        assert tuple(json.loads(line.removeprefix("FOUND"))) == mine


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cat {input}", "zcat {input}"),
        ("one=1", "one=2"),
        ("one=1", "other=1"),
        ('"x", "y", "z"', '"x", "y"'),
        ('"a", one', '"b", one'),
        ('input: "in"', 'input: "in2"'),
        ("a/b:1", "a/b:2"),
    ],
)
def test_a_change_makes_other_work_of_the_same_job(before, after):
    old = with_shell()
    assert before in old
    same, print_ = identity_and_fingerprint(old)
    changed, other = identity_and_fingerprint(old.replace(before, after))
    assert changed == same and other != print_


@pytest.mark.parametrize(
    ("before", "after"), [("mem_mb=100", "mem_mb=200"), ("threads: 2", "threads: 4")]
)
def test_more_memory_or_threads_make_no_other_work(before, after):
    old = with_shell()
    assert before in old
    assert identity_and_fingerprint(old) == identity_and_fingerprint(old.replace(before, after))


@pytest.mark.parametrize(
    ("line", "file"),
    [('script: "do.py"', "do.py"), (f'conda: "env.yaml"\n    {SHELL}', "env.yaml")],
)
def test_a_file_that_a_rule_names_is_a_part_of_it(line, file):
    text = with_shell(line).replace('    container: "docker://a/b:1"\n', "")
    same, print_ = identity_and_fingerprint(text)
    assert identity_and_fingerprint(text) == (same, print_)
    Path(file).write_text("changed")
    changed, other = identity_and_fingerprint(text)
    assert changed == same and other != print_


def test_the_code_of_a_run_directive_is_a_part_of_it():
    text = with_shell("run:\n        open(output[0], 'w').write('1')")
    same, print_ = identity_and_fingerprint(text)
    changed, other = identity_and_fingerprint(text.replace("'1'", "'2'"))
    assert changed == same and other != print_


GROUP = """
rule a:
    output: "out"
    group: "g"
    shell: "touch {output}"
rule b:
    output: "out2"
    group: "g"
    shell: "touch {output} #2"
"""


def test_a_group_changes_with_any_of_its_jobs():
    same, print_ = identity_and_fingerprint(GROUP)
    assert identity_and_fingerprint(GROUP) == (same, print_)
    changed, other = identity_and_fingerprint(GROUP.replace("#2", "#3"))
    assert changed == same and other != print_


def test_a_job_with_another_output_is_another():
    mine, _ = identity_and_fingerprint(with_shell())
    more = with_shell().replace('output: "out"', 'output: "out", "more"')
    assert identity_and_fingerprint(more)[0] != mine

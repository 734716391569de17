"""Snakemake's job objects → JobSpec, and the inner command, on a real DAG."""

import shlex
from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    OutputSettings,
    ResourceSettings,
    StorageSettings,
)

from snakemake_executor_takeda import jobs
from snakemake_executor_takeda.commands.inner import split_words, with_memory
from snakemake_executor_takeda.values import Shape, TakedaError

SNAKEFILE = """
rule all:
    input: "out/x.vcf"
rule make:
    output: "{s}.bam"
    shell: "touch {output}"
rule call:
    input:
        "loose.txt",
        bams=["a.bam", "b.bam"],
        reference="ref.fa",
    output:
        vcf="out/{sample}.vcf",
        stats=directory("out/{sample}.stats"),
    params:
        quality=20,
    threads: 3
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        handoff="main.wdl",
        runtime=60,
        tasks=4,
        nodes=2,
        mpi="srun --mpi=pmix",
    shell: "touch {output}"
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """The job of rule `call`, for sample x, as an executor would get it."""
    monkeypatch.chdir(tmp_path)
    for name in ("loose.txt", "ref.fa", "a.bam", "b.bam"):
        Path(name).touch()
    Path("Snakefile").write_text(SNAKEFILE)
    with SnakemakeApi(OutputSettings()) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=8),
            storage_settings=StorageSettings(),
            snakefile=Path("Snakefile"),
            workdir=tmp_path,
        )
        workflow.dag().summary()
        inner = workflow._workflow
        yield next(job for job in inner.dag.jobs if job.rule.name == "call")


def test_a_job_becomes_plain_values(job):
    spec = jobs.describe(job)
    assert (spec.rule, spec.wildcards, spec.attempt) == ("call", {"sample": "x"}, 1)
    assert spec.shape == Shape(
        cpus=3, mem_mb=1000, runtime_min=60, nodes=2, tasks=4, mpi="srun --mpi=pmix"
    )
    assert spec.resources["handoff"] == "main.wdl"
    assert "_cores" not in spec.resources and "tmpdir" not in spec.resources
    assert spec.source_line.endswith("Snakefile:7")
    assert spec.params == {"quality": 20}


def test_names_and_lists_of_files_are_kept(job):
    spec = jobs.describe(job)
    named = {group.name: group for group in spec.inputs}
    assert [file.path for file in named[None].files] == ["loose.txt"]
    assert [file.path for file in named["bams"].files] == ["a.bam", "b.bam"]
    assert named["bams"].is_list and not named["reference"].is_list
    outputs = {group.name: group.files[0] for group in spec.outputs}
    assert outputs["vcf"].path == "out/x.vcf" and not outputs["vcf"].is_directory
    assert outputs["stats"].is_directory


@pytest.mark.parametrize(
    ("resources", "shape"),
    [
        ({}, Shape(cpus=2)),
        ({"gpus": 2}, Shape(cpus=2, gpus=2)),
        ({"nodes": 3, "tasks_per_node": 4}, Shape(cpus=2, nodes=3, tasks=12, tasks_per_node=4)),
        ({"mem_mb": "4000"}, Shape(cpus=2, mem_mb=4000)),
        ({"tasks": 8, "cpus_per_task": 1}, Shape(cpus=1, tasks=8)),
    ],
)
def test_shapes(resources, shape):
    assert jobs.shape_of(resources, threads=2, where="rule r") == shape


@pytest.mark.parametrize("resources", [{"mem_mb": "lots"}, {"nodes": 0}, {"tasks": -1}])
def test_a_resource_that_is_no_number_names_rule_and_value(resources):
    with pytest.raises(TakedaError, match=f"rule r: resource {next(iter(resources))}="):
        jobs.shape_of(resources, threads=1, where="rule r")


@pytest.mark.parametrize(
    "rule", ["align", "a/b", "$(reboot)", "x" * 300, "ünï", "-n --wrap=x", "..", ""]
)
def test_job_names_fit_every_service(rule):
    name = jobs.job_name("20260101-000000-abcdef", rule, 12)
    assert name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    assert name.startswith("takeda-") and len(name) <= 100


def test_targets_survive_the_way_to_the_node():
    from snakemake_interface_executor_plugins.utils import TargetSpec

    from snakemake_executor_takeda.commands import decode_targets, encode_targets

    wildcards = {"a": "x,y=z", "b": 'say "hi"', "c": "it's", "d": "ü"}
    words = encode_targets([TargetSpec("align", wildcards), TargetSpec("all", {})])
    assert decode_targets(words) == [("align", wildcards), ("all", {})]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--a 1  --b x", ["--a", "1", "--b", "x"]),
        (repr("it's $HOME"), ["it's $HOME"]),
        (repr('it\'s "both" $(x)'), ['it\'s "both" $(x)']),
        (f"--config {'k=' + 'v'!r} {'a b'!r}", ["--config", "k=v", "a b"]),
        (shlex.quote("/a b/it's"), ["/a b/it's"]),
        (repr("two\nlines"), ["two\nlines"]),
    ],
)
def test_snakemakes_string_is_split_as_it_was_meant(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("python", "x"), ("python", "x", "--set-resources", "a:mem_mb=4000")),
        (
            (
                "x",
                "--set-resources",
                "a:mem_mb=1000",
                "b:mem_mb=1",
                "a:mem_mb_per=2",
                "--mode",
                "r",
            ),
            (
                "x",
                "--set-resources",
                "b:mem_mb=1",
                "a:mem_mb_per=2",
                "a:mem_mb=4000",
                "--mode",
                "r",
            ),
        ),
        (
            ("x", "--set-resources", "b:disk=1"),
            ("x", "--set-resources", "b:disk=1", "a:mem_mb=4000"),
        ),
    ],
)
def test_more_memory_is_what_the_command_sees_whatever_the_flags_said(argv, expected):
    assert with_memory(argv, "a", 4000) == expected

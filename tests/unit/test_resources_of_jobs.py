"""Memory for each CPU and resources of groups, where Snakemake's own sums and defaults are not what is meant."""

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.resources import Resources
from snakemake.settings.types import (
    DAGSettings,
    ExecutionSettings,
    OutputSettings,
    ResourceSettings,
    StorageSettings,
)

from snakemake_executor_takeda import jobs, run
from snakemake_executor_takeda.dispatching import Ready
from snakemake_executor_takeda.values import JobSpec, Shape

GROUP = """
rule a:
    output: "a"
    group: "g"
    threads: 24
    resources: {a}
    shell: "touch {{output}}"
rule b:
    output: "b"
    group: "g"
    threads: 2
    resources: {b}
    shell: "touch {{output}}"
"""


@pytest.fixture
def described(tmp_path, monkeypatch):
    """What is known of the one job, or of the group of two side by side."""
    monkeypatch.chdir(tmp_path)

    def describe(snakefile, *defaults, overwrite=None):
        Path("Snakefile").write_text(textwrap.dedent(snakefile))
        resources = ResourceSettings(
            cores=100,
            default_resources=Resources.parse(
                list(defaults), allow_expressions=True, defaults="full"
            ),
            overwrite_resources=overwrite or {},
        )
        with SnakemakeApi(OutputSettings()) as api:
            workflow = api.workflow(
                resource_settings=resources,
                storage_settings=StorageSettings(),
                snakefile=Path("Snakefile"),
                workdir=tmp_path,
            )
            targets = {"a", "b"} if "rule b" in snakefile else set()
            workflow.dag(DAGSettings(targets=targets)).summary()
            made = workflow._workflow
            made.execution_settings = ExecutionSettings()
            (job, *more) = list(made.dag.jobs)
            if more:
                job = made.dag.group_job_factory.new("g", [job, *more], made.global_resources)
                job.finalize()
            return jobs.describe(job)

    return describe


def rule(resources):
    return f"""
        rule one:
            output: "one"
            threads: 2
            resources: {resources}
            shell: "touch {{output}}"
        """


@pytest.mark.parametrize(
    ("resources", "overwrite", "expected"),
    [
        ("mem_mb=3000", None, (None, 3000)),
        ("mem='3 GB'", None, (None, 3000)),
        ("mem_mb=lambda wildcards, attempt: 3000 * attempt", None, (None, 3000)),
        ("runtime=5", {"mem_mb": 3000}, (None, 3000)),
        ("runtime=5", None, (900, 1800)),
        ("mem_mb_per_cpu=700", None, (700, 1400)),
        ("mem_mb=3000, mem_mb_per_cpu=700", None, (700, 1400)),
        ("runtime=5", {"mem_mb_per_cpu": 700}, (700, 1400)),
    ],
)
def test_a_rules_own_memory_comes_before_a_default_for_each_cpu(
    described, resources, overwrite, expected
):
    found = described(
        rule(resources),
        "mem_mb_per_cpu=900",
        overwrite={"one": Resources.from_mapping(overwrite)} if overwrite else None,
    )
    assert (found.resources.get("mem_mb_per_cpu"), found.shape.mem_mb) == expected


@pytest.mark.parametrize(
    ("resources", "mem_mb"),
    [
        ("mem_mb_per_cpu=500", 1000),
        ("mem_mb_per_cpu='500'", 1000),
        ("mem_mb_per_cpu=500, cpus_per_task=8", 4000),
        ("mem_mb_per_cpu=500, nodes=2, tasks=6, mpi='srun'", 3000),
        ("mem_mb_per_cpu=500, nodes=2, tasks_per_node=4, mpi='srun'", 4000),
        ("mem_mb_per_cpu='lots', mem_mb=70", 70),
        ("mem_mb_per_cpu=0, mem_mb=70", 70),
    ],
)
def test_memory_for_each_cpu_is_memory_of_a_node_for_routes_and_other_backends(
    described, resources, mem_mb
):
    assert described(rule(resources)).shape.mem_mb == mem_mb


def group(described, a, b, *defaults):
    found = described(GROUP.format(a=a, b=b), *defaults)
    assert found.is_group
    assert found.shape.cpus == 26
    return found


def test_members_of_a_group_share_its_nodes_and_ranks(described):
    """As with `nodes: 1` and `tasks: 1` in a profile: Snakemake's sum would be two nodes."""
    shape = group(described, "mem_mb=5", "mem_mb=7", "nodes=1", "tasks=1").shape
    assert (shape.nodes, shape.tasks, shape.mem_mb) == (1, 1, 12)


def test_ranks_of_a_group_with_mpi_are_as_snakemake_has_them(described):
    one = "mem_mb=5, tasks=4, nodes=2, mpi='srun'"
    shape = group(described, one, one).shape
    assert (shape.nodes, shape.tasks) == (2, 8)


@pytest.mark.parametrize(
    ("a", "b", "per_cpu"),
    [
        # 24 times 2,000 and 2 times 10,000 are 68,000 MB for 26 CPUs; Snakemake adds up 12,000 for each.
        ("mem_mb_per_cpu=2000", "mem_mb_per_cpu=10000", 2616),
        ("mem_mb_per_cpu=500", "mem_mb_per_cpu=500", 500),
        ("mem_mb_per_cpu=1000", "mem_mb=20000", 1693),
    ],
)
def test_memory_of_a_group_is_enough_and_not_the_sum_of_what_is_for_each_cpu(
    described, a, b, per_cpu
):
    found = group(described, a, b)
    assert found.resources["mem_mb_per_cpu"] == per_cpu
    assert found.shape.mem_mb == per_cpu * 26


def test_a_default_for_each_cpu_is_no_memory_of_a_group_whose_rules_say_theirs(described):
    found = group(described, "mem_mb=9000", "mem_mb=500", "mem_mb_per_cpu=900")
    assert "mem_mb_per_cpu" not in found.resources
    assert found.shape.mem_mb == 9500


def test_memory_for_each_cpu_grows_after_running_out_of_it():
    shape = Shape(cpus=4, mem_mb=2000)
    job = JobSpec(1, "one", {}, 1, shape, {"mem_mb_per_cpu": 500})
    ready = Ready(1, job, ("python", "x"))
    larger = run._with_memory(ready, 3000).job
    assert larger.resources["mem_mb_per_cpu"] == 750
    assert larger.shape == replace(shape, mem_mb=3000)

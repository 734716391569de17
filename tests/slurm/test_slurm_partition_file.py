"""Partition files of Snakemake's Slurm plugin: read, checked, and kept to."""

import pytest
from slurm_builders import FakeSlurm, submission, target

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.arguments import job_request
from snakemake_executor_takeda.backends.slurm.choosing import Chooser
from snakemake_executor_takeda.backends.slurm.facts import PartitionFacts
from snakemake_executor_takeda.backends.slurm.partition_file import (
    VARIABLE,
    Limits,
    minutes_of,
    read_partition_file,
)
from snakemake_executor_takeda.backends.slurm.request import JobRequest
from snakemake_executor_takeda.values import Shape, TakedaError

FILE = """
partitions:
  short: {max_runtime: 30m, max_mem_mb: 8000, max_threads: 8}
  long: {max_runtime: 7-00:00:00, supports_mpi: false}
  gpu: {max_gpu: 2, available_gpu_models: [t4, a100], max_cpus_per_gpu: 4}
"""


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "partitions.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def slurm():
    fake = FakeSlurm()
    fake.partitions_are = [
        PartitionFacts(name, total_nodes=4) for name in ("other", "short", "long", "gpu")
    ]
    return fake


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        (120, 120),
        ("120", 120),
        ("2h", 120),
        ("2d12h30m", 3630),
        ("90s", 1.5),
        ("1:30:00", 90),
        ("12:30", 750),
        ("2-12", 3600),
        ("2-12:30", 3630),
        ("2-12:30:30", 3630.5),
    ],
)
def test_times(text, minutes):
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:2:3:4", "2 weeks", "1h30", None])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="is no time"):
        minutes_of(text)


def choose(slurm, on, shape, **resources):
    chooser = Chooser(slurm)
    chooser.check([on])
    sent = submission(shape=shape, on=on, **resources)
    request = job_request(sent, on.options, "/project", "/logs")
    return chooser.choose(request, sent.tasks[0].job, on).request.partition


@pytest.mark.parametrize(
    ("shape", "partition"),
    [
        (Shape(runtime_min=30, mem_mb=8000), "short"),
        (Shape(runtime_min=31), "long"),
        (Shape(mem_mb=8001, runtime_min=10), "long"),
        (Shape(cpus=9, runtime_min=10), "long"),
        (Shape(gpus=2, gpu_model="t4", cpus=8), "gpu"),
    ],
)
def test_jobs_go_where_the_file_says(slurm, file, shape, partition):
    assert choose(slurm, target(partition_file=str(file)), shape) == partition


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (
            Shape(runtime_min=20_000),
            "has runtime up to 10080 in the partition file, and it asks 20000",
        ),
        (Shape(gpus=3), "has gpu up to 2 in the partition file, and it asks 3"),
        (Shape(gpus=1, gpu_model="v100"), "has no GPU model v100"),
        (Shape(gpus=1, cpus=5), "up to 4 CPUs for each GPU"),
    ],
)
def test_beyond_a_limit(slurm, file, shape, text):
    on = target(partition_file=str(file))
    with pytest.raises(SubmissionError, match=text):
        choose(slurm, on, shape, slurm_partition="gpu" if shape.gpus else "long")


def test_the_variable_counts_where_the_choice_is_left_to_us(slurm, file, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(file))
    assert choose(slurm, target(), Shape(runtime_min=40)) == "long"
    assert choose(slurm, target(partition="other"), Shape(gpus=1)) == "other"
    assert choose(slurm, target(), Shape(runtime_min=4), slurm_partition="other") == "other"


def test_each_limit_is_kept():
    asked = JobRequest(
        "n", "/w", "/l", nodes=4, ntasks=8, tasks_per_node=2, cpus_per_task=4, mem_mb_per_cpu=900
    )
    limits = Limits(
        max_nodes=3,
        max_tasks=7,
        max_tasks_per_node=1,
        max_cpus_per_task=3,
        max_mem_mb_per_cpu=800,
        max_mpi_tasks=4,
        available_constraints=["a"],
    )
    said = " ".join(text for text, _ in limits.exceeded(asked, 0, None, ["a", "b"]))
    for word in ("nodes", "tasks", "tasks_per_node", "cpus_per_task", "mem_mb_per_cpu"):
        assert f"has {word} up to" in said
    assert "up to 4 ranks" in said
    assert "no feature b" in said
    [(said, _)] = Limits(supports_mpi=False).exceeded(asked, 0, None, [])
    assert "takes no MPI jobs" in said
    assert list(Limits().exceeded(asked, 0, None, ["b"])) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitions: [a]", "is a mapping `partitions:`"),
        ("[1]", "is a mapping `partitions:`"),
        (
            "partitions: {short: {max_runtim: 5}}",
            "unknown limit 'max_runtim'. Did you mean max_runtime?",
        ),
        ("partitions: {short: {max_runtime: soon}}", "max_runtime: 'soon' is no time"),
        ("partitions: {short: {max_gpu: many}}", "max_gpu"),
        ("partitions: {short: [1]}", "partition short"),
        ("partitions: {shorty: {}}", "the cluster has not. Did you mean 'short'"),
        ("partitions: {a: 'b", "can't be read"),
    ],
)
def test_mistakes_in_the_file(slurm, tmp_path, text, message):
    path = tmp_path / "partitions.yaml"
    path.write_text(text)
    with pytest.raises(TakedaError) as error:
        Chooser(slurm).check([target(partition_file=str(path))])
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TakedaError, match="can't be read"):
        read_partition_file(tmp_path / "gone.yaml")

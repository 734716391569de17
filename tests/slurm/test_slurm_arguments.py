"""Options of sbatch: from shape, resources and target, and nothing a hostile value could add."""

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from slurm_builders import TRUE, submission, target

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm import SlurmOptions, shape_key_resources
from snakemake_executor_takeda.backends.slurm.arguments import job_request, sbatch_words
from snakemake_executor_takeda.backends.slurm.extra import split_extra
from snakemake_executor_takeda.values import FailureKind, Shape

WORK, LOGS = Path("/data/run"), Path("/data/run/logs/s1")


def options_of(sent):
    return sbatch_words(job_request(sent, sent.target.options, WORK, LOGS))


def test_a_plain_task():
    sent = submission(shape=Shape(cpus=4, mem_mb=8000, runtime_min=90), on=target(partition="hpc"))
    assert options_of(sent) == [
        "--parsable",
        "--no-requeue",
        "--job-name=takeda-align-1",
        "--chdir=/data/run",
        "--output=/data/run/logs/s1/0.log",
        "--partition=hpc",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=4",
        "--mem=8000M",
        "--time=90",
    ]


def test_an_array():
    options = options_of(submission([TRUE] * 20))
    assert "--array=0-19" in options
    assert "--output=/data/run/logs/s1/%a.log" in options
    throttled = target(array_throttle=5)
    assert "--array=0-19%5" in options_of(submission([TRUE] * 20, on=throttled))
    assert not any("array" in option for option in options_of(submission(on=throttled)))


def test_nodes_to_keep_away_from():
    sent = submission()
    request = job_request(sent, sent.target.options, WORK, LOGS, exclude=["node-1", "node-7"])
    assert "--exclude=node-1,node-7" in sbatch_words(request)


def test_mpi_over_nodes():
    shape = Shape(cpus=2, nodes=2, tasks=4, tasks_per_node=2, mpi="srun --mpi=pmix", mem_mb=500)
    options = options_of(submission(shape=shape, nodes=2, tasks=4))
    assert options[5:] == [
        "--nodes=2",
        "--ntasks=4",
        "--ntasks-per-node=2",
        "--cpus-per-task=2",
        "--mem=500M",
    ]


def test_mpi_without_nodes_leaves_their_number_to_slurm():
    options = options_of(submission(shape=Shape(tasks=64, mpi="mpirun"), tasks=64))
    assert "--ntasks=64" in options
    assert not any(option.startswith("--nodes") for option in options)


def test_a_rule_overrides_its_target():
    on = target(partition="hpc", account="lab", qos="normal", constraint="efa", reservation="r")
    kept = options_of(submission(on=on))
    for option in ("partition=hpc", "account=lab", "qos=normal", "constraint=efa", "reservation=r"):
        assert f"--{option}" in kept
    changed = options_of(
        submission(
            on=on,
            slurm_partition="spot",
            slurm_account=1234,
            qos="high",
            constraint="[a|b]&c",
            reservation="x",
        )
    )
    for option in ("partition=spot", "account=1234", "qos=high", "constraint=[a|b]&c"):
        assert f"--{option}" in changed
    assert not any("hpc" in option or "lab" in option for option in changed)


def test_memory_per_cpu_wins_over_a_default_of_the_whole_job():
    options = options_of(submission(shape=Shape(mem_mb=1000), mem_mb_per_cpu=1800))
    assert "--mem-per-cpu=1800M" in options
    assert not any(option.startswith("--mem=") for option in options)


def test_gpus():
    assert "--gpus=2" in options_of(submission(shape=Shape(gpus=2)))
    assert "--gpus=a10g:1" in options_of(submission(shape=Shape(gpus=1, gpu_model="a10g")))
    assert "--gres=gpu:a100:1" in options_of(submission(gres="gpu:a100:1"))


def test_extra_comes_last_and_the_rules_after_the_targets():
    on = target(extra=["--exclusive", "--mail-type=FAIL"])
    options = options_of(submission(on=on, slurm_extra="'--mail-type=END' -x node-1"))
    assert options[-4:] == ["--exclusive", "--mail-type=FAIL", "--mail-type=END", "-xnode-1"]


@pytest.mark.parametrize(
    ("resources", "shape", "word"),
    [
        ({"slurm_partition": "a\nb"}, Shape(), "slurm_partition"),
        ({"constraint": "a\x00b"}, Shape(), "constraint"),
        ({"mem_mb_per_cpu": "lots"}, Shape(), "mem_mb_per_cpu"),
        ({"mem_mb_per_cpu": "-1"}, Shape(), "mem_mb_per_cpu"),
        ({"gres": "gpu:1"}, Shape(gpus=1), "gres"),
        ({}, Shape(gpus=1, gpu_model="a=b,c"), "gpu_model"),
        ({"slurm_extra": "--wrap=reboot"}, Shape(), "slurm_extra"),
        ({"slurm_extra": "'unclosed"}, Shape(), "slurm_extra"),
    ],
)
def test_unusable_resources_are_refused(resources, shape, word):
    with pytest.raises(SubmissionError) as refused:
        options_of(submission(shape=shape, **resources))
    assert refused.value.kind == FailureKind.CONFIGURATION
    assert word in refused.value.reason
    assert "rule align" in refused.value.reason


@pytest.mark.parametrize(
    "text",
    [
        "--wrap=true",
        "--wrap true",
        "--wra=true",
        "--array=1-9",
        "-a 1-9",
        "-a1-9",
        "--arr=1",
        "-o x",
        "-ox",
        "--output=x",
        "--outp=x",
        "-e x",
        "--error=x",
        "-J x",
        "--job-name=x",
        "--job-n=x",
        "--parsable",
        "-W",
        "--wait",
        "-M other",
        "-Q",
        "--requeue",
        "--test-only",
        "-HW",
        "-sox",
        "--uid=0",
        "script.sh",
        "--exclusive script.sh other.sh",
        "--",
        "-",
        "--mem=1 -- x",
        "--comment=a b",
        "--nice=1 evil.sh",
        "-H evil.sh x",
        "-pa b",
    ],
)
def test_extra_that_would_break_a_submission_is_refused(text):
    with pytest.raises(ValueError):
        split_extra(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("--exclusive", ("--exclusive",)),
        ("--wait-all-nodes=1", ("--wait-all-nodes=1",)),
        ("--mail-user me@x.org --nice=5", ("--mail-user=me@x.org", "--nice=5")),
        ("-C 'a b' -H", ("-Ca b", "-H")),
        ("--export=ALL,X=1", ("--export=ALL,X=1",)),
        # not an option with a value: sbatch will complain, and not run evil.sh
        ("--exclusive evil.sh", ("--exclusive=evil.sh",)),
    ],
)
def test_extra(text, words):
    assert split_extra(text) == words


def test_a_targets_own_words_are_checked():
    for wrong in ({"extra": ["--wrap=x"]}, {"partition": "a\nb"}, {"scratch": "relative"}):
        with pytest.raises(ValidationError):
            SlurmOptions(**wrong)
    with pytest.raises(ValidationError):
        SlurmOptions(partitoin="x")
    assert SlurmOptions().python == sys.executable


def test_what_makes_a_submission_differ_is_in_the_key():
    assert {"slurm_partition", "slurm_extra", "mem_mb_per_cpu", "gres"} <= shape_key_resources


def test_percent_in_a_path_is_no_pattern():
    sent = submission()
    request = job_request(sent, sent.target.options, WORK, Path("/data/100%a/logs"))
    assert request.log == "/data/100%%a/logs/0.log"

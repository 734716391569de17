"""Resources as users of snakemake-executor-plugin-slurm (2.8.0) write them, and hostile values of each."""

from pathlib import Path

import pytest
from slurm_builders import FakeSlurm, context, submission, target

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm import shape_key_resources
from snakemake_executor_takeda.backends.slurm import slurm_backend as module
from snakemake_executor_takeda.backends.slurm.arguments import job_request, sbatch_words
from snakemake_executor_takeda.backends.slurm.choosing import wish_of
from snakemake_executor_takeda.backends.slurm.clients import command_line
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmRefused
from snakemake_executor_takeda.backends.slurm.cluster import Cluster
from snakemake_executor_takeda.backends.slurm.facts import PartitionFacts
from snakemake_executor_takeda.backends.slurm.fitting import fit
from snakemake_executor_takeda.jobs import shape_of
from snakemake_executor_takeda.values import FailureKind, TakedaError

CLUSTER = Cluster(
    {
        "hpc": PartitionFacts("hpc", is_default=True, total_nodes=4),
        "lab": PartitionFacts("lab", total_nodes=4, allow_accounts=("lab", "phylo")),
    },
    name="alps",
)


def words_of(threads=1, on=None, **resources):
    """The options of sbatch for a rule with these resources."""
    shape = shape_of(resources, threads, "rule align")
    sent = submission(shape=shape, on=on or target(partition="default"), **resources)
    request = job_request(sent, sent.target.options, Path("/project"), Path("/logs"))
    job = sent.tasks[0].job
    return sbatch_words(fit(request, wish_of(job, sent.target), CLUSTER).request)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"slurm_partition": "lab"}, ["--partition=lab"]),
        ({"slurm_account": "phylo"}, ["--account=phylo"]),
        ({"slurm_account": 1234}, ["--account=1234"]),
        ({"qos": "high"}, ["--qos=high"]),
        ({"constraint": "a&b"}, ["--constraint=a&b"]),
        ({"reservation": "r1"}, ["--reservation=r1"]),
        ({"slurm_extra": "--mail-type=END -x n7"}, ["--mail-type=END", "-xn7"]),
        ({"runtime": 90}, ["--time=90"]),
        ({"mem_mb": 8000}, ["--mem=8000M"]),
        ({"mem_mb": 8000, "mem_mb_per_cpu": 1800}, ["--mem-per-cpu=1800M"]),
        ({"threads": 4}, ["--cpus-per-task=4"]),
        ({"threads": 4, "cpus_per_task": 8}, ["--cpus-per-task=8"]),
        ({"gres": "gpu:t4:2"}, ["--gres=gpu:t4:2"]),
        ({"gres": "shard:1,tmp:5G"}, ["--gres=shard:1,tmp:5G"]),
        ({"gpu": 2}, ["--gpus=2"]),
        ({"gpu": 2, "gpu_model": "a100"}, ["--gpus=a100:2"]),
        ({"gpu_model": "nvidia_a100_80gb.1"}, ["--gpus=nvidia_a100_80gb.1:1"]),
        ({"gpu": 2, "cpus_per_gpu": 6}, ["--gpus=2", "--cpus-per-task=12"]),
        ({"gres": "gpu:2", "cpus_per_gpu": 6}, ["--gres=gpu:2", "--cpus-per-task=12"]),
        ({"gpu": 4, "tasks_per_gpu": 2, "cpus_per_gpu": 6}, ["--ntasks=8", "--cpus-per-task=3"]),
        ({"gpu": 2, "cpus_per_gpu": 6, "cpus_per_task": 3}, ["--cpus-per-task=3"]),
        ({"nodes": 2}, ["--nodes=2", "--ntasks=2"]),
        ({"tasks": 4}, ["--ntasks=4"]),
        ({"nodes": 2, "tasks_per_node": 4}, ["--nodes=2", "--ntasks=8", "--ntasks-per-node=4"]),
        ({"nodes": 2, "ntasks_per_node": 4}, ["--ntasks-per-node=4"]),
        ({"mpi": "srun --mpi=pmix", "tasks": 8}, ["--ntasks=8"]),
        ({"slurm_cluster": "alps"}, []),
    ],
)
def test_what_a_rule_writes(resources, expected):
    threads = resources.get("threads", 1)
    words = words_of(threads, **{k: v for k, v in resources.items() if k != "threads"})
    assert [word for word in expected if word not in words] == []


@pytest.mark.parametrize(
    ("resources", "absent"),
    [
        ({"cpus_per_task": -1}, "--cpus-per-task"),
        ({"gpu": 1, "cpus_per_gpu": 0}, "--cpus-per-task"),
        ({"gpu": 1, "cpus_per_gpu": -1}, "--cpus-per-task"),
        ({"mem_mb": 8000, "mem_mb_per_cpu": 1800}, "--mem="),
        ({"gpu": 0, "gpu_model": "a100"}, "--gpus"),
        ({"tasks": 8, "mpi": "mpirun"}, "--nodes"),
        ({"cpus_per_gpu": 6}, "--gpus"),
        ({"slurm_account": ""}, "--account"),
        ({"qos": ""}, "--qos"),
    ],
)
def test_what_is_not_said(resources, absent):
    assert not any(word.startswith(absent) for word in words_of(**resources))


def test_rules_that_differ_in_one_of_them_share_no_array():
    assert {
        "slurm_partition",
        "slurm_account",
        "slurm_extra",
        "slurm_cluster",
        "qos",
        "constraint",
        "reservation",
        "gres",
        "mem_mb_per_cpu",
        "cpus_per_task",
        "cpus_per_gpu",
        "tasks_per_gpu",
        "nodes",
    } <= shape_key_resources


@pytest.mark.parametrize(
    ("resources", "word"),
    [
        *[({name: "a\nb"}, name) for name in ("slurm_account", "qos", "constraint", "reservation")],
        *[({name: "a\x1b[2Jb"}, name) for name in ("slurm_partition", "gres", "mem_mb_per_cpu")],
        ({"slurm_partition": "nope"}, "slurm_partition"),
        ({"gres": "'gpu:1'"}, "gres"),
        ({"gres": "gpu:1 --wrap=x"}, "gres"),
        ({"gres": "gpu:1;id"}, "gres"),
        ({"gpu": 1, "gpu_model": "'a100'"}, "gpu_model"),
        ({"gpu": 1, "gpu_model": "a100:8"}, "gpu_model"),
        ({"gpu": 1, "gres": "gpu:1"}, "gres"),
        ({"mem_mb_per_cpu": "1G"}, "mem_mb_per_cpu"),
        ({"mem_mb_per_cpu": 0}, "mem_mb_per_cpu"),
        ({"mem_mb_per_cpu": 2.5}, "mem_mb_per_cpu"),
        ({"gpu": 1, "cpus_per_gpu": "many"}, "cpus_per_gpu"),
        ({"gpu": 1, "tasks_per_gpu": "two"}, "tasks_per_gpu"),
        ({"slurm_cluster": "andes"}, "slurm_cluster"),
        ({"clusters": "alps,andes"}, "slurm_cluster"),
        ({"slurm_extra": "--wrap=id"}, "slurm_extra"),
        ({"slurm_extra": "x.sh"}, "slurm_extra"),
        ({"slurm_extra": "--clusters=andes"}, "slurm_extra"),
    ],
)
def test_what_is_refused_names_the_rule_and_the_word(resources, word):
    with pytest.raises(SubmissionError) as refused:
        words_of(**resources)
    assert refused.value.kind == FailureKind.CONFIGURATION
    assert "rule align" in refused.value.reason
    assert word in str(refused.value)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize(
    "resources",
    [
        {"nodes": 0},
        {"tasks": 0},
        {"tasks_per_node": -2},
        {"nodes": "two"},
        {"cpus_per_task": "all"},
    ],
)
def test_numbers_that_are_none(resources):
    with pytest.raises(TakedaError, match=f"rule align: resource {next(iter(resources))}="):
        words_of(**resources)


# Several accounts.


def test_of_several_accounts_the_first_that_the_partition_is_open_for():
    words = words_of(slurm_account="other, phylo lab", slurm_partition="lab")
    assert "--account=phylo" in words


def test_an_account_that_slurm_does_not_take_is_followed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "missing_commands", list)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    slurm = FakeSlurm()
    backend = module.SlurmBackend((target(),), context(tmp_path), client=slurm)
    backend.check()
    slurm.submits = [
        SlurmRefused("Invalid account or account/partition combination specified"),
        "9",
    ]
    assert backend.submit(submission(slurm_account="a,b,c")).external_id == "9"
    assert [request.account for request in slurm.requests] == ["a", "b"]
    slurm.submits = [SlurmRefused("Invalid account")] * 3
    with pytest.raises(SubmissionError, match="Invalid account"):
        backend.submit(submission(number=2, slurm_account="a,b,c"))
    slurm.submits = [SlurmRefused("Invalid qos specification")]
    with pytest.raises(SubmissionError, match="Invalid qos"):
        backend.submit(submission(number=3, slurm_account="a,b"))


def test_migrating_tells_every_resource_and_flag():
    text = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text()
    page = text[text.index("## From snakemake-executor-plugin-slurm") :]
    resources = [
        "slurm_partition",
        "slurm_account",
        "slurm_extra",
        "slurm_cluster",
        "cluster",
        "clusters",
        "runtime",
        "mem_mb",
        "mem_mb_per_cpu",
        "cpus_per_task",
        "cpus_per_gpu",
        "tasks_per_gpu",
        "tasks",
        "tasks_per_node",
        "nodes",
        "gpu",
        "gpu_model",
        "gres",
        "qos",
        "constraint",
        "mpi",
        "threads",
        "reservation",
    ]
    assert [name for name in resources if f"`{name}`" not in page] == []
    flags = [
        "array-jobs",
        "array-limit",
        "disable-memory-fudge",
        "logdir",
        "keep-successful-logs",
        "delete-logfiles-older-than",
        "init-seconds-before-status-checks",
        "requeue",
        "no-requeue",
        "exclude-failed-nodes",
        "no-account",
        "partition-config",
        "efficiency-report",
        "jobname-prefix",
        "status-command",
        "status-attempts",
        "qos",
        "reservation",
        "pass-command-as-script",
    ]
    assert [name for name in flags if f"--slurm-{name}" not in page] == []
    assert "SNAKEMAKE_SLURM_PARTITIONS" in page

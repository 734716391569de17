"""Runs made for snakemake-executor-plugin-aws-batch: each of its settings and resources is honoured."""

import json
import os
import subprocess
import sys
import uuid
from dataclasses import replace

import boto3
import pytest
from batch_fakes import FakeClients, context, submission

from snakemake_executor_takeda import assembly
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch import backend, migrating
from snakemake_executor_takeda.backends.batch.api import Clients
from snakemake_executor_takeda.backends.batch.batch_backend import BatchBackend
from snakemake_executor_takeda.backends.batch.definitions import definition_of
from snakemake_executor_takeda.backends.batch.options import BatchOptions
from snakemake_executor_takeda.backends.batch.rule_words import RULE_RESOURCES, with_rule_words
from snakemake_executor_takeda.backends.batch.submitting import job_request
from snakemake_executor_takeda.dispatching import submission_key
from snakemake_executor_takeda.jobs import shape_of
from snakemake_executor_takeda.settings import ExecutorSettings, common_settings
from snakemake_executor_takeda.values import TakedaError, Target

ROLE = "arn:aws:iam::123456789012:role/snakemake-job"
QUEUE = "arn:aws:batch:us-west-2:123456789012:job-queue/snakemake"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch):
    for name in [*map(migrating.variable, migrating.SETTINGS), migrating.JOB_TAGS]:
        monkeypatch.delenv(name, raising=False)


def policy(image=None, **settings):
    return assembly.policy_of(ExecutorSettings(**settings), {"batch": backend}, image)


def options(image=None, **settings):
    return policy(image, **settings).targets["batch"].options


# Settings.


def test_the_variables_are_those_that_snakemake_derives():
    assert {setting: migrating.variable(setting) for setting in migrating.SETTINGS} == {
        "region": "SNAKEMAKE_AWS_BATCH_REGION",
        "job_queue": "SNAKEMAKE_AWS_BATCH_JOB_QUEUE",
        "job_role": "SNAKEMAKE_AWS_BATCH_JOB_ROLE",
        "tags": "SNAKEMAKE_AWS_BATCH_TAGS",
        "task_timeout": "SNAKEMAKE_AWS_BATCH_TASK_TIMEOUT",
        "scheduling_priority": "SNAKEMAKE_AWS_BATCH_SCHEDULING_PRIORITY",
        "job_definition": "SNAKEMAKE_AWS_BATCH_JOB_DEFINITION",
    }


def test_job_queue_makes_the_target_that_takes_all_jobs(monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_QUEUE", QUEUE)
    made = policy()
    assert made.default == ("batch",)
    assert made.targets["batch"].options == BatchOptions(queue=QUEUE)


@pytest.mark.parametrize(
    ("name", "value", "word", "expected"),
    [
        ("REGION", "us-west-2", "region", "us-west-2"),
        ("JOB_ROLE", ROLE, "job_role_arn", ROLE),
        ("TAGS", "project=x, owner=me,", "tags", {"project": "x", "owner": "me"}),
        ("JOB_TAGS", "run_id=2024-06-01,team=g", "tags", {"run_id": "2024-06-01", "team": "g"}),
        ("TASK_TIMEOUT", "7200", "timeout", 120),
        ("TASK_TIMEOUT", "90", "timeout", 2),
        ("SCHEDULING_PRIORITY", "50", "scheduling_priority", 50),
        ("JOB_DEFINITION", "my-def:3", "job_definition", "my-def:3"),
    ],
)
def test_each_variable_is_a_word_of_the_target_and_told(monkeypatch, name, value, word, expected):
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_QUEUE", "q")
    monkeypatch.setenv(f"SNAKEMAKE_AWS_BATCH_{name}", value)
    made = policy()
    assert getattr(made.targets["batch"].options, word) == expected
    (line,) = made.warnings
    assert f"SNAKEMAKE_AWS_BATCH_{name}" in line and "SNAKEMAKE_AWS_BATCH_JOB_QUEUE" in line


def test_without_old_settings_nothing_is_taken_or_told():
    made = policy(batch_queue="q")
    assert made.targets["batch"].options == BatchOptions(queue="q")
    assert made.warnings == ()


def test_the_300_seconds_that_nobody_asked_for_are_no_timeout(monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_QUEUE", "q")
    assert options().timeout is None


def test_job_tags_win_over_tags(monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_TAGS", "a=1,b=1")
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_TAGS", "b=2")
    assert options(batch_queue="q").tags == {"a": "1", "b": "2"}


def test_container_image_is_the_image_of_targets_that_name_none(tmp_path):
    assert options("me/worker:1", batch_queue="q").image == "me/worker:1"
    file = tmp_path / "routing.yaml"
    file.write_text(
        "version: 1\ntargets:\n  a: {backend: batch, queue: a}\n"
        "  b: {backend: batch, queue: b, image: own}\n"
        "  c: {backend: batch, queue: c, job_definition: there}\ndefault: a\n"
    )
    targets = policy("me/worker:1", routing=str(file)).targets
    assert [targets[name].options.image for name in "ab"] == ["me/worker:1", "own"]
    assert "image" not in targets["c"].options.model_fields_set


def test_snakemakes_own_default_image_is_not_taken():
    from snakemake.settings.types import RemoteExecutionSettings

    class Workflow:
        remote_execution_settings = RemoteExecutionSettings()

    assert assembly.container_image_of(Workflow) is None
    Workflow.remote_execution_settings = RemoteExecutionSettings(container_image="me/worker:1")
    assert assembly.container_image_of(Workflow) == "me/worker:1"


def test_a_flag_of_this_plugin_wins(monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_QUEUE", "old")
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_ROLE", ROLE)
    taken = options(batch_queue="new")
    assert (taken.queue, taken.job_role_arn) == ("new", ROLE)


def test_a_policy_file_wins_and_says_alone_where_jobs_go(monkeypatch, tmp_path):
    for name, value in {
        "JOB_QUEUE": "old",
        "JOB_DEFINITION": "old",
        "TASK_TIMEOUT": "600",
        "TAGS": "a=old,b=old",
        "REGION": "us-west-2",
    }.items():
        monkeypatch.setenv(f"SNAKEMAKE_AWS_BATCH_{name}", value)
    file = tmp_path / "routing.yaml"
    file.write_text(
        "version: 1\ntargets:\n  one: {backend: batch, queue: mine, timeout: 5, tags: {a: mine}}\n"
        "  here: {backend: local}\ndefault: one\n"
    )
    factories = assembly.backend_factories()
    made = assembly.policy_of(ExecutorSettings(routing=str(file)), factories)
    taken = made.targets["one"].options
    assert (taken.queue, taken.job_definition, taken.timeout) == ("mine", None, 5)
    assert taken.tags == {"a": "mine", "b": "old"}
    assert taken.region == "us-west-2"
    (line,) = made.warnings
    assert "JOB_QUEUE" not in line and "TASK_TIMEOUT" not in line


def test_flags_of_the_old_plugin_win_over_its_variables():
    found = migrating.old_settings(
        {"SNAKEMAKE_AWS_BATCH_REGION": "eu-west-1"}, {"region": "us-west-2"}, None
    )
    assert found.words == {"region": "us-west-2"}
    assert found.origins == {"region": "--aws-batch-region"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("JOB_ROLE", "snakemake-job", ["'snakemake-job'", "write the ARN of a role, such as arn:"]),
        ("TASK_TIMEOUT", "30", ["'30'", "60"]),
        ("TASK_TIMEOUT", "5min", ["'5min'", "seconds"]),
        ("TAGS", "a=1,novalue", ["'novalue'", "KEY=VALUE"]),
        ("JOB_TAGS", "=1", ["'=1'"]),
        ("SCHEDULING_PRIORITY", "10000", ["9999"]),
        ("REGION", "Oregon", ["'Oregon'", "such as eu-central-1"]),
    ],
)
def test_a_wrong_value_is_told_with_its_variable(monkeypatch, name, value, words):
    monkeypatch.setenv(f"SNAKEMAKE_AWS_BATCH_{name}", value)
    with pytest.raises(TakedaError) as error:
        policy(batch_queue="q")
    for word in (f"SNAKEMAKE_AWS_BATCH_{name}", *words):
        assert word in str(error.value)


def test_job_role_with_a_job_definition_is_refused_as_it_was(monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_DEFINITION", "d")
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_ROLE", ROLE)
    with pytest.raises(TakedaError, match=r"job_role_arn.*belongs to the job definition"):
        policy(batch_queue="q")


def test_the_region_is_that_of_the_batch_and_log_clients_alone(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    target = Target("t", "batch", options=BatchOptions(queue="q", region="us-west-2"))
    clients = BatchBackend([target], context())._clients
    assert isinstance(clients, Clients)
    assert {one.meta.region_name for one in (clients.batch, clients.batch_once, clients.logs)} == {
        "us-west-2"
    }
    assert clients.s3.meta.region_name == "eu-central-1"


def test_targets_in_two_regions_are_refused_at_start():
    targets = [
        Target(name, "batch", options=BatchOptions(queue=name, region=region))
        for name, region in (("a", "us-west-2"), ("b", None))
    ]
    with pytest.raises(
        TakedaError, match=r"not in 2: (?s:.*)'a': us-west-2(?s:.*)'b': the default region"
    ):
        BatchBackend(targets, context(), FakeClients()).check()


def test_only_a_run_without_any_word_of_this_plugin_shares_no_files_by_itself(monkeypatch):
    ExecutorSettings()
    assert common_settings.implies_no_shared_fs is False
    monkeypatch.setenv("SNAKEMAKE_AWS_BATCH_JOB_QUEUE", "q")
    for name in ("routing", "batch_queue", "slurm_partition", "omics_role_arn"):
        ExecutorSettings(**{name: "x"})
        assert common_settings.implies_no_shared_fs is False, name
    ExecutorSettings()
    assert common_settings.implies_no_shared_fs is True
    monkeypatch.delenv("SNAKEMAKE_AWS_BATCH_JOB_QUEUE")
    ExecutorSettings()
    assert common_settings.implies_no_shared_fs is False


# Resources of rules.


def sent(resources, **words):
    """SubmitJob and job definition of a rule with these resources on a target with these words."""
    given = submission(2)
    target = replace(given.target, options=BatchOptions(**{"queue": "q", **words}))
    tasks = tuple(
        replace(task, target=target, job=replace(task.job, resources=resources))
        for task in given.tasks
    )
    given = with_rule_words(replace(given, target=target, tasks=tasks))
    return job_request(given, context()), definition_of(given)


def test_batch_queue():
    assert sent({"batch_queue": "arm"})[0]["jobQueue"] == "arm"
    assert sent({})[0]["jobQueue"] == "q"


@pytest.mark.parametrize("words", [{}, {"image": "target:1"}, {"rule_image": True}])
def test_aws_batch_container_image(words):
    definition = sent({"aws_batch_container_image": "tools:2"}, **words)[1]
    assert definition["containerProperties"]["image"] == "tools:2"


def test_aws_batch_scheduling_priority():
    request, _ = sent({"aws_batch_scheduling_priority": 100}, scheduling_priority=1)
    assert request["schedulingPriorityOverride"] == 100


def test_aws_batch_task_timeout_wins_over_runtime_and_target():
    request, _ = sent({"aws_batch_task_timeout": 14400, "runtime": 5}, timeout=7)
    assert request["timeout"] == {"attemptDurationSeconds": 14400}


def test_shared_memory_size_mb():
    definition = sent({"shared_memory_size_mb": 4096})[1]
    assert definition["containerProperties"]["linuxParameters"] == {"sharedMemorySize": 4096}


def test_aws_batch_job_definition_is_used_as_it_is():
    resources = {"aws_batch_job_definition": "gpu:2", "aws_batch_container_image": "ignored"}
    request, _ = sent(resources, image="mine", job_role_arn=ROLE)
    assert request["jobDefinition"] == "gpu:2"
    assert request["containerOverrides"]["command"]


def test_a_job_definition_that_is_there_is_neither_looked_up_nor_registered():
    clients = FakeClients()
    target = Target("t", "batch", options=BatchOptions(queue="q", job_definition="there:1"))
    one = BatchBackend([target], context(), clients)
    one.submit(replace(submission(1), target=target))
    assert dict(clients.batch.calls) == {"SubmitJob": 1}


def test_gpus_under_their_old_name():
    assert shape_of({"_gpus": 2}, 1, "rule r").gpus == 2


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"aws_batch_scheduling_priority": 99999}, ["aws_batch_scheduling_priority", "9999"]),
        ({"aws_batch_scheduling_priority": "high"}, ["aws_batch_scheduling_priority"]),
        ({"aws_batch_task_timeout": 59}, ["aws_batch_task_timeout", "60"]),
        ({"shared_memory_size_mb": -1}, ["shared_memory_size_mb"]),
        (
            {"aws_batch_job_definition": "d", "shared_memory_size_mb": 64},
            ["aws_batch_job_definition", "shared_memory_size_mb"],
        ),
    ],
)
def test_a_wrong_resource_is_told_by_its_name(resources, words):
    with pytest.raises(SubmissionError) as error:
        sent(resources)
    for word in words:
        assert word in error.value.reason


@pytest.mark.parametrize("name", sorted(RULE_RESOURCES))
def test_jobs_that_differ_in_one_share_no_array(name):
    assert name in backend.shape_key_resources
    task = submission(1).tasks[0]
    keys = {
        submission_key(
            replace(task, job=replace(task.job, resources={name: value})),
            backend.shape_key_resources,
        )
        for value in (60, 120)
    }
    assert len(keys) == 2


# Whole runs.

SNAKEFILE = """
rule all:
    input: expand("{n}.txt", n=range(3)), "last.txt"
rule make:
    output: "{n}.txt"
    resources: aws_batch_scheduling_priority=7, aws_batch_task_timeout=3600
    shell: "echo {wildcards.n} > {output}"
rule last:
    input: expand("{n}.txt", n=range(3))
    output: "last.txt"
    resources: batch_queue="takeda-sandbox", aws_batch_container_image="tools:2", shared_memory_size_mb=128
    shell: "cat {input} > {output}"
"""
# Settings as version 0.2.1 has them: what Snakemake needs in order to take the plugin's flags.
OLD_PLUGIN = """
from dataclasses import dataclass, field
from typing import Optional

from snakemake.executors.local import Executor, common_settings
from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

def setting(default=None, env_var=False, required=False):
    return field(default=default, metadata={"help": "-", "env_var": env_var, "required": required})

@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    region: Optional[str] = setting(required=True)
    job_queue: Optional[str] = setting(env_var=True, required=True)
    job_role: Optional[str] = setting(env_var=True, required=True)
    tags: Optional[dict] = setting()
    task_timeout: Optional[int] = setting(default=300)
"""


@pytest.fixture
def old_run(tmp_path, sandbox_env):
    """The command of a run of that plugin, but for the executor's name; and what it left in Batch."""
    bucket = f"test-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    storage = ["--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{bucket}/run"]

    def run(*arguments, **environment):
        return subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "9"),
                *(*storage, *arguments),
            ],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def jobs():
        lines = (tmp_path / ".snakemake/takeda/events.jsonl").read_text().splitlines()
        submitted = [event for event in map(json.loads, lines) if event["event"] == "submitted"]
        ids = {event["rule"]: event["detail"]["submission"] for event in submitted}
        described = boto3.client("batch").describe_jobs(jobs=list(ids.values()))["jobs"]
        by_id = {job["jobId"]: job for job in described}
        return {rule: by_id[job_id] for rule, job_id in ids.items()}

    def last():
        return boto3.client("s3").get_object(Bucket=bucket, Key="run/last.txt")["Body"].read()

    return tmp_path, run, jobs, last


@pytest.mark.sandbox
def test_a_run_moves_over_by_the_executors_name(old_run):
    _, run, jobs, last = old_run
    result = run(
        "--container-image",
        "me/worker:1",
        SNAKEMAKE_AWS_BATCH_JOB_QUEUE="takeda-sandbox",
        SNAKEMAKE_AWS_BATCH_JOB_ROLE=ROLE,
        SNAKEMAKE_AWS_BATCH_REGION=os.environ["AWS_DEFAULT_REGION"],
        SNAKEMAKE_AWS_BATCH_JOB_TAGS="run_id=7",
    )
    assert result.returncode == 0, result.stderr
    assert last() == b"0\n1\n2\n"
    assert result.stderr.count("docs/migrating.md") == 1
    described = jobs()
    make, gathered = described["make"], described["last"]
    assert make["arrayProperties"]["size"] == 3
    assert make["schedulingPriority"] == 7
    assert make["timeout"] == {"attemptDurationSeconds": 3600}
    assert make["container"]["image"] == "me/worker:1"
    assert make["container"]["jobRoleArn"] == ROLE
    assert gathered["container"]["image"] == "tools:2"
    assert gathered["container"]["linuxParameters"]["sharedMemorySize"] == 128
    assert make["tags"]["run_id"] == gathered["tags"]["run_id"] == "7"
    assert "timeout" not in gathered


@pytest.mark.sandbox
def test_flags_and_profile_count_where_the_old_plugin_is_still_installed(old_run):
    path, run, jobs, last = old_run
    plugin = path / "plugins" / "snakemake_executor_plugin_aws_batch"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(OLD_PLUGIN)
    (path / "profile").mkdir()
    (path / "profile" / "config.yaml").write_text(
        f"aws-batch-job-queue: takeda-sandbox\naws-batch-job-role: {ROLE}\n"
    )
    result = run(
        *("--profile", "profile", "--aws-batch-region", os.environ["AWS_DEFAULT_REGION"]),
        PYTHONPATH=str(path / "plugins"),
    )
    assert result.returncode == 0, result.stderr
    assert last() == b"0\n1\n2\n"
    assert "from --aws-batch-job-queue" in result.stderr
    assert result.stderr.count("Using profile") == 1
    assert jobs()["last"]["container"]["jobRoleArn"] == ROLE
    assert "timeout" not in jobs()["last"]

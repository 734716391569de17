"""What Slurm 22.05 and 24.11 printed, as recorded, is read right."""

from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.slurm import answers
from snakemake_executor_takeda.backends.slurm.answers import Sighting
from snakemake_executor_takeda.backends.slurm.cluster import array_limit_of

DATA = Path(__file__).parent / "data"
# job ids of the recorded array, timeout, node failure, SIGKILL and pending array
IDS = {"22.05": ("15", "16", "17", "22", "23"), "24.11": ("16", "17", "18", "23", "24")}
KILLED_REASON = {"22.05": "JobLaunchFailure", "24.11": "RaisedSignal:9(Killed)"}


@pytest.fixture(params=sorted(IDS))
def version(request):
    return request.param


def recorded(version, name):
    return (DATA / version / f"{name}.txt").read_text()


def test_queue_tells_every_task_by_its_id(version):
    array, timeout, node_fail, killed, pending = IDS[version]
    queue = answers.read_queue(recorded(version, "squeue"))
    assert queue[f"{array}_1"] == Sighting(f"{array}_1", "COMPLETED", "", "node-1", 0.0)
    assert queue[f"{array}_2"] == Sighting(f"{array}_2", "FAILED", "NonZeroExitCode", "node-1", 0.0)
    assert queue[timeout].state == "TIMEOUT"
    assert queue[timeout].reason == "TimeLimit"
    assert queue[timeout].wall_seconds > 60
    assert (queue[node_fail].state, queue[node_fail].reason) == ("NODE_FAIL", "NodeDown")
    assert (queue[killed].state, queue[killed].reason) == ("FAILED", KILLED_REASON[version])
    assert queue[f"{pending}_2"] == Sighting(f"{pending}_2", "PENDING", "Resources", "", 0.0)
    assert queue[f"{pending}_0"].nodes == "node-[1-3]"


def test_running_job_in_the_queue(version):
    queue = answers.read_queue(recorded(version, "squeue_early"))
    assert queue[IDS[version][1]] == Sighting(IDS[version][1], "RUNNING", "", "node-2", 2.0)


def test_jobs_tell_the_exit_code_too(version):
    array, timeout, node_fail, killed, pending = IDS[version]
    jobs = answers.read_jobs(recorded(version, "scontrol_jobs"))
    assert jobs[f"{array}_0"].exit_code == 0
    assert jobs[f"{array}_2"].exit_code == 7
    assert jobs[f"{array}_2"].state == "FAILED"
    assert jobs[f"{array}_0"].reason == ""
    assert jobs[timeout].exit_code == 128 + 15
    assert jobs[killed].exit_code == 128 + 9
    assert jobs[node_fail].state == "NODE_FAIL"
    assert jobs[f"{pending}_0"].state == "RUNNING"
    assert f"{pending}_1-2" not in jobs
    assert jobs[f"{pending}_*"].state == "PENDING"


@pytest.mark.parametrize("index", ["2-5%2", "4294967294"])
def test_what_has_not_begun_of_an_array_has_no_index(index):
    line = f"JobId=9 ArrayJobId=9 ArrayTaskId={index} JobName=mine JobState=CANCELLED Reason=None\n"
    assert [(key, one.state) for key, one in answers.read_jobs(line).items()] == [
        ("9_*", "CANCELLED")
    ]


def test_settings_give_the_array_limit(version):
    settings = answers.read_settings(recorded(version, "scontrol_config"))
    assert settings["MaxJobCount"] == "10000"
    assert array_limit_of(settings) == 1000


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 1000),
        ({"MaxArraySize": "0"}, 1),
        ({"MaxArraySize": "100001", "MaxJobCount": "5000"}, 4999),
        ({"MaxArraySize": "1001", "SchedulerParameters": "bf_interval=1,max_array_tasks=50"}, 50),
        ({"MaxArraySize": "nonsense"}, 1000),
    ],
)
def test_array_limit(settings, limit):
    assert array_limit_of(settings) == limit


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("4711\n", "4711"),
        ("4711;cluster\n", "4711"),
        ("welcome!\n4711\n", "4711"),
        ("", None),
        ("Submitted batch job 4711", None),
        ("4711 0", None),
    ],
)
def test_job_id(text, job_id):
    assert answers.read_job_id(text) == job_id


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:07", 7),
        ("1:02:03", 3723),
        ("2-01:00:00", 176400),
        ("00:01:28", 88),
        ("59", 59),
        ("INVALID", None),
        ("", None),
        ("N/A", None),
    ],
)
def test_duration(text, seconds):
    assert answers.read_duration(text) == seconds


def test_lines_that_are_no_tasks_are_left_out():
    assert answers.read_queue("slurm is being upgraded tonight\n\n1|RUNNING\n") == {}
    assert answers.read_jobs("No jobs in the system\n") == {}

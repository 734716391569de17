"""What every client does, the same for all: on a real Slurm, by its commands and by slurmrestd."""

import re
import subprocess
import time
from dataclasses import dataclass, field, replace

import pytest

from snakemake_executor_takeda.backends.slurm.clients.base import SlurmClient, SlurmRefused
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.clients.pyslurm import PySlurm
from snakemake_executor_takeda.backends.slurm.clients.rest import Rest
from snakemake_executor_takeda.backends.slurm.clients.token import Token
from snakemake_executor_takeda.backends.slurm.request import JobRequest

pytestmark = pytest.mark.slurm
PATIENCE_SECONDS = 90
ENDED = {"COMPLETED", "FAILED", "CANCELLED"}
SLEEP = "#!/bin/sh\nsleep 600\n"


@dataclass
class Cluster:
    """A client, and the jobs that a test sent by it."""

    client: SlurmClient
    folder: object
    ids: list = field(default_factory=list)

    def request(self, name, **changes):
        plain = JobRequest(
            f"t-{time.monotonic_ns()}-{name}",
            "/tmp",
            str(self.folder / f"{name}-%a.log"),
            cpus_per_task=1,
            mem_mb=100,
            environment={"PATH": "/usr/bin:/bin", "MINE": "a b"},
        )
        return replace(plain, **changes)

    def submit(self, request, script=SLEEP):
        self.ids.append(self.client.submit(request, script))
        return self.ids[-1]

    def states(self, *ids):
        return {task_id: seen.state for task_id, seen in self.client.queue(ids).items()}

    def until(self, look, what):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.2)
        raise AssertionError(f"waited in vain: {what}")


@pytest.fixture(
    params=["commands of 22.05", "commands of 24.11", "slurmrestd of 24.11", "pyslurm of 24.11"]
)
def cluster(request, tmp_path, monkeypatch):
    if request.param == "commands of 22.05":
        variables = request.getfixturevalue("slurm_env")
        client = CommandLine()
    elif request.param == "pyslurm of 24.11":
        variables, module = request.getfixturevalue("real_pyslurm")
        client = PySlurm(module)
    else:
        service = request.getfixturevalue("slurmrestd")
        variables = service.environment
        token = Token(environ={"SLURM_JWT": service.token})
        client = Rest(service.url, token) if "slurmrestd" in request.param else CommandLine()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = Cluster(client, tmp_path)
    yield made
    if made.ids:
        client.cancel(made.ids)
        made.until(lambda: not client.unfinished(made.ids), "the end of what the test left")
    client.close()


def test_ends_and_exit_codes(cluster, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "7")  # of an allocation that the caller runs in
    script = "#!/bin/sh\necho $MINE ${SLURM_MEM_PER_CPU-none}\n"
    good = cluster.submit(cluster.request("good"), script)
    bad = cluster.submit(cluster.request("bad"), "#!/bin/sh\nexit 7\n")
    cluster.until(
        lambda: set(cluster.states(good, bad).values()) == {"COMPLETED", "FAILED"}, "ends"
    )
    assert cluster.client.jobs(good)[good].state == "COMPLETED"
    assert cluster.client.jobs(bad)[bad].exit_code == 7
    assert cluster.client.jobs(good)[good].nodes.startswith("node-")
    (log,) = cluster.folder.glob("good-*.log")
    assert log.read_text() == "a b none\n"
    assert {seen.external_id for seen in cluster.client.unfinished([good, bad])} == set()


def test_tasks_of_two_arrays_keep_their_names_whatever_they_do(cluster):
    held = cluster.submit(cluster.request("held", array_size=3, extra=("--hold",)))
    script = "#!/bin/sh\ntest $SLURM_ARRAY_TASK_ID = 1 && exit 3\ntest $SLURM_ARRAY_TASK_ID = 2 && exit 0\nsleep 600\n"
    first = cluster.submit(cluster.request("first", array_size=3), script)
    second = cluster.submit(cluster.request("second", array_size=3), script)
    wanted = {f"{held}_{n}": "PENDING" for n in range(3)}
    for job_id in (first, second):
        wanted |= {f"{job_id}_0": "RUNNING", f"{job_id}_1": "FAILED", f"{job_id}_2": "COMPLETED"}
    cluster.until(lambda: cluster.states(held, first, second) == wanted, f"{wanted}")
    left = {seen.external_id.partition("_")[0] for seen in cluster.client.unfinished([held])}
    assert left == {held}


def test_a_throttled_array(cluster):
    job_id = cluster.submit(cluster.request("some", array_size=4, array_throttle=1))
    wanted = ["PENDING", "PENDING", "PENDING", "RUNNING"]
    cluster.until(lambda: sorted(cluster.states(job_id).values()) == wanted, "one that runs")


def test_why_a_job_waits(cluster):
    job_id = cluster.submit(cluster.request("held", extra=("--hold",)))
    assert cluster.client.queue([job_id])[job_id].reason == "JobHeldUser"


def test_a_job_is_found_by_its_name(cluster):
    one, array = cluster.request("one"), cluster.request("array", array_size=2)
    ids = [cluster.submit(one), cluster.submit(array, "#!/bin/sh\n")]
    assert [cluster.client.find(one.name), cluster.client.find(array.name)] == ids
    cluster.until(lambda: set(cluster.states(ids[1]).values()) == {"COMPLETED"}, "the array's end")
    assert cluster.client.find(array.name) == ids[1]
    assert cluster.client.find("t-no-such") is None


def test_cancelling(cluster):
    runs = cluster.submit(cluster.request("runs", array_size=2))
    waits = cluster.submit(cluster.request("waits", extra=("--hold",)))
    cluster.until(lambda: set(cluster.states(runs).values()) == {"RUNNING"}, "the start")
    left = {seen.external_id.partition("_")[0] for seen in cluster.client.unfinished([runs, waits])}
    assert left == {runs, waits}, "tasks that have begun are still of their array"
    cluster.client.cancel([runs, waits], pending_only=True)
    cluster.until(lambda: cluster.states(waits) == {waits: "CANCELLED"}, "the end of what waits")
    assert set(cluster.states(runs).values()) == {"RUNNING"}
    cluster.client.cancel([runs, waits])
    cluster.until(lambda: set(cluster.states(runs).values()) == {"CANCELLED"}, "the end of all")
    cluster.client.cancel([runs, waits])
    cluster.client.cancel([runs], kill=True)


def test_cancelling_one_task_of_an_array(cluster):
    held = cluster.submit(cluster.request("held", array_size=3, extra=("--hold",)))
    cluster.client.cancel([f"{held}_1"], pending_only=True)
    # Slurm forgets at once what never began.
    left = {f"{held}_0": "PENDING", f"{held}_2": "PENDING"}
    cluster.until(lambda: cluster.states(held) == left, "the end of one")


def test_a_script_may_be_long(cluster):
    script = f"#!/bin/sh\n# {'x' * 5000}\nexit 4\n"
    job_id = cluster.submit(cluster.request("long"), script)
    cluster.until(lambda: set(cluster.states(job_id).values()) == {"FAILED"}, "its end")
    assert cluster.client.jobs(job_id)[job_id].exit_code == 4


def test_what_slurm_refuses_it_refuses_in_its_words(cluster):
    for changes, words in (
        ({"partition": "nope"}, "nvalid partition"),
        ({"constraint": "nope"}, "Invalid feature"),
        ({"array_size": 5000}, "Invalid job array"),
        ({"mem_mb": 99_999_999}, "node configuration is not available"),
    ):
        with pytest.raises(SlurmRefused, match=words):
            cluster.submit(cluster.request("no", **changes))


def test_nothing_is_known_of_other_jobs(cluster):
    assert cluster.client.jobs("987654") == {}
    assert "987654" not in cluster.client.queue(["987654"])


def test_the_cluster(cluster):
    client = cluster.client
    assert client.partitions() == ["hpc", "spot"]
    assert client.settings()["SLURM_VERSION"].startswith(("22.05", "24.11"))
    nodes = client.nodes()
    assert [node.name for node in nodes] == ["node-1", "node-2", "node-3", "node-4"]
    assert (nodes[0].cpus, nodes[0].memory_mib, nodes[0].features) == (4, 64000, ("sandbox",))
    assert set(nodes[0].partitions) == {"hpc", "spot"}
    (hpc, _) = client.partition_details()
    assert (hpc.name, hpc.state, hpc.nodes, hpc.total_cpus) == ("hpc", "UP", "node-[1-4]", 16)
    assert (hpc.max_time_min, hpc.max_nodes, hpc.allow_accounts) == (None, None, ())
    assert list(client.reservations()) == []


SAME = [
    {},
    {"array_size": 3, "array_throttle": 2},
    {"cpus_per_task": 2, "ntasks": 3, "nodes": 2, "tasks_per_node": 2},
    {"mem_mb": None, "mem_mb_per_cpu": 300, "runtime_min": 77},
    {"partition": "spot", "constraint": "sandbox", "exclude": ("node-1", "node-2")},
    {"account": "lab", "qos": "low", "requeue": True},
    {"extra": ("--exclusive", "--comment=a b; $(id)", "--nice")},
    {"ntasks": 3, "extra": ("--mem=1G", "-t1-2:03", "-N1-3", "--dependency=singleton")},
    {"extra": ("--mail-type=END,FAIL", "--mail-user=me@x", "--signal=B:USR1@120", "--nice=7")},
    {"extra": ("-xnode-[1-2]", "--contiguous", "--ntasks-per-core=1", "--open-mode=append")},
    {"extra": ("--oversubscribe", "--wckey=x", "--time-min=5", "--kill-on-invalid-dep=yes")},
    {"mem_mb": None, "extra": ("--mem-per-cpu=1000K", "--use-min-nodes")},
    {"cpus_per_task": None, "ntasks": 2, "extra": ("-wnode-[1-2]", "--ntasks-per-socket=1")},
    {"extra": ("--chdir=/", "--input=/dev/null", "--wait-all-nodes=1")},
    {"extra": ("--sockets-per-node=1", "--threads-per-core=1", "--spread-job", "--no-kill")},
]
ONLY_BY_SLURMRESTD = [{"extra": ("--mail-type=ALL", "--switches=1", "--mincpus=2")}]
OWN = {
    "JobId",
    "ArrayJobId",
    "JobName",
    "AllocNode:Sid",
    "LastSchedEval",
    "OOMKillStep",
    "TresPerTask",
    "SubmitLine",
    "Command",
}


def shown_by_scontrol(client, folder, changes):
    """What it tells of a held job, but for its number, name and times."""
    one = Cluster(client, folder)
    request = one.request("same", **changes)
    job_id = one.submit(replace(request, extra=(*request.extra, "--hold")))
    words = ["scontrol", "show", "job", job_id]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    client.cancel([job_id])
    facts = dict(re.findall(r"(\S+?)=(.*?)(?=\s+[A-Z]\S*?=|\n)", text))
    facts["NumNodes"] = re.sub(
        r"^(\d+)-\1$", r"\1", facts["NumNodes"]
    )  # `1` when looked at, else `1-1`
    assert facts.keys() >= {"NumCPUs", "Partition", "Requeue", "Nice", "StdOut", "WorkDir"}
    return {
        name: said
        for name, said in facts.items()
        if name not in OWN and ("Time" not in name or name in ("TimeLimit", "TimeMin"))
    }


@pytest.mark.parametrize("changes", [*SAME, *ONLY_BY_SLURMRESTD], ids=str)
def test_slurmrestd_asks_for_what_sbatch_asks_for(slurmrestd, tmp_path, monkeypatch, changes):
    for name, value in slurmrestd.environment.items():
        monkeypatch.setenv(name, value)
    rest = Rest(slurmrestd.url, Token(environ={"SLURM_JWT": slurmrestd.token}))
    wanted = shown_by_scontrol(CommandLine(), tmp_path, changes)
    assert shown_by_scontrol(rest, tmp_path, changes) == wanted


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_pyslurm_asks_for_what_sbatch_asks_for(real_pyslurm, tmp_path, monkeypatch, changes):
    variables, module = real_pyslurm
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    wanted = shown_by_scontrol(CommandLine(), tmp_path, changes)
    assert shown_by_scontrol(PySlurm(module), tmp_path, changes) == wanted

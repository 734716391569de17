"""The sandbox's Slurm: starts as itself, ends without leftovers, says what is missing."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from snakemake_executor_takeda.sandbox import slurm, slurm_config, slurm_layout
from snakemake_executor_takeda.sandbox.slurm_processes import MARK, members
from snakemake_executor_takeda.values import TakedaError


@pytest.fixture
def cluster_dir():
    """A state folder for a cluster of the test's own, ended whatever happens."""
    if missing := slurm.missing_packages():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Slurm here: {missing}")
    with tempfile.TemporaryDirectory(prefix="takeda-slurm-test-") as folder:
        try:
            yield Path(folder)
        finally:
            slurm.down(Path(folder))


def sbatch(environment, *words):
    done = subprocess.run(
        ["sbatch", "--parsable", "--output=/dev/null", *words],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def awaited(look, what, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain: {what}")


def config(layout="plain", **more):
    facts = {
        "home": Path("/data/slurm"),
        "run_dir": Path("/tmp/run"),
        "version": "22.05.8",
        "user": "me",
        "hostname": "host",
        "loopback_only": True,
        "controller_port": 11000,
        "partitions": slurm_layout.partitions(layout, 2),
    }
    nodes = slurm_layout.all_nodes(facts["partitions"])
    facts["nodes"] = tuple(slurm_config.Node(n, 11001 + i) for i, n in enumerate(nodes))
    return slurm_config.render(slurm_config.Cluster(**{**facts, **more}))


def test_the_configuration_writes_below_its_own_folders_only():
    files = config()
    places = [
        value
        for line in files["slurm.conf"].splitlines()
        if not line.startswith("#")
        for _, _, value in (word.partition("=") for word in line.split())
        if value.startswith("/")
    ]
    allowed = ("/data/slurm/", "/tmp/run/", "/bin/true")
    assert places
    assert all(place.startswith(allowed) for place in places)
    assert "NodeName=node-2 NodeHostname=host NodeAddr=127.0.0.1 Port=11002" in files["slurm.conf"]
    assert "PartitionName=hpc Nodes=node-1,node-2 Default=YES" in files["slurm.conf"]
    assert f"export {MARK}=/data/slurm\n" in files["task-prolog.sh"]


@pytest.mark.parametrize(
    ("version", "disabled"),
    [("21.08.5", False), ("22.05.8", False), ("23.11.4", True), ("24.11.5", True)],
)
def test_cgroups_are_disabled_where_the_word_is_known(version, disabled):
    assert ("CgroupPlugin=disabled" in config(version=version)["cgroup.conf"]) == disabled


def test_daemons_keep_to_loopback_where_they_can():
    assert "NoInAddrAny" in config()["slurm.conf"]
    assert "NoInAddrAny" not in config(loopback_only=False)["slurm.conf"]


def test_version():
    assert slurm_config.parse_version("slurm-wlm 22.05.8\n") == "22.05.8"
    with pytest.raises(TakedaError, match="nonsense"):
        slurm_config.parse_version("nonsense")


def test_missing_packages_are_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(slurm.Programs, "find", lambda self, command: None)
    with pytest.raises(
        TakedaError, match=r"apt-get install .*munge slurm-client slurmctld slurmd$"
    ):
        slurm.up(tmp_path)
    with pytest.raises(TakedaError, match=r"mariadb-server-core .* slurmdbd slurmrestd$"):
        slurm.up(tmp_path, accounting=True, rest=True)


def test_a_path_that_slurm_cannot_hold(cluster_dir):
    with pytest.raises(TakedaError, match=r"' ' in its path"):
        slurm.up(cluster_dir / "my state")
    assert not (cluster_dir / "my state").exists()


@pytest.mark.parametrize("nodes", [0, -1, 65])
def test_a_number_of_nodes_that_makes_no_sense(tmp_path, nodes):
    with pytest.raises(TakedaError, match="1 to 64 nodes"):
        slurm.up(tmp_path, nodes)


def test_a_step_without_the_mark_is_found_by_where_it_works(tmp_path):
    """Slurm 24.11's slurmstepd wipes its environment, and outlives a slurmd that was killed."""
    home = tmp_path / "slurm"
    (home / "log").mkdir(parents=True)
    step = tmp_path / "slurmstepd"
    shutil.copy(shutil.which("sleep"), step)
    # whoever merely stands in the folder, such as a reader of logs, is not the cluster's
    programs = {"step": [step, "600"], "reader": ["sleep", "600"]}
    started = {
        name: subprocess.Popen(words, env={}, cwd=home / "log") for name, words in programs.items()
    }
    try:
        assert [process.pid for process in members(home)] == [started["step"].pid]
        assert members(tmp_path / "another") == []
        slurm.down(tmp_path)
        assert started["step"].wait(10) != 0
        assert started["reader"].poll() is None
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def test_down_of_nothing(tmp_path):
    slurm.down(tmp_path / "never")
    assert slurm.environment(tmp_path / "never") == {}
    assert slurm.status(tmp_path / "never")["running"] is False
    assert not (tmp_path / "never").exists()


def test_parallelclusters_names_and_features():
    conf = config("parallelcluster")["slurm.conf"]
    nodes = {
        words["NodeName"]: words
        for line in conf.splitlines()
        if line.startswith("NodeName=")
        for words in [dict(word.split("=", 1) for word in line.split())]
    }
    assert nodes["hpc-st-hpc7a-1"]["Feature"] == "static,hpc7a.96xlarge,hpc7a,efa"
    assert nodes["hpc-dy-hpc7a-1"]["Feature"] == "dynamic,hpc7a.96xlarge,hpc7a,efa"
    assert nodes["spot-dy-memory-1"]["Feature"] == "dynamic,memory"
    assert nodes["gpu-dy-g6-1"]["Gres"] == "gpu:l4:1"
    assert "GresTypes=gpu\n" in conf
    partitions = [line for line in conf.splitlines() if line.startswith("PartitionName=")]
    assert partitions[0].startswith(
        "PartitionName=hpc Nodes=hpc-st-hpc7a-1,hpc-dy-hpc7a-1 Default=YES"
    )
    assert partitions[1].startswith(
        "PartitionName=spot Nodes=spot-dy-c7i-1,spot-dy-c7i-2,spot-dy-m"
    )
    assert sum("Default=YES" in line for line in partitions) == 1


def test_nothing_optional_is_configured_unasked():
    files = config()
    assert not files.keys() & set(slurm_config.OPTIONAL_FILES)
    for word in ("Gres", "AuthAlt", "AccountingStorage", "JobAcct"):
        assert word not in files["slurm.conf"]


def test_accounting_and_tokens_stay_in_the_clusters_folders():
    files = config(
        jwt_key=Path("/data/slurm/jwt.key"),
        accounting=slurm_config.Accounting(port=12000, socket=Path("/tmp/run/mariadb.sock")),
    )
    assert "AuthAltParameters=jwt_key=/data/slurm/jwt.key\n" in files["slurm.conf"]
    assert "AccountingStorageHost=127.0.0.1\nAccountingStoragePort=12000\n" in files["slurm.conf"]
    assert "DbdPort=12000\n" in files["slurmdbd.conf"]
    assert slurm_config.mode("slurmdbd.conf") == 0o600


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"layout": "pcluster"}, "no layout 'pcluster': there are plain, parallelcluster"),
        ({"max_array_size": 1}, "MaxArraySize is from 2 to 4,000,001, not 1"),
        ({"max_job_count": 0}, "MaxJobCount is at least 1, not 0"),
        (
            {"root": Path("/proc/self")},
            "/proc/.* is no root file system.*\nscripts/make-slurm-root",
        ),
    ],
)
def test_options_that_make_no_sense(tmp_path, wrong, said):
    with pytest.raises(TakedaError, match=said):
        slurm.up(tmp_path, **wrong)
    assert not (tmp_path / "slurm").exists()


def test_a_root_is_for_root_and_needs_a_plain_path(tmp_path, monkeypatch):
    (tmp_path / "a:b" / "usr").mkdir(parents=True)
    (tmp_path / "good" / "usr").mkdir(parents=True)
    with pytest.raises(TakedaError, match="path with ':' in it"):
        slurm.up(tmp_path / "state", root=tmp_path / "a:b")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TakedaError, match="only root can run"):
        slurm.up(tmp_path / "state", root=tmp_path / "good")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(TakedaError, match="good lacks: packages munge slurm-client"):
        slurm.up(tmp_path / "state", root=tmp_path / "good")


def test_a_token_of_a_cluster_without_slurmrestd(tmp_path):
    with pytest.raises(TakedaError, match="slurm up --rest"):
        slurm.rest(tmp_path)


@pytest.mark.slurm
def test_another_setup_starts_anew_with_its_limits(cluster_dir):
    environment = slurm.up(cluster_dir, nodes=2)
    first = sbatch(environment, "--wait", "--wrap=true")
    environment = slurm.up(
        cluster_dir, nodes=2, layout="parallelcluster", max_array_size=11, max_job_count=7
    )
    status = slurm.status(cluster_dir)
    assert status["partitions"] == ["hpc", "spot", "gpu"]
    assert set(status["nodes"].values()) == {"idle"}
    assert status["layout"] == "parallelcluster"
    said = slurm._programs(cluster_dir / "slurm").ask("scontrol", "show", "config")
    assert re.search(r"^MaxArraySize\s+= 11$", said, re.MULTILINE)
    assert re.search(r"^MaxJobCount\s+= 7$", said, re.MULTILINE)
    job = sbatch(environment, "--wait", "--partition=gpu", "--gpus=l4:1", "--wrap=true")
    assert job > first


@pytest.mark.slurm
def test_the_state_of_another_version_is_left_and_job_ids_go_on(cluster_dir):
    environment = slurm.up(cluster_dir, nodes=1)
    first = sbatch(environment, "--wait", "--wrap=true")
    slurm.down(cluster_dir)
    (cluster_dir / "slurm" / "state-version").write_text("19.05.0")
    (cluster_dir / "slurm" / "state" / "job_state").write_text("of another version")
    environment = slurm.up(cluster_dir, nodes=1)
    assert sbatch(environment, "--wait", "--wrap=true") > first


@pytest.mark.slurm
def test_a_newer_slurm_out_of_a_root(slurm_2411, slurm_2411_dir):
    """Its commands inside and outside of jobs, accounting, and a token that slurmrestd takes."""
    status = slurm.status(slurm_2411_dir)
    assert status["version"].startswith("24.11")
    assert set(status["nodes"].values()) == {"idle"}
    everything = {**os.environ, **slurm_2411}
    versions = subprocess.run(
        ["srun", "--account=lab", "sh", "-c", "squeue --version; readlink -f /proc/self/root"],
        env=everything,
        check=True,
        capture_output=True,
        text=True,
    )
    assert versions.stdout == f"slurm-wlm {status['version']}\n/\n"

    job = sbatch(slurm_2411, "--wait", "--account=lab", "--qos=high", "--wrap=true")
    ask = slurm._programs(slurm_2411_dir / "slurm").ask
    words = ("sacct", "-n", "-X", "-P", "-j", str(job), "-o", "Account,QOS,State")
    awaited(lambda: ask(*words) == "lab|high|COMPLETED\n", "the job in accounting")

    rest = slurm.rest(slurm_2411_dir)
    page = f"{rest.url}/slurm/v0.0.42/ping/"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(page, timeout=20)
    request = urllib.request.Request(page, headers={"X-SLURM-USER-TOKEN": rest.token})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert json.load(answer)["pings"][0]["pinged"] == "UP"
    assert not any(
        line.split()[0] == "takeda-slurm" for line in Path("/proc/mounts").read_text().splitlines()
    )


@pytest.mark.slurm
def test_up_run_and_down(cluster_dir):
    environment = slurm.up(cluster_dir, nodes=2)
    assert environment == {"SLURM_CONF": str(cluster_dir / "slurm" / "slurm.conf")}
    assert slurm.up(cluster_dir, nodes=2) == slurm.environment(cluster_dir) == environment
    status = slurm.status(cluster_dir)
    assert status["nodes"] == {"node-1": "idle", "node-2": "idle"}
    assert status["running"] is True

    sbatch(environment, "--wait", "--wrap=true")
    assert "JobState=COMPLETED" in Path(status["jobcomp"]).read_text()
    job = sbatch(environment, "--nodes=2", "--wrap=(setsid sleep 600 &) ; srun sleep 600")
    awaited(lambda: slurm.status(cluster_dir)["jobs"].get("RUNNING") == 1, "the job")
    assert slurm.up(cluster_dir, nodes=2) == environment
    assert slurm.status(cluster_dir)["jobs"] == {"RUNNING": 1}, "a busy cluster is left alone"
    run_dir = slurm._read_record(cluster_dir / "slurm")["run_dir"]
    assert Path(run_dir).is_dir()

    slurm.down(cluster_dir)
    assert members(cluster_dir / "slurm") == []
    assert slurm.environment(cluster_dir) == {}
    assert not Path(run_dir).exists()
    assert f"JobId={job} " in Path(status["jobcomp"]).read_text()


@pytest.mark.slurm
def test_ended_jobs_leave_no_process_and_every_node_in_service(cluster_dir):
    """Epilogs of one job run on all its nodes at once, and must not take each other for its rest."""
    environment = slurm.up(cluster_dir, nodes=4)
    for _ in range(5):
        job = sbatch(environment, "--nodes=4", "--wrap=(setsid sleep 600 &) ; srun sleep 600")
        awaited(lambda: slurm.status(cluster_dir)["jobs"].get("RUNNING") == 1, "the job")
        slurm._programs(cluster_dir / "slurm").ask("scancel", str(job))
        awaited(
            lambda: set(slurm.status(cluster_dir)["nodes"].values()) == {"idle"}, "the job's end"
        )
    names = {process.name for process in members(cluster_dir / "slurm")}
    assert names <= {"munged", "slurmctld", "slurmscriptd", "slurmd"}


@pytest.mark.slurm
def test_nodes_that_were_down_come_back_with_the_cluster(cluster_dir):
    slurm.up(cluster_dir, nodes=2)
    for name, state in (("node-1", "drain"), ("node-2", "down")):
        slurm._programs(cluster_dir / "slurm").ask(
            "scontrol",
            "update",
            f"nodename={name}",
            f"state={state}",
            "reason=test",
        )
    assert "idle" not in slurm.status(cluster_dir)["nodes"].values()
    slurm.down(cluster_dir)
    slurm.up(cluster_dir, nodes=2)
    assert set(slurm.status(cluster_dir)["nodes"].values()) == {"idle"}


@pytest.mark.slurm
def test_leftovers_of_a_killed_cluster_are_cleaned_and_job_ids_go_on(cluster_dir):
    environment = slurm.up(cluster_dir, nodes=2)
    first = sbatch(environment, "--requeue", "--wrap=sleep 600")
    waiting = sbatch(environment, "--nodes=2", "--exclusive", "--wrap=sleep 600")
    awaited(lambda: slurm.status(cluster_dir)["jobs"].get("RUNNING") == 1, "the first job")
    for process in members(cluster_dir / "slurm"):
        if process.name in ("slurmctld", "slurmd", "munged"):
            os.kill(process.pid, signal.SIGKILL)
    awaited(lambda: not slurm.environment(cluster_dir), "the end of the controller")
    assert members(cluster_dir / "slurm"), "a job outlived the daemons"

    environment = slurm.up(cluster_dir, nodes=1)
    status = slurm.status(cluster_dir)
    assert status["nodes"] == {"node-1": "idle"}
    assert status["jobs"] == {}
    assert sbatch(environment, "--wait", "--wrap=true") > max(first, waiting)


@pytest.mark.slurm
def test_an_occupied_port_is_avoided(cluster_dir, monkeypatch):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = slurm._free_ports(5)
        monkeypatch.setattr(slurm.random, "sample", lambda *_, **__: [port, *free])
        assert slurm._free_ports(5) == free


@pytest.mark.slurm
def test_a_daemon_that_does_not_start_shows_its_log(cluster_dir, monkeypatch):
    real = slurm_config.render

    def broken(cluster):
        files = dict(real(cluster))
        files["slurm.conf"] += "\nNoSuchWord=1\n"
        return files

    monkeypatch.setattr(slurm_config, "render", broken)
    monkeypatch.setattr(slurm, "START_SECONDS", 3.0)
    with pytest.raises(TakedaError, match=r"(?s)did not start.*NoSuchWord"):
        slurm.up(cluster_dir, nodes=1)
    assert members(cluster_dir / "slurm") == []
    assert slurm.environment(cluster_dir) == {}


@pytest.mark.slurm
def test_nothing_of_the_callers_environment_stays_with_the_daemons(cluster_dir, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2")
    slurm.up(cluster_dir, nodes=1)
    for process in members(cluster_dir / "slurm"):
        assert b"hunter2" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        assert os.getsid(process.pid) != os.getsid(0)

"""The multi-node cluster of containers/slurm on a Docker engine: names, MPI, accounting, REST, a killed node, and
whole runs: by the commands on its controller, and through slurmrestd from this machine."""

import contextlib
import json
import os
import shlex
import shutil
import socket
import socketserver
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
import yaml

pytestmark = [pytest.mark.docker, pytest.mark.slurm]
REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "containers" / "slurm"
GATEWAY = "172.31.213.1"
"""This machine, as the containers see it."""
NODES = {"hpc-st-hpc7a-1", "hpc-dy-hpc7a-1", "spot-dy-c7i-1", "spot-dy-c7i-2"}


def said(*words, **more):
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def awaited(look, what, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited in vain: {what}")


def compose_command():
    """`docker compose`, or the older program of its own; None where there is neither."""
    plugin = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def mounts_of_this_python():
    """What containers need to run the Python of the tests with the plugin, at its own paths."""
    base = Path(sys.base_prefix)
    parts = {Path(sys.prefix), REPOSITORY}
    if base == Path("/usr"):
        parts |= {Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))}
    else:
        parts.add(base)
    return [f"{part}:{part}:ro" for part in sorted(parts)]


class Cluster:
    def __init__(self, compose, environment, shared):
        mounts = [*mounts_of_this_python(), f"{shared}:{shared}"]
        services = {name: {"volumes": mounts} for name in ("controller", *NODES)}
        more = shared / "compose.yaml"
        more.write_text(yaml.safe_dump({"version": "3.8", "services": services}))
        files = ["-f", str(FOLDER / "compose.yaml"), "-f", str(more)]
        self._compose = [*compose, "-p", f"takeda-test-{os.getpid()}", *files]
        self._environment = environment
        self.shared = shared

    def compose(self, *words):
        return said(*self._compose, *words, env=self._environment)

    def run(self, *words):
        """A command on the controller; it prints what is returned."""
        return self.compose("exec", "-T", "controller", *words)

    def words_of_run(self, folder, *words):
        """To start a command on the controller, in a folder that it shares with this machine."""
        return [*self._compose, "exec", "-T", "-w", str(folder), "controller", *words]

    def rest(self):
        """What a target says to be reached through slurmrestd."""
        port = self.compose("port", "controller", "8080").strip().rpartition(":")[2]
        token = self.shared / "token"
        token.touch(mode=0o600)
        token.write_text(self.run("scontrol", "token", "lifespan=3600"))
        return {"rest_url": f"http://127.0.0.1:{port}", "jwt_file": str(token)}

    @property
    def environment(self):
        return self._environment

    def states(self):
        words = [*self._compose, "exec", "-T", "controller", "sinfo", "-h", "-N", "-o", "%N %T"]
        done = subprocess.run(
            words, env=self._environment, check=False, capture_output=True, text=True
        )
        return dict(line.split() for line in done.stdout.splitlines())

    def idle(self):
        states = self.states()
        return states.keys() == NODES and set(states.values()) == {"idle"}

    def job(self, job_id):
        words = (
            word.partition("=")
            for word in self.run("scontrol", "-o", "show", "job", job_id).split()
        )
        return {name: value for name, _, value in words}


@pytest.fixture(scope="module")
def cluster():
    if not shutil.which("docker"):
        pytest.skip("no Docker here: there is no command docker")
    engine = subprocess.run(["docker", "version"], check=False, capture_output=True, text=True)
    if engine.returncode:
        pytest.skip(f"no Docker engine answers here: {engine.stderr.strip()}")
    if (compose := compose_command()) is None:
        pytest.skip("Docker here has neither `docker compose` nor docker-compose")
    shared = Path(tempfile.mkdtemp(prefix="takeda-slurm-shared-"))
    image = said(FOLDER / "build").strip().splitlines()[-1]
    made = Cluster(
        compose, {**os.environ, "SLURM_IMAGE": image, "SLURM_SHARED": str(shared)}, shared
    )
    try:
        made.compose("up", "-d")
        awaited(made.idle, "all nodes")
        yield made
    finally:
        made.compose("down", "-v", "-t", "1")
        shutil.rmtree(shared)


def test_nodes_are_named_as_parallelclusters_are(cluster):
    features = cluster.run("sinfo", "-h", "-N", "-p", "all", "-o", "%N %f").splitlines()
    assert dict(line.split() for line in features) == {
        "hpc-st-hpc7a-1": "static,hpc7a.96xlarge,hpc7a,efa",
        "hpc-dy-hpc7a-1": "dynamic,hpc7a.96xlarge,hpc7a,efa",
        "spot-dy-c7i-1": "dynamic,c7i.2xlarge,c7i",
        "spot-dy-c7i-2": "dynamic,c7i.2xlarge,c7i",
    }
    assert "slurm-wlm 24.11" in cluster.run("sinfo", "--version")


@pytest.mark.parametrize("launcher", ["srun --mpi=pmix", "mpirun"])
def test_mpi_over_four_hosts(cluster, launcher):
    shutil.copy(Path(__file__).with_name("allreduce.py"), cluster.shared)
    script = cluster.shared / "job.sh"
    script.write_text(f"#!/bin/sh\n{launcher} python3 /shared/allreduce.py\n")
    cluster.run(
        *("sbatch", "--wait", "--partition=all", "--nodes=4", "--ntasks-per-node=2"),
        *("--output=/shared/mpi.out", "/shared/job.sh"),
    )
    lines = (cluster.shared / "mpi.out").read_text().splitlines()
    assert sorted(line.split(",")[0].split(" on ")[0] for line in lines) == [
        f"rank {rank} of 8" for rank in range(8)
    ]
    assert all("sum 36" in line for line in lines)
    assert {line.split(" on ")[1].split(":")[0] for line in lines} == NODES


def test_accounting_knows_what_a_job_used(cluster):
    job_id = cluster.run(
        *("sbatch", "--parsable", "--wait", "--account=lab", "--qos=high", "--output=/dev/null"),
        "--wrap=python3 -c 'x = bytearray(10**8); import time; time.sleep(5)'",
    ).strip()

    def accounted():
        words = ("-n", "-P", "-j", job_id, "-o", "JobID,Account,State,NodeList,MaxRSS")
        rows = [line.split("|") for line in cluster.run("sacct", *words).splitlines()]
        return rows if len(rows) == 2 and {row[2] for row in rows} == {"COMPLETED"} else None

    whole, batch = awaited(accounted, "the job in accounting")
    assert (whole[1], whole[3] in NODES) == ("lab", True)
    assert int(batch[4].removesuffix("K")) > 90_000


def test_slurmrestd_takes_a_token_and_nothing_else(cluster):
    port = cluster.compose("port", "controller", "8080").strip().rpartition(":")[2]
    token = cluster.run("scontrol", "token").strip().removeprefix("SLURM_JWT=")
    request = urllib.request.Request(f"http://127.0.0.1:{port}/slurm/v0.0.42/nodes/")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code in (401, 511)
    request.add_header("X-SLURM-USER-TOKEN", token)
    with urllib.request.urlopen(request, timeout=20) as answer:
        nodes = json.load(answer)["nodes"]
    assert {node["name"] for node in nodes} == NODES
    assert next(n for n in nodes if n["name"] == "spot-dy-c7i-1")["features"] == [
        "dynamic",
        "c7i.2xlarge",
        "c7i",
    ]


def test_a_killed_node_ends_its_job_and_comes_back(cluster):
    awaited(cluster.idle, "idle nodes")
    job_id = cluster.run(
        *("sbatch", "--parsable", "--no-requeue", "--nodelist=spot-dy-c7i-2", "--partition=spot"),
        *("--output=/dev/null", "--wrap=sleep 600"),
    ).strip()
    awaited(lambda: cluster.job(job_id)["JobState"] == "RUNNING", "the start")
    cluster.compose("kill", "spot-dy-c7i-2")
    awaited(lambda: cluster.job(job_id)["JobState"] == "NODE_FAIL", "the loss", 240)
    assert cluster.states()["spot-dy-c7i-2"].startswith("down")
    cluster.compose("up", "-d")
    awaited(cluster.idle, "the node's return", 240)


SNAKEMAKE = [sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "50"]
SNAKEMAKE += ["--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "1"]
SNAKEFILE = """
rule all:
    input: "sum"

rule part:
    output: "part.{n}"
    resources: mem_mb=100
    shell: "echo start $(hostname) >> RUNS/{wildcards.n}; sleep SECONDS; echo {wildcards.n} > {output}; echo end >> RUNS/{wildcards.n}"

rule sum:
    input: expand("part.{n}", n=range(12))
    output: "sum"
    resources: mem_mb=100
    shell: "cat {input} | sort -n | tr '\\n' ' ' > {output}; cat {output}"
"""


class Project:
    """A folder with a pipeline, and a record of each start and end of its jobs."""

    def __init__(self, folder, runs, seconds, **words):
        self.folder, self.runs = folder, runs
        folder.mkdir()
        runs.mkdir()
        snakefile = SNAKEFILE.replace("RUNS", str(runs)).replace("SECONDS", str(seconds))
        (folder / "Snakefile").write_text(snakefile)
        target = {"backend": "slurm", "partition": "spot", "capacity": "spot", **words}
        policy = {"version": 1, "targets": {"spot": target}, "default": "spot"}
        (folder / "routing.yaml").write_text(yaml.safe_dump(policy))

    @contextlib.contextmanager
    def started(self, words, environment):
        """Yields the running process; it is not left behind."""
        with (self.folder / "log").open("w") as log:
            run = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                yield run
            finally:
                run.kill()
                run.wait()

    def said(self):
        return (self.folder / "log").read_text()

    def hosts(self):
        """Where each job was started, one after the other, and how often each came to its end."""
        lines = {path.name: path.read_text().splitlines() for path in self.runs.iterdir()}
        starts = {
            name: [line.split()[1] for line in said if line.startswith("start ")]
            for name, said in lines.items()
        }
        return starts, {name: said.count("end") for name, said in lines.items()}

    def has_job_on(self, host):
        return any(host in hosts for hosts in self.hosts()[0].values())

    def events(self):
        text = (self.folder / ".snakemake/takeda/events.jsonl").read_text()
        return Counter(json.loads(line)["event"] for line in text.splitlines())


@pytest.fixture(params=["the commands, on the controller", "slurmrestd, from this machine"])
def start(request, cluster):
    """Make a project, and start its run in one of two ways."""

    def make(seconds):
        from_here = request.param.startswith("slurmrestd")
        folder = cluster.shared / f"run-{time.monotonic_ns()}"
        words = cluster.rest() if from_here else {}
        project = Project(folder, folder.with_suffix(".runs"), seconds, **words)
        how = SNAKEMAKE if from_here else cluster.words_of_run(folder, *SNAKEMAKE)
        return project, project.started(how, cluster.environment)

    return make


def test_a_run_whose_node_is_killed_with_its_jobs(start, cluster):
    """What the other node runs is left alone, what was lost runs again, and each job ends once."""
    awaited(cluster.idle, "idle nodes")
    dead = "spot-dy-c7i-2"
    project, running = start(seconds=15)
    with running as run:
        awaited(
            lambda: run.poll() is not None or project.has_job_on(dead),
            "jobs on the node",
        )
        cluster.compose("kill", dead)
        code = run.wait(timeout=400)
    cluster.compose("up", "-d")
    awaited(cluster.idle, "the node's return", 240)
    assert code == 0, project.said()
    assert (project.folder / "sum").read_text().split() == [str(n) for n in range(12)]
    starts, ends = project.hosts()
    assert ends == {str(n): 1 for n in range(12)}
    lost = [name for name, hosts in starts.items() if dead in hosts]
    assert lost
    assert {name: len(hosts) for name, hosts in starts.items()} == {
        str(n): 1 + (str(n) in lost) for n in range(12)
    }
    events = project.events()
    assert (events["failed"], events["succeeded"]) == (0, 13)
    assert events["interrupted"] >= len(lost), "also of jobs that had not yet begun their command"


class _Relay(socketserver.BaseRequestHandler):
    """Passes on what comes in, and what is answered."""

    def handle(self):
        with socket.create_connection(self.server.to) as there:
            back = threading.Thread(target=self._pass_on, args=(there, self.request), daemon=True)
            back.start()
            self._pass_on(self.request, there)
            back.join()

    @staticmethod
    def _pass_on(source, sink):
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def s3_for_nodes(cluster, sandbox_env):
    """The variables that lead containers to this machine's S3, which listens on its loopback only."""
    here = urlsplit(sandbox_env["AWS_ENDPOINT_URL_S3"])
    relay = socketserver.ThreadingTCPServer((GATEWAY, 0), _Relay)
    relay.daemon_threads = True
    relay.to = (here.hostname, here.port)
    thread = threading.Thread(target=relay.serve_forever)
    thread.start()
    there = f"http://{GATEWAY}:{relay.server_address[1]}"
    try:
        yield {name: value.replace(here.geturl(), there) for name, value in sandbox_env.items()}
    finally:
        relay.shutdown()
        thread.join()
        relay.server_close()


@pytest.mark.sandbox
def test_a_run_that_shares_nothing_with_the_cluster(cluster, s3_for_nodes, tmp_path):
    """slurmrestd takes the jobs and S3 holds the files: the nodes never see the project's folder."""
    awaited(cluster.idle, "idle nodes")
    # Nodes have a role of their own in a cloud; here their Python brings the variables.
    python = cluster.shared / "python"
    lines = [f"export {name}={shlex.quote(value)}" for name, value in s3_for_nodes.items()]
    python.write_text("\n".join(["#!/bin/sh", *lines, f'exec {sys.executable} "$@"', ""]))
    python.chmod(0o700)
    bucket = f"containers-{os.urandom(4).hex()}"
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    runs, logs = cluster.shared / "afar.runs", cluster.shared / "logs"
    logs.mkdir()
    words = {**cluster.rest(), "python": str(python), "workdir": str(logs), "scratch": "/tmp"}
    project = Project(tmp_path / "laptop", runs, 1, **words)
    storage = ["--default-storage-provider", "s3", "--shared-fs-usage", "none"]
    storage += ["--default-storage-prefix", f"s3://{bucket}/run"]
    with project.started([*SNAKEMAKE, *storage], dict(os.environ)) as run:
        code = run.wait(timeout=400)
    assert code == 0, [project.said(), *(path.read_text() for path in logs.iterdir())]
    total = s3.get_object(Bucket=bucket, Key="run/sum")["Body"].read().decode()
    assert total.split() == [str(n) for n in range(12)]
    starts, ends = project.hosts()
    assert {len(hosts) for hosts in starts.values()} == set(ends.values()) == {1}
    assert {host for hosts in starts.values() for host in hosts} <= NODES
    assert project.events()["succeeded"] == 13

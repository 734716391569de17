"""MPI through Snakemake on a real Slurm: right sums, threads, ranks that fail, and a node that dies."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fixtures_slurm import on_both_slurms, on_old_and_rest
from slurm_nodes import kill_node

from snakemake_executor_takeda.sandbox import slurm
from snakemake_executor_takeda.sandbox.slurm_processes import wait_until

pytestmark = pytest.mark.slurm

ALLREDUCE = Path(__file__).parent.parent / "slurm" / "allreduce.py"
FENCE = ALLREDUCE.with_name("pmix_fence.py")
PATIENCE_SECONDS = 180
SNAKEFILE = f'''
PROGRAM = "{sys.executable} {ALLREDUCE}"
WAITING = "{sys.executable} {ALLREDUCE} wait"

rule default_launcher:
    output: "default"
    resources: mpi=True, nodes=4, tasks=4, mem_mb=100
    shell: "{{resources.mpi}} -n {{resources.tasks}} {{PROGRAM}} > {{output}}"

rule srun:
    output: "srun"
    resources: mpi="srun", nodes=2, tasks=4, tasks_per_node=2, mem_mb=100
    shell: "{{resources.mpi}} {{PROGRAM}} > {{output}}"

rule mpirun:
    output: "mpirun"
    resources: mpi="mpirun", nodes=4, tasks_per_node=2, mem_mb=100
    shell: "{{resources.mpi}} {{PROGRAM}} > {{output}}"

rule fences:
    output: "met"
    resources: mpi=True, nodes=4, tasks=4, mem_mb=100
    shell: "{{resources.mpi}} {sys.executable} {FENCE} > {{output}}"

rule uneven:
    output: "uneven"
    resources: mpi="yes", nodes=3, tasks=4, mem_mb=100
    shell: "{{resources.mpi}} {{PROGRAM}} > {{output}}; echo once >> uneven.ran"

rule no_nodes:
    output: "no_nodes"
    resources: mpi="mpirun", tasks=6, mem_mb=100
    shell: "{{resources.mpi}} {{PROGRAM}} > {{output}}"

rule hybrid:
    output: "hybrid.{{launcher}}"
    threads: 2
    resources: mpi=lambda wildcards: wildcards.launcher, nodes=2, tasks=4, tasks_per_node=2, mem_mb=100
    shell: "{{resources.mpi}} {{PROGRAM}} > {{output}}"

rule hybrid_by_cpus_per_task:
    output: "by_cpus"
    resources: mpi=True, tasks=2, cpus_per_task=3, mem_mb=100
    shell: "{{resources.mpi}} {{PROGRAM}} > {{output}}; echo {{threads}} >> {{output}}"

rule rank_fails:
    output: "never"
    resources: mpi=True, nodes=2, tasks=4, mem_mb=100
    shell: "{{resources.mpi}} sh -c 'test $SLURM_PROCID = 3 && echo rank 3 gives up && exit 7; exec sleep 600'"

rule efa:
    output: "efa"
    resources: mpi=True, nodes=3, tasks=3, target="efa", mem_mb=100
    shell: "env > {{output}}"

rule long:
    output: "long"
    resources: mpi=True, nodes=2, tasks=4, tasks_per_node=2, mem_mb=100
    shell:
        """
        {{resources.mpi}} {{WAITING}} > {{output}} & ranks=$!
        while kill -0 $ranks 2> /dev/null; do
            test ! -e give-up.$SLURM_JOB_ID
            sleep 0.1
        done
        wait $ranks
        """
'''
POLICY = """version: 1
targets:
  hpc: {backend: slurm, partition: hpc}
  efa: {backend: slurm, partition: hpc, efa: true}
default: hpc
"""


@pytest.fixture(autouse=True)
def _mpirun():
    if shutil.which("mpirun") is None:
        pytest.skip("there is no mpirun on this machine: apt-get install openmpi-bin")


@pytest.fixture
def project(tmp_path, slurm_way):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    slurm_way.write_policy(tmp_path / "routing.yaml", POLICY)
    return tmp_path


def start(project, environment, *words):
    command = [sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "10"]
    command += ["--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.5", *words]
    log = (project / "out").open("w")
    return subprocess.Popen(
        command,
        cwd=project,
        env={**os.environ, **environment},
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def run(project, environment, *words):
    process = start(project, environment, *words)
    code = process.wait(timeout=PATIENCE_SECONDS)
    return code, said(project)


def said(project):
    return (project / "out").read_text()


def ranks_of(path):
    """Node of each rank, which all agree on number and sum; and each rank's threads."""
    found = re.findall(r"rank (\d+) of (\d+) on (\S+): sum (\d+), (\d+) threads", path.read_text())
    size = len(found)
    assert sorted(int(rank) for rank, *_ in found) == list(range(size))
    assert {(int(of), int(total)) for _, of, _, total, _ in found} == {
        (size, size * (size + 1) // 2)
    }
    return [node for _, _, node, _, _ in found], {int(threads) for *_, threads in found}


def per_node(nodes):
    return sorted(nodes.count(node) for node in set(nodes))


def nothing_left(environment):
    def queue():
        words = ["squeue", "--noheader", "--me"]
        return subprocess.check_output(words, env={**os.environ, **environment}, text=True)

    assert wait_until(lambda: not queue(), 30), queue()


@on_old_and_rest
def test_ranks_on_two_and_four_nodes_add_up(project, slurm_env):
    words = ("default", "srun", "mpirun", "uneven", "no_nodes", "met")
    code, text = run(project, slurm_env, *words)
    assert code == 0, text
    assert per_node(ranks_of(project / "default")[0]) == [1, 1, 1, 1]
    assert per_node(ranks_of(project / "srun")[0]) == [2, 2]
    assert per_node(ranks_of(project / "mpirun")[0]) == [2, 2, 2, 2]
    assert per_node(ranks_of(project / "uneven")[0]) == [1, 1, 2]
    assert (project / "uneven.ran").read_text() == "once\n"
    assert len(ranks_of(project / "no_nodes")[0]) == 6
    # By Slurm's default they do not wait for each other, and now and then Open MPI 5 crashes in MPI_Init.
    met = (project / "met").read_text().splitlines()
    assert sorted(met) == [f"rank {rank} of 4 met all others" for rank in range(4)]
    nothing_left(slurm_env)


@on_both_slurms
def test_ranks_have_threads(project, slurm_env):
    code, text = run(project, slurm_env, "hybrid.srun", "hybrid.mpirun", "by_cpus")
    assert code == 0, text
    for launcher in ("srun", "mpirun"):
        nodes, threads = ranks_of(project / f"hybrid.{launcher}")
        assert per_node(nodes) == [2, 2]
        assert threads == {2}
    assert ranks_of(project / "by_cpus")[1] == {3}
    assert (project / "by_cpus").read_text().splitlines()[-1] == "3"


@on_old_and_rest
def test_one_rank_that_fails_ends_all(project, slurm_env):
    """The others would wait for it, and nobody for them, until the time limit."""
    code, text = run(project, slurm_env, "never", "--retries", "0")
    assert code == 1
    assert "takeda: user on hpc" in text
    assert "rank 3 gives up" in text
    nothing_left(slurm_env)


@on_both_slurms
def test_nodes_without_efa_end_the_job_at_once(project, slurm_env):
    code, text = run(project, slurm_env, "efa")
    assert code == 1
    assert "takeda: configuration on efa" in text
    named = set(re.findall(r"node (node-\d): the target says `efa: true`, but there is no", text))
    assert len(named) == 3
    assert not (project / "efa").exists()


@on_both_slurms
def test_one_node_of_three_without_efa_is_named(project, slurm_env):
    """What libfabric says counts where there is no device file."""
    with_fi_info(project, 'test "$*" = "-p efa" && test "$SLURMD_NODENAME" != node-2')
    path = {"PATH": f"{project}/bin:{slurm_env.get('PATH', os.environ['PATH'])}"}
    only = ("--set-resources", "efa:slurm_extra='--nodelist=node-1,node-2,node-3'")
    code, text = run(project, slurm_env | path, "efa", *only)
    assert code == 1
    assert set(re.findall(r"node (node-\d): the target", text)) == {"node-2"}

    with_fi_info(project, "exit 0")
    code, text = run(project, slurm_env | path | {"OMPI_MCA_mtl": "mine"}, "efa", *only)
    assert code == 0, text
    told = (project / "efa").read_text().splitlines()
    assert {"FI_PROVIDER=efa", "I_MPI_OFI_PROVIDER=efa", "OMPI_MCA_mtl=mine"} <= set(told)


def with_fi_info(project, body):
    program = project / "bin" / "fi_info"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


def test_what_cannot_be_is_refused_before_anything_runs(project, slurm_env):
    words = ("--set-resources", "srun:tasks=1")
    code, text = run(project, slurm_env, "srun", *words)
    assert code == 1
    assert "1 of the nodes would have no rank" in text
    code, text = run(project, slurm_env, "srun", "--set-resources", "srun:mpi='srun --mpi=pmx'")
    assert code == 1
    assert "srun here has no PMI 'pmx'" in text
    assert "srun --mpi=pmix" in text
    assert not (project / ".snakemake/takeda/runs").exists() or not list(
        (project / ".snakemake/takeda/runs").glob("*/logs/*")
    )


@pytest.fixture
def own_cluster():
    """A Slurm whose nodes may die."""
    folder = Path(tempfile.mkdtemp(prefix="takeda-dies-"))
    try:
        slurm.up(folder, nodes=4)
        yield slurm.environment(folder)
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("which", ["the first, where the command runs", "the last"])
def test_a_node_that_dies_in_mid_run(project, own_cluster, which):
    """Killed: its slurmd, its steps and its ranks. The job runs again on what is left.

    Slurm knows that the first is dead, as it is told so. Of the last the job itself finds out, when
    Slurm does not know yet: the rule's command misses a rank, and fails. (srun itself does so only now
    and then: often it waits until Slurm knows.)
    """
    process = start(project, own_cluster, "long", "--retries", "0")
    try:
        assert wait_until(lambda: len(marks(project)) == 4, PATIENCE_SECONDS), said(project)
        dead = sorted(set(marks(project)))[0 if "first" in which else -1]
        kill_node(dead, own_cluster)
        if "last" in which:
            (project / "give-up.1").touch()
            assert wait_until(lambda: interruptions(project), PATIENCE_SECONDS), said(project)
        words = ["scontrol", "update", f"nodename={dead}", "state=down", "reason=died"]
        subprocess.run(words, check=True, env={**os.environ, **own_cluster})
        (project / "go").touch()
        code = process.wait(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    assert code == 0, said(project)
    used, _ = ranks_of(project / "long")
    assert per_node(used) == [2, 2]
    assert dead not in used
    reason = "NODE_FAIL" if "first" in which else "a node of its allocation does not answer"
    assert reason in interruptions(project)[0]
    nothing_left(own_cluster)


def marks(project):
    """Node of each rank that runs."""
    return [mark.read_text() for mark in project.glob("ranks/[0-9]")]


def interruptions(project):
    lines = (project / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    events = map(json.loads, lines)
    return [event["detail"]["reason"] for event in events if event["event"] == "interrupted"]

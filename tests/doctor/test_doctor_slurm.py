"""A real Slurm that is well, and then is not: `takeda doctor` tells what mends it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slurm


@dataclass
class World:
    """What a break can reach."""

    project: Any
    patch: pytest.MonkeyPatch
    after: contextlib.ExitStack

    @property
    def target(self) -> dict[str, Any]:
        words: dict[str, Any] = self.project.target("hpc")
        return words


@pytest.fixture
def world(
    project: Any, slurm_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    for name, value in slurm_env.items():
        monkeypatch.setenv(name, value)
    project.config = {"executor": "takeda", "takeda-routing": "routing.yaml"}
    project.policy = {
        "version": 1,
        "targets": {
            "hpc": {
                "backend": "slurm",
                "partition": "hpc",
                "scratch": str(project.folder / "scratch"),
                "limits": {"threads": 4, "mem_mb": 60000},
            }
        },
        "routes": [{"when": {"mpi": True}, "to": "hpc"}],
        "default": "hpc",
    }
    with contextlib.ExitStack() as after:
        yield World(project, monkeypatch, after)


def scontrol(*words: str) -> None:
    subprocess.run(["scontrol", *words], check=True, capture_output=True)


def resumed() -> None:
    """Nodes that were down are known to be up when they have registered again."""
    scontrol("update", "NodeName=node-[1-4]", "State=RESUME")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        states = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%T"], check=True, capture_output=True
        ).stdout.split()
        if set(states) == {b"idle"}:
            return
        time.sleep(0.1)
    raise AssertionError(states)


def test_nothing_is_found_where_all_is_well(world: World) -> None:
    facts = world.project.ask(status=0)
    assert facts["findings"] == facts["notes"] == facts["not_looked_at"] == []
    looked_at = {one["check"] for one in facts["well"]}
    assert looked_at == {
        *("policy", "versions", "controller", "partition", "nodes", "largest job", "MPI"),
        "shared folder",
    }
    assert not (world.project.folder / "scratch").exists(), "it makes nothing"


def no_cluster(world: World) -> None:
    world.patch.setenv("SLURM_CONF", "/nonexistent/slurm.conf")


def no_controller(world: World) -> None:
    """The same cluster at a port where nobody listens."""
    lines = Path(os.environ["SLURM_CONF"]).read_text().splitlines()
    text = ["SlurmctldPort=1" if line.startswith("SlurmctldPort=") else line for line in lines] + [
        "MessageTimeout=1"
    ]
    conf = world.project.folder / "slurm.conf"
    conf.write_text("\n".join(text) + "\n")
    world.patch.setenv("SLURM_CONF", str(conf))


def no_commands(world: World) -> None:
    world.patch.setenv("PATH", "/nonexistent")


def no_partition(world: World) -> None:
    world.target["partition"] = "hcp"


def partition_down(world: World) -> None:
    scontrol("update", "PartitionName=spot", "State=DOWN")
    world.after.callback(scontrol, "update", "PartitionName=spot", "State=UP")
    world.target["partition"] = "spot"


def nodes_down(world: World) -> None:
    scontrol("update", "NodeName=node-[1-4]", "State=DOWN", "Reason=kernel panic")
    world.after.callback(resumed)


def too_large(world: World) -> None:
    world.target["limits"] = {"mem_mb": 512000}


def no_such_pmi(world: World) -> None:
    world.target["mpi"] = "srun --mpi=pmix_v9"


def no_efa(world: World) -> None:
    world.target["efa"] = True


def no_reservation(world: World) -> None:
    world.target["reservation"] = "course"


def scratch_in_the_way(world: World) -> None:
    """A file where the folder should be: root, too, cannot make it."""
    (world.project.folder / "scratch").write_text("")


def no_pyxis(world: World) -> None:
    world.target["container_runtime"] = "pyxis"


BREAKS: dict[Callable[[World], None], tuple[str, str, str]] = {
    no_cluster: (
        "controller",
        "SLURM_CONF names /nonexistent",
        "Start it (takeda sandbox slurm up)",
    ),
    no_controller: ("controller", "does not answer", "scontrol ping"),
    no_commands: ("controller", "sbatch, squeue, scancel", "Run on a node of the cluster"),
    no_partition: ("partition", "no partition 'hcp'", "did you mean hpc?"),
    partition_down: ("partition", "spot is DOWN", "scontrol update PartitionName=spot State=UP"),
    nodes_down: (
        "nodes",
        "all 4 nodes of hpc are down (DOWN: kernel panic)",
        "scontrol update NodeName=node-1,node-2,node-3,node-4 State=RESUME",
    ),
    too_large: ("largest job", "mem_mb=512000 (`limits` of", "scontrol show partition"),
    no_such_pmi: ("MPI", "srun here has no PMI 'pmix_v9'", "mpi: srun --mpi=pmix"),
    no_efa: ("EFA", "no node of hpc has the feature `efa`", "Efa: {Enabled: true}"),
    no_reservation: ("reservation", "no reservation 'course'", "correct `reservation`"),
    scratch_in_the_way: ("shared folder", "can't be written", "name a folder"),
    no_pyxis: ("Pyxis", "--container-image", "Set `container_runtime: apptainer`"),
}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_what_is_broken_is_found_and_nothing_else(
    world: World, broken: Callable[[World], None]
) -> None:
    check, what, fix = BREAKS[broken]
    broken(world)
    facts = world.project.ask(status=1)
    (found,) = facts["findings"]
    assert found["check"] == check
    assert what in found["what"]
    assert fix in found["fix"]
    assert found["why"]


def test_a_node_feature_that_is_there(world: World) -> None:
    scontrol("update", "NodeName=node-1", "AvailableFeatures=sandbox,efa")
    world.after.callback(scontrol, "update", "NodeName=node-1", "AvailableFeatures=sandbox")
    world.after.callback(scontrol, "update", "NodeName=node-1", "ActiveFeatures=sandbox")
    world.target["efa"] = True
    assert world.project.ask(status=0)["notes"] == []

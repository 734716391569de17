"""Where a job goes, why, and what is said where it can go nowhere."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from routing_models import ROUTES, TARGETS, job, load

from snakemake_executor_takeda.routing.policy import Policy
from snakemake_executor_takeda.routing.router import PlacementError, place
from snakemake_executor_takeda.values import TakedaError

HANDOFF = {"handoff": "workflows/call/main.wdl"}


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return load(tmp_path, TARGETS + ROUTES)


PLACED: list[tuple[dict[str, Any], str, list[str]]] = [
    # Job, target, and something of each reason.
    ({}, "batch-spot", ["default"]),
    ({"shape": {"mpi": "srun"}}, "hpc-efa", ["route 2 ("]),
    ({"resources": HANDOFF}, "omics", ["handoff is set"]),
    (
        {"rule": "train_x", "shape": {"gpus": 1}},
        "gpu-spot",
        ["rule train_x matches train_*, gpu is 1"],
    ),
    ({"rule": "train_x"}, "batch-spot", ["default"]),
    ({"attempt": 3}, "batch-od", ["attempt is 3 (>2)"]),
    # First match wins.
    ({"attempt": 3, "shape": {"mpi": "srun"}}, "hpc-efa", ["route 2 ("]),
    ({"attempt": 3, "resources": HANDOFF}, "omics", ["route 1 ("]),
    # The rule's own words.
    ({"resources": {"target": "gpu-od"}}, "gpu-od", ["rule asks target=gpu-od"]),
    ({"resources": {"target": "hpc-efa", "backend": "slurm"}}, "hpc-efa", ["target=hpc-efa"]),
    ({"resources": {"target": "omics", **HANDOFF}}, "omics", ["target=omics"]),
    ({"resources": {"target": ""}}, "batch-spot", ["default"]),
    (
        {"resources": {"backend": "slurm"}},
        "hpc-efa",
        [
            "rule asks backend=slurm: narrows to hpc-efa",
            "hpc-efa is the first to fit what the rule asks",
        ],
    ),
    (
        {"resources": {"capacity": "on-demand"}},
        "batch-od",
        [
            "narrows to batch-od, gpu-od",
            "default",
            "batch-od is the fallback of batch-spot that fits",
        ],
    ),
    (
        {"rule": "train_x", "shape": {"gpus": 1}, "resources": {"capacity": "on-demand"}},
        "gpu-od",
        ["narrows to", "route 3", "gpu-od is the fallback of gpu-spot that fits"],
    ),
    (
        {"attempt": 3, "resources": {"capacity": "spot"}},
        "batch-spot",
        ["narrows to", "route 4 (", "default"],
    ),
    (
        {"shape": {"mpi": "mpirun"}, "resources": {"backend": "batch"}},
        "batch-spot",
        ["narrows to", "passed over: hpc-efa is slurm, not batch", "default"],
    ),
    ({"resources": {"instance_type": "c7i.4xlarge"}}, "batch-spot", ["narrows to", "default"]),
    (
        {"resources": {"instance_type": "g6.xlarge"}},
        "gpu-spot",
        ["narrows to gpu-spot, gpu-od", "first"],
    ),
    (
        {"resources": {"instance_type": "g6.xlarge", "capacity": "on-demand"}},
        "gpu-od",
        ["capacity=on-demand", "instance_type=g6.xlarge", "first to fit"],
    ),
    (
        {"resources": {"backend": "healthomics", **HANDOFF}},
        "omics",
        ["narrows to omics", "route 1"],
    ),
]


@pytest.mark.parametrize(("spec", "target", "reasons"), PLACED, ids=lambda x: str(x)[:60])
def test_place(policy: Policy, spec: dict[str, Any], target: str, reasons: list[str]) -> None:
    placement = place(job(**spec), policy)
    assert placement.target is policy.targets[target]
    assert len(placement.reasons) == len(reasons), placement.reasons
    for said, expected in zip(placement.reasons, reasons, strict=True):
        assert expected in said


REFUSED: list[tuple[dict[str, str], list[str]]] = [
    ({"target": "hpc-eaf"}, ["target='hpc-eaf' is not in", "Did you mean hpc-efa?"]),
    ({"target": "zzz"}, ["Targets there: batch-od, batch-spot, gpu-od"]),
    ({"target": "batch-spot", "capacity": "on-demand"}, ["batch-spot is spot, not on-demand"]),
    ({"target": "batch-spot", "backend": "slurm"}, ["batch-spot is batch, not slurm"]),
    ({"target": "batch-spot", "instance_type": "p5.48xlarge"}, ["its instances: c7i, m7i"]),
    ({"target": "batch-spot", **HANDOFF}, ["hand-offs run on HealthOmics only"]),
    ({"target": "omics"}, ["omics is HealthOmics and runs hand-offs only"]),
    ({"backend": "slrum"}, ["backend='slrum'", "Did you mean slurm?"]),
    ({"backend": "local"}, ["Add a target with `backend: local` to"]),
    ({"backend": "healthomics"}, ["no target of", "fits backend='healthomics'", "hand-offs only"]),
    ({"backend": "batch", **HANDOFF}, ["it is a hand-off", "(omics)", "backend='batch'"]),
    ({"capacity": "Spot"}, ["capacity='Spot'", "Did you mean spot?"]),
    ({"capacity": "reserved"}, ["Capacities: on-demand, spot."]),
    ({"instance_type": "g6.2xlarge"}, ["instance_type='g6.2xlarge'", "Did you mean g6.xlarge?"]),
    ({"backend": "slurm", "capacity": "spot"}, ["backend='slurm' and capacity='spot'", "hpc-efa is of no stated capacity"]),
]  # fmt: skip


@pytest.mark.parametrize(("resources", "said"), REFUSED, ids=lambda x: str(x)[:60])
def test_refused_with_rule_line_and_remedy(
    policy: Policy, resources: dict[str, str], said: list[str]
) -> None:
    with pytest.raises(PlacementError) as caught:
        place(job(resources=resources), policy)
    message = str(caught.value)
    assert message.startswith("rule align (workflow/Snakefile:12): ")
    for part in said:
        assert part in message
    assert isinstance(caught.value, TakedaError)


def test_no_target_has_the_capacity(tmp_path: Path) -> None:
    policy = load(tmp_path, "version: 1\ntargets: {a: {backend: slurm}}\ndefault: a")
    with pytest.raises(PlacementError, match="Put `capacity: spot` on a target"):
        place(job(resources={"capacity": "spot"}), policy)


def test_a_hand_off_needs_healthomics(tmp_path: Path) -> None:
    policy = load(tmp_path, "version: 1\ntargets: {a: {backend: slurm}}\ndefault: a")
    with pytest.raises(PlacementError, match="Add a target with `backend: healthomics` to"):
        place(job(resources=HANDOFF), policy)


def test_a_hand_off_finds_healthomics_without_a_route(tmp_path: Path) -> None:
    placement = place(job(resources=HANDOFF), load(tmp_path, TARGETS + "default: batch-spot"))
    assert placement.target.name == "omics"
    assert placement.reasons == ("omics is the first to fit a hand-off",)


def test_a_hand_off_passes_routes_to_other_backends_over(tmp_path: Path) -> None:
    routes = 'routes: [{when: {attempt: ">1"}, to: batch-od}]\ndefault: batch-spot'
    placement = place(job(attempt=2, resources=HANDOFF), load(tmp_path, TARGETS + routes))
    assert placement.target.name == "omics"
    assert (
        "passed over: hand-offs run on HealthOmics only and batch-od is batch"
        in placement.reasons[0]
    )


def test_a_route_that_leads_an_ordinary_job_to_healthomics_is_named(tmp_path: Path) -> None:
    policy = load(
        tmp_path, TARGETS + 'routes: [{when: {rule: "call_*"}, to: omics}]\ndefault: batch-od'
    )
    with pytest.raises(PlacementError) as caught:
        place(job("call_variants"), policy)
    message = str(caught.value)
    assert (
        f"route 1 ({tmp_path}/routing.yaml:9) matched: rule call_variants matches call_*" in message
    )
    assert "Add `handoff: true` to the route's conditions" in message
    assert place(job("call_x", resources=HANDOFF), policy).target.name == "omics"
    # The rule's own word passes such a route over.
    assert place(job("call_x", resources={"backend": "batch"}), policy).target.name == "batch-od"


def test_a_default_of_healthomics_does_not_take_an_ordinary_job(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="the default omics is a HealthOmics target"):
        place(job(), load(tmp_path, TARGETS + "default: omics"))


def test_a_group_is_named_with_its_rules(policy: Policy) -> None:
    group = job("g1", is_group=True, rules=("a", "b"), source_line="", resources={"target": "x"})
    with pytest.raises(PlacementError, match=r"^group g1 \(rules a, b\): target='x'"):
        place(group, policy)


def test_the_same_job_is_always_placed_the_same(policy: Policy) -> None:
    specs = [job(**spec) for spec, _, _ in PLACED] * 500
    assert [place(s, policy) for s in specs] == [place(s, policy) for s in specs]
    assert Counter(place(s, policy).target.name for s in specs)["omics"] == 2000


def test_the_package_imports_no_cloud_and_no_backend() -> None:
    code = (
        "import sys, snakemake_executor_takeda.routing as r\n"
        "light = set(sys.modules)\n"
        "assert not {'pydantic', 'yaml'} & light, 'routing/__init__ must import nothing'\n"
        "import snakemake_executor_takeda.routing.router, snakemake_executor_takeda.routing.defaults\n"
        "bad = [m for m in sys.modules if m.partition('.')[0] in ('boto3', 'botocore', 'snakemake', 'WDL')"
        " or m.startswith('snakemake_executor_takeda.backends')]\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

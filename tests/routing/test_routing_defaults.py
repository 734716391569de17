"""Routing without a policy file: targets come from flags."""

from __future__ import annotations

from typing import Any

import pytest
from routing_models import MODELS, job

from snakemake_executor_takeda.routing.defaults import policy_from_settings
from snakemake_executor_takeda.routing.policy import Policy
from snakemake_executor_takeda.routing.router import PlacementError, place
from snakemake_executor_takeda.values import TakedaError

BATCH = {"batch_queue": "q"}
SLURM = {"slurm_partition": "p"}
OMICS = {"omics_role_arn": "arn", "omics_output_uri": "s3://b"}


def policy(**flags: str | None) -> Policy:
    return policy_from_settings(**flags, option_models=MODELS)


PLACED: list[tuple[dict[str, str], dict[str, Any], str, str]] = [
    (BATCH, {}, "batch", "default"),
    (SLURM, {}, "slurm", "default"),
    (SLURM | BATCH, {}, "batch", "default"),
    (
        SLURM | BATCH,
        {"shape": {"mpi": "srun"}},
        "slurm",
        "built-in route for MPI matched: mpi is set",
    ),
    (SLURM | BATCH, {"shape": {"nodes": 2}}, "slurm", "several nodes matched: nodes is 2 (>1)"),
    (SLURM | BATCH | OMICS, {"resources": {"handoff": "x"}}, "healthomics", "handoff is set"),
    (SLURM | OMICS, {"resources": {"handoff": "x"}, "shape": {"nodes": 2}}, "healthomics", "hand"),
    (SLURM | BATCH, {"resources": {"slurm_partition": "big"}}, "slurm", "slurm_partition=big"),
    (BATCH, {"resources": {"slurm_partition": "big"}}, "batch", "default"),
    (
        SLURM | BATCH,
        {"resources": {"slurm_partition": "big", "backend": "batch"}},
        "batch",
        "narrows",
    ),
    (SLURM | BATCH, {"resources": {"target": "slurm"}}, "slurm", "rule asks target=slurm"),
    (
        BATCH,
        {"shape": {"mpi": "mpirun"}},
        "batch",
        "built-in route for MPI matched: mpi is set",
    ),
    (BATCH | OMICS, {"shape": {"nodes": 2}}, "batch", "several nodes matched: nodes is 2 (>1)"),
    (
        SLURM | BATCH,
        {"shape": {"mpi": "mpirun"}, "resources": {"backend": "batch"}},
        "batch",
        "narrows",
    ),
]


@pytest.mark.parametrize(("flags", "spec", "target", "reason"), PLACED, ids=lambda x: str(x)[:50])
def test_place(flags: dict[str, str], spec: dict[str, Any], target: str, reason: str) -> None:
    placement = place(job(**spec), policy(**flags))
    assert placement.target.name == placement.target.backend == target
    assert reason in placement.reasons[0]


LACKING: list[tuple[dict[str, str], dict[str, Any], str]] = [
    (OMICS, {"shape": {"mpi": "srun"}}, "mpi is set, .* --takeda-batch-queue, or a Slurm"),
    (OMICS, {"shape": {"nodes": 3}}, "nodes is 3 .* --takeda-slurm-partition"),
    (BATCH, {"resources": {"backend": "slurm"}}, "--takeda-slurm-partition"),
    (
        BATCH,
        {"resources": {"handoff": "x"}},
        "--takeda-omics-role-arn and --takeda-omics-output-uri",
    ),
    (OMICS, {}, "--takeda-batch-queue, or a Slurm partition with --takeda-slurm-partition"),
    (SLURM, {"resources": {"backend": "batch"}}, "--takeda-batch-queue"),
    (
        BATCH,
        {"resources": {"capacity": "spot"}},
        "Put `capacity: spot` on a target of your routing",
    ),
    (BATCH, {"resources": {"target": "btch"}}, "Did you mean batch?"),
    (BATCH, {"resources": {"backend": "k8s"}}, "Backends are batch, slurm, healthomics"),
]


@pytest.mark.parametrize(("flags", "spec", "said"), LACKING, ids=lambda x: str(x)[:50])
def test_a_job_without_target_names_the_flag(
    flags: dict[str, str], spec: dict[str, Any], said: str
) -> None:
    with pytest.raises(PlacementError, match=said) as caught:
        place(job(**spec), policy(**flags))
    assert str(caught.value).startswith("rule align (workflow/Snakefile:12): ")


def test_the_clusters_own_partition() -> None:
    assert policy(slurm_partition="default").targets["slurm"].options.partition == "default"
    assert policy(slurm_partition="auto").targets["slurm"].options.partition is None
    assert policy(slurm_partition="p").targets["slurm"].options.partition == "p"


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_flag_is_no_flag(empty: str | None) -> None:
    assert list(policy(batch_queue="q", slurm_partition=empty).targets) == ["batch"]
    with pytest.raises(TakedaError, match=r"--takeda-routing, or at least one of --takeda-batch"):
        policy(batch_queue=empty)


@pytest.mark.parametrize("given", ["omics_role_arn", "omics_output_uri"])
def test_half_a_healthomics_target(given: str) -> None:
    with pytest.raises(TakedaError) as caught:
        policy(batch_queue="q", **{given: "s3://x"})
    assert f"--takeda-{given.replace('_', '-')} needs --takeda-omics-" in str(caught.value)


def test_a_bad_value_names_its_flag() -> None:
    with pytest.raises(TakedaError, match=r"^--takeda-omics-output-uri: .*s3://"):
        policy(omics_role_arn="arn", omics_output_uri="/tmp/x")


def test_a_backend_that_is_not_installed() -> None:
    with pytest.raises(TakedaError, match="backend slurm is not installed; there are: batch"):
        policy_from_settings(slurm_partition="p", option_models={"batch": MODELS["batch"]})

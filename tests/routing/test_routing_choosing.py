"""Routes to several targets, what a target can hold, and what is said where none can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from routing_models import job, load

from snakemake_executor_takeda.backends.batch.options import BatchOptions
from snakemake_executor_takeda.routing.feasibility import Lack, lacks_of
from snakemake_executor_takeda.routing.market import Offer, RememberingMarket
from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.routing.router import PlacementError, fallback_of, place
from snakemake_executor_takeda.values import Limits, Shape, Target

TARGETS = """\
version: 1
targets:
  dear:  {backend: slurm, usd_per_cpu_hour: 0.05, speed: 2}
  cheap: {backend: slurm, usd_per_cpu_hour: 0.03, limits: {mem_mb: 64000, gpu: 0, runtime: 600}}
  gpu:   {backend: slurm, usd_per_cpu_hour: 0.03, usd_per_gpu_hour: 1, limits: {gpu: 4, gpu_model: [A100, l40s]}}
  spot:  {backend: batch, queue: q, capacity: spot, fallback: od, limits: {threads: 32, nodes: 1}}
  od:    {backend: batch, queue: o, capacity: on-demand}
  omics: {backend: healthomics, role_arn: r, output_uri: "s3://b"}
"""


def placed(
    tmp_path: Path, to: str, choose: str = "first", /, **spec: Any
) -> tuple[str, tuple[str, ...]]:
    """Target and reasons after the first."""
    policy = load(tmp_path, f"{TARGETS}default: [{to}]\nchoose: {choose}\n")
    placement = place(job(**spec), policy)
    return placement.target.name, placement.reasons


CHOSEN: list[tuple[str, str, dict[str, Any], str, list[str]]] = [
    # Targets, choose, job; the one taken, and the reasons.
    ("dear, cheap", "first", {}, "dear", ["default"]),
    (
        "cheap, dear",
        "first",
        {"shape": {"mem_mb": 70_000}},
        "dear",
        ["default", "cheap cannot hold it: mem_mb is 70000, at most 64000"],
    ),
    (
        "gpu, cheap",
        "cheapest",
        {"shape": {"cpus": 4}},
        "gpu",  # as dear as the other, and before it
        ["default", "gpu is the cheapest of gpu (0.12 USD/h), cheap (0.12 USD/h)"],
    ),
    # Twice the speed is half the time: 0.05 for the work that costs 0.06 elsewhere.
    (
        "cheap, dear",
        "cheapest",
        {"shape": {"cpus": 2}},
        "dear",
        ["default", "dear is the cheapest of cheap (0.06 USD/h), dear (0.1 USD/h, speed 2)"],
    ),
    (
        "gpu, od",
        "cheapest",
        {"shape": {"gpus": 2}},
        "gpu",
        ["default", "gpu is the cheapest of gpu (2.03 USD/h), od (no price)"],
    ),
    (
        "od, spot",
        "cheapest",
        {},
        "spot",
        ["default", "spot is the cheapest of od (no price), spot (no price, spot)"],
    ),
    (
        "cheap, dear",
        "fastest",
        {},
        "dear",
        ["default", "dear is the fastest of cheap (speed not known), dear (speed 2)"],
    ),
    (
        "spot, od",
        "fastest",
        {},
        "od",
        ["default", "od is the fastest of spot (speed not known), od (speed not known)"],
    ),
    # One that does not fit is replaced by its fallback; the others are told.
    (
        "spot, cheap, gpu",
        "cheapest",
        {"shape": {"cpus": 64, "gpus": 1}},
        "gpu",
        [
            "default",
            "gpu is the cheapest of od (no price), gpu (2.92 USD/h)",
            "spot cannot hold it: threads is 64, at most 32",
            "cheap cannot hold it: gpu is 1, there is none",
        ],
    ),
    (
        "spot",
        "first",
        {"shape": {"cpus": 64}},
        "od",
        [
            "default",
            "od is the fallback of spot that fits",
            "spot cannot hold it: threads is 64, at most 32",
        ],
    ),
    (
        "spot, dear",
        "first",
        {"resources": {"backend": "slurm"}},
        "dear",
        [
            "rule asks backend=slurm: narrows to dear, cheap, gpu",
            "default",
            "spot is batch, not slurm",
            "od is batch, not slurm",
        ],
    ),
    (
        "omics, dear",
        "cheapest",
        {"resources": {"handoff": "x.wdl"}, "shape": {"cpus": 5000}},
        "omics",
        ["default", "hand-offs run on HealthOmics only and dear is slurm"],
    ),
]


@pytest.mark.parametrize(("to", "choose", "spec", "target", "reasons"), CHOSEN, ids=str)
def test_which_of_several_takes_a_job(
    tmp_path: Path, to: str, choose: str, spec: dict[str, Any], target: str, reasons: list[str]
) -> None:
    assert placed(tmp_path, to, choose, **spec) == (target, tuple(reasons))


def test_a_route_chooses_as_it_says_itself_or_as_the_policy_does(tmp_path: Path) -> None:
    text = f"""{TARGETS}routes:
  - {{when: {{rule: a}}, to: [cheap, dear]}}
  - {{when: {{rule: b}}, to: [cheap, dear], choose: first}}
default: od
choose: fastest
"""
    policy = load(tmp_path, text)
    assert [place(job(rule), policy).target.name for rule in "ab"] == ["dear", "cheap"]


LACKING = [
    # Limits, shape, what is missing.
    (Limits(), {"cpus": 10**6, "mem_mb": 10**9, "gpus": 99}, []),
    (Limits(threads=8), {"cpus": 8}, []),
    (Limits(threads=8), {"cpus": 9}, ["threads is 9, at most 8"]),
    (Limits(threads=8), {"cpus": 2, "tasks": 16}, []),
    (
        Limits(threads=8),
        {"cpus": 2, "tasks": 16, "mpi": "srun"},
        ["threads is 32, at most 8"],
    ),
    (Limits(threads=8), {"cpus": 2, "tasks": 16, "nodes": 4, "mpi": "srun"}, []),
    (Limits(threads=8), {"cpus": 2, "nodes": 2, "tasks_per_node": 5}, ["threads is 10, at most 8"]),
    (Limits(mem_mb=5, disk_mb=5, runtime=5), {"mem_mb": 5, "disk_mb": 5, "runtime_min": 5}, []),
    (
        Limits(mem_mb=5, disk_mb=5, runtime=5),
        {"mem_mb": 6, "disk_mb": 7, "runtime_min": 8},
        ["mem_mb is 6, at most 5", "disk_mb is 7, at most 5", "runtime is 8, at most 5"],
    ),
    (Limits(mem_mb=5, disk_mb=5, runtime=5), {}, []),
    (Limits(gpu=4), {"gpus": 8, "nodes": 2}, []),
    (Limits(gpu=4), {"gpus": 9, "nodes": 2}, ["gpu is 5, at most 4"]),
    (Limits(gpu=0), {"gpus": 1}, ["gpu is 1, there is none"]),
    (Limits(gpu_model=("A100",)), {"gpus": 1, "gpu_model": "a100"}, []),
    (
        Limits(gpu_model=("A100", "H100")),
        {"gpus": 1, "gpu_model": "v100"},
        ["gpu_model is v100, there is A100, H100"],
    ),
    (Limits(nodes=1), {"nodes": 2}, ["nodes is 2, at most 1"]),
]


@pytest.mark.parametrize(("limits", "shape", "said"), LACKING, ids=str)
def test_what_a_target_lacks(limits: Limits, shape: dict[str, Any], said: list[str]) -> None:
    assert [str(lack) for lack in lacks_of(limits, Shape(**shape))] == said


LARGE = "rule align (workflow/Snakefile:12): "


@pytest.mark.parametrize(
    ("default", "spec", "said"),
    [
        (
            "cheap",
            {"shape": {"mem_mb": 70_000}},
            "no target of `default` can hold it: cheap: mem_mb is 70000, at most 64000. dear may, as it "
            'is not known what it has: name it in `default`, add a route to it, set target="dear" on the rule, or lower what the rule '
            "asks.",
        ),
        (
            "cheap",
            {"shape": {"runtime_min": 601}, "resources": {"target": "cheap"}},
            "it asks target='cheap', which cannot hold it: cheap: runtime is 601, at most 600. dear may, as it is not "
            "known what it has: "
            'set target="dear" on the rule',
        ),
    ],
)
def test_a_job_that_no_target_holds_is_refused(
    tmp_path: Path, default: str, spec: dict[str, Any], said: str
) -> None:
    with pytest.raises(PlacementError) as caught:
        placed(tmp_path, default, **spec)
    assert str(caught.value).startswith(LARGE + said)


def test_the_nearest_target_and_what_is_missing(tmp_path: Path) -> None:
    text = """\
version: 1
targets:
  small: {backend: slurm, limits: {mem_mb: 1000, gpu: 0}}
  large: {backend: slurm, limits: {mem_mb: 500000, gpu_model: [A100]}}
  omics: {backend: healthomics, role_arn: r, output_uri: "s3://b"}
routes:
  - {when: {gpu: ">0"}, to: [small, large], choose: cheapest}
default: small
"""
    policy = load(tmp_path, text)
    with pytest.raises(PlacementError) as caught:
        place(job(shape={"mem_mb": 900_000, "gpus": 1, "gpu_model": "A100"}), policy)
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        f"{LARGE}no target of route 1 (routing.yaml:7) can hold it: small: mem_mb is 900000, at most "
        "1000, gpu is 1, there is none; large: mem_mb is 900000, at most 500000. Nearest is large "
        "(routing.yaml:4): it takes `mem_mb` up to 500000. Lower what the rule asks (in a profile: "
        "`set-resources`), or add a target that has more."
    )
    # The nearest may be one that the policy does not name for it.
    with pytest.raises(PlacementError, match=r"Nearest is large \(.*:4\): it takes `mem_mb` up to"):
        place(job(shape={"mem_mb": 900_000}), policy)
    # What an earlier route takes is not sent on to a later one or the default.
    with pytest.raises(PlacementError, match="no target of route 1"):
        place(job(shape={"gpus": 1, "gpu_model": "H100"}), policy)


def test_a_target_that_is_known_to_hold_it_is_named_before_one_that_may(tmp_path: Path) -> None:
    text = """\
version: 1
targets:
  small: {backend: slurm, limits: {mem_mb: 1000}}
  other: {backend: slurm, limits: {gpu: 1}}
  large: {backend: slurm, limits: {mem_mb: 500000}}
default: small
"""
    with pytest.raises(PlacementError, match=r"at most 1000\. large could: name it in `default`"):
        place(job(shape={"mem_mb": 2000}), load(tmp_path, text))


def test_a_fallback_can_hold_the_job(tmp_path: Path) -> None:
    text = """\
version: 1
targets:
  a: {backend: slurm, fallback: b}
  b: {backend: slurm, fallback: c, limits: {threads: 4}}
  c: {backend: slurm}
default: a
"""
    policy = load(tmp_path, text)
    a = policy.targets["a"]
    assert fallback_of(job(shape={"cpus": 4}), a, policy) == "b"
    assert fallback_of(job(shape={"cpus": 5}), a, policy) == "c"


def test_efa_narrows(tmp_path: Path) -> None:
    text = "version: 1\ntargets: {a: {backend: slurm}, b: {backend: slurm, efa: true}}\ndefault: a"
    policy = load(tmp_path, text)
    for asked in (1, "1", True, "true"):
        placement = place(job(resources={"efa": asked}), policy)
        assert placement.target.name == "b"
        assert placement.reasons[0] == f"rule asks efa={asked}: narrows to b"
    for asked in (0, "0", False, "false", ""):
        assert place(job(resources={"efa": asked}), policy).target.name == "a"
    with pytest.raises(PlacementError, match="it asks target='a', but a has no EFA"):
        place(job(resources={"efa": 1, "target": "a"}), policy)
    with pytest.raises(PlacementError, match="Put `efa: true` on the target"):
        place(job(resources={"efa": 1}), load(tmp_path, text.replace("true", "false")))


def test_what_is_stated_and_what_the_backend_knows(tmp_path: Path) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text(
        """\
version: 1
targets:
  fargate: {backend: batch, queue: q, platform: FARGATE, execution_role_arn: "arn:aws:iam::123456789012:role/x", limits: {mem_mb: 8000, threads: 64}}
  spot: {backend: batch, queue: q, capacity: spot}
  od: {backend: batch, queue: q}
default: od
""",
        encoding="utf-8",
    )
    targets = load_policy(path, {"batch": BatchOptions}, {}).targets
    assert targets["fargate"].limits == Limits(
        threads=32, mem_mb=8000, disk_mb=214_748, gpu=0, nodes=1
    )
    assert targets["spot"].limits == Limits(nodes=1)
    assert targets["od"].limits == Limits()


class Prices:
    """A market with an instance of 64 GB for each target."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def rank(self, targets: Sequence[Target], shape: Shape) -> Sequence[Offer]:
        self.asked += [target.name for target in targets]
        lacks = (Lack("mem_mb", shape.mem_mb or 0, 64_000, "too much for m7i.4xlarge"),)
        return [
            Offer(
                usd_per_hour=len(target.name) * shape.cpus / 10,
                speed=1.0,
                instance=f"{target.name}.large",
                lacks=lacks if (shape.mem_mb or 0) > 64_000 else (),
                would_hold="r7i.8xlarge",
            )
            for target in targets
        ]


def test_a_market_is_asked_once_for_each_shape_and_what_is_stated_comes_first(
    tmp_path: Path,
) -> None:
    prices = Prices()
    policy = load(tmp_path, f"{TARGETS}default: [dear, od, spot]\nchoose: cheapest\n")
    policy = replace(policy, market=RememberingMarket(prices))
    for _ in range(3):
        placement = place(job(shape={"cpus": 2}), policy)
    assert placement.reasons[1] == (
        "dear is the cheapest of dear (0.1 USD/h, speed 2), od (0.4 USD/h, speed 1, od.large), "
        "spot (0.8 USD/h, speed 1, spot.large)"
    )
    assert sorted(prices.asked) == ["dear", "od", "spot"]


def test_what_a_market_does_not_have_is_refused(tmp_path: Path) -> None:
    policy = replace(load(tmp_path, f"{TARGETS}default: [od]\n"), market=Prices())
    with pytest.raises(PlacementError) as caught:
        place(job(shape={"mem_mb": 70_000}), policy)
    said = str(caught.value)
    assert "no target of `default` can hold it: od: too much for m7i.4xlarge. Nearest is" in said
    assert "name r7i.8xlarge in its `instances`, or add a target that has more." in said

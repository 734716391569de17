"""Any policy and any job: the placement is deterministic and feasible, and its reasons suffice to make
it again."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from random_policies import RandomMarket, random_job, random_moment, random_policy
from routing_models import MODELS

from snakemake_executor_takeda.routing.explaining import explain
from snakemake_executor_takeda.routing.policy import Policy, load_policy
from snakemake_executor_takeda.routing.router import PlacementError, fallback_of, place
from snakemake_executor_takeda.values import JobSpec, TakedaError, Target

SEEDS = [int(seed) for seed in os.environ.get("TAKEDA_SEEDS", "").split()] or list(range(60))
"""`TAKEDA_SEEDS="17 4711" pytest …` looks at others."""
JOBS = 50


def made_again(explained: Mapping[str, Any]) -> str | None:
    """The target, from nothing but what an explanation says."""
    for step in explained["steps"]:
        holds = [holds_again(condition) for condition in step["conditions"]]
        assert holds == [condition["holds"] for condition in step["conditions"]]
        if not all(holds):
            assert not step["choices"]
            continue
        able = [one for one in step["choices"] if one["misfit"] is None and not one["lacks"]]
        if able:
            return str(
                min(able, key=lambda one: merit(one, step["choose"], able.index(one)))["target"]
            )
    return None


def merit(one: Mapping[str, Any], choose: str, position: int) -> tuple[float, ...]:
    price, speed = one["usd_per_hour"], one["speed"] or 1.0
    if choose == "cheapest":
        cost = float("inf") if price is None else price / speed
        return (cost, one["capacity"] != "spot" if price is None else 0, position)
    if choose == "fastest":
        return (-speed, one["capacity"] == "spot", position)
    return (position,)


def holds_again(condition: Mapping[str, Any]) -> bool:
    word, wanted, value = condition["word"], condition["wanted"], condition["value"]
    if value is None:
        return False
    if word == "rule":
        return any(fnmatchcase(name, wanted) for name in value)
    if word == "container" or word.startswith("wildcards."):
        return fnmatchcase(value, wanted)
    if word in ("mpi", "handoff"):
        return bool(value) is (wanted == "true")
    if word == "weekday":
        return value in wanted.split(", ")
    if word == "time":
        windows = [window.split("-") for window in wanted.split(", ")]
        return any(
            start <= value < end if start < end else value >= start or value < end
            for start, end in windows
        )
    return all(compares(value, test) for test in wanted.split(", "))


def compares(value: float, test: str) -> bool:
    sign = test.rstrip("0123456789.-")
    bound = float(test.removeprefix(sign))
    less, equal = value < bound, value == bound
    return {
        "=": equal,
        "!=": not equal,
        "<": less,
        "<=": less or equal,
        ">": not less and not equal,
        ">=": not less,
    }[sign]


def check_feasible(job: JobSpec, target: Target, reasons: Sequence[str]) -> None:
    assert (target.backend == "healthomics") is bool(job.resources.get("handoff"))
    if not any("is set aside" in reason for reason in reasons):
        for word, has in (("backend", target.backend), ("capacity", target.capacity)):
            assert job.resources.get(word) in (None, has)
        assert job.resources.get("target") in (None, target.name)
        assert target.efa or not job.resources.get("efa")
    if target.backend == "healthomics":
        return
    shape, limits = job.shape, target.limits
    cpus = shape.cpus * (-(-shape.tasks // shape.nodes) if shape.mpi or shape.nodes > 1 else 1)
    for asked, most in (
        (cpus, limits.threads),
        (shape.mem_mb, limits.mem_mb),
        (shape.disk_mb, limits.disk_mb),
        (shape.runtime_min, limits.runtime),
        (-(-shape.gpus // shape.nodes), limits.gpu),
        (shape.nodes, limits.nodes),
    ):
        assert asked is None or most is None or asked <= most
    if shape.gpu_model and limits.gpu_model:
        assert shape.gpu_model.lower() in [model.lower() for model in limits.gpu_model]


def loaded(folder: Path, dice: random.Random) -> tuple[Policy, Policy]:
    """Twice the same policy, of the first that the dice give which has no mistake."""
    while True:
        for name, text in random_policy(dice).items():
            (folder / name).write_text(text, encoding="utf-8")
        try:
            policy = load_policy(folder / "routing.yaml", MODELS, {})
        except TakedaError:  # fallbacks to another kind, routes that never match
            continue
        policies = [policy, load_policy(folder / "routing.yaml", MODELS, {})]
        if dice.random() < 0.5:
            seed = dice.randrange(10**6)
            policies = [replace(one, market=RandomMarket(seed)) for one in policies]
        return policies[0], policies[1]


def test_any_policy_and_any_job(tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    for seed in SEEDS:
        dice = random.Random(seed)
        policy, same = loaded(tmp_path, dice)
        for number in range(JOBS):
            job, at = random_job(dice), random_moment(dice)
            try:
                found[check(job, policy, same, at)] += 1
            except Exception as error:  # noqa: BLE001 - told with the seed
                text = "\n".join(f"# {p.name}\n{p.read_text()}" for p in sorted(tmp_path.iterdir()))
                pytest.fail(f"seed {seed}, job {number}: {error!r}\n{job}\n{at}\n{text}")
    print(dict(found))
    if len(SEEDS) >= 60:
        # The dice leave nothing out.
        assert min(found[kind] for kind in ("route", "default", "named", "any", "locked", "set aside")) > 5  # fmt: skip
        assert min(found[kind] for kind in ("too large", "no target")) > 20


def check(job: JobSpec, policy: Policy, same: Policy, at: Any) -> str:
    """→ what came of it."""
    told = explain(job, policy, at)
    assert told == explain(job, same, at)
    explained = json.loads(json.dumps(asdict(told)))
    labels = [step["label"] for step in explained["steps"]]
    routes = [route.label for route in policy.routes]
    looked_at = [label for label in labels if label.startswith("route ")]
    assert looked_at == routes[: len(looked_at)]
    try:
        placement = place(job, policy, at)
    except PlacementError as error:
        assert str(error) == told.refused
        assert told.target is None is made_again(explained)
        who = (
            "group group1 (rules " if job.is_group else f"rule {job.rule} (workflow/Snakefile:12): "
        )
        assert str(error).startswith(who)
        if "can hold it: " in str(error) or "cannot hold it: " in str(error):
            assert any(choice["lacks"] for choice in explained["steps"][-1]["choices"])
            return "too large"
        return "no target"
    assert placement == place(job, same, at)
    assert placement.target.name == told.target == made_again(explained)
    assert placement.target.name in policy.targets
    assert placement.reasons == told.reasons
    check_feasible(job, placement.target, placement.reasons)
    following = fallback_of(job, placement.target, policy)
    if following is not None:
        check_feasible(job, policy.targets[following], ("is set aside",))
        assert following in told.fallback_chain
    last = labels[-1]
    if any("is set aside" in reason for reason in placement.reasons):
        return "set aside"
    if "locked" in last:
        return "locked"
    kinds = {"default": "default", "the rule's own target": "named", "any target": "any"}
    return kinds.get(last, "route")

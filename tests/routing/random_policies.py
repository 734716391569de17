"""Policies, jobs and prices at random, from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from routing_models import job

from snakemake_executor_takeda.routing.feasibility import Lack
from snakemake_executor_takeda.routing.market import Offer
from snakemake_executor_takeda.values import JobSpec, Shape, Target

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
RULES = ("align", "sort", "train_a", "train_b", "call")
BACKENDS = (
    "backend: slurm",
    "backend: batch, queue: q",
    'backend: healthomics, role_arn: r, output_uri: "s3://b"',
)
SIZES = {
    "threads": (1, 4, 16, 64),
    "mem_mb": (1000, 8000, 64_000, 500_000),
    "runtime": (10, 100, 1000, 10_000),
    "gpu": (0, 1, 4, 8),
    "nodes": (1, 2, 8),
    "disk_mb": (100, 10_000, 1_000_000),
}
ZONES = ("UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York")


def random_policy(dice: random.Random) -> dict[str, str]:
    """Texts of `routing.yaml` and, for some, of the `site.yaml` that it includes."""
    names = list(NAMES[: dice.randint(1, len(NAMES))])
    lines = ["targets:", *(_target(dice, names, n) for n in range(len(names)))]
    lines += ["routes:", *(_route(dice, names) for _ in range(dice.randint(0, 6)))]
    lines += [f"default: {_to(dice, names)}", f"choose: {_choose(dice)}"]
    lines += [f"timezone: {dice.choice(ZONES)}"] * dice.randint(0, 1)
    if dice.random() < 0.6:
        return {"routing.yaml": "\n".join(["version: 1", *lines])}
    project = ["version: 1", "include: site.yaml", "targets:", "  own: {backend: slurm}", "routes:"]
    project += [_route(dice, [*names, "own"], dice.random() < 0.2) for _ in range(3)]
    return {
        "routing.yaml": "\n".join(project),
        "site.yaml": "\n".join(["version: 1", *lines]),
    }


def random_job(dice: random.Random) -> JobSpec:
    resources: dict[str, Any] = {}
    for word, values in (
        ("target", (*NAMES, "own", "nowhere")),
        ("backend", ("slurm", "batch", "healthomics", "slrum")),
        ("capacity", ("spot", "on-demand")),
        ("instance_type", ("c7i.large", "m7i.xlarge", "p5.48xlarge")),
        ("efa", (1, 0)),
        ("handoff", ("main.wdl",)),
        ("licences", (0, 1, "2", "many")),
    ):
        if dice.random() < (0.5 if word == "licences" else 0.12):
            resources[word] = dice.choice(values)
    shape = {
        "cpus": dice.choice(SIZES["threads"]),
        "gpus": dice.choice((0, 0, *SIZES["gpu"])),
        "nodes": dice.choice((1, 1, *SIZES["nodes"])),
        "mpi": dice.choice((None, None, "srun")),
        "gpu_model": dice.choice((None, None, "a100", "H100")),
    }
    for word, field in (("mem_mb", "mem_mb"), ("runtime", "runtime_min"), ("disk_mb", "disk_mb")):
        if dice.random() < 0.7:
            shape[field] = dice.choice(SIZES[word])
    shape["tasks"] = shape["nodes"] * dice.randint(1, 3)
    group = dice.random() < 0.15
    return job(
        "group1" if group else dice.choice(RULES),
        shape=shape,
        resources=resources,
        is_group=group,
        rules=tuple(dice.sample(RULES, 2)) if group else (),
        wildcards={} if group else {"sample": dice.choice(("T1", "T2", "N1"))},
        attempt=dice.randint(1, 3),
        container=dice.choice((None, "docker://bwa", "docker://broad/gatk:4")),
        input_bytes=dice.choice((None, 0, 10**9, 10**12)),
    )


def random_moment(dice: random.Random) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=dice.randrange(365 * 24 * 60))


class RandomMarket:
    """Prices, speeds and lacks, the same for the same seed, target and shape."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def rank(self, targets: Sequence[Target], shape: Shape) -> Sequence[Offer]:
        return [self._offer(random.Random(f"{self._seed} {one.name} {shape}")) for one in targets]

    def _offer(self, dice: random.Random) -> Offer:
        return Offer(
            usd_per_hour=dice.choice((None, 0.1, 0.2, 3.0)),
            speed=dice.choice((None, 0.5, 1.0, 2.0)),
            instance=dice.choice(("", "c7i.large")),
            lacks=(Lack("threads", 64, 32, "64 CPUs are too many"),) * (dice.random() < 0.1),
        )


def _target(dice: random.Random, names: Sequence[str], number: int) -> str:
    words = [dice.choice(BACKENDS)]
    is_omics = "healthomics" in words[0]
    others = [*names[number + 1 :]]
    if dice.random() < 0.5:
        words.append(f"capacity: {dice.choice(('spot', 'on-demand'))}")
    if dice.random() < 0.5:
        words.append(f"instances: [{dice.choice(('c7i', 'm7i.xlarge', 'c7i, m7i'))}]")
    if others and dice.random() < 0.4 and not is_omics:
        words.append(f"fallback: {dice.choice(others)}")
    if dice.random() < 0.2:
        words.append("efa: true")
    if dice.random() < 0.5 and not is_omics:
        limits = [
            f"{word}: {dice.choice(values)}"
            for word, values in SIZES.items()
            if dice.random() < 0.3 and not (word == "gpu" and dice.random() < 0.5)
        ]
        limits += ["gpu_model: [A100]"] * (dice.random() < 0.2)
        words.append(f"limits: {{{', '.join(limits)}}}")
    if dice.random() < 0.4:
        words.append(f"usd_per_cpu_hour: {dice.choice((0, 0.01, 0.02))}")
    if dice.random() < 0.3:
        words.append(f"speed: {dice.choice((0.5, 1, 2))}")
    return f"  {names[number]}: {{{', '.join(words)}}}"


def _route(dice: random.Random, names: Sequence[str], locked: bool = False) -> str:
    conditions = {
        "rule": dice.choice(("'*'", "align", "'train_*'", "'[as]*'", "group1")),
        "mem_mb": dice.choice(("'>=8000'", "'<64000'", "'>1000, <=64000'", "8000")),
        "gpu": dice.choice(("'>0'", "0")),
        "attempt": dice.choice(("'>1'", "1", "'!=2'")),
        "mpi": dice.choice(("true", "false")),
        "container": dice.choice(("'*gatk*'", "'*'")),
        "input_gb": dice.choice(("'>=1'", "'<10'")),
        "wildcards": "{sample: 'T*'}",
        "licences": dice.choice(("'>0'", "2")),
        "time": dice.choice(("20:00-06:00", "08:00-12:00, 13:00-24:00")),
        "weekday": dice.choice(("mon-fri", "[sat, sun]", "fri-mon")),
    }
    words = dice.sample(sorted(conditions), dice.randint(1, 3))
    when = ", ".join(f"{word}: {conditions[word]}" for word in words)
    choose = f", choose: {_choose(dice)}" if dice.random() < 0.5 else ""
    lock = ", locked: true" if locked or dice.random() < 0.1 else ""
    return f"  - {{when: {{{when}}}, to: {_to(dice, names)}{choose}{lock}}}"


def _to(dice: random.Random, names: Sequence[str]) -> str:
    return f"[{', '.join(dice.sample(names, dice.randint(1, min(3, len(names)))))}]"


def _choose(dice: random.Random) -> str:
    return dice.choice(("first", "cheapest", "fastest"))

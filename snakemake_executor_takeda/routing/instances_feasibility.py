"""Why no type of a target can hold a job, and which one would. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.routing.instances import Host, Instance, plain_model
from snakemake_executor_takeda.routing.instances_packing import SIBLINGS, Need, fits, holds
from snakemake_executor_takeda.routing.instances_serverless import (
    FARGATE_MEM_MIB,
    fargate_fit,
    omics_fit,
    omics_in,
)
from snakemake_executor_takeda.routing.prices import PriceBook

_GIB = 1024
_NAMED = 4
"""How many words are listed before the rest is counted."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What a target has not that a job needs."""

    missing: tuple[str, ...]
    """Each a sentence without full stop: `2 TiB of memory: the largest, r7i.48xlarge, gives 1,459 GiB`."""
    kinds: tuple[str, ...]
    """Of each: `cpus`, `memory`, `gpu`, `efa`, `architecture`, `nodes`, `region`, `together`."""
    nearest: Instance | None
    """The cheapest type of the Region that would hold it; None where there is none."""

    @property
    def text(self) -> str:
        """What is missing, and what would do."""
        text = "; ".join(self.missing)
        if self.nearest is None:
            return text
        return f"{text}. {self.nearest.name} would hold it: {_described(self.nearest)}"


@dataclass(frozen=True, slots=True)
class _Test:
    """One thing that a job needs, and that a type has or has not."""

    kind: str
    has: Callable[[Instance], bool]
    missing: Callable[[Sequence[Instance]], str]


@lru_cache(maxsize=8192)
def lack(
    need: Need, words: tuple[str, ...], book: PriceBook, host: Host = Host.BATCH
) -> Lack | None:
    """What keeps a job off all of a target's types; None where one holds it, or nothing can be said as a
    word is not known here: a job is never refused for what this table does not know."""
    meant = book.instances.meant(words)
    if not words or meant.unknown or fits(need, words, book, host):
        return None
    here = [one for one in meant.instances if book.offers(one.name)]
    if not here:
        text = (
            f"{_listed(words)} {'is' if len(words) == 1 else 'are'} not to be had in {book.region}"
        )
        return Lack((text,), ("region",), nearest_instance(need, book, host, meant.instances))
    found = [
        (test.kind, test.missing(here))
        for test in _tests(need, host)
        if not any(test.has(one) for one in here)
    ]
    if not found:
        found = [("together", f"no one type of {_listed(words)} has {_together(need)}")]
    return Lack(
        tuple(text for _, text in found),
        tuple(kind for kind, _ in found),
        nearest_instance(need, book, host, here),
    )


def nearest_instance(
    need: Need, book: PriceBook, host: Host, had: Iterable[Instance] = ()
) -> Instance | None:
    """The type of the Region that would hold the job at the least price of a whole instance: in a family
    that differs from the target's in memory for each vCPU only, else of the processor that the target
    has, else of any. Bare metal is not looked at, and nothing with GPUs for a job without."""
    had = list(had)
    near = {
        letter + one.family[1:] for one in had if one.family[0] in SIBLINGS for letter in SIBLINGS
    }
    found = _least(need, book, host, frozenset(near)) if near else None
    if found or need.architecture:
        return found or _least(need, book, host, None)
    architectures = {one.architecture for one in had} or {"x86_64"}
    likely = [
        _least(replace(need, architecture=word), book, host, None) for word in sorted(architectures)
    ]
    return next((one for one in likely if one), None) or _least(need, book, host, None)


@lru_cache(maxsize=8192)
def _least(
    need: Need, book: PriceBook, host: Host, families: frozenset[str] | None
) -> Instance | None:
    """The cheapest whole instance, of these families or of all. Types for HPC clusters only where the
    job has its nodes to itself."""
    held = [
        one
        for name, sizes in book.instances.families.items()
        if families is None or name in families
        if need.whole_nodes or not name.startswith("hpc")
        for one in sizes
        if bool(one.gpus) == bool(need.gpus) and book.offers(one.name) and holds(one, need, host)
    ]
    return min(held, key=lambda one: _expense(one, book), default=None)


def _expense(one: Instance, book: PriceBook) -> tuple[bool, float, int, int, str]:
    price = book.on_demand_usd(one.name)
    return price is None, price or 0.0, one.vcpus, one.memory_mib, one.name


def _tests(need: Need, host: Host) -> list[_Test]:
    tests = [
        _Test("cpus", lambda one: need.cpus <= one.vcpus, lambda here: _few_cpus(need, here)),
        _Test(
            "memory",
            lambda one: need.mem_mib <= one.usable_mib(host),
            lambda here: _little_memory(need, here, host),
        ),
    ]
    if need.gpus:
        tests.append(
            _Test("gpu", lambda one: _has_gpus(need, one), lambda here: _no_gpu(need, here))
        )
    if need.efa:
        tests.append(
            _Test(
                "efa",
                lambda one: one.efa_interfaces > 0,
                lambda here: f"EFA: none of {_names(here)} has it",
            )
        )
    if need.architecture:
        tests.append(
            _Test(
                "architecture",
                lambda one: one.architecture == need.architecture,
                lambda here: f"{need.architecture}: {_names(here)} are {here[0].architecture}",
            )
        )
    return tests


def _has_gpus(need: Need, one: Instance) -> bool:
    return need.gpus <= one.gpus and one.has_gpu(need.gpu_model)


def _few_cpus(need: Need, here: Sequence[Instance]) -> str:
    most = max(here, key=lambda one: one.vcpus)
    return f"{need.cpus} CPUs on a node: the largest, {most.name}, has {most.vcpus}"


def _little_memory(need: Need, here: Sequence[Instance], host: Host) -> str:
    most = max(here, key=lambda one: one.memory_mib)
    return (
        f"{need.mem_mib / _GIB:,.0f} GiB of memory on a node: the largest, {most.name}, gives jobs "
        f"{most.usable_mib(host) / _GIB:,.0f} of its {most.memory_mib / _GIB:,.0f} GiB"
    )


def _no_gpu(need: Need, here: Sequence[Instance]) -> str:
    asked = _gpus(need)
    models = {one.gpu_model for one in here if one.gpus}
    if not models:
        return f"{asked}: {_names(here)} have none"
    if need.gpu_model and not any(one.has_gpu(need.gpu_model) for one in here):
        return f"{asked}: there is {', '.join(sorted(models))}"
    most = max((one for one in here if one.has_gpu(need.gpu_model)), key=lambda one: one.gpus)
    return f"{asked} on a node: the most, {most.name}, has {most.gpus}"


def _gpus(need: Need) -> str:
    model = f" of model {need.gpu_model}" if need.gpu_model else ""
    return f"{need.gpus} GPU{'' if need.gpus == 1 else 's'}{model}"


def _together(need: Need) -> str:
    words = [f"{need.cpus} CPUs", f"{need.mem_mib / _GIB:,.0f} GiB"]
    if need.gpus:
        words.append(_gpus(need))
    if need.efa:
        words.append("EFA")
    if need.architecture:
        words.append(need.architecture)
    return f"{', '.join(words[:-1])} and {words[-1]} at once"


def unknown_gpu(model: str, book: PriceBook) -> str | None:
    """A sentence where no type of EC2 that is known has GPUs of this model; None where one has."""
    if any(one.has_gpu(model) for one in book.instances.by_name.values()):
        return None
    models = {one.gpu_model for one in book.instances.by_name.values() if one.gpus}
    near = nearest(plain_model(model), models)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(sorted(models))}"
    return f"no instance type has GPUs of model {model}: {hint}"


def fargate_lack(need: Need, book: PriceBook) -> Lack | None:
    """Why Fargate cannot run a job; None where it can."""
    if fargate_fit(need, book):
        return None
    found = [
        ("gpu", "Fargate has no GPUs") if need.gpus else None,
        ("nodes", f"{need.nodes} nodes: a task of Fargate is on one") if need.nodes > 1 else None,
        ("efa", "Fargate has no EFA") if need.efa else None,
    ]
    cpus, most = max(FARGATE_MEM_MIB), max(map(max, FARGATE_MEM_MIB.values()))
    if need.cpus > cpus:
        found.append(("cpus", f"{need.cpus} CPUs: Fargate's largest task has {cpus} vCPU"))
    if need.mem_mib > most:
        given = f"{need.mem_mib / _GIB:,.0f} GiB of memory"
        found.append(("memory", f"{given}: Fargate's largest task has {most // _GIB} GiB"))
    return _lack(found, nearest_instance(need, book, Host.BATCH))


def omics_lack(need: Need, book: PriceBook) -> Lack | None:
    """Why HealthOmics cannot run a task in this Region; None where it can."""
    if omics_fit(need, book):
        return None
    here = [one.shape for one in omics_in(book.region)]
    found = [
        ("nodes", f"{need.nodes} nodes: a task of HealthOmics is on one")
        if need.nodes > 1
        else None,
        ("efa", "HealthOmics has no EFA") if need.efa else None,
        ("architecture", "HealthOmics runs x86_64 only") if need.architecture == "arm64" else None,
    ]
    if need.gpus and not any(_has_gpus(need, one) for one in here):
        found.append(("gpu", _no_gpu(need, here)))
    most = max(here, key=lambda one: (one.vcpus, one.memory_mib))
    if need.cpus > most.vcpus:
        found.append(("cpus", f"{need.cpus} CPUs: the largest, {most.name}, has {most.vcpus}"))
    if need.mem_mib > most.memory_mib:
        given = f"{need.mem_mib / _GIB:,.0f} GiB of memory"
        has = f"{most.memory_mib // _GIB:,} GiB"
        found.append(("memory", f"{given}: the largest, {most.name}, has {has}"))
    if not any(found):
        found.append(("together", f"no one omics.* type has {_together(need)}"))
    return _lack(found, None)


def _lack(found: Iterable[tuple[str, str] | None], instead: Instance | None) -> Lack:
    real = [one for one in found if one]
    return Lack(tuple(text for _, text in real), tuple(kind for kind, _ in real), instead)


def _described(one: Instance) -> str:
    words = [f"{one.vcpus} vCPUs", f"{one.memory_mib / _GIB:,.0f} GiB"]
    if one.gpus:
        words.append(f"{one.gpus} × {one.gpu_model}")
    if one.efa_interfaces:
        words.append("EFA")
    return ", ".join(words)


def _names(here: Sequence[Instance]) -> str:
    return _listed(list(dict.fromkeys(one.family for one in here)))


def _listed(words: Sequence[str]) -> str:
    if len(words) <= _NAMED:
        return ", ".join(words)
    return f"{', '.join(words[:_NAMED])} and {len(words) - _NAMED} more"

"""Whether a target can hold a job, and what is missing where it cannot. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from snakemake_executor_takeda.values import UNLIMITED, Limits, Shape


@dataclass(frozen=True)
class Lack:
    """One thing that a job asks for and a target does not have."""

    resource: str
    """The rule's word for it: `mem_mb`, `gpu_model`."""
    asked: int | str
    most: int | str
    """What there is at most; for a model, all that there are."""
    text: str = ""
    """A market's own words for it."""

    def __str__(self) -> str:
        if self.text:
            return self.text
        if isinstance(self.most, str):
            return f"{self.resource} is {self.asked}, there is {self.most}"
        if self.most == 0:
            return f"{self.resource} is {self.asked}, there is none"
        return f"{self.resource} is {self.asked}, at most {self.most}"

    @property
    def excess(self) -> float:
        """By what factor too much is asked."""
        if isinstance(self.asked, str) or isinstance(self.most, str) or not self.most:
            return float("inf")
        return self.asked / self.most


def lacks_of(limits: Limits, shape: Shape) -> tuple[Lack, ...]:
    """What a job of this shape asks beyond these limits. What is not known is not missing."""
    return () if limits is UNLIMITED else tuple(_lacks(limits, shape))


def cpus_of_node(shape: Shape) -> int:
    """CPUs that a job asks of each of its nodes."""
    if not shape.mpi and shape.nodes == 1:
        return shape.cpus
    return shape.cpus * (shape.tasks_per_node or -(-shape.tasks // shape.nodes))


def gpus_of_node(shape: Shape) -> int:
    return -(-shape.gpus // shape.nodes)


def _lacks(limits: Limits, shape: Shape) -> Iterator[Lack]:
    for resource, asked, most in (
        ("threads", cpus_of_node(shape), limits.threads),
        ("mem_mb", shape.mem_mb, limits.mem_mb),
        ("disk_mb", shape.disk_mb, limits.disk_mb),
        ("runtime", shape.runtime_min, limits.runtime),
        ("gpu", gpus_of_node(shape), limits.gpu),
        ("nodes", shape.nodes, limits.nodes),
    ):
        if asked is not None and most is not None and asked > most:
            yield Lack(resource, asked, most)
    model = shape.gpu_model
    if model and limits.gpu_model and model.lower() not in map(str.lower, limits.gpu_model):
        yield Lack("gpu_model", model, ", ".join(limits.gpu_model))

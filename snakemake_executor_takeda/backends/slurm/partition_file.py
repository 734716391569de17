"""Partition files of Snakemake's Slurm plugin (2.8.0): a site's own limits of its partitions.

`--slurm-partition-config` and SNAKEMAKE_SLURM_PARTITIONS name them there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.plain_data import parse_yaml
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.request import JobRequest

VARIABLE = "SNAKEMAKE_SLURM_PARTITIONS"
_UNITS = {"d": 24 * 60.0, "h": 60.0, "m": 1.0, "s": 1 / 60}


def minutes_of(value: object) -> float:
    """`120`, `2h`, `2d12h30m`, `1:30:00`, `12:30` (hours and minutes), `2-12`, `2-12:30:00` → minutes.

    Raises ValueError for anything else.
    """
    text = str(value).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"(\d+(\.\d+)?[dhms]\s*)+", text):
        return sum(
            float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", text)
        )
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not match or (match[1] is None and match[3] is None):
        raise ValueError(f"{text!r} is no time: write 120 (minutes), 2h, 1-12 or 1-12:30:00")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60.0 + minutes + seconds / 60


_Minutes = Annotated[float, BeforeValidator(minutes_of)]


class Limits(BaseModel):
    """What a job of one partition may ask for; None means there is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_runtime: _Minutes | None = None
    max_mem_mb: int | None = None
    max_mem_mb_per_cpu: int | None = None
    max_cpus_per_task: int | None = None
    max_threads: int | None = None
    max_nodes: int | None = None
    max_tasks: int | None = None
    max_tasks_per_node: int | None = None
    max_gpu: int = 0
    available_gpu_models: tuple[str, ...] | None = None
    max_cpus_per_gpu: int | None = None
    supports_mpi: bool = True
    max_mpi_tasks: int | None = None
    available_constraints: tuple[str, ...] | None = None
    cluster: str | None = Field(default=None, exclude=True)
    slurm_cluster: str | None = Field(default=None, exclude=True)
    clusters: str | None = Field(default=None, exclude=True)

    def exceeded(
        self, request: JobRequest, gpus: int, model: str | None, features: list[str]
    ) -> Iterator[tuple[str, float]]:
        """What of the request is more than this, each continuing a sentence that begins with the
        partition, and how many times more. `features` are those that its constraint names."""
        cpus = request.cpus_per_task or 1
        for word, asked, most in (
            ("runtime", request.runtime_min, self.max_runtime),
            ("mem_mb", request.mem_mb, self.max_mem_mb),
            ("mem_mb_per_cpu", request.mem_mb_per_cpu, self.max_mem_mb_per_cpu),
            ("cpus_per_task", cpus, self.max_cpus_per_task),
            ("threads", cpus, self.max_threads),
            ("nodes", request.nodes, self.max_nodes),
            ("tasks", request.ntasks, self.max_tasks),
            ("tasks_per_node", request.tasks_per_node, self.max_tasks_per_node),
            ("gpu", gpus, self.max_gpu),
        ):
            if asked is not None and most is not None and asked > most:
                text = f"has {word} up to {most:g} in the partition file, and it asks {asked}"
                yield text, asked / most if most else math.inf
        if gpus and self.max_cpus_per_gpu is not None and cpus > gpus * self.max_cpus_per_gpu:
            text = f"has up to {self.max_cpus_per_gpu} CPUs for each GPU in the partition file"
            yield text, cpus / max(1, gpus * self.max_cpus_per_gpu)
        if model and self.available_gpu_models and model not in self.available_gpu_models:
            yield f"has no GPU model {model} in the partition file", math.inf
        if request.ntasks > 1:
            if not self.supports_mpi:
                yield "takes no MPI jobs by the partition file", math.inf
            elif self.max_mpi_tasks is not None and request.ntasks > self.max_mpi_tasks:
                text = f"has up to {self.max_mpi_tasks} ranks in the partition file"
                yield text, request.ntasks / max(1, self.max_mpi_tasks)
        if self.available_constraints is not None:
            for name in features:
                if name not in self.available_constraints:
                    yield f"has no feature {name} in the partition file", math.inf


def read_partition_file(path: Path) -> Mapping[str, Limits]:
    """Partition → limits. Raises TakedaError naming the file, the partition and the word."""
    try:
        document: Any = parse_yaml(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TakedaError(f"the partition file {path} can't be read: {why}") from error
    partitions = document.get("partitions") if isinstance(document, dict) else None
    if not isinstance(partitions, dict):
        raise TakedaError(
            f"{path}: a partition file is a mapping `partitions:` of names to limits."
        )
    found = {}
    for name, words in partitions.items():
        try:
            found[str(name)] = Limits.model_validate(words or {})
        except ValidationError as error:
            raise TakedaError(f"{path}: partition {name}: {_text(error)}") from None
    return found


def _text(error: ValidationError) -> str:
    texts = []
    for detail in error.errors(include_url=False):
        word = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "extra_forbidden":
            near = nearest(word, Limits.model_fields)
            hint = f" Did you mean {near}?" if near else ""
            texts.append(f"unknown limit {word!r}.{hint}")
        else:
            texts.append(f"{word}: {detail['msg'].removeprefix('Value error, ')}".lstrip(": "))
    return "; ".join(texts)

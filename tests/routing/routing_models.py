"""Small backends' models, jobs and policies for the tests of routing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from snakemake_executor_takeda.routing.policy import Policy, load_policy
from snakemake_executor_takeda.values import JobSpec, Shape


class Mount(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    volume: str
    path: str = "/mnt"


class BatchWords(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    queue: str = Field(min_length=1, description="Name of the job queue.")
    platform: Literal["EC2", "FARGATE"] = "EC2"
    mounts: tuple[Mount, ...] = ()

    @model_validator(mode="after")
    def _fargate_mounts_nothing(self) -> BatchWords:
        if self.platform == "FARGATE" and self.mounts:
            raise ValueError("platform FARGATE takes no mounts")
        return self


class SlurmWords(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    partition: str | None = None


class OmicsWords(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    role_arn: str
    output_uri: str = Field(pattern="^s3://")


MODELS: Mapping[str, type[BaseModel]] = {
    "batch": BatchWords,
    "slurm": SlurmWords,
    "healthomics": OmicsWords,
}

TARGETS = """\
version: 1
targets:
  batch-spot: {backend: batch, queue: spot, capacity: spot, instances: [c7i, m7i], fallback: batch-od}
  batch-od:   {backend: batch, queue: od, capacity: on-demand, instances: [c7i]}
  gpu-spot:   {backend: batch, queue: gpu, capacity: spot, instances: [g6.xlarge], fallback: gpu-od}
  gpu-od:     {backend: batch, queue: gpu-od, capacity: on-demand, instances: [g6.xlarge, g5]}
  hpc-efa:    {backend: slurm, partition: efa, efa: true, instances: [hpc7a.96xlarge]}
  omics:      {backend: healthomics, role_arn: arn, output_uri: "s3://bucket/omics"}
"""

ROUTES = """\
routes:
  - {when: {handoff: true}, to: omics}
  - {when: {mpi: true}, to: hpc-efa}
  - {when: {rule: "train_*", gpu: ">0"}, to: gpu-spot}
  - {when: {attempt: ">2"}, to: batch-od}
default: batch-spot
"""


def load(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Policy:
    path = tmp_path / "routing.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path, MODELS, environ or {})


def job(
    rule: str = "align",
    *,
    shape: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    **fields: Any,
) -> JobSpec:
    return JobSpec(
        **{
            "job_id": 7,
            "rule": rule,
            "wildcards": {},
            "attempt": 1,
            "shape": Shape(**(shape or {})),
            "resources": resources or {},
            "source_line": "workflow/Snakefile:12",
            "rules": (rule,),
            **fields,
        }
    )

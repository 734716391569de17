"""What a placement costs: 10,000 jobs through one policy. Prints CPU microseconds for each.

python benchmarks/routing.py [FILE]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from snakemake_executor_takeda.assembly import backend_factories
from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.routing.router import place
from snakemake_executor_takeda.values import JobSpec, Shape

JOBS = 10_000
POLICY = """\
version: 1
targets:
  spot:  {backend: batch, queue: spot, capacity: spot, instances: [c7i, m7i], fallback: od}
  od:    {backend: batch, queue: od, capacity: on-demand}
  hpc:   {backend: slurm, partition: hpc, efa: true, usd_per_cpu_hour: 0.03, speed: 1.4, limits: {nodes: 16}}
  cpu:   {backend: slurm, partition: cpu, usd_per_cpu_hour: 0.02, limits: {mem_mb: 256000, gpu: 0}}
  gpu:   {backend: slurm, partition: gpu, limits: {gpu: 8, gpu_model: [A100, H100]}}
  omics: {backend: healthomics, role_arn: "arn:aws:iam::123456789012:role/o", output_uri: "s3://bucket/omics"}
routes:
  - {when: {rule: "release_*"}, to: od, locked: true}
  - {when: {handoff: true}, to: omics}
  - {when: {mpi: true}, to: hpc}
  - {when: {gpu: ">0"}, to: gpu}
  - {when: {rule: "qc_*", time: "20:00-06:00", weekday: "mon-fri"}, to: spot}
  - {when: {container: "*gatk*", input_gb: ">=100"}, to: od}
  - {when: {wildcards: {sample: "T*"}, mem_mb: ">=64000, <500000"}, to: [cpu, hpc, od], choose: cheapest}
  - {when: {attempt: ">2"}, to: od}
default: [spot, cpu]
timezone: Europe/Berlin
"""


def jobs() -> list[JobSpec]:
    """Of ten rules, each with its own shape."""
    return [
        JobSpec(
            job_id=number,
            rule=f"{('align', 'qc_reads', 'train')[number % 3]}_{number % 10}",
            wildcards={"sample": f"{'TN'[number % 2]}{number}"},
            attempt=1,
            shape=Shape(cpus=1 << number % 5, mem_mb=10_000 * (number % 10 + 1)),
            resources={"mem_mb": 10_000 * (number % 10 + 1)},
            container="docker://broad/gatk:4" if number % 4 == 0 else None,
            input_bytes=number * 10**7,
        )
        for number in range(JOBS)
    ]


def main() -> None:
    models = {name: factory.options_model for name, factory in backend_factories().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "routing.yaml"
        if len(sys.argv) == 1:
            path.write_text(POLICY, encoding="utf-8")
        began = time.process_time()
        policy = load_policy(path, models, {})
        loaded = time.process_time() - began
    specs = jobs()
    began = time.process_time()
    names = Counter(place(spec, policy).target.name for spec in specs)
    spent = time.process_time() - began
    print(f"policy read in {loaded * 1e3:.0f} ms")
    print(f"{JOBS:,} jobs placed: {spent / JOBS * 1e6:.1f} µs each; {dict(names)}")


if __name__ == "__main__":
    main()

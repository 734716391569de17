"""One run on a real Slurm with what users of other executors stumbled over. See docs/peers_slurm.md."""

import os
import re

import pytest

pytestmark = pytest.mark.slurm
SNAKEFILE = """
NAMES = ["a/b", "x (1)", "it's", "$(touch pwned)", "`touch pwned`", "100%j", "two words", "-n"]

rule all:
    input: expand("out/{name}.txt", name=NAMES), expand("member.{n}", n=range(4)), "threads", "memory"

rule wildcards:
    output: "out/{name}.txt"
    shell: "touch {output:q}"

rule member:
    output: "member.{n}"
    group: "together"
    resources: mem_mb_per_cpu=300
    # Ends only when all four are at work.
    shell: "touch {output}.begun; until [ $(ls member.?.begun | wc -l) = 4 ]; do sleep 0.1; done; touch {output}"

rule threads:
    output: "threads"
    threads: 4
    shell: "echo {threads} $SLURM_CPUS_PER_TASK $SLURM_JOB_NUM_NODES > {output}"

rule memory:
    output: "memory"
    threads: 2
    resources: mem_mb=3000
    shell: "scontrol --oneliner show job $SLURM_JOB_ID > {output}"
"""
# Of an interactive job with one CPU, which Snakemake is started in.
ALLOCATION = {
    "SLURM_JOB_ID": "4711",
    "SLURM_NTASKS": "1",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_MEM_PER_NODE": "100",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
    "SLURM_ARRAY_TASK_ID": "99",
    "SBATCH_PARTITION": "nowhere",
    "SBATCH_ARRAY_INX": "0-7",
}


def test_wildcards_groups_defaults_and_an_allocation_around_it(project, slurm_env):
    project.write("Snakefile", SNAKEFILE)
    project.write(
        "routing.yaml",
        "version: 1\ntargets: {hpc: {backend: slurm, partition: hpc}}\ndefault: hpc\n",
    )
    profile = ["nodes=1", "tasks=1", "mem_mb_per_cpu=900"]
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    try:
        done = project.run(
            *("--default-resources", *profile, "--group-components", "together=4"),
            **ALLOCATION | slurm_env,
        )
    finally:
        os.sched_setaffinity(0, mine)
    assert done.returncode == 0, done.stderr

    made = [path for path in (project.path / "out").rglob("*.txt")]
    assert len(made) == 8
    assert not (project.path / "pwned").exists()
    logs = project.path / ".snakemake/takeda/runs"
    (folder,) = logs.glob("*/logs/wildcards/*")
    assert sorted(path.name for path in folder.iterdir()) == [f"{n}.log" for n in range(8)]

    assert (project.path / "threads").read_text() == "4 4 1\n"
    assert re.search(r"TRES=cpu=2,mem=3000M,", (project.path / "memory").read_text())
    jobs = {event["rule"]: event["external_id"] for event in project.events("succeeded")}
    assert len(jobs) == 4
    assert "together on hpc used" in done.stderr
    assert re.search(r"together on hpc used .* of 1,200 MB", done.stderr)

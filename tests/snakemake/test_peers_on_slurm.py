"""One run on a real Slurm with what users of other executors stumbled over. See docs/peers_slurm.md."""

import os
import re

import pytest

pytestmark = pytest.mark.slurm
SNAKEFILE = """
NAMES = ["a/b", "x (1)", "it's $(touch pwned)", "100%j", "-n"]

rule all:
    input: expand("out/{name}.txt", name=NAMES), expand("member.{n}", n=range(4)), "asked"

rule wildcards:
    output: "out/{name}.txt"
    shell: "touch {output:q}"

rule member:
    output: "member.{n}"
    group: "together"
    resources: mem_mb_per_cpu=300
    # Ends only when all four are at work.
    shell: "touch {output}.begun; until [ $(ls member.?.begun | wc -l) = 4 ]; do sleep 0.1; done; touch {output}"

rule asked:
    output: "asked"
    threads: 3
    resources: mem_mb=3000
    shell: "echo {threads} threads, $SLURM_CPUS_PER_TASK CPUs > {output}; scontrol --oneliner show job $SLURM_JOB_ID >> {output}"
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

    assert len(list((project.path / "out").rglob("*.txt"))) == 5
    assert not (project.path / "pwned").exists()
    (folder,) = project.path.glob(".snakemake/takeda/runs/*/logs/wildcards/*")
    assert sorted(path.name for path in folder.iterdir()) == [f"{n}.log" for n in range(5)]

    asked = (project.path / "asked").read_text()
    assert asked.startswith("3 threads, 3 CPUs\n")
    assert re.search(r" NumNodes=1 .*TRES=cpu=3,mem=3000M,", asked)
    assert re.search(r"together on hpc used .* of 1,200 MB", done.stderr)

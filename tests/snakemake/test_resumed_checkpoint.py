"""A run that was killed goes on: what it left half made behind a checkpoint is made again."""

import base64
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

SNAKEFILE = """
rule all:
    input: "merged.txt"
checkpoint cut:
    output: directory("parts")
    shell: "mkdir {output}; for i in 1 2; do echo $i > {output}/$i; done"
rule find:
    input: "parts/{n}"
    output: "found/{n}"
    wildcard_constraints: n=r"\\d+"
    shell: "echo run >> log.{wildcards.n}; cat {input} > {output}"
def all_found(wildcards):
    made = checkpoints.cut.get().output[0]
    return [f"found/{n}" for n in glob_wildcards(made + r"/{n,\\d+}").n]
rule merge:
    input: all_found
    output: "merged.txt"
    shell: "cat {input} > {output}"
"""
POLICY = "version: 1\ntargets: {here: {backend: local}}\ndefault: here\n"


def snakemake(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["--executor", "takeda", "--takeda-routing", "routing.yaml", "-j", "4", *more]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )


@pytest.mark.sandbox
def test_what_is_marked_behind_a_checkpoint_is_made_again(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "routing.yaml").write_text(POLICY)
    first = snakemake(tmp_path)
    assert first.returncode == 0, first.stdout
    # As a controller that was killed while `find` of 2 ran leaves things behind.
    with closing(sqlite3.connect(tmp_path / ".snakemake/takeda/ledger.sqlite")) as db, db:
        db.execute("update run set state = 'running'")
        db.execute("update task set state = 'failed' where rule = 'find' and wildcards like '%2%'")
    mark = base64.b64encode(b"found/2").decode()
    (tmp_path / ".snakemake/incomplete" / mark).write_text(json.dumps({"external_jobid": None}))
    (tmp_path / "found/2").write_text("half")

    refused = snakemake(tmp_path)
    assert refused.returncode == 1
    assert "found/2" in refused.stdout
    assert "--rerun-incomplete" in refused.stdout

    again = snakemake(tmp_path, "--rerun-incomplete")
    assert again.returncode == 0, again.stdout
    assert "goes on with run" in again.stdout
    assert (tmp_path / "merged.txt").read_text() in ("1\n2\n", "2\n1\n")
    ran = {path.name: path.read_text().count("run") for path in tmp_path.glob("log.*")}
    assert ran == {"log.1": 1, "log.2": 2}

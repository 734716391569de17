"""Ctrl-C with `--takeda-on-interrupt detach`: come back on a copy of the directory, or end it all by command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

TAKEDA = [str(Path(sys.executable).with_name("takeda"))]
# Each job writes down that it runs, and waits until it may go on.
ONCE = "echo {output} >> TMP/begun; while [ ! -e TMP/go ]; do sleep 0.1; done; "
SNAKEFILE = f"""
envvars: "WORD"
rule all:
    input: "joined"
rule on_batch:
    output: "batch.{{n}}"
    shell: "{ONCE}echo {{wildcards.n}} > {{output}}"
rule on_slurm:
    output: "slurm.{{n}}"
    resources: backend="slurm"
    shell: "{ONCE}echo {{wildcards.n}} > {{output}}"
rule on_omics:
    output: result="omics"
    resources: handoff="wait.wdl"
    shell: "takeda handoff run-local {{resources.handoff}} --output result {{output.result}}"
rule join:
    input: INPUTS
    output: "joined"
    resources: backend="slurm"
    shell: "echo joined >> TMP/begun; cat {{input}} > {{output}}"
"""
WDL = """version 1.0
workflow wait {
    call nap
    output { File result = nap.result }
}
task nap {
    command <<< while [ ! -e TMP/go ]; do sleep 0.1; done; echo omics > result >>>
    output { File result = "result" }
    runtime { container: "123456789012.dkr.ecr.us-east-1.amazonaws.com/base:1" }
}
"""
BOTH = ("batch.0", "batch.1", "batch.2", "slurm.0", "slurm.1")


class Directory:
    """A working directory; what its jobs write down is in `notes`."""

    def __init__(self, path, notes, environment, flags):
        self.path, self.notes, self.flags = path, notes, flags
        self.environment = os.environ | environment | {"WORD": "magic-word"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}" + (
            environment.get("PATH") or os.environ["PATH"]
        )

    def write(self, inputs):
        text = SNAKEFILE.replace("TMP", str(self.notes)).replace("INPUTS", repr(list(inputs)))
        (self.path / "Snakefile").write_text(text)
        (self.path / "wait.wdl").write_text(WDL.replace("TMP", str(self.notes)))

    def copied_to(self, path):
        shutil.copytree(self.path, path)
        copy = Directory(path, self.notes, {}, self.flags)
        copy.environment = self.environment
        return copy

    def command(self, *more):
        start = [sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "50"]
        return [*start, "--takeda-poll-seconds", "0.5", *self.flags, *more]

    def detach(self, count):
        """Run until so many jobs have begun, and press Ctrl-C; → what was said."""
        flags = ("--takeda-on-interrupt", "detach")
        self.run_until(
            lambda: len(self.events("started")) == count,
            lambda run: os.killpg(run.pid, signal.SIGINT),
            *flags,
        )
        return self.log()

    def come_back(self, count):
        """The same command again, whose jobs may go on once so many of them are taken up."""
        code = self.run_until(
            lambda: len(self.events("reattached")) == count,
            lambda run: (self.notes / "go").touch(),
            "--rerun-incomplete",
        )
        assert code == 0, self.log()

    def run_until(self, condition, then, *flags):
        """→ exit status."""
        with (self.path / "log").open("w") as log:
            run = subprocess.Popen(
                self.command(*flags),
                cwd=self.path,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(lambda: condition() or run.poll() is not None, self.log)
            assert run.poll() is None, self.log()
            then(run)
            return run.wait(120)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()

    def run(self, *more):
        return self._run(self.command(*more))

    def takeda(self, *words):
        return self._run([*TAKEDA, *words])

    def status(self):
        told = self.takeda("status", "--json")
        return told.returncode, json.loads(told.stdout)

    def events(self, name):
        log = self.path / ".snakemake/takeda/events.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def begun(self):
        file = self.notes / "begun"
        lines = file.read_text().split() if file.exists() else []
        return sorted(Path(line).name for line in lines)

    def log(self):
        return (self.path / "log").read_text()

    def _run(self, command):
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )


def wait_until(condition, what):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


@pytest.fixture
def s3_directory(tmp_path, sandbox_env, slurm_env):
    """Its files are in S3; Batch and Slurm."""
    bucket = tmp_path.name.replace("_", "-")
    boto3.client("s3").create_bucket(Bucket=bucket)
    flags = [
        *("--takeda-batch-queue", "takeda-sandbox", "--takeda-slurm-partition", "hpc"),
        *("--takeda-omics-role-arn", "arn:aws:iam::123456789012:role/takeda-sandbox-omics"),
        *("--takeda-omics-output-uri", f"s3://{bucket}/omics"),
        *("--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{bucket}/run"),
        *("--shared-fs-usage", "none"),
    ]
    (tmp_path / "work").mkdir()
    return Directory(tmp_path / "work", tmp_path, sandbox_env | slurm_env, flags)


def objects(directory, name):
    bucket = directory.notes.name.replace("_", "-")
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    return [one["Key"] for one in listed if one["Key"].endswith(name)]


@pytest.mark.sandbox
@pytest.mark.slurm
def test_a_copy_of_the_directory_goes_on_with_what_was_detached(tmp_path, s3_directory):
    one = s3_directory
    one.write(BOTH)
    said = one.detach(len(BOTH))
    assert "takeda: jobs that go on without this process: 3 on batch, 2 on slurm" in said
    assert "--rerun-incomplete" in said
    assert one.events("cancelled") == []
    copy = one.copied_to(tmp_path / "copy")
    code, told = copy.status()
    assert (code, told["state"], len(told["open"])) == (0, "detached", len(BOTH)), told
    assert "--rerun-incomplete" in told["to_do"]
    assert "--unlock" not in told["to_do"]

    copy.come_back(len(BOTH))
    assert copy.begun() == sorted([*BOTH, "joined"])
    bucket = tmp_path.name.replace("_", "-")
    joined = boto3.client("s3").get_object(Bucket=bucket, Key="run/joined")["Body"].read()
    assert joined.split() == b"0 1 2 0 1".split()
    code, told = copy.status()
    assert (code, told["state"], told["open"]) == (0, "ended", [])
    assert objects(copy, "environment.json") == []
    assert copy.takeda("audit", "verify").returncode == 0

    # The directory that it was copied from knows only half of it.
    late = one.run("--rerun-incomplete")
    assert late.returncode != 0
    assert f"was gone on with in {copy.path}" in late.stderr
    assert f"was gone on with in {copy.path}" in one.takeda("cancel", "--yes").stderr
    assert copy.begun() == sorted([*BOTH, "joined"])


@pytest.mark.slurm
def test_on_a_shared_file_system_the_directory_itself_goes_on(tmp_path, slurm_env):
    (tmp_path / "work").mkdir()
    one = Directory(tmp_path / "work", tmp_path, slurm_env, ["--takeda-slurm-partition", "hpc"])
    one.write(["slurm.0", "slurm.1"])
    assert "jobs that go on without this process: 2 on slurm" in one.detach(2)
    assert one.status()[1]["state"] == "detached"
    copy = one.copied_to(tmp_path / "copy")
    refused = copy.run("--rerun-incomplete")
    assert refused.returncode != 0
    assert f"go on in {one.path}" in refused.stderr
    assert "go on there" in copy.takeda("status").stdout
    one.come_back(2)
    assert one.begun() == ["joined", "slurm.0", "slurm.1"]
    assert (one.path / "joined").read_text().split() == ["0", "1"]
    assert one.status()[1]["state"] == "ended"


@pytest.mark.sandbox
@pytest.mark.slurm
def test_cancel_ends_what_was_detached(tmp_path, s3_directory):
    one = s3_directory
    one.write([*BOTH, "omics"])
    one.detach(len(BOTH) + 1)
    assert len(objects(one, "environment.json")) == 1
    asked = one.takeda("cancel")
    assert asked.returncode == 2
    assert (
        "3 on batch (batch), 1 on healthomics (healthomics), 2 on slurm (slurm), say"
        in asked.stderr
    )
    done = one.takeda("cancel", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["cancelled"], told["left"]) == (
        {"batch": 3, "slurm": 2, "healthomics": 1},
        {},
    )
    assert len(one.events("cancelled")) == len(BOTH) + 1
    assert objects(one, "environment.json") == []
    assert one.takeda("audit", "verify").returncode == 0
    code, after = one.status()
    assert (code, after["state"], after["open"]) == (0, "cancelled", [])
    assert "nothing to end" in one.takeda("cancel", "--yes").stdout
    assert squeue(one) == []
    batch = boto3.client("batch")
    parent, run_id = sent_as(one, "batch"), sent_as(one, "healthomics")
    assert batch.describe_jobs(jobs=[parent])["jobs"][0]["status"] == "FAILED"
    assert boto3.client("omics").get_run(id=run_id)["status"] in ("STOPPING", "CANCELLED")

    # What comes next is another run, in which all of it runs again.
    (tmp_path / "go").touch()
    anew = one.run("--rerun-incomplete")
    assert anew.returncode == 0, anew.stderr
    assert one.begun() == sorted([*BOTH, *BOTH, "joined"])


def sent_as(directory, backend):
    event = next(e for e in directory.events("submitted") if e["backend"] == backend)
    return event["detail"]["submission"]


def squeue(directory):
    done = subprocess.run(
        ["squeue", "--noheader", "--me", "--format=%i %T"],
        env=directory.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if "COMPLETING" not in line]

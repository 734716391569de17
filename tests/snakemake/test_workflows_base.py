"""Snakemake's own test cases for executors, on each kind of target."""

import json
import subprocess
import sys
import uuid
from collections import Counter

import pytest
from fixtures_slurm import on_old_and_rest
from snakemake.common.tests import TestWorkflowsLocalStorageBase

from snakemake_executor_takeda.settings import ExecutorSettings

POLICY = "version: 1\ntargets: {hpc: {backend: slurm, partition: hpc}}\ndefault: hpc\n"


class OnSharedFileSystem(TestWorkflowsLocalStorageBase):
    def get_executor(self):
        return "takeda"


class TestLocal(OnSharedFileSystem):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _policy(self, tmp_path):
        self.policy = tmp_path / "routing.yaml"
        self.policy.write_text("version: 1\ntargets: {here: {backend: local}}\ndefault: here\n")

    def get_executor_settings(self):
        return ExecutorSettings(routing=str(self.policy), poll_seconds=0.2)


@pytest.mark.slurm
class TestSlurm(OnSharedFileSystem):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _slurm(self, slurm_env, monkeypatch):
        for name, value in slurm_env.items():
            monkeypatch.setenv(name, value)

    def get_executor_settings(self):
        return ExecutorSettings(slurm_partition="hpc", poll_seconds=0.5)

    @on_old_and_rest
    def test_a_failing_rule_fails_and_the_others_go_on(self, tmp_path, slurm_way):
        slurm_way.write_policy(tmp_path / "routing.yaml", POLICY)
        (tmp_path / "Snakefile").write_text(
            "rule all:\n    input: 'good', 'bad'\n"
            "rule good:\n    output: 'good'\n    shell: 'touch {output}'\n"
            "rule bad:\n    output: 'bad'\n    retries: 1\n    shell: 'echo no genome >&2; exit 3'\n"
        )
        snakemake = [sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "9"]
        flags = ["--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.5", "--keep-going"]
        done = subprocess.run(
            [*snakemake, *flags],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 1
        assert "takeda: user on hpc" in done.stderr and "no genome" in done.stderr
        through = "slurmrestd" if slurm_way.is_rest else "its commands"
        assert f"Slurm is spoken to through {through}: " in done.stderr
        assert "Traceback" not in done.stderr and "Exception in thread" not in done.stderr
        lines = (tmp_path / ".snakemake/takeda/events.jsonl").read_text().splitlines()
        ends = Counter(
            (event["event"], event["rule"], event["attempt"])
            for event in map(json.loads, lines)
            if event["event"] in ("succeeded", "failed")
        )
        assert ends == {
            ("succeeded", "good", 1): 1,
            ("failed", "bad", 1): 1,
            ("failed", "bad", 2): 1,
        }


@pytest.mark.sandbox
class TestBatch(OnSharedFileSystem):
    """S3 as the boundary, as on AWS: nothing is shared between controller and jobs."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _sandbox(self, sandbox_env):
        import boto3

        self.bucket = f"test-{uuid.uuid4().hex}"
        boto3.client("s3").create_bucket(Bucket=self.bucket)

    def get_assume_shared_fs(self):
        return False

    def get_default_storage_provider(self):
        return "s3"

    def get_default_storage_prefix(self):
        return f"s3://{self.bucket}/workflow"

    def get_executor_settings(self):
        return ExecutorSettings(batch_queue="takeda-sandbox", poll_seconds=0.5)

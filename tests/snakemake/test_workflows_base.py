"""Snakemake's own test cases for executors, on each kind of target."""

import uuid

import pytest
from snakemake.common.tests import TestWorkflowsLocalStorageBase

from snakemake_executor_takeda.settings import ExecutorSettings


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

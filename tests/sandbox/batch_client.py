"""A Batch emulator inside the test's own process, called as its router would call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.sandbox.batch.runners import ProcessRunner, Runner
from snakemake_executor_takeda.sandbox.batch.service import BatchService
from snakemake_executor_takeda.sandbox.faults import parse
from snakemake_executor_takeda.sandbox.services import Context, EventBus, ServiceError


class Batch:
    """Operations by name: `batch("SubmitJob", jobName=…)`."""

    def __init__(
        self,
        state_dir: Path,
        *,
        vcpus: int = 4,
        runner: Runner | None = None,
        seconds_scale: float = 1.0,
        events: EventBus | None = None,
    ) -> None:
        self.state_dir = state_dir
        self.mark = str(state_dir)
        context = Context(
            state_dir=state_dir,
            database=state_dir / "state.sqlite",
            services_url="http://127.0.0.1:1",
            moto_url="http://127.0.0.1:2",
            environment={"AWS_DEFAULT_REGION": "us-east-1"},
            memory_mib=8192,
            events=events,
        )
        self._faults = context.faults
        self.service = BatchService(
            context,
            runner or ProcessRunner(state_dir / "scratch", self.mark),
            self.mark,
            seconds_scale,
        )
        self._is_up = True
        self.service.start()
        if not self("DescribeJobQueues")["jobQueues"]:
            self.queue("q", vcpus)
            self.define("d")

    def __call__(self, operation: str, /, **params: Any) -> dict[str, Any]:
        return dict(self.service.handlers[operation](params) or {})

    def stop(self) -> None:
        if self._is_up:
            self._is_up = False
            self.service.stop()

    def refuses(self, words: str, operation: str, /, **params: Any) -> None:
        with pytest.raises(ServiceError, match=words) as caught:
            self(operation, **params)
        assert caught.value.code == "ClientException"

    def faults(self, *words: str, **selectors: Any) -> None:
        self._faults.set(parse(words, **selectors))

    def clear_faults(self) -> None:
        self._faults.clear()

    def injected(self) -> dict[str, int]:
        return dict(self._faults.facts()["injected"])

    def queue(self, name: str, vcpus: int, kind: str = "EC2", **more: Any) -> None:
        self(
            "CreateComputeEnvironment",
            computeEnvironmentName=f"{name}-ce",
            type="MANAGED",
            computeResources={"type": kind, "maxvCpus": vcpus, "subnets": ["subnet-1"]},
        )
        self(
            "CreateJobQueue",
            jobQueueName=name,
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": f"{name}-ce"}],
            **more,
        )

    def define(self, name: str, command: tuple[str, ...] = ("true",), **more: Any) -> str:
        answer = self(
            "RegisterJobDefinition",
            jobDefinitionName=name,
            type="container",
            containerProperties={
                "image": "debian",
                "command": list(command),
                "resourceRequirements": [
                    {"type": "VCPU", "value": "1"},
                    {"type": "MEMORY", "value": "100"},
                ],
            },
            **more,
        )
        return str(answer["jobDefinitionArn"])

    def define_fargate(self, name: str) -> None:
        self(
            "RegisterJobDefinition",
            jobDefinitionName=name,
            type="container",
            platformCapabilities=["FARGATE"],
            containerProperties={
                "image": "debian",
                "command": ["true"],
                "executionRoleArn": "arn:aws:iam::123456789012:role/x",
                "resourceRequirements": [
                    {"type": "VCPU", "value": "1"},
                    {"type": "MEMORY", "value": "2048"},
                ],
            },
        )

    def submit(self, *command: str, size: int | None = None, **more: Any) -> str:
        overrides: dict[str, Any] = {"command": list(command)} if command else {}
        overrides |= more.pop("containerOverrides", {})
        if size is not None:
            more["arrayProperties"] = {"size": size}
        answer = self(
            "SubmitJob",
            **{
                "jobName": "j",
                "jobQueue": "q",
                "jobDefinition": "d",
                "containerOverrides": overrides,
                **more,
            },
        )
        return str(answer["jobId"])

    def job(self, job_id: str) -> dict[str, Any]:
        (found,) = self("DescribeJobs", jobs=[job_id])["jobs"]
        return dict(found)

    def until(self, job_id: str, *statuses: str) -> dict[str, Any]:
        wanted = statuses or ("SUCCEEDED", "FAILED")
        return self.wait(lambda: self.job(job_id), lambda job: job["status"] in wanted)

    def output(self, job: Mapping[str, Any]) -> str:
        """What the last attempt printed."""
        log_id = job["container"]["logStreamName"].rpartition("/")[2]
        return (self.state_dir / "logs" / f"{log_id}.log").read_text()

    @staticmethod
    def wait(
        look: Callable[[], dict[str, Any]], good: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while not good(found := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"still {found}")
            time.sleep(0.01)
        return found

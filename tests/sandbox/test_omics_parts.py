"""The pure parts of the emulated HealthOmics: reasons, images, instances, manifests, allowances."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from WDL.runtime.error import Terminated

from snakemake_executor_takeda.sandbox import processes
from snakemake_executor_takeda.sandbox.faults import KINDS, OMICS_REASONS, parse
from snakemake_executor_takeda.sandbox.omics import engine, images, manifest, nextflow
from snakemake_executor_takeda.sandbox.omics.mishaps import REASONS
from snakemake_executor_takeda.sandbox.omics.tasks import describe, found_tasks, instance_type
from snakemake_executor_takeda.sandbox.wdl_allowance import Allowance
from snakemake_executor_takeda.sandbox.wdl_run import GROUP_LIMITS
from snakemake_executor_takeda.values import TakedaError


def test_every_reason_can_be_asked_for() -> None:
    assert set(OMICS_REASONS) == set(REASONS)
    assert KINDS["omics-failure"].variants == OMICS_REASONS
    (fault,) = parse(["omics-failure=1"])
    assert fault.variant == "SERVICE_ERROR"


@pytest.mark.parametrize("reason", OMICS_REASONS)
def test_every_reason_fails_a_run_in_its_phase(reason: str, tmp_path: Path) -> None:
    request, phase = {"failure": reason, "region": "us-east-1"}, REASONS[reason].phase
    for other in {"import", "task", "export"} - {phase}:
        engine._fail_if_asked(request, other, "t", tmp_path)
    engine._fail_if_asked({"failure": None}, phase)
    given = ("t", tmp_path) if phase == "task" else ()
    with pytest.raises(engine.RunFailed) as failure:
        engine._fail_if_asked(request, phase, *given)
    assert failure.value.failure_reason == reason
    assert "{" not in str(failure.value)
    found = [describe(record, run_is_over=True) for _, record in found_tasks(tmp_path)]
    assert [task["failureReason"] for task in found] == ([reason] if phase == "task" else [])


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("omics-failure:ECR_PERMISION_ERROR=1", "Did you mean ECR_PERMISSION_ERROR?"),
        ("omics-failure=ECR_PERMISSION_ERROR", "write, for example, omics-failure=0.3"),
        ("omics-quotas=2000", "give calls a second from 0 to 1000"),
        ("omics-quotas", "omics-quotas=1"),
        ("omics-delay:RUNNING=1", "no variant 'RUNNING'"),
        ("omics-delay=4000", "give seconds from 0 to 3600"),
    ],
)
def test_a_mistake_is_said_with_its_fix(word: str, says: str) -> None:
    with pytest.raises(TakedaError) as error:
        parse([word])
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("cpus", "gib", "gpus", "accelerator", "instance"),
    [
        (1, 1, 0, None, "omics.c.large"),
        (2, 8, 0, None, "omics.m.large"),
        (3, 30, 0, None, "omics.r.xlarge"),
        (500, 1, 0, None, "omics.r.24xlarge"),
        (4, 16, 1, "nvidia-tesla-t4", "omics.g4dn.xlarge"),
        (8, 16, 4, "nvidia-tesla-a10g", "omics.g5.12xlarge"),
        (90, 16, 1, "nvidia-l40s", "omics.g6e.24xlarge"),
        (90, 16, 1, "nvidia-tesla-t4", "omics.g4dn.12xlarge"),
    ],
)
def test_the_smallest_instance_that_holds_a_task(
    cpus: int, gib: int, gpus: int, accelerator: str | None, instance: str
) -> None:
    assert instance_type(cpus, gib, gpus, accelerator) == instance


@pytest.mark.parametrize(
    ("image", "mapped"),
    [
        ("quay.io/biocontainers/x:1", "123456789012.dkr.ecr.us-east-1.amazonaws.com/quay/x:1"),
        ("ubuntu", "999999999999.dkr.ecr.us-east-1.amazonaws.com/own:1"),
        ("debian", "debian"),
    ],
)
def test_images_go_through_the_registry_map(image: str, mapped: str) -> None:
    registries = {
        "registryMappings": [
            {
                "upstreamRegistryUrl": "quay.io",
                "upstreamRepositoryPrefix": "biocontainers",
                "ecrRepositoryPrefix": "quay",
            }
        ],
        "imageMappings": [
            {
                "sourceImage": "ubuntu",
                "destinationImage": "999999999999.dkr.ecr.us-east-1.amazonaws.com/own:1",
            }
        ],
    }
    found = images.details(image, registries, account_id="123456789012", region="us-east-1")
    assert found["image"] == mapped
    assert found.get("sourceImage") == (image if mapped != image else None)


def test_a_digest_of_an_image_is_shown() -> None:
    found = images.details("x@sha256:ab", None, account_id="1", region="r")
    assert found == {"image": "x@sha256:ab", "imageDigest": "sha256:ab"}


def test_a_manifest_has_the_run_first(tmp_path: Path) -> None:
    run = {
        "arn": "arn:aws:omics:us-east-1:123456789012:run/7",
        "uuid": "u",
        "workflowId": "5",
        "status": "COMPLETED",
        "storageType": "STATIC",
        "storageCapacity": 1200,
        "creationTime": 0.0,
        "startTime": 1.0,
        "stopTime": 11.0,
    }
    record = {
        "name": "call-t",
        "cpus": 2,
        "memory_bytes": 4 * 2**30,
        "started": 1.0,
        "ended": 5.0,
        "exit_code": 0,
        "cpu_seconds": 6.0,
        "peak_bytes": 2**30,
    }
    task = {**describe(record, run_is_over=True), "taskId": "9", "uuid": "t"}
    path = tmp_path / "manifest.jsonl"
    manifest.write(path, run, [task], 3 * 2**30)
    first, second = [json.loads(line) for line in path.read_text().splitlines()]
    assert first["arn"].endswith("run/7")
    assert first["workflow"].endswith("workflow/5")
    assert first["startTime"] == "1970-01-01T00:00:01.000Z"
    assert first["metrics"] == {
        "runningSeconds": 10.0,
        "storageReservedGiB": 1200,
        "storageMaximumGiB": 3.0,
        "storageAverageGiB": 3.0,
    }
    assert second["arn"].endswith("task/9")
    assert second["metrics"]["cpusAverage"] == 1.5
    assert second["metrics"]["memoryMaximumGiB"] == 1.0
    assert (second["metrics"]["cpusReserved"], second["instanceType"]) == (2, "omics.c.large")


def test_a_group_shares_its_cpus_among_processes(tmp_path: Path) -> None:
    (tmp_path / GROUP_LIMITS).write_text(json.dumps({"maxCpus": 4, "maxGpus": 1}))
    one, two = Allowance(tmp_path), Allowance(tmp_path)
    refused = []

    def stop() -> bool:
        refused.append(True)
        return True

    with one.taken(3, 0, stop):
        with pytest.raises(Terminated), two.taken(2, 0, stop):
            pass
        assert refused == [True]
        with two.taken(1, 1, stop), pytest.raises(Terminated), one.taken(0, 1, stop):
            pass
    with two.taken(100, 0, stop):  # the whole group, rather than never
        assert len(refused) == 2
    assert [path.name for path in tmp_path.glob("*.json")] == [GROUP_LIMITS]


def test_a_claim_of_a_process_that_is_gone_counts_no_more(tmp_path: Path) -> None:
    (tmp_path / GROUP_LIMITS).write_text(json.dumps({"maxCpus": 1}))
    pid = os.getpid()
    claim = {"cpus": 1, "gpus": 0, "pid": pid, "ticks": processes.start_ticks(pid)}
    (tmp_path / "a.json").write_text(json.dumps({**claim, "ticks": 1}))
    with Allowance(tmp_path).taken(1, 0, lambda: True):
        pass


def test_nextflows_trace_becomes_tasks(tmp_path: Path) -> None:
    (tmp_path / nextflow.TRACE).write_text(
        "task_id\thash\tname\tstatus\texit\tsubmit\tstart\tcomplete\tcpus\tmemory\tcontainer\t"
        "peak_rss\t%cpu\tworkdir\n"
        "1\tab/1\talign (s1)\tCOMPLETED\t0\t1000\t2000\t6000\t2\t4294967296\tdebian\t1048576\t"
        "150.0\t/w/ab/1\n"
        "2\tcd/2\tcall\tFAILED\t137\t1000\t2000\t3000\t1\t-\t-\t-\t-\t/w/cd/2\n"
        "3\tef/3\tsort\tABORTED\t-\t1000\t-\t-\t1\t-\t-\t-\t-\t/w/ef/3\n"
    )
    found = {
        place: describe(record, run_is_over=True)
        for place, record in nextflow.found_tasks(tmp_path)
    }
    first = found["ab/1"]
    assert (first["name"], first["status"], first["cpus"]) == ("align (s1)", "COMPLETED", 2)
    assert (first["memory"], first["startTime"], first["stopTime"]) == (4, 2.0, 6.0)
    assert first["_used"] == {"cpu_seconds": 6.0, "peak_bytes": 1048576}
    assert found["cd/2"]["failureReason"] == "OUT_OF_MEMORY_ERROR"
    assert found["ef/3"]["status"] == "CANCELLED"


def test_nextflows_command_line(tmp_path: Path) -> None:
    """A contract: what a real `nextflow` would be given."""
    argv = nextflow.command(
        Path("/d/main.nf"), tmp_path, docker=False, settings={"profile": "test"}
    )
    given = argv[argv.index("nextflow") :]
    assert given == [
        *("nextflow", "-log", f"{tmp_path}/nextflow.log", "run", "/d/main.nf"),
        *("-c", f"{tmp_path}/takeda.config", "-params-file", f"{tmp_path}/params.json"),
        *("-work-dir", f"{tmp_path}/work", "-ansi-log", "false", "-profile", "test"),
    ]
    assert f"file = '{tmp_path}/trace.txt'" in (tmp_path / "takeda.config").read_text()
    assert argv[0] == "unshare"


def test_without_nextflow_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TakedaError, match="found no `nextflow` on the PATH"):
        nextflow.check()

"""What HealthOmics limits: calls a second, runs of a group, versions, parameters, durations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omics_client import WDL, Engine, Omics, packed, wait_for

from snakemake_executor_takeda.sandbox.faults import parse
from snakemake_executor_takeda.sandbox.injecting import Faults
from snakemake_executor_takeda.sandbox.omics import limits, ready2run
from snakemake_executor_takeda.sandbox.omics.quotas import Quotas
from snakemake_executor_takeda.sandbox.omics.scheduling import (
    Waiting,
    seconds_until_due,
    startable,
)
from snakemake_executor_takeda.sandbox.services import ServiceError


@pytest.fixture
def omics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Omics]:
    made = Omics(tmp_path, Engine(), monkeypatch)
    yield made
    made.stop()


# Which run starts next.


def ids(found: list[Waiting]) -> list[str]:
    return [one.run_id for one in found]


def test_priority_then_who_came_first() -> None:
    waiting = [Waiting("a", 1), Waiting("b", 2, priority=5), Waiting("c", 3, priority=5)]
    assert ids(startable(waiting, {}, {}, 3, 0)) == ["b", "c", "a"]


def test_priority_counts_within_a_group_only() -> None:
    waiting = [Waiting("a", 1), Waiting("g", 2, "g", priority=9), Waiting("h", 3, "g")]
    assert ids(startable(waiting, {}, {}, 3, 0)) == ["a", "g", "h"]


def test_a_full_group_holds_up_nobody_else() -> None:
    waiting = [Waiting("g1", 1, "g"), Waiting("g2", 2, "g"), Waiting("x", 3)]
    assert ids(startable(waiting, {"g": 1}, {"g": 2}, 9, 0)) == ["g1", "x"]
    assert ids(startable(waiting, {"g": 2}, {"g": 2}, 9, 0)) == ["x"]
    assert ids(startable(waiting, {}, {}, 1, 0)) == ["g1"]


def test_a_run_waits_until_it_is_due() -> None:
    waiting = [Waiting("a", 1, due=5.0), Waiting("b", 2, due=9.0)]
    assert startable(waiting, {}, {}, 9, 4.0) == []
    assert seconds_until_due(waiting, 4.0) == 1.0
    assert ids(startable(waiting, {}, {}, 9, 6.0)) == ["a"]
    assert seconds_until_due(waiting, 9.0) is None


# Calls a second.


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def quotas(word: str, **selectors: Any) -> tuple[Quotas, Faults, Clock]:
    faults, clock = Faults(), Clock()
    faults.set(parse([word], **selectors))
    return Quotas(faults, clock), faults, clock


def refused(found: Quotas, operation: str, calls: int) -> int:
    count = 0
    for _ in range(calls):
        try:
            found.check(operation)
        except ServiceError as error:
            assert (error.code, error.status) == ("ThrottlingException", 429)
            count += 1
    return count


def test_start_run_has_the_rate_that_was_asked_for() -> None:
    found, faults, clock = quotas("omics-quotas=0.1")
    assert refused(found, "StartRun", 3) == 2
    clock.now = 9.9
    assert refused(found, "StartRun", 1) == 1
    clock.now = 10.0
    assert refused(found, "StartRun", 2) == 1
    assert faults.facts()["injected"] == {"omics-quotas": 4}


def test_the_other_calls_have_awss() -> None:
    found, _, clock = quotas("omics-quotas=1")
    assert refused(found, "CreateWorkflow", 20) == 15
    assert refused(found, "GetRun", 20) == 10
    assert refused(found, "ListRuns", 20) == 10
    assert refused(found, "CancelRun", 20) == 10
    clock.now = 0.5
    assert refused(found, "ListRuns", 20) == 15


def test_a_batch_shares_the_quota_of_its_runs() -> None:
    found, _, clock = quotas("omics-quotas=1")
    assert refused(found, "StartRunBatch", 1) == 0
    assert found.seconds_until("StartRun") == 1.0
    clock.now = 1.0
    assert found.seconds_until("StartRun") == 0.0
    assert refused(found, "StartRunBatch", 1) == 1


def test_a_quota_can_be_one_operations_only() -> None:
    found, _, _ = quotas("omics-quotas=1", call="StartRun")
    assert refused(found, "StartRun", 3) == 2
    assert refused(found, "GetRun", 50) == 0


def test_without_the_fault_nothing_is_limited() -> None:
    assert refused(Quotas(Faults()), "StartRun", 100) == 0


def test_a_call_too_many_is_refused_on_the_wire(omics: Omics) -> None:
    workflow_id = omics.workflow()
    omics.set_fault("omics-quotas=0.01", call="StartRun")
    omics.start_run(workflow_id)
    with pytest.raises(AssertionError, match="ThrottlingException"):
        omics.start_run(workflow_id)
    omics.engine.is_open = True


# Run groups.


def test_a_group_runs_so_many_at_a_time_by_priority(
    omics: Omics, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = omics.workflow()
    group = omics.call("CreateRunGroup", name="g", maxRuns=1)["id"]
    first = omics.start_run(workflow_id, name="first", runGroupId=group)
    wait_for(lambda: omics.engine.running == ["first"])
    low = omics.start_run(workflow_id, name="low", runGroupId=group, priority=1)
    omics.start_run(workflow_id, name="high", runGroupId=group, priority=9)
    omics.start_run(workflow_id, name="outside")
    wait_for(lambda: "outside" in omics.engine.running)
    assert omics.run_status(low["id"]) == "PENDING"
    assert sorted(omics.engine.running) == ["first", "outside"]
    omics.call("CancelRun", id=first["id"])
    wait_for(lambda: "high" in omics.engine.running)
    assert omics.run_status(low["id"]) == "PENDING"
    omics.engine.is_open = True
    wait_for(lambda: omics.run_status(low["id"]) == "COMPLETED")
    listed = omics.call("ListRuns", runGroupId=group)["items"]
    assert [item["name"] for item in listed] == ["high", "low", "first"]


def test_more_runs_start_when_a_group_allows_more(omics: Omics) -> None:
    workflow_id = omics.workflow()
    group = omics.call("CreateRunGroup", maxRuns=1)["id"]
    for name in ("a", "b"):
        omics.start_run(workflow_id, name=name, runGroupId=group)
    wait_for(lambda: omics.engine.running == ["a"])
    omics.call("UpdateRunGroup", id=group, maxRuns=2, name="new")
    wait_for(lambda: sorted(omics.engine.running) == ["a", "b"])
    found = omics.call("GetRunGroup", id=group)
    assert (found["name"], found["maxRuns"]) == ("new", 2)
    assert omics.error("DeleteRunGroup", id=group)[0] == "ConflictException"
    omics.engine.is_open = True
    for item in omics.call("ListRuns")["items"]:
        wait_for(lambda run_id=item["id"]: omics.run_status(run_id) == "COMPLETED")
    omics.call("DeleteRunGroup", id=group)
    assert omics.error("GetRunGroup", id=group)[0] == "ResourceNotFoundException"


def test_groups_are_checked_listed_and_tagged(omics: Omics) -> None:
    assert omics.error("CreateRunGroup", maxRuns=0)[0] == "ValidationException"
    assert omics.error("CreateRunGroup", maxCpus=100_001)[0] == "ValidationException"
    made = omics.call("CreateRunGroup", name="one", maxCpus=4, maxDuration=60, tags={"a": "b"})
    omics.call("CreateRunGroup", name="two")
    (found,) = omics.call("ListRunGroups", name="one")["items"]
    assert (found["id"], found["maxCpus"], found["maxDuration"]) == (made["id"], 4, 60)
    assert omics.call("ListTagsForResource", resourceArn=made["arn"])["tags"] == {"a": "b"}


def test_state_survives_a_restart(omics: Omics) -> None:
    workflow_id = omics.workflow()
    group = omics.call("CreateRunGroup", name="g", maxRuns=1)["id"]
    cache = omics.call("CreateRunCache", cacheS3Location="s3://bucket/cache/")["id"]
    runs = [omics.start_run(workflow_id, runGroupId=group, cacheId=cache) for _ in range(2)]
    wait_for(lambda: omics.run_status(runs[0]["id"]) == "RUNNING")
    omics.stop()
    omics.engine.is_open = True
    omics.start()
    assert omics.call("GetRunGroup", id=group)["maxRuns"] == 1
    assert omics.call("GetRunCache", id=cache)["cacheBehavior"] == "CACHE_ON_FAILURE"
    lost = omics.call("GetRun", id=runs[0]["id"])
    assert (lost["status"], lost["failureReason"]) == ("FAILED", "SERVICE_ERROR")
    wait_for(lambda: omics.run_status(runs[1]["id"]) == "COMPLETED")


# Versions, parameters, definitions.


def test_a_workflow_has_a_thousand_versions_at_most(
    omics: Omics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "VERSIONS_PER_WORKFLOW", 1)
    workflow_id = omics.workflow()
    version = {"workflowId": workflow_id, "definitionZip": packed(main__wdl=WDL)}
    omics.call("CreateWorkflowVersion", versionName="v1", **version)
    code, message = omics.error("CreateWorkflowVersion", versionName="v2", **version)
    assert (code, "delete some" in message) == ("ServiceQuotaExceededException", True)
    assert omics.error("CreateWorkflowVersion", versionName="v1", **version)[0] == (
        "ConflictException"
    )
    omics.call("DeleteWorkflowVersion", workflowId=workflow_id, versionName="v1")
    omics.call("CreateWorkflowVersion", versionName="v2", **version)


@pytest.mark.parametrize("name", ["-v", "v 1", "v" * 65, "é"])
def test_a_versions_name_is_checked(omics: Omics, name: str) -> None:
    request = {"workflowId": "1", "definitionZip": packed(main__wdl=WDL)}
    assert omics.error("CreateWorkflowVersion", versionName=name, **request)[0] == (
        "ValidationException"
    )


def test_what_describes_a_version_changes_its_definition_does_not(omics: Omics) -> None:
    workflow_id = omics.workflow(description="old", readmeMarkdown="# old")
    digest = omics.call("GetWorkflow", id=workflow_id)["digest"]
    omics.call("UpdateWorkflow", id=workflow_id, name="n", description="new", storageType="DYNAMIC")
    found = omics.call("GetWorkflow", id=workflow_id, export=["README"])
    assert (found["name"], found["description"], found["digest"]) == ("n", "new", digest)
    assert found["readme"] == "# old"
    omics.engine.is_open = True
    run = omics.call("StartRun", workflowId=workflow_id, roleArn=_role(), outputUri="s3://bucket/x")
    assert omics.call("GetRun", id=run["id"])["storageType"] == "DYNAMIC"


def _role() -> str:
    from omics_client import ROLE

    return ROLE


def test_a_template_decides_which_parameters_there_are(omics: Omics) -> None:
    template = {"who": {"optional": False, "description": "whom to greet"}}
    workflow_id = omics.workflow(parameterTemplate=template)
    for parameters, says in (({}, "requires the parameters who"), ({"x": 1}, "not declare")):
        with pytest.raises(AssertionError, match=says):
            omics.start_run(workflow_id, parameters=parameters)
    with pytest.raises(AssertionError, match=f"the most is {limits.PARAMETER_BYTES}"):
        omics.start_run(workflow_id, parameters={"who": "x" * limits.PARAMETER_BYTES})
    omics.engine.is_open = True
    omics.start_run(workflow_id, parameters={"who": "x" * (limits.PARAMETER_BYTES - 10)})


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "exactly one"),
        (
            {
                "definitionRepository": {
                    "connectionArn": "arn:aws:codeconnections:us-east-1:123456789012:connection/x",
                    "fullRepositoryId": "a/b",
                }
            },
            "no connection to a code host",
        ),
        ({"definitionZip": b"x" * (limits.DEFINITION_ZIP_BYTES + 1)}, "use definitionUri"),
        ({"definitionUri": "s3://" + "b" * 300}, "less than or equal to 256"),
    ],
)
def test_definitions_that_are_refused(omics: Omics, request_: dict[str, Any], says: str) -> None:
    code, message = omics.error("CreateWorkflow", **request_)
    assert (code, says in message) == ("ValidationException", True), message


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"cacheBehavior": "CACHE_ALWAYS"}, "needs a cacheId"),
        ({"cacheId": "7"}, "run cache 7"),
        ({"cacheBehavior": "NEVER"}, "enum"),
        ({"engineSettings": {"profile": "x"}}, "Nextflow"),
        ({"networkingMode": "VPC"}, "no VPC"),
        ({"configurationName": "vpc"}, "no configurationName"),
        ({"priority": 100_001}, "less than or equal to 100000"),
        ({"name": "x" * 129}, "less than or equal to 128"),
        ({"runId": "7"}, "workflowId or runId"),
    ],
)
def test_runs_that_are_refused(omics: Omics, more: dict[str, Any], says: str) -> None:
    workflow_id = omics.workflow()
    with pytest.raises(AssertionError, match=says):
        omics.start_run(workflow_id, **more)


def test_static_storage_comes_in_steps(omics: Omics) -> None:
    omics.engine.is_open = True
    workflow_id = omics.workflow()
    for asked, given in ((None, 1200), (100, 1200), (1201, 2400), (2401, 4800)):
        more = {} if asked is None else {"storageCapacity": asked}
        run = omics.start_run(workflow_id, storageType="STATIC", **more)
        assert omics.call("GetRun", id=run["id"])["storageCapacity"] == given


def test_a_run_is_duplicated(omics: Omics) -> None:
    omics.engine.is_open = True
    first = omics.start_run(omics.workflow(), name="old", parameters={"who": "x"}, priority=3)
    again = omics.call(
        "StartRun", runId=first["id"], name="new", roleArn=_role(), outputUri="s3://bucket/y"
    )
    found = omics.call("GetRun", id=again["id"])
    assert (found["name"], found["parameters"], found["priority"]) == ("new", {"who": "x"}, 3)


def test_a_deleted_runs_id_comes_again_with_another_uuid(omics: Omics) -> None:
    omics.engine.is_open = True
    workflow_id = omics.workflow()
    first = omics.start_run(workflow_id, requestId="one")
    wait_for(lambda: omics.run_status(first["id"]) == "COMPLETED")
    omics.call("DeleteRun", id=first["id"])
    second = omics.start_run(workflow_id)
    assert second["id"] == first["id"]
    assert second["uuid"] != first["uuid"]
    code, message = omics.error(
        "StartRun",
        requestId="one",
        workflowId=workflow_id,
        roleArn=_role(),
        outputUri="s3://bucket/runs",
        storageType="DYNAMIC",
    )
    assert (code, "was deleted" in message) == ("ConflictException", True)


def test_a_delay_keeps_a_run_pending(omics: Omics) -> None:
    workflow_id = omics.workflow()
    omics.set_fault("omics-delay=3600", job="slow*")
    slow = omics.start_run(workflow_id, name="slow-1")
    omics.start_run(workflow_id, name="quick")
    wait_for(lambda: omics.engine.running == ["quick"])
    assert omics.run_status(slow["id"]) == "PENDING"
    omics.call("CancelRun", id=slow["id"])
    wait_for(lambda: omics.run_status(slow["id"]) == "CANCELLED")
    omics.engine.is_open = True


def test_ready2run_stand_ins_are_what_their_files_say(omics: Omics) -> None:
    from snakemake_executor_takeda.backends.healthomics import wdl

    listed = omics.call("ListWorkflows", type="READY2RUN")["items"]
    assert [item["id"] for item in listed] == list(ready2run.WORKFLOWS)
    for item in listed:
        found = omics.call("GetWorkflow", id=item["id"], type="READY2RUN")
        inputs = wdl.load(Path(ready2run.__file__).parent / "ready2run" / found["main"]).inputs
        said = {name: one["optional"] for name, one in found["parameterTemplate"].items()}
        assert said == {name: not one.required for name, one in inputs.items()}
        assert found["type"] == "READY2RUN"
    assert omics.error("GetWorkflow", id=listed[0]["id"])[0] == "ResourceNotFoundException"
    code, message = omics.error("GetWorkflow", id="7", type="READY2RUN")
    assert (code, "9500764" in message) == ("ResourceNotFoundException", True)


def test_a_ready2run_run_takes_its_type_and_version(omics: Omics) -> None:
    omics.engine.is_open = True
    more = {"workflowType": "READY2RUN", "parameters": {"text": "s3://bucket/x"}}
    run = omics.start_run("1000001", workflowVersionName=ready2run.VERSION, **more)
    found = omics.call("GetRun", id=run["id"])
    assert (found["workflowType"], found["workflowVersionName"]) == ("READY2RUN", "1.0.0")
    cache = omics.call("CreateRunCache", cacheS3Location="s3://bucket/cache/")["id"]
    with pytest.raises(AssertionError, match="Ready2Run workflows do not use a run cache"):
        omics.start_run("1000001", cacheId=cache, **more)

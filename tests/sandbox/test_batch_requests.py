"""What Batch refuses, and what it lists: limits, names, paging, filters, tags."""

from __future__ import annotations

import pytest
from batch_client import Batch

from snakemake_executor_takeda.sandbox.batch import limits

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def _rule(**conditions: str) -> dict[str, object]:
    return {"attempts": 2, "evaluateOnExit": [{"action": "RETRY", **conditions}]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"jobName": "-j"}, "jobName"),
        ({"jobName": "a b"}, "jobName"),
        ({"jobName": "j" * 129}, "jobName"),
        ({"jobQueue": "nowhere"}, "no job queue 'nowhere'"),
        ({"jobDefinition": "d:7"}, "no active job definition 'd:7'"),
        ({"jobDefinition": "dd"}, "no active job definition 'dd'"),
        ({"arrayProperties": {"size": 1}}, "between 2 and 10000"),
        ({"arrayProperties": {"size": 10_001}}, "between 2 and 10000"),
        ({"arrayProperties": {}}, "between 2 and 10000"),
        ({"containerOverrides": {"command": ["echo", ""]}}, "empty string"),
        (
            {"containerOverrides": {"environment": [{"name": "AWS_BATCH_X", "value": "1"}]}},
            "AWS_BATCH",
        ),
        ({"containerOverrides": {"environment": [{"name": "", "value": "1"}]}}, "no name"),
        (
            {"containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "0.5"}]}},
            "whole number",
        ),
        (
            {"containerOverrides": {"resourceRequirements": [{"type": "MEMORY", "value": "lots"}]}},
            "no number",
        ),
        ({"retryStrategy": {"attempts": 11}}, "between 1 and 10"),
        ({"retryStrategy": {"attempts": 0}}, "between 1 and 10"),
        (
            {
                "retryStrategy": {
                    "attempts": 2,
                    "evaluateOnExit": [{"action": "EXIT", "onExitCode": "1*3"}],
                }
            },
            "last character",
        ),
        (
            {
                "retryStrategy": {
                    "attempts": 2,
                    "evaluateOnExit": [{"action": "EXIT", "onReason": "*"}] * 6,
                }
            },
            "at most 5 rules",
        ),
        ({"retryStrategy": _rule(onExitCode="a1")}, "onExitCode 'a1' can hold digits"),
        ({"retryStrategy": _rule(onStatusReason="Host EC2 (*")}, "onStatusReason 'Host EC2"),
        ({"retryStrategy": _rule(onReason="Cannot-*")}, "letters, digits, periods, colons"),
        ({"retryStrategy": _rule(onReason="a" * 513)}, "512 characters"),
        ({"tags": {"aws:mine": "1"}}, "aws:"),
        ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60"),
        ({"dependsOn": [{"jobId": "no-such-job"}]}, "does not exist"),
        ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "array jobs"),
        (
            {"nodeOverrides": {"numNodes": 2}},
            "nodeOverrides are for job definitions of type multinode",
        ),
    ],
)
def test_submit_refuses(batch: Batch, change: dict[str, object], words: str) -> None:
    batch.refuses(
        words, "SubmitJob", **{"jobName": "j", "jobQueue": "q", "jobDefinition": "d", **change}
    )
    assert batch(
        "ListJobs", jobQueue="q", filters=[{"name": "AFTER_CREATED_AT", "values": ["0"]}]
    ) == {
        "jobSummaryList": [],
        "nextToken": None,
    }


def test_submit_refuses_a_payload_over_30_kib(batch: Batch) -> None:
    batch.refuses(
        "at most 30720",
        "SubmitJob",
        jobName="j",
        jobQueue="q",
        jobDefinition="d",
        parameters={"long": "x" * limits.SUBMIT_PAYLOAD_BYTES},
    )


def test_submit_refuses_more_than_20_dependencies(batch: Batch) -> None:
    job = batch.submit()
    batch.refuses(
        "at most 20",
        "SubmitJob",
        jobName="j",
        jobQueue="q",
        jobDefinition="d",
        dependsOn=[{"jobId": job}] * 21,
    )


def test_a_disabled_queue_takes_no_jobs(batch: Batch) -> None:
    batch("UpdateJobQueue", jobQueue="q", state="DISABLED")
    batch.refuses("disabled", "SubmitJob", jobName="j", jobQueue="q", jobDefinition="d")


def test_definitions_have_revisions_and_an_end(batch: Batch) -> None:
    first, second = batch.define("x"), batch.define("x")
    assert [first.rpartition(":")[2], second.rpartition(":")[2]] == ["1", "2"]
    batch.refuses("name:revision", "DeregisterJobDefinition", jobDefinition="x")
    batch("DeregisterJobDefinition", jobDefinition="x:2")
    active = batch("DescribeJobDefinitions", jobDefinitionName="x", status="ACTIVE")[
        "jobDefinitions"
    ]
    assert [record["jobDefinitionArn"] for record in active] == [first]
    both = batch("DescribeJobDefinitions", jobDefinitionName="x")["jobDefinitions"]
    assert [record["status"] for record in both] == ["ACTIVE", "INACTIVE"]
    batch.refuses("no active", "SubmitJob", jobName="j", jobQueue="q", jobDefinition="x:2")
    newest = batch.until(batch.submit(jobDefinition="x"))
    assert newest["jobDefinition"] == first
    by_arn = batch("DescribeJobDefinitions", jobDefinitions=[second, "d"])["jobDefinitions"]
    assert {record["jobDefinitionName"] for record in by_arn} == {"x", "d"}


def test_definitions_come_in_pages(batch: Batch) -> None:
    for number in range(5):
        batch.define(f"p{number}")
    names: list[str] = []
    token: str | None = None
    while True:
        more = {} if token is None else {"nextToken": token}
        answer = batch("DescribeJobDefinitions", maxResults=2, **more)
        assert len(answer["jobDefinitions"]) <= 2
        names += [record["jobDefinitionName"] for record in answer["jobDefinitions"]]
        token = answer["nextToken"]
        if token is None:
            break
    assert names == ["d", "p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize(
    ("properties", "more", "words"),
    [
        ({"image": ""}, {}, "image"),
        ({"resourceRequirements": [{"type": "VCPU", "value": "1"}]}, {}, "both VCPU and MEMORY"),
        ({"command": [""]}, {}, "empty string"),
        ({"environment": [{"name": "AWS_BATCH_JOB_ID", "value": "1"}]}, {}, "AWS_BATCH"),
        ({"secrets": [{"name": "A", "valueFrom": "arn:x"}]}, {}, "secrets"),
        ({"environment": [{"name": "A", "value": "x" * 25_000}]}, {}, "at most 24576"),
        ({}, {"jobDefinitionName": "a b"}, "jobDefinitionName"),
        ({}, {"type": "multinode"}, "containerProperties is required for type container"),
        ({}, {"platformCapabilities": ["FARGATE"]}, "Fargate has no size"),
        (
            {
                "resourceRequirements": [
                    {"type": "VCPU", "value": "0.25"},
                    {"type": "MEMORY", "value": "512"},
                ]
            },
            {"platformCapabilities": ["FARGATE"]},
            "executionRoleArn",
        ),
        ({}, {"timeout": {"attemptDurationSeconds": 1}}, "at least 60"),
    ],
)
def test_register_refuses(
    batch: Batch, properties: dict[str, object], more: dict[str, object], words: str
) -> None:
    container = {
        "image": "debian",
        "resourceRequirements": [
            {"type": "VCPU", "value": "1"},
            {"type": "MEMORY", "value": "100"},
        ],
    }
    batch.refuses(
        words,
        "RegisterJobDefinition",
        **{
            "jobDefinitionName": "x",
            "type": "container",
            "containerProperties": {**container, **properties},
            **more,
        },
    )


def test_fargate_definitions_need_a_fargate_queue(batch: Batch) -> None:
    batch(
        "RegisterJobDefinition",
        jobDefinitionName="f",
        type="container",
        platformCapabilities=["FARGATE"],
        containerProperties={
            "image": "debian",
            "executionRoleArn": "arn:aws:iam::123456789012:role/r",
            "command": ["true"],
            "resourceRequirements": [
                {"type": "VCPU", "value": "0.25"},
                {"type": "MEMORY", "value": "1024"},
            ],
        },
    )
    batch.refuses(
        "cannot run in the job queue q", "SubmitJob", jobName="j", jobQueue="q", jobDefinition="f"
    )
    batch(
        "CreateComputeEnvironment",
        computeEnvironmentName="fce",
        type="MANAGED",
        computeResources={"type": "FARGATE", "maxvCpus": 2, "subnets": ["s"]},
    )
    order = [{"order": 1, "computeEnvironment": "fce"}]
    batch("CreateJobQueue", jobQueueName="fq", priority=1, computeEnvironmentOrder=order)
    assert batch.until(batch.submit(jobQueue="fq", jobDefinition="f"))["status"] == "SUCCEEDED"
    batch.refuses(
        "EC2 and Fargate",
        "UpdateJobQueue",
        jobQueue="fq",
        computeEnvironmentOrder=[*order, {"order": 2, "computeEnvironment": "q-ce"}],
    )


def test_queues_and_environments_are_deleted_in_order(batch: Batch) -> None:
    batch.refuses("disable the job queue", "DeleteJobQueue", jobQueue="q")
    batch.refuses(
        "disable the compute environment", "DeleteComputeEnvironment", computeEnvironment="q-ce"
    )
    batch("UpdateComputeEnvironment", computeEnvironment="q-ce", state="DISABLED")
    batch.refuses("used by a job queue", "DeleteComputeEnvironment", computeEnvironment="q-ce")
    batch("UpdateJobQueue", jobQueue="q", state="DISABLED")
    batch("DeleteJobQueue", jobQueue="q")
    batch("DeleteComputeEnvironment", computeEnvironment="q-ce")
    assert batch("DescribeJobQueues", jobQueues=["q"])["jobQueues"] == []
    assert batch("DescribeComputeEnvironments")["computeEnvironments"] == []


def test_jobs_of_a_deleted_queue_end(batch: Batch) -> None:
    job = batch.submit("sleep", "60")
    batch.until(job, "RUNNING")
    batch("UpdateJobQueue", jobQueue="q", state="DISABLED")
    batch("DeleteJobQueue", jobQueue="q")
    assert batch.until(job)["status"] == "FAILED"


def test_list_jobs_takes_exactly_one_source(batch: Batch) -> None:
    batch.refuses("exactly one", "ListJobs")
    batch.refuses("exactly one", "ListJobs", jobQueue="q", arrayJobId="x")


def test_an_array_has_no_nodes(batch: Batch) -> None:
    job = batch.submit(size=2)
    batch.until(job)
    ended = {"jobStatus": "SUCCEEDED"}
    assert len(batch("ListJobs", arrayJobId=job, **ended)["jobSummaryList"]) == 2
    assert batch("ListJobs", multiNodeJobId=job, **ended)["jobSummaryList"] == []


def test_a_child_has_an_index_and_the_parent_a_size(batch: Batch) -> None:
    job = batch.submit(size=2)
    assert batch.until(job)["arrayProperties"]["size"] == 2
    assert batch.job(f"{job}:1")["arrayProperties"] == {"index": 1}
    ended = batch("ListJobs", arrayJobId=job, jobStatus="SUCCEEDED")["jobSummaryList"]
    assert [child["arrayProperties"] for child in ended] == [{"index": 0}, {"index": 1}]


def test_summaries_speak_of_requests_to_end_only_where_there_was_one(batch: Batch) -> None:
    batch.until(batch.submit())
    (summary,) = batch("ListJobs", jobQueue="q", jobStatus="SUCCEEDED")["jobSummaryList"]
    assert (summary["isCancelled"], summary["isTerminated"]) == (None, None)
    job = batch.submit("sleep", "60")
    batch("TerminateJob", jobId=job, reason="enough")
    batch.until(job)
    (summary,) = batch("ListJobs", jobQueue="q", jobStatus="FAILED")["jobSummaryList"]
    assert (summary["isCancelled"], summary["isTerminated"]) == (None, True)


def test_a_page_goes_on_after_a_job_that_has_changed_since(batch: Batch) -> None:
    job = batch.submit("sleep", "60", size=8)
    batch.wait(
        lambda: batch.job(job)["arrayProperties"]["statusSummary"],
        lambda summary: summary["RUNNING"] == 4,
    )
    asked = {"arrayJobId": job, "jobStatus": "RUNNABLE", "maxResults": 2}
    first = batch("ListJobs", **asked)
    assert [one["jobId"] for one in first["jobSummaryList"]] == [f"{job}:4", f"{job}:5"]
    batch("CancelJob", jobId=f"{job}:5", reason="enough")
    second = batch("ListJobs", **asked, nextToken=first["nextToken"])
    assert [one["jobId"] for one in second["jobSummaryList"]] == [f"{job}:6", f"{job}:7"]
    assert second["nextToken"] is None


def test_a_page_holds_one_at_least(batch: Batch) -> None:
    batch.refuses("maxResults must be at least 1", "ListJobs", jobQueue="q", maxResults=0)
    batch.refuses("maxResults must be at least 1", "DescribeJobQueues", maxResults=0)


def test_list_jobs_means_running_ones(batch: Batch) -> None:
    done = batch.submit()
    batch.until(done)
    running = batch.submit("sleep", "60")
    batch.until(running, "RUNNING")
    listed = batch("ListJobs", jobQueue="q")["jobSummaryList"]
    assert [job["jobId"] for job in listed] == [running]
    ended = batch("ListJobs", jobQueue="q", jobStatus="SUCCEEDED")["jobSummaryList"]
    assert [(job["jobId"], job["container"]["exitCode"]) for job in ended] == [(done, 0)]


def test_list_jobs_pages_children_and_caps_a_page_at_1000(batch: Batch) -> None:
    job = batch.submit("sleep", "60", size=2500)
    batch.wait(
        lambda: batch.job(job)["arrayProperties"]["statusSummary"],
        lambda summary: summary["RUNNABLE"] == 2496,
    )
    pages, token = [], None
    while True:
        more = {} if token is None else {"nextToken": token}
        answer = batch("ListJobs", arrayJobId=job, jobStatus="RUNNABLE", maxResults=5000, **more)
        pages.append(answer["jobSummaryList"])
        token = answer["nextToken"]
        if token is None:
            break
    assert [len(found) for found in pages] == [1000, 1000, 496]
    assert len({child["jobId"] for found in pages for child in found}) == 2496
    batch.refuses("nextToken", "ListJobs", arrayJobId=job, nextToken="ä")


def test_list_jobs_filters(batch: Batch) -> None:
    batch.define("other")
    jobs = [batch.submit(jobName=name) for name in ("Alpha1", "alpha2", "beta")]
    jobs.append(batch.submit(jobName="gamma", jobDefinition="other"))
    for job in jobs:
        batch.until(job)

    def names(name: str, value: str) -> list[str]:
        answer = batch("ListJobs", jobQueue="q", filters=[{"name": name, "values": [value]}])
        return [job["jobName"] for job in answer["jobSummaryList"]]

    assert names("JOB_NAME", "alpha*") == ["alpha2", "Alpha1"]
    assert names("JOB_NAME", "ALPHA1") == ["Alpha1"]
    assert names("JOB_DEFINITION", "other") == ["gamma"]
    assert names("AFTER_CREATED_AT", "0") == ["gamma", "beta", "alpha2", "Alpha1"]
    assert names("BEFORE_CREATED_AT", "0") == []
    batch.refuses(
        "no filter", "ListJobs", jobQueue="q", filters=[{"name": "COLOUR", "values": ["x"]}]
    )


def test_filtered_pages_hold_100(batch: Batch) -> None:
    for _ in range(101):
        batch.submit()
    answer = batch("ListJobs", jobQueue="q", filters=[{"name": "JOB_NAME", "values": ["j"]}])
    assert len(answer["jobSummaryList"]) == 100
    rest = batch(
        "ListJobs",
        jobQueue="q",
        filters=[{"name": "JOB_NAME", "values": ["j"]}],
        nextToken=answer["nextToken"],
    )
    assert len(rest["jobSummaryList"]) == 1


def test_describe_takes_100_ids_and_leaves_out_unknown_ones(batch: Batch) -> None:
    job = batch.submit(size=2)
    batch.until(job)
    answer = batch("DescribeJobs", jobs=[job, f"{job}:1", f"{job}:2", "nothing"])
    assert {found["jobId"] for found in answer["jobs"]} == {job, f"{job}:1"}
    batch.refuses("at most 100", "DescribeJobs", jobs=[f"{job}:1"] * 101)


def test_plural_ends_answer_with_errors(batch: Batch) -> None:
    job = batch.submit("sleep", "60")
    for operation in ("CancelJobs", "TerminateJobs"):
        # a job that can't be found counts as done; only a malformed id is an error
        unknown = [UNKNOWN, f"{UNKNOWN}:3", f"{UNKNOWN}#0", f"{job}:0"]
        answer = batch(operation, jobs=[job, *unknown, "nothing"], reason="enough")
        assert answer["successful"] == [job, *unknown]
        assert [(error["job"], error["code"]) for error in answer["errors"]] == [
            ("nothing", "ValidationException")
        ]
        batch.refuses("at most 50", operation, jobs=[job] * 51, reason="enough")
    assert batch.until(job)["status"] == "FAILED"


@pytest.mark.parametrize("operation", ["CancelJob", "TerminateJob"])
def test_ends_that_are_refused(batch: Batch, operation: str) -> None:
    job = batch.submit(size=2)
    batch.until(job)
    batch.refuses("does not exist", operation, jobId=UNKNOWN, reason="enough")
    batch.refuses("1024 characters", operation, jobId=job, reason="x" * 1025)
    batch.refuses("1024 characters", f"{operation}s", jobs=[job], reason="x" * 1025)


@pytest.mark.parametrize("operation", ["CancelJob", "TerminateJob"])
def test_what_has_ended_stays_as_it_is(batch: Batch, operation: str) -> None:
    job = batch.submit(size=2)
    before = batch.until(job)
    batch(operation, jobId=job, reason="too late")
    assert batch.job(job) == before
    child = batch.job(f"{job}:1")
    batch(operation, jobId=f"{job}:1", reason="too late")
    assert batch.job(f"{job}:1") == child


def test_queue_snapshot_shows_the_front(batch: Batch) -> None:
    job = batch.submit("sleep", "60", size=150)
    batch.wait(
        lambda: batch.job(job)["arrayProperties"]["statusSummary"],
        lambda summary: summary["RUNNING"] == 4,
    )
    front = batch("GetJobQueueSnapshot", jobQueue="q")["frontOfQueue"]["jobs"]
    assert len(front) == 100
    assert front[0]["jobArn"].endswith(f":job/{job}:4")


def test_tags(batch: Batch) -> None:
    definition = batch.define("t", tags={"a": "1"})
    job = batch.submit(tags={"run": "7"})
    job_arn = batch.job(job)["jobArn"]
    queue_arn = batch("DescribeJobQueues")["jobQueues"][0]["jobQueueArn"]
    for arn in (definition, job_arn, queue_arn):
        batch("TagResource", resourceArn=arn, tags={"b": "2"})
        assert batch("ListTagsForResource", resourceArn=arn)["tags"]["b"] == "2"
    batch("UntagResource", resourceArn=definition, tagKeys=["a"])
    assert batch("ListTagsForResource", resourceArn=definition)["tags"] == {"b": "2"}
    assert batch.job(job)["tags"] == {"run": "7", "b": "2"}
    batch.refuses(
        "no resource", "ListTagsForResource", resourceArn="arn:aws:batch:x:1:job-queue/no"
    )


def test_children_have_no_tags_of_their_own(batch: Batch) -> None:
    job = batch.submit(size=2, tags={"run": "7"})
    child = batch.until(job)["jobArn"] + ":1"
    batch.refuses("child", "TagResource", resourceArn=child, tags={"b": "2"})
    batch.refuses("child", "UntagResource", resourceArn=child, tagKeys=["run"])
    batch.refuses("child", "ListTagsForResource", resourceArn=child)
    assert batch.job(job)["tags"] == {"run": "7"}


def test_policies_and_consumables_have_tags(batch: Batch) -> None:
    policy = batch("CreateSchedulingPolicy", name="fair", tags={"a": "1"})["arn"]
    licence = batch("CreateConsumableResource", consumableResourceName="l", totalQuantity=3)
    for arn in (policy, licence["consumableResourceArn"]):
        batch("TagResource", resourceArn=arn, tags={"b": "2"})
        assert batch("ListTagsForResource", resourceArn=arn)["tags"]["b"] == "2"
    assert batch("DescribeSchedulingPolicies", arns=[policy])["schedulingPolicies"][0]["tags"] == {
        "a": "1",
        "b": "2",
    }
    batch.refuses("aws:", "TagResource", resourceArn=policy, tags={"aws:c": "3"})

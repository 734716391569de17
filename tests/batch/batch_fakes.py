"""An AWS Batch in memory that counts calls and takes only what botocore's model takes."""

from collections import Counter
from pathlib import Path

import botocore.session
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.validate import ParamValidator

from snakemake_executor_takeda.backends.base import RunContext
from snakemake_executor_takeda.backends.batch.options import BatchOptions
from snakemake_executor_takeda.values import Active, JobSpec, Shape, Submission, Target, Task

MODEL = botocore.session.get_session().get_service_model("batch")
PAGE = 1000


def refusal(call, code="ClientException", message="no", status=400):
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
        call,
    )


class Paginator:
    def __init__(self, call):
        self._call = call

    def paginate(self, **arguments):
        token = None
        while True:
            page = self._call(**arguments, **({"nextToken": token} if token else {}))
            yield page
            token = page.get("nextToken")
            if not token:
                return


class FakeBatch:
    """The calls of boto3's client that the backend uses."""

    def __init__(self, queues=("q",)):
        self.calls = Counter()
        self.requests = []
        self.queues = {
            name: {
                "jobQueueName": name,
                "jobQueueArn": f"arn:aws:batch:eu-west-1:123456789012:job-queue/{name}",
                "state": "ENABLED",
                "status": "VALID",
            }
            for name in queues
        }
        self.definitions = []
        self.environments = {}
        """Compute environments by name, as DescribeComputeEnvironments shows them."""
        self.front = []
        """Ids that GetJobQueueSnapshot shows."""
        self.jobs = {}
        self.errors = {}
        """Call → exceptions to raise, one a call; `None` lets a call pass."""
        self.hidden = set()
        """Ids that DescribeJobs does not show."""
        self.deaf = set()
        """Ids that terminating does not end."""

    def _called(self, call, arguments):
        self.calls[call] += 1
        self.requests.append((call, arguments))
        report = ParamValidator().validate(arguments, MODEL.operation_model(call).input_shape)
        assert not report.has_errors(), report.generate_report()
        error = self.errors[call].pop(0) if self.errors.get(call) else None
        if error is not None:
            raise error

    def get_paginator(self, name):
        return Paginator(getattr(self, name))

    def describe_job_queues(self, **arguments):
        self._called("DescribeJobQueues", arguments)
        asked = arguments.get("jobQueues")
        return {
            "jobQueues": [
                queue
                for queue in self.queues.values()
                if asked is None or queue["jobQueueName"] in asked or queue["jobQueueArn"] in asked
            ]
        }

    def describe_job_definitions(self, **arguments):
        self._called("DescribeJobDefinitions", arguments)
        found = self.definitions
        if name := arguments.get("jobDefinitionName"):
            found = [d for d in found if d["jobDefinitionName"] == name]
        if wanted := arguments.get("jobDefinitions"):
            short = "{jobDefinitionName}:{revision}"
            found = [d for d in found if {d["jobDefinitionArn"], short.format(**d)} & set(wanted)]
        if status := arguments.get("status"):
            found = [d for d in found if d["status"] == status]
        return {"jobDefinitions": found}

    def register_job_definition(self, **arguments):
        self._called("RegisterJobDefinition", arguments)
        name = arguments["jobDefinitionName"]
        revision = 1 + sum(d["jobDefinitionName"] == name for d in self.definitions)
        arn = f"arn:aws:batch:eu-west-1:123456789012:job-definition/{name}:{revision}"
        self.definitions.append(
            {**arguments, "jobDefinitionArn": arn, "revision": revision, "status": "ACTIVE"}
        )
        return {"jobDefinitionArn": arn, "jobDefinitionName": name, "revision": revision}

    def submit_job(self, **arguments):
        try:
            self._called("SubmitJob", arguments)
        except ReadTimeoutError:
            self._accept(arguments)
            raise
        return {"jobId": self._accept(arguments), "jobName": arguments["jobName"]}

    def _accept(self, arguments):
        job_id = f"job{len(self.jobs)}"
        job = {"jobId": job_id, "jobName": arguments["jobName"], "jobQueue": arguments["jobQueue"]}
        size = arguments.get("arrayProperties", {}).get("size")
        self.jobs[job_id] = {**job, "status": "RUNNABLE", "createdAt": len(self.jobs)}
        if size:
            self.jobs[job_id] |= {"status": "PENDING", "arrayProperties": {"size": size}}
            for index in range(size):
                child_id = f"{job_id}:{index}"
                self.jobs[child_id] = {**job, "jobId": child_id, "status": "RUNNABLE"}
        return job_id

    def describe_jobs(self, **arguments):
        self._called("DescribeJobs", arguments)
        assert len(arguments["jobs"]) <= 100
        known = [i for i in arguments["jobs"] if i in self.jobs and i not in self.hidden]
        return {"jobs": [self._detail(job_id) for job_id in reversed(known)]}

    def _detail(self, job_id):
        job = dict(self.jobs[job_id])
        if "arrayProperties" in job:
            counts = Counter(child["status"] for child in self.children(job_id))
            job["arrayProperties"] = {**job["arrayProperties"], "statusSummary": dict(counts)}
        return job

    def children(self, parent_id):
        return [job for job_id, job in self.jobs.items() if job_id.startswith(f"{parent_id}:")]

    def list_jobs(self, **arguments):
        self._called("ListJobs", arguments)
        assert ("jobQueue" in arguments) != ("arrayJobId" in arguments)
        if "arrayJobId" in arguments:
            status = arguments["jobStatus"]
            found = [c for c in self.children(arguments["arrayJobId"]) if c["status"] == status]
        else:
            (named,) = arguments["filters"]
            names = [name.lower() for name in named["values"]]
            found = [j for j in self.jobs.values() if j["jobName"].lower() in names]
            found = [j for j in found if ":" not in j["jobId"]]
        start = int(arguments.get("nextToken", 0))
        page = {"jobSummaryList": [dict(job) for job in found[start : start + PAGE]]}
        if start + PAGE < len(found):
            page["nextToken"] = str(start + PAGE)
        return page

    def describe_compute_environments(self, **arguments):
        self._called("DescribeComputeEnvironments", arguments)
        asked = arguments["computeEnvironments"]
        return {"computeEnvironments": [self.environments[name] for name in asked]}

    def get_job_queue_snapshot(self, **arguments):
        self._called("GetJobQueueSnapshot", arguments)
        arns = [f"arn:aws:batch:eu-west-1:1:job/{job_id}" for job_id in self.front]
        return {"frontOfQueue": {"jobs": [{"jobArn": arn} for arn in arns]}}

    def cancel_jobs(self, **arguments):
        self._called("CancelJobs", arguments)
        assert len(arguments["jobs"]) <= 50
        assert len(arguments["reason"]) <= 1024
        for job_id in arguments["jobs"]:
            if self.jobs[job_id]["status"] == "RUNNABLE":
                self.jobs[job_id]["isCancelled"] = True
                self.end(job_id, "FAILED", statusReason=arguments["reason"])
                del self.jobs[job_id]["startedAt"]
        return {"successful": arguments["jobs"], "errors": []}

    def terminate_jobs(self, **arguments):
        self._called("TerminateJobs", arguments)
        assert len(arguments["jobs"]) <= 50
        for job_id in arguments["jobs"]:
            self._terminate(job_id)
        return {"successful": arguments["jobs"], "errors": []}

    def terminate_job(self, **arguments):
        self._called("TerminateJob", arguments)
        self._terminate(arguments["jobId"])
        return {}

    def _terminate(self, job_id):
        if job_id in self.deaf or job_id not in self.jobs:
            return
        for job in [self.jobs[job_id], *self.children(job_id)]:
            if job["status"] not in ("SUCCEEDED", "FAILED"):
                self.end(job["jobId"], "FAILED", statusReason="Terminated")

    def end(self, job_id, status="SUCCEEDED", **detail):
        """One job or child comes to its end; the parent ends with its last child."""
        self.jobs[job_id] |= {"status": status, "startedAt": 1000, "stoppedAt": 4500, **detail}
        parent_id = job_id.partition(":")[0]
        states = {child["status"] for child in self.children(parent_id)}
        if states and states <= {"SUCCEEDED", "FAILED"}:
            self.jobs[parent_id]["status"] = "FAILED" if "FAILED" in states else "SUCCEEDED"


class FakeS3:
    def __init__(self):
        self.objects = {}

    def put_object(self, Bucket, Key, Body):
        self.objects[f"s3://{Bucket}/{Key}"] = Body


class FakeLogs:
    def __init__(self):
        self.streams = {}
        self.calls = 0

    def get_log_events(self, logGroupName, logStreamName, limit, startFromHead):
        self.calls += 1
        try:
            lines = self.streams[logGroupName, logStreamName]
        except KeyError:
            raise refusal("GetLogEvents", "ResourceNotFoundException") from None
        return {"events": [{"message": line} for line in lines[-limit:]]}


class FakeClients:
    def __init__(self, batch=None):
        self.batch = self.batch_once = self.batch_at_once = batch or FakeBatch()
        self.batch_ending = self.batch
        self.s3 = FakeS3()
        self.logs = FakeLogs()
        self.console = None


def lost_answer():
    return ReadTimeoutError(endpoint_url="https://batch.example")


def context(**changes):
    values = {
        "run_id": "run1",
        "workdir": Path("/w"),
        "state_dir": Path("/w/.snakemake/takeda/runs/run1"),
        "remote_prefix": "s3://bucket/prefix/.takeda/run1",
        "sources_uri": "s3://bucket/prefix/.takeda/run1/sources.tar.xz",
        "environment_uri": None,
        "basedir": Path("/w"),
    }
    return RunContext(**{**values, **changes})


def target(name="spot", capacity="spot", **options):
    return Target(name, "batch", capacity, options=BatchOptions(**{"queue": "q", **options}))


def submission(count, number=1, shape=None, to=None, rule="align"):
    to = to or target()
    job = JobSpec(1, rule, {}, 1, shape or Shape(cpus=2, mem_mb=4000), {})
    tasks = tuple(Task(f"run1-s{number}-t{i}", job, to, ("true",)) for i in range(count))
    return Submission(f"run1-s{number}", f"takeda-run1-{rule}-{number}", to, tasks)


def watch(one, accepted, still_open=None):
    ids = frozenset(task.task_id for task in one.tasks)
    return Active(one, accepted, ids if still_open is None else frozenset(still_open))

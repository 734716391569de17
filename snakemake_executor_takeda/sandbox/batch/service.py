"""AWS Batch's operations, over definitions, queues and jobs."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits, listing, views
from snakemake_executor_takeda.sandbox.batch.consumables import Consumables
from snakemake_executor_takeda.sandbox.batch.definitions import Definitions, check_tags
from snakemake_executor_takeda.sandbox.batch.docker_runner import DockerRunner
from snakemake_executor_takeda.sandbox.batch.engine import Engine, now_ms
from snakemake_executor_takeda.sandbox.batch.events import Events
from snakemake_executor_takeda.sandbox.batch.jobs import Job, Status, new_job
from snakemake_executor_takeda.sandbox.batch.lagging import Lag
from snakemake_executor_takeda.sandbox.batch.mishaps import Mishaps
from snakemake_executor_takeda.sandbox.batch.paging import client_error
from snakemake_executor_takeda.sandbox.batch.policies import Policies
from snakemake_executor_takeda.sandbox.batch.queues import Queues
from snakemake_executor_takeda.sandbox.batch.runners import ProcessRunner, Runner, StubRunner
from snakemake_executor_takeda.sandbox.batch.secrets import WithSecrets
from snakemake_executor_takeda.sandbox.batch.store import Store
from snakemake_executor_takeda.sandbox.batch.submission import make_spec, set_dependencies
from snakemake_executor_takeda.sandbox.batch.table import Table
from snakemake_executor_takeda.sandbox.rest_json import current_request
from snakemake_executor_takeda.sandbox.services import Context, Handler

KEPT_MS = 7 * 24 * 3600 * 1000
"""How long an ended job can be described, as on AWS, and its log's file is kept."""


def service(context: Context) -> BatchService:
    """The emulator as one of the sandbox's services. Raises TakedaError where Docker is wanted and
    no engine answers."""
    scratch = context.state_dir / "scratch"
    kinds: dict[str, Callable[..., Runner]] = {
        "process": ProcessRunner,
        "docker": DockerRunner,
        "stub": StubRunner,
    }
    mark = str(context.state_dir)
    runner = WithSecrets(kinds[context.runner](scratch, mark), context)
    return BatchService(context, runner, mark)


class BatchService:
    """Batch. Its state is in the sandbox's database; the engine's thread runs the jobs."""

    model_name = "batch"

    def __init__(
        self, context: Context, runner: Runner, mark: str, seconds_scale: float = 1.0
    ) -> None:
        self._context = context
        self._arn_prefix = f"arn:aws:batch:{context.region}:{context.account_id}:"
        self._store = Store(context.database)
        self._definitions = Definitions(self._store, self._arn_prefix)
        self._policies = Policies(self._store, self._arn_prefix)
        self._consumables = Consumables(self._store, self._arn_prefix)
        self._queues = Queues(self._store, self._arn_prefix, context.memory_mib, self._policies)
        self._mishaps = Mishaps(context.faults)
        self._lag = Lag(self._mishaps, now_ms)
        self._events = Events(context, self._mishaps, self._arn_prefix)
        self._table = Table(now_ms, self._lag.remember, self._events.note)
        self._engine = Engine(
            table=self._table,
            store=self._store,
            queues=self._queues,
            consumables=self._consumables,
            runner=runner,
            mishaps=self._mishaps,
            context=context,
            mark=mark,
            seconds_scale=seconds_scale,
        )
        self.handlers: Mapping[str, Handler] = {
            "RegisterJobDefinition": self._definitions.register,
            "DeregisterJobDefinition": self._definitions.deregister,
            "DescribeJobDefinitions": self._definitions.describe,
            "CreateComputeEnvironment": self._waking(self._queues.create_environment),
            "UpdateComputeEnvironment": self._waking(self._queues.update_environment),
            "DeleteComputeEnvironment": self._waking(self._queues.delete_environment),
            "DescribeComputeEnvironments": self._queues.describe_environments,
            "CreateJobQueue": self._waking(self._queues.create_queue),
            "UpdateJobQueue": self._waking(self._queues.update_queue),
            "DeleteJobQueue": self._delete_queue,
            "DescribeJobQueues": self._queues.describe_queues,
            "GetJobQueueSnapshot": self._queue_snapshot,
            "CreateSchedulingPolicy": self._policies.create,
            "UpdateSchedulingPolicy": self._policies.update,
            "DeleteSchedulingPolicy": self._delete_policy,
            "DescribeSchedulingPolicies": self._policies.describe,
            "ListSchedulingPolicies": self._policies.list_all,
            "CreateConsumableResource": self._waking(self._consumables.create),
            "UpdateConsumableResource": self._waking(self._consumables.update),
            "DeleteConsumableResource": self._consumables.delete,
            "DescribeConsumableResource": self._consumables.describe,
            "ListConsumableResources": self._consumables.list_all,
            "SubmitJob": self._submit,
            "DescribeJobs": self._describe,
            "ListJobs": self._list,
            "TerminateJob": self._terminate,
            "CancelJob": self._cancel,
            "TerminateJobs": self._terminate_many,
            "CancelJobs": self._cancel_many,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._tags,
        }

    def start(self) -> None:
        jobs = self._store.jobs()
        old = [job for job in jobs if job.stopped_at and job.stopped_at < now_ms() - KEPT_MS]
        self._store.forget_jobs(job.job_id for job in old)
        with self._table.lock:
            self._table.load(job for job in jobs if job not in old)
        for log in (self._context.state_dir / "logs").iterdir():
            if log.stat().st_mtime * 1000 < now_ms() - KEPT_MS:
                log.unlink()
        self._events.start()
        self._engine.start()
        self._context.faults.on_change(self._lag.faults_changed)
        self._context.faults.on_change(self._engine.wake)

    def stop(self) -> None:
        self._engine.stop()
        self._events.stop()
        self._store.close()

    def facts(self) -> Mapping[str, Any]:
        """Jobs by status, an array's children each counted, its parent not."""
        with self._table.lock:
            counts = Counter(job.status.value for job in self._table.every_leaf())
        return {"jobs": {status.value: counts[status.value] for status in Status}}

    def _submit(self, params: dict[str, Any]) -> dict[str, Any]:
        queue = self._queues.queue(params["jobQueue"])
        check_tags(params.get("tags", {}))
        definition = self._definitions.active(params["jobDefinition"])
        if definition["type"] == "multinode" and not self._queues.has_on_demand(queue):
            raise client_error(
                f"jobs of several nodes run on On-Demand instances; the job queue "
                f"{queue['jobQueueName']} has Spot only"
            )
        spec = make_spec(
            params,
            definition,
            queue,
            _payload_bytes(params),
            self._queues.takes_fargate(queue),
            consumables=self._consumables,
        )
        job = new_job(str(uuid.uuid4()), spec, now_ms())
        with self._table.lock:
            set_dependencies(job, self._table.find)
        # on record before it is in anybody's sight, so that no change can come before it
        self._store.insert_job(job)
        self._mishaps.note(job)
        with self._table.lock:
            self._table.add(job)
        self._engine.wake()
        return {
            "jobArn": views.job_arn(job, self._arn_prefix),
            "jobName": spec.job_name,
            "jobId": job.job_id,
        }

    def _describe(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params["jobs"]
        if len(wanted) > limits.DESCRIBED_JOBS:
            raise client_error(
                f"at most {limits.DESCRIBED_JOBS} jobs in one call, not {len(wanted)}"
            )
        with self._table.lock:
            found = {job_id: self._table.find(job_id.rpartition("/")[2]) for job_id in wanted}
            # not the order asked for: AWS promises none
            jobs = [job for _, job in sorted(found.items()) if job is not None]
            return {
                "jobs": [
                    views.job_detail(job, self._arn_prefix) for job in self._lag.all_shown(jobs)
                ]
            }

    def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        source = listing.check_source(params)
        with self._table.lock:
            if source == "jobQueue":
                arn = self._queues.queue(params["jobQueue"])["jobQueueArn"]
                jobs = (job for job in self._table.jobs() if job.spec.queue_arn == arn)
                found, token = listing.list_queue(self._lag.all_shown(jobs), params)
            else:
                job = self._job(params[source])
                is_such = job.is_parent if source == "arrayJobId" else job.is_multinode
                children = self._lag.all_shown(job.children if is_such else [])
                found, token = listing.list_children(children, params)
            summaries = [views.job_summary(job, self._arn_prefix) for job in found]
        return {"jobSummaryList": summaries, "nextToken": token}

    def _queue_snapshot(self, params: dict[str, Any]) -> dict[str, Any]:
        arn = self._queues.queue(params["jobQueue"])["jobQueueArn"]
        with self._table.lock:
            waiting = [job for job in self._table.runnable(arn) if job.status is Status.RUNNABLE]
        jobs = [
            {
                "jobArn": views.job_arn(job, self._arn_prefix),
                "earliestTimeAtPosition": job.runnable_at,
            }
            for job in waiting[: limits.SNAPSHOT_JOBS]
        ]
        return {"frontOfQueue": {"jobs": jobs, "lastUpdatedAt": now_ms()}}

    def _delete_queue(self, params: dict[str, Any]) -> dict[str, Any]:
        arn = self._queues.delete_queue(params)
        with self._table.lock:
            jobs = [job for job in self._table.jobs() if job.spec.queue_arn == arn]
        for job in jobs:
            self._engine.terminate(job, "Job queue deleted")
        return {}

    def _delete_policy(self, params: dict[str, Any]) -> dict[str, Any]:
        self._queues.check_policy_unused(params["arn"])
        return self._policies.delete(params)

    def _terminate(self, params: dict[str, Any]) -> dict[str, Any]:
        _check_reason(params["reason"])
        self._engine.terminate(self._job(params["jobId"]), params["reason"])
        return {}

    def _cancel(self, params: dict[str, Any]) -> dict[str, Any]:
        _check_reason(params["reason"])
        self._engine.cancel(self._job(params["jobId"]), params["reason"])
        return {}

    def _terminate_many(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._end_many(params, self._engine.terminate)

    def _cancel_many(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._end_many(params, self._engine.cancel)

    def _end_many(
        self, params: Mapping[str, Any], end: Callable[[Job, str], None]
    ) -> dict[str, Any]:
        wanted = params["jobs"]
        if len(wanted) > limits.ENDED_JOBS_PER_CALL:
            raise client_error(
                f"at most {limits.ENDED_JOBS_PER_CALL} jobs in one call, not {len(wanted)}"
            )
        _check_reason(params["reason"])
        successful, errors = [], []
        for job_id in wanted:
            job = self._found(job_id)
            if job is None and not limits.JOB_ID.fullmatch(job_id):
                message = f"{job_id!r} is no job id"
                errors.append({"job": job_id, "code": "ValidationException", "message": message})
                continue
            # one that can't be found counts as done
            if job is not None:
                end(job, params["reason"])
            successful.append(job_id)
        return {"successful": successful, "errors": errors}

    def _tags(self, params: dict[str, Any]) -> dict[str, Any]:
        _, tags = self._tagged(params["resourceArn"])
        return {"tags": tags}

    def _tag(self, params: dict[str, Any]) -> dict[str, Any]:
        save, tags = self._tagged(params["resourceArn"])
        check_tags(params["tags"])
        if len({**tags, **params["tags"]}) > limits.TAGS:
            raise client_error(f"at most {limits.TAGS} tags")
        tags.update(params["tags"])
        save()
        return {}

    def _untag(self, params: dict[str, Any]) -> dict[str, Any]:
        save, tags = self._tagged(params["resourceArn"])
        for key in params["tagKeys"]:
            tags.pop(key, None)
        save()
        return {}

    def _tagged(self, arn: str) -> tuple[Callable[[], None], dict[str, str]]:
        """What is to be called when the tags have changed, and the tags, to be changed in place."""
        if ":job/" in arn:
            job = self._job(arn.rpartition("/")[2])
            if job.parent is not None:
                raise client_error(f"tags of a child job are not supported: {arn}")
            return (lambda: self._store.save_spec(job)), job.spec.tags
        if ":job-definition/" in arn:
            definition = self._definitions.tagged(arn)
            if definition is not None:
                return (lambda: self._definitions.save(definition)), definition.setdefault(
                    "tags", {}
                )
        for find, save in (
            (self._queues.tagged, self._queues.save),
            (self._policies.tagged, self._policies.save),
            (self._consumables.tagged, self._consumables.save),
        ):
            record = find(arn)
            if record is not None:
                return partial(save, record), record.setdefault("tags", {})
        raise client_error(f"there is no resource {arn!r}")

    def _job(self, job_id: str) -> Job:
        job = self._found(job_id)
        if job is None:
            raise client_error(f"Job {job_id} does not exist")
        return job

    def _found(self, job_id: str) -> Job | None:
        with self._table.lock:
            return self._table.find(job_id.rpartition("/")[2])

    def _waking(self, handler: Handler) -> Handler:
        def call(params: dict[str, Any]) -> Mapping[str, Any] | None:
            output = handler(params)
            self._engine.wake()
            return output

        return call


def _check_reason(reason: str) -> None:
    if len(reason) > limits.END_REASON_CHARACTERS:
        raise client_error(
            f"reason can have {limits.END_REASON_CHARACTERS} characters, not {len(reason)}"
        )


def _payload_bytes(params: Mapping[str, Any]) -> int:
    request = current_request.get(None)
    return len(json.dumps(params)) if request is None else len(request.body)

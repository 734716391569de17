"""Controllers that register one job definition at the same moment, against the sandbox's Batch."""

import sys
import threading
import uuid

import pytest
from batch_fakes import context, target

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch.api import Clients
from snakemake_executor_takeda.backends.batch.submitting import Submitter
from snakemake_executor_takeda.values import JobSpec, Shape, Submission, Task

pytestmark = pytest.mark.sandbox


def submission(run, to):
    job = JobSpec(1, "r", {}, 1, Shape(mem_mb=100), {})
    return Submission(
        f"{run.run_id}-s1", f"takeda-{run.run_id}", to, (Task("t0", job, to, ("x",)),)
    )


def test_two_controllers_register_at_once_and_both_go_on(sandbox_env):
    to = target(queue="takeda-sandbox", python=sys.executable, user=uuid.uuid4().hex)
    at_once = threading.Barrier(2)
    arns, failures = [], []

    def controller(number):
        run = context(
            run_id=f"{uuid.uuid4().hex[:8]}{number}", remote_prefix="s3://takeda-sandbox/t"
        )
        clients = Clients()
        real = clients.batch.register_job_definition

        def register(**arguments):
            # both have looked, and found nothing
            at_once.wait(30)
            return real(**arguments)

        clients.batch.register_job_definition = register
        try:
            job_id = Submitter(clients, run).submit(submission(run, to)).external_id
            (job,) = clients.batch.describe_jobs(jobs=[job_id])["jobs"]
            arns.append(job["jobDefinition"])
        except Exception as error:  # noqa: BLE001 - said by the test's own thread
            failures.append(error)
            at_once.abort()

    threads = [threading.Thread(target=controller, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert len(set(arns)) == 2
    found = aws.client("batch").describe_job_definitions(jobDefinitions=arns)["jobDefinitions"]
    first, second = (
        {k: v for k, v in one.items() if k not in ("revision", "jobDefinitionArn")} for one in found
    )
    assert first == second


def test_a_definition_deregistered_behind_our_back_is_made_again(sandbox_env):
    run = context(run_id=uuid.uuid4().hex[:8], remote_prefix="s3://takeda-sandbox/t")
    to = target(queue="takeda-sandbox", python=sys.executable, user=uuid.uuid4().hex)
    clients = Clients()
    sender = Submitter(clients, run)

    def definition_of(number):
        one = submission(run, to)
        job_id = sender.submit(
            Submission(f"{one.submission_id}{number}", one.name, to, one.tasks)
        ).external_id
        (job,) = clients.batch.describe_jobs(jobs=[job_id])["jobs"]
        return job["jobDefinition"]

    first = definition_of(1)
    clients.batch.deregister_job_definition(jobDefinition=first)
    assert definition_of(2) == f"{first.rpartition(':')[0]}:2"

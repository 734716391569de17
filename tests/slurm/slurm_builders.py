"""Values and a stand-in for Slurm's command line, for tests of the Slurm backend."""

from __future__ import annotations

from snakemake_executor_takeda.backends.base import RunContext
from snakemake_executor_takeda.backends.slurm import SlurmOptions
from snakemake_executor_takeda.backends.slurm.answers import Sighting
from snakemake_executor_takeda.backends.slurm.facts import PartitionFacts
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    JobSpec,
    Shape,
    Submission,
    Target,
    Task,
)

TRUE = ("true",)


def target(capacity=None, fallback=None, **options):
    made = SlurmOptions(**options)
    return Target("hpc", "slurm", capacity=capacity, fallback=fallback, options=made)


def submission(argvs=(TRUE,), shape=None, number=1, on=None, **resources):
    on = on or target()
    tasks = []
    for index, argv in enumerate(argvs):
        job = JobSpec(index, "align", {}, 1, shape or Shape(), resources)
        tasks.append(Task(f"s{number}-t{index}", job, on, tuple(argv)))
    return Submission(f"s{number}", f"takeda-align-{number}", on, tuple(tasks))


def active(sent, job_id="7", open_ids=None):
    count = len(sent.tasks)
    ids = {t.task_id: f"{job_id}_{i}" if count > 1 else job_id for i, t in enumerate(sent.tasks)}
    return Active(sent, Accepted(job_id, ids), frozenset(open_ids if open_ids is not None else ids))


def context(tmp_path, run_id="run"):
    state = tmp_path / ".snakemake" / "takeda" / "runs" / run_id
    state.mkdir(parents=True, exist_ok=True)
    return RunContext(run_id, tmp_path, state, None, None, None, tmp_path)


class FakeSlurm:
    """What `clients.base.SlurmClient` offers, from values: `queue_is` is seen by polls, an exception is raised."""

    name = "a stand-in"
    is_remote = False
    advice = "`scontrol ping` says more."

    def __init__(self):
        self.requests = []
        self.nodes_are = []
        # No nodes are shown, as where a cloud's are powered down: whatever fits is left to Slurm.
        self.partitions_are = [
            PartitionFacts("hpc", is_default=True, total_nodes=4),
            PartitionFacts("spot", total_nodes=4),
        ]
        self.queue_is = {}
        self.jobs_are = {}
        self.submits = []
        self.found = None
        self.reservations_are = []
        self.calls = []
        self.cancelled = []
        self.taken_out = []
        self.settings_are = {"MaxArraySize": "1001", "MaxJobCount": "10000"}

    def sees(self, *sightings):
        self.queue_is = {sighting.external_id: sighting for sighting in sightings}

    def queue(self, job_ids=()):
        self.calls.append("queue")
        return self._or_raise(self.queue_is)

    def unfinished(self, job_ids=()):
        ended = {"CANCELLED", "COMPLETED", "FAILED"}
        return [s for s in self._or_raise(self.queue_is).values() if s.state not in ended]

    def jobs(self, job_id):
        self.calls.append(f"jobs {job_id}")
        return self._or_raise(self.jobs_are)

    def find(self, name):
        self.calls.append("find")
        return self._or_raise(self.found)

    def check_request(self, request):
        pass

    def submit(self, request, script):
        self.calls.append("submit")
        self.requests.append(request)
        answer = self.submits.pop(0) if self.submits else "7"
        return self._or_raise(answer)

    def cancel(self, ids, *, kill=False, pending_only=False):
        if pending_only:
            self.taken_out.append(sorted(ids))
        else:
            self.cancelled.append((sorted(ids), kill))

    def partitions(self):
        return ["hpc", "spot"]

    def settings(self):
        return self._or_raise(self.settings_are)

    def nodes(self):
        self.calls.append("nodes")
        return self._or_raise(self.nodes_are)

    def partition_details(self):
        return self._or_raise(self.partitions_are)

    def reservations(self):
        self.calls.append("reservations")
        return self._or_raise(self.reservations_are)

    def close(self):
        self.calls.append("close")

    @staticmethod
    def _or_raise(answer):
        if isinstance(answer, Exception):
            raise answer
        return answer


def sighting(state, external_id="7", reason="", **more):
    return Sighting(external_id, state, reason, **more)

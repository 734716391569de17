"""What users of other executors ran into on Slurm, where no other test shows the answer. See docs/peers_slurm.md."""

import os
import re
from pathlib import Path

import pytest
from slurm_builders import FakeSlurm, submission, target

from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.backends.slurm import submitting
from snakemake_executor_takeda.backends.slurm.accounting import Sacct
from snakemake_executor_takeda.backends.slurm.arguments import job_request, sbatch_words
from snakemake_executor_takeda.backends.slurm.clients import command_line
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.clients.errors import error_of
from snakemake_executor_takeda.backends.slurm.records import ExitRecords
from snakemake_executor_takeda.backends.slurm.request import JobRequest
from snakemake_executor_takeda.backends.slurm.script import batch_script
from snakemake_executor_takeda.reporting.failures import failure_text
from snakemake_executor_takeda.values import FailureKind, Outcome, Shape

REQUEST = JobRequest("takeda-x-1", "/data", "/data/0.log")
# What slurm_strerror of 22.05 and 24.11 and the commands themselves say of a busy or absent controller.
SILENCES = [
    "Unable to contact slurm controller (connect failure)",
    "Unable to contact slurm controller (shutdown failure)",
    "Socket timed out on send/recv operation",
    "Unexpected message received",
    "Zero Bytes were transmitted or received",
    "Message send failure",
    "Message receive failure",
    "Communication connection failure",
    "Communication shutdown failure",
    "Header lengths are longer than data received",
    "Insane message length",
    "Rate limit exceeded, please retry momentarily",
    "Rate limit exceeded, please retry later",
    "Slurm backup controller in standby mode",
    "Controller is in standby mode, try a different controller",
    "Protocol authentication error",
    "Connection reset by peer",
    "Unexpected missing socket error",
    "Transport endpoint is not connected",
    "No route to host",
    # slurm.conf is being replaced
    "Unable to process configuration file",
]
REFUSALS = [
    "Requested node configuration is not available",
    "Invalid account or account/partition combination specified",
    "Requested time limit is invalid (missing or exceeds some limit)",
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
]


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Put a script in the place of one of Slurm's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(command_line, "PAUSE_SECONDS", 0.0)

    def put(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def sbatch_says(words):
    return f'echo "sbatch: error: Batch job submission failed: {words}" >&2; exit 1'


@pytest.mark.parametrize("words", SILENCES)
def test_a_busy_controller_is_no_refusal(commands, words):
    commands("sbatch", sbatch_says(words))
    with pytest.raises(SlurmSilent, match=re.escape(words)):
        CommandLine().submit(REQUEST, "")
    assert type(error_of(words)) is SlurmSilent


@pytest.mark.parametrize("words", REFUSALS)
def test_a_refusal_is_no_silence(commands, words):
    commands("sbatch", sbatch_says(words))
    with pytest.raises(SlurmRefused, match=re.escape(words)):
        CommandLine().submit(REQUEST, "")
    assert type(error_of(words)) is SlurmRefused


def test_no_room_that_sbatch_tells_at_its_end(commands):
    commands("sbatch", sbatch_says("Resource temporarily unavailable"))
    with pytest.raises(SlurmFull, match="temporarily unavailable"):
        CommandLine().submit(REQUEST, "")


def test_a_warning_beside_a_job_id_is_no_silence(commands):
    commands("sbatch", 'echo "sbatch: RPC rate limit exceeded 2 times" >&2; echo 12')
    assert CommandLine().submit(REQUEST, "") == "12"


def test_a_controller_whose_disk_is_full_is_waited_for(tmp_path):
    slurm, now = FakeSlurm(), [0.0]
    submitter = submitting.Submitter(slurm, ExitRecords(tmp_path), clock=lambda: now[0])
    full = "Batch job submission failed: I/O error writing script/environment to file"
    slurm.submits = [SlurmRefused(full)] * 1000
    sent = submission(on=target(pending_limit=3))
    while now[0] < 180:
        with pytest.raises(SubmissionDelayed) as delay:
            submitter.send(sent, REQUEST, "")
        now[0] += delay.value.seconds
    with pytest.raises(SubmissionError) as ended:
        submitter.send(sent, REQUEST, "")
    assert ended.value.kind == FailureKind.NO_CAPACITY


def test_a_banner_of_the_site_is_no_job_id(commands):
    commands(
        "sbatch", 'echo "Welcome to the 42nd"; echo 77; echo "12 nodes are idle"; echo "1" >&2'
    )
    assert CommandLine().submit(REQUEST, "") == "77"


def test_the_queue_is_asked_for_all_states_and_by_no_partition_or_name(commands, tmp_path):
    """A job that was moved to another partition, or has just failed, is seen all the same."""
    commands("squeue", f'echo "$@" > {tmp_path}/asked; echo "7_0|FAILED|0:05|n1|NonZeroExitCode"')
    assert CommandLine().queue(["7"])["7_0"].state == "FAILED"
    asked = (tmp_path / "asked").read_text().split()
    assert {"--states=all", "--array", "--me"} <= set(asked)
    assert not [word for word in asked if word.startswith(("-p", "--partition", "-n", "--name"))]


def test_many_ids_are_several_calls_of_sacct(commands, tmp_path):
    commands("sacct", f'echo "$3" >> {tmp_path}/asked')
    Sacct().tasks({f"7_{n}" for n in range(1200)})
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.count(",") + 1 for line in asked] == [500, 500, 200]


def test_the_call_and_its_script_do_not_grow_with_tasks_inputs_or_wildcards():
    """Sites limit the length of a submission (`max_submit_line_size`, `max_script_size`)."""
    long = ("python", *("x" * 200 for _ in range(100)))
    sent = submission([long] * 1000)
    logs = Path("/project/.snakemake/takeda/runs/r/logs")
    request = job_request(sent, sent.target.options, Path("/project"), logs)
    script = batch_script(
        sent, manifest=Path("/m"), exit_records=Path("/e"), scratch=Path("/scratch")
    )
    assert len(" ".join(sbatch_words(request))) < 1000
    assert len(script) < 1000


def test_several_gpus_are_given_to_one_process():
    sent = submission(shape=Shape(gpus=2))
    words = sbatch_words(job_request(sent, sent.target.options, Path("/project"), Path("/logs")))
    assert {"--gpus=2", "--ntasks=1", "--nodes=1"} <= set(words)
    assert not [word for word in words if "per-gpu" in word]


def test_a_failure_names_the_job_its_reason_and_its_log():
    outcome = Outcome(
        FailureKind.TIMEOUT,
        "TIMEOUT (TimeLimit)",
        advice="Raise `runtime` of rule align; it is 30 min.",
        log_tail=("half of it is done",),
        log_location="/project/.snakemake/takeda/runs/r/logs/align/s1/3.log",
    )
    assert failure_text(target(), "4711_3", outcome).splitlines() == [
        "takeda: timeout on hpc (4711_3): TIMEOUT (TimeLimit)",
        "last lines of its log:",
        "    half of it is done",
        "whole log: /project/.snakemake/takeda/runs/r/logs/align/s1/3.log",
        "what to do: Raise `runtime` of rule align; it is 30 min.",
    ]

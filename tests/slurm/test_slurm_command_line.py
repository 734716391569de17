"""The command-line client and Slurm's commands, played by scripts: environment, time limits, refusals, silence."""

import os
from dataclasses import replace

import pytest

from snakemake_executor_takeda.backends.slurm.clients import command_line as module
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.request import JobRequest, submission_environment

REQUEST = JobRequest("takeda-x-1", "/data", "/data/0.log")

DOWN = "echo 'error: Unable to contact slurm controller (connect failure)' >&2; exit 1"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Put a script in the place of one of Slurm's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)

    def put(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        path.chmod(0o755)
        return tmp_path

    return put


def test_submit_gives_the_script_and_every_option_as_one_word(command):
    seen = command("sbatch", 'printf "%s\\n" "$@" > options; cat > script; echo 12')
    request = replace(REQUEST, extra=("--comment=a b; $(id)", "--x"))
    assert CommandLine().submit(request, "#!/bin/sh\ntrue\n") == "12"
    assert (seen / "options").read_text().endswith("--comment=a b; $(id)\n--x\n")
    assert (seen / "script").read_text() == "#!/bin/sh\ntrue\n"


def test_jobs_get_the_callers_variables_but_none_of_an_enclosing_allocation(command, monkeypatch):
    conf = "/etc/slurm.conf"
    for name in ("SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SBATCH_PARTITION", "SQUEUE_STATES"):
        monkeypatch.setenv(name, "9")
    monkeypatch.setenv("SLURM_CONF", conf)
    monkeypatch.setenv("MY_VARIABLE", "kept")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    seen = command("sbatch", "env > variables; echo 12")
    command("squeue", "env > query_variables")
    CommandLine().submit(replace(REQUEST, environment=submission_environment(os.environ)), "")
    variables = (seen / "variables").read_text().splitlines()
    assert "MY_VARIABLE=kept" in variables
    assert "LC_ALL=de_DE.UTF-8" in variables
    assert [line for line in variables if line.startswith(("SLURM", "SBATCH", "SQUEUE"))] == [
        f"SLURM_CONF={conf}"
    ]
    CommandLine().queue()
    assert "LC_ALL=C" in (seen / "query_variables").read_text().splitlines()
    assert "SQUEUE_STATES" not in (seen / "query_variables").read_text()


def test_refusal_in_slurms_words(command):
    command(
        "sbatch",
        "echo 'sbatch: error: invalid partition specified: nope' >&2;"
        "echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; exit 1",
    )
    with pytest.raises(SlurmRefused, match=r"^invalid partition specified: nope; Batch job"):
        CommandLine().submit(REQUEST, "")


def test_an_answer_without_job_id_is_a_refusal(command):
    command("sbatch", "echo whatever")
    with pytest.raises(SlurmRefused, match="whatever"):
        CommandLine().submit(REQUEST, "")


def test_a_full_cluster_makes_sbatch_sleep(command, monkeypatch):
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 0.5)
    words = "Slurm temporarily unable to accept job, sleeping and retrying"
    command("sbatch", f"echo 'sbatch: error: {words}' >&2; exec sleep 60")
    with pytest.raises(SlurmFull):
        CommandLine().submit(REQUEST, "")


def test_no_answer_in_time_is_silence(command, monkeypatch):
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 0.5)
    command("sbatch", "exec sleep 60")
    with pytest.raises(SlurmSilent):
        CommandLine().submit(REQUEST, "")


@pytest.mark.parametrize(
    ("words", "error"),
    [("", SlurmSilent), ("Slurm temporarily unable to accept job, sleeping", SlurmFull)],
)
def test_a_sites_script_for_sbatch_is_ended_with_all_that_it_started(
    command, monkeypatch, words, error
):
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 0.5)
    folder = command("sbatch", f"echo '{words}' >&2; (sleep 20; touch submitted); true")
    with pytest.raises(error):
        CommandLine().submit(REQUEST, "")
    assert not (folder / "submitted").exists()


def test_an_sbatch_that_was_killed_may_have_sent_the_job(command):
    command("sbatch", "kill -TERM $$")
    with pytest.raises(SlurmSilent, match="signal 15"):
        CommandLine().submit(REQUEST, "")


def test_a_question_is_asked_twice(command):
    seen = command("sinfo", f"echo x >> tries; [ $(wc -l < tries) = 2 ] || {{ {DOWN}; }}; echo hpc")
    assert CommandLine().partitions() == ["hpc"]
    assert (seen / "tries").read_text() == "x\nx\n"


@pytest.mark.parametrize("name", ["squeue", "scontrol", "sinfo", "scancel", "sbatch"])
def test_a_controller_that_is_down_is_silence(command, name):
    command(name, DOWN)
    client = CommandLine()
    calls = {
        "squeue": client.queue,
        "scontrol": lambda: client.jobs("1"),
        "sinfo": client.partitions,
        "scancel": lambda: client.cancel(["1"]),
        "sbatch": lambda: client.submit(REQUEST, ""),
    }
    with pytest.raises(SlurmSilent):
        calls[name]()


def test_a_command_that_is_not_there_is_silence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    with pytest.raises(SlurmSilent):
        CommandLine().queue()
    assert module.missing_commands() == list(module.COMMANDS)


def test_a_job_that_slurm_forgot(command):
    command("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert CommandLine().jobs("99") == {}


def test_cancelling_what_has_ended_is_no_error(command):
    seen = command(
        "scancel", 'echo "$@" >> calls; echo "scancel: error: Invalid job id" >&2; exit 1'
    )
    CommandLine().cancel([str(n) for n in range(2500)])
    calls = (seen / "calls").read_text().splitlines()
    assert [len(call.split()) for call in calls] == [1000, 1000, 500]


def test_find_gives_the_arrays_id(command):
    command("squeue", "echo '15|12'; echo '16|12'")
    assert CommandLine().find("takeda-x-1") == "12"
    command("squeue", "true")
    assert CommandLine().find("takeda-x-1") is None

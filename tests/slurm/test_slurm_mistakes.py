"""Mistakes of somebody who tries the Slurm backend for the first time, and what is said about them."""

from dataclasses import fields

import pytest
from slurm_builders import FakeSlurm, submission, target

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.arguments import job_request
from snakemake_executor_takeda.backends.slurm.choosing import Chooser
from snakemake_executor_takeda.backends.slurm.partition_file import VARIABLE
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.settings import ExecutorSettings
from snakemake_executor_takeda.values import FailureKind, TakedaError

# How it reads.


@pytest.mark.parametrize(
    ("reason", "advice", "said"),
    [
        ("no 'hcp'. Did you mean 'hpc'?", "Change it.", "no 'hcp'. Did you mean 'hpc'? Change it."),
        ("no 'x'. It has: sandbox.", "Change it.", "no 'x'. It has: sandbox. Change it."),
        ("a run uses one cluster", "Run on it.", "a run uses one cluster. Run on it."),
        ("it is full", "the service is busy", "it is full: the service is busy"),
        ("it is full", "", "it is full"),
    ],
)
def test_a_reason_and_its_remedy_are_sentences(reason, advice, said):
    assert str(SubmissionError(FailureKind.CONFIGURATION, reason, advice)) == said


def test_the_help_of_a_flag_with_a_default_tells_it():
    told = {
        field.name: f"Default: {field.default:g}." in field.metadata["help"]
        for field in fields(ExecutorSettings)
        if field.default is not None
    }
    assert told == dict.fromkeys(
        ["coalesce_seconds", "coalesce_max_seconds", "poll_seconds", "interruptions"], True
    )


# `takeda policy check`.


@pytest.fixture
def checked(tmp_path, monkeypatch, capsys):
    """What the command says of a target with these words, in block style from line 5."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    def check(*words):
        lines = ["version: 1", "targets:", "  hpc:", "    backend: slurm", *words, "default: hpc"]
        text = "\n".join(f"    {one}" if one in words else one for one in lines)
        (tmp_path / "r.yaml").write_text(text)
        status = main(["policy", "check", "r.yaml"])
        out = capsys.readouterr()
        assert bool(status) == bool(out.err)
        return out.err

    return check


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["client: rest"], "r.yaml:3: target hpc: `client: rest` needs `rest_url`"),
        (
            ["client: command-line", "rest_url: https://head:6820", "jwt_file: /t"],
            "target hpc: `client: command-line` makes no use of `rest_url` and `jwt_file`",
        ),
        (["jwt_file: /nope"], "target hpc: `jwt_file` is for slurmrestd"),
        (
            ["rest_url: https://head:6820", "jwt_file: /nope"],
            "r.yaml:3: target hpc: `jwt_file: /nope` can't be read: write a token into it",
        ),
        (
            ["partition_file: /nope"],
            "target hpc: `partition_file: /nope`: the partition file /nope can't be read: No such file",
        ),
        (['account: "a;b"'], "r.yaml:5: target hpc: `account: a;b`: a name has no ';' in it."),
        (["qos: a&b"], "`qos: a&b`: a name has no '&' in it."),
        (["reservation: $(x)"], "a name has no '$' and no '(' and no ')' in it."),
        (['partition: "a b;"'], "`partition: a b;`: a name has no ';' in it."),
        (["partition: [a, 'b;']"], "`partition: [a, b;]`: a name has no ';' in it."),
        (["partition: ['a,b']"], "names in a list have no spaces and no commas"),
        (["partition: 5"], "`partition: 5`: must be one text, or a list of texts: [one, two]."),
        (["partition: []"], "must not be empty."),
        (['qos: "a\\u0001b"'], ": must not have control characters."),
        (['mpi: "srun\\u0001"'], ": must not have control characters."),
        (["scratch: fsx"], "`scratch: fsx`: must be an absolute path"),
        (["rest_url: head:6820"], "write it as https://head-node:6820"),
        (["modules: [a b]"], "a module is a name such as"),
        (["environment: {1a: b}"], "a variable's name is letters, digits and _"),
    ],
)
def test_policies_that_a_run_refuses_do_not_pass(checked, words, said):
    complaint = checked(*words)
    assert said in complaint
    assert "mistakes" not in complaint and "pattern" not in complaint


def test_names_of_all_sorts_and_empty_ones_pass(checked):
    assert not checked(
        "account: phylo-1, lab.x", "qos: ''", "constraint: ''", "reservation: root_1,maint+2"
    )
    assert not checked("partition: 'hpc, größe'")
    assert not checked("partition: [hpc, spot]")


def test_a_run_says_which_target_names_a_partition_file_that_is_not_there(monkeypatch):
    with pytest.raises(TakedaError, match=r"target 'hpc'.*/nope.*or leave `partition_file` out\."):
        Chooser(FakeSlurm()).check([target(partition_file="/nope")])
    monkeypatch.setenv(VARIABLE, "/nope")
    with pytest.raises(TakedaError, match=f"target 'hpc'.*or leave {VARIABLE} out"):
        Chooser(FakeSlurm()).check([target()])


@pytest.mark.parametrize("resource", ["slurm_account", "qos", "reservation", "slurm_partition"])
def test_a_rules_hostile_names_are_refused_where_nobody_checks_them(resource, tmp_path):
    sent = submission(**{resource: "a b;c"})
    with pytest.raises(SubmissionError, match=f"resource {resource} of rule align: .*no ';' in it"):
        job_request(sent, sent.target.options, tmp_path, tmp_path)

"""Mistakes of somebody who tries the Slurm backend for the first time, and what is said about them."""

from dataclasses import fields

import pytest
from slurm_builders import FakeSlurm, context, submission, target

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.arguments import job_request
from snakemake_executor_takeda.backends.slurm.choosing import Chooser, wish_of
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmRefused, SlurmSilent
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.cluster import cluster_of
from snakemake_executor_takeda.backends.slurm.facts import (
    NodeFacts,
    PartitionFacts,
    read_reservations,
)
from snakemake_executor_takeda.backends.slurm.fitting import fit
from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
from snakemake_executor_takeda.backends.slurm.partition_file import VARIABLE
from snakemake_executor_takeda.backends.slurm.request import JobRequest
from snakemake_executor_takeda.backends.slurm.slurm_backend import SlurmBackend
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.routing.defaults import policy_from_settings
from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.routing.router import PlacementError, place
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
        field.name: f"Default: {field.default}".removesuffix(".0") + "." in field.metadata["help"]
        for field in fields(ExecutorSettings)
        if field.default is not None
    }
    assert told == dict.fromkeys(
        [
            "ledger_copy",
            "coalesce_seconds",
            "coalesce_max_seconds",
            "poll_seconds",
            "interruptions",
            "on_interrupt",
            "progress",
        ],
        True,
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


# Before anything starts.


HELP = (
    "\n".join(f"      --option{n}=x   text" for n in range(20))
    + """
  -N, --nodes=N               number of nodes
      --nice[=value]          decrease scheduling priority
      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH
"""
)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Commands that count how often sbatch was asked for help."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "help").write_text(HELP)
    script = f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexec /bin/cat {tmp_path}/help\n"
    (folder / "sbatch").write_text(script)
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return tmp_path


def request(*extra):
    return JobRequest("n", "/w", "/l", extra=extra)


def test_a_misspelt_option_is_refused_before_anything_starts(sbatch):
    client = CommandLine()
    client.check_request(request())
    assert not (sbatch / "asked").exists()
    for good in ("--nice=5", "--nic=5", "-N2", "--container-image=x", "--hint=nomultithread"):
        client.check_request(request(good))
    for word, said in (
        ("--nicee=5", r"'--nicee=5' is no option of the sbatch here\. Did you mean --nice\?"),
        ("-Z5", "'-Z5' is no option of sbatch"),
    ):
        with pytest.raises(ValueError, match=said):
            client.check_request(request("--nodes=1", word))
    assert (sbatch / "asked").read_text().split() == ["asked"]


def test_an_sbatch_without_help_decides_itself(sbatch):
    (sbatch / "help").write_text("usage: sbatch [--nodes=N] script")
    CommandLine().check_request(request("--nicee=5"))


def test_a_misspelt_option_is_told_with_rule_and_remedy(sbatch, tmp_path):
    slurm = FakeSlurm()
    slurm.name, slurm.check_request = CommandLine.name, CommandLine().check_request
    backend = SlurmBackend([target()], context(tmp_path), client=slurm)
    sent = submission(slurm_extra="--nicee=5")
    with pytest.raises(SubmissionError) as refused:
        backend.check_job(sent.tasks[0].job, sent.target)
    assert str(refused.value) == (
        "rule align on target hpc: '--nicee=5' is no option of the sbatch here. Did you mean --nice? "
        "Change `slurm_extra` of the rule, or `extra` of target hpc; `sbatch --help` tells the options."
    )


def test_a_reservation_that_is_not_there_is_refused_before_anything_starts(tmp_path):
    slurm = FakeSlurm()
    slurm.reservations_are = ["maint", "course"]
    backend = SlurmBackend([target()], context(tmp_path), client=slurm)
    on = target()

    def check(**resources):
        backend.check_job(submission(on=on, **resources).tasks[0].job, on)

    check()
    assert "reservations" not in slurm.calls
    check(reservation="course")
    check(reservation="course,maint")
    for words in ({"reservation": "cuorse"}, {"slurm_extra": "--reservation=cuorse"}):
        with pytest.raises(
            SubmissionError,
            match=r"rule align: the cluster has no reservation 'cuorse'\. Did you mean 'course'\? "
            r"Change `reservation` .*scontrol show reservation",
        ):
            check(**words)
    assert slurm.calls.count("reservations") == 1


@pytest.mark.parametrize("answer", [SlurmSilent("down"), SlurmRefused("not for you")])
def test_reservations_that_are_not_told_are_left_to_slurm(answer, tmp_path):
    slurm = FakeSlurm()
    slurm.reservations_are = answer
    backend = SlurmBackend([target()], context(tmp_path), client=slurm)
    sent = submission(reservation="course")
    backend.check_job(sent.tasks[0].job, sent.target)


def test_reservations_are_read():
    text = "ReservationName=r1 StartTime=now Users=root\nReservationName=root_2 StartTime=now\n"
    assert read_reservations(text) == ["r1", "root_2"]
    assert read_reservations("No reservations in the system\n") == []


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("unrecognized option '--nicee=5'", "sbatch --help"),
        ("Invalid --time specification", "sbatch --help"),
        ("Requested reservation is invalid", "scontrol show reservation"),
        ("Requested node configuration is not available", "sinfo --Node --long"),
        ("Invalid account or account/partition combination specified", "format=account,partition"),
        ("Invalid qos specification", "format=account,qos"),
        ("Invalid feature specification", "%P %f"),
        ("Invalid generic resource (gres) specification", "%P %G"),
        ("Invalid partition name specified", "sinfo --all"),
        ("Access/permission denied", "`sinfo` and `scontrol show partition`"),
    ],
)
def test_a_refusal_of_sbatch_has_the_remedy_of_its_cause(words, remedy, tmp_path):
    slurm = FakeSlurm()
    slurm.submits = [SlurmRefused(words)]
    backend = SlurmBackend([target()], context(tmp_path), client=slurm)
    backend.check()
    with pytest.raises(SubmissionError) as refused:
        backend.submit(submission())
    assert refused.value.reason == f"sbatch: {words}"
    assert remedy in refused.value.advice


def test_what_getopt_says_is_told_without_ornaments(sbatch):
    script = "#!/bin/sh\nprintf 'sbatch: unrecognized option x\\nTry \"sbatch --help\" for more\\n' >&2\n"
    (sbatch / "bin" / "sbatch").write_text(f"{script}exit 1\n")
    with pytest.raises(SlurmRefused, match=r"^unrecognized option x$"):
        CommandLine().submit(request(), "#!/bin/sh\n")


# An instance type that no target lists.


MODELS = {"slurm": SlurmOptions}
POLICY = """\
version: 1
targets:
  hpc: {backend: slurm, partition: hpc}
  any: {backend: slurm}
  c7i: {backend: slurm, partition: c7i, instances: [c7i]}
default: hpc
"""


def job(**resources):
    return submission(**resources).tasks[0].job


def test_an_unlisted_instance_type_goes_where_partitions_are_chosen():
    policy = policy_from_settings(slurm_partition="auto", option_models=MODELS)
    placement = place(job(instance_type="c7i.4xlarge"), policy)
    assert placement.target.name == "slurm"
    named = policy_from_settings(slurm_partition="hpc", option_models=MODELS)
    with pytest.raises(PlacementError, match="let a Slurm target choose its partitions"):
        place(job(instance_type="c7i.4xlarge"), named)


@pytest.mark.parametrize(
    ("resources", "name"),
    [
        ({"instance_type": "r7i.large"}, "any"),
        ({"instance_type": "c7i.large"}, "c7i"),
        ({"instance_type": "c7i.large", "target": "any"}, "any"),
    ],
)
def test_a_target_that_lists_the_type_comes_first(resources, name, tmp_path):
    (tmp_path / "r.yaml").write_text(POLICY)
    policy = load_policy(tmp_path / "r.yaml", MODELS, {})
    assert place(job(**resources), policy).target.name == name


def cluster(*features):
    node = {"states": ("IDLE",), "cpus": 8, "memory_mib": 1000, "partitions": ("all",)}
    nodes = [NodeFacts(name=f"n-{one}", features=(one,), **node) for one in features]
    return cluster_of(nodes, [PartitionFacts("all", total_nodes=len(nodes))], {})


def test_features_decide_on_an_unlisted_instance_type():
    asked = JobRequest("n", "/w", "/l")
    on = target()
    wish = wish_of(job(instance_type="c7i.large"), on)
    assert fit(asked, wish, cluster("c7i.large", "m7i.large")).request.constraint == "c7i.large"
    with pytest.raises(SubmissionError, match=r"has no c7i\.large \(it has m7i\.large\)"):
        fit(asked, wish, cluster("m7i.large"))
    with pytest.raises(SubmissionError, match=r"no feature of the cluster's nodes tells"):
        fit(asked, wish, cluster("rack1"))
    listed = wish_of(job(instance_type="c7i.large"), target(partition="all"))
    assert fit(asked, listed, cluster("rack1")).request.constraint is None

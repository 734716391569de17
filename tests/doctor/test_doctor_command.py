"""The command itself: what it reads, how it ends, what it does with what cannot be told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aws_stand_in import StandIn

from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.doctor import cloud, core
from snakemake_executor_takeda.doctor.examining import examine
from snakemake_executor_takeda.doctor.findings import Checkup, Finding, NotTold, Severity
from snakemake_executor_takeda.doctor.largest import largest_of
from snakemake_executor_takeda.doctor.project import Storage, flags_of, project_of
from snakemake_executor_takeda.values import TakedaError

LOCAL = {"version": 1, "targets": {"here": {"backend": "local"}}, "default": "here"}


def written(folder: Path, policy: dict[str, Any], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "routing.yaml").write_text(yaml.safe_dump(policy))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"executor": "takeda", "takeda-routing": "routing.yaml", **config})
    )
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    return tmp_path


def test_a_profile_is_read_as_snakemake_reads_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB", "lab-bucket")
    s3 = {"default-storage-provider": "s3", "default-storage-prefix": "s3://$LAB/p"}
    written(here / "aws", LOCAL, **s3, **{"shared-fs-usage": "none"})
    flags = flags_of("aws", None)
    assert flags.settings.routing == "aws/routing.yaml"
    assert flags.storage == Storage("s3", "s3://lab-bucket/p", None, shares_files=False)
    assert flags.storage.own_prefix == "s3://lab-bucket/p/.takeda"
    assert flags.profile == "aws"
    # a policy of one's own comes before the profile's
    (here / "mine.yaml").write_text(yaml.safe_dump(LOCAL))
    assert flags_of("aws", Path("mine.yaml")).settings.routing == "mine.yaml"


def test_without_a_profile_the_variable_or_the_workflows_own_counts(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(here / "aws", LOCAL, **{"takeda-staging": "s3://lab/run"})
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "aws")
    flags = flags_of(None, None)
    assert flags.settings.routing == "aws/routing.yaml"
    assert flags.storage.own_prefix == "s3://lab/run"
    monkeypatch.delenv("SNAKEMAKE_PROFILE")
    (here / "Snakefile").write_text("")
    (here / "profiles").mkdir()
    written(here / "profiles/default", LOCAL)
    assert flags_of(None, None).settings.routing == "profiles/default/routing.yaml"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name it with --profile DIR or --routing FILE"),
        (["--profile", "nowhere"], "profile directory given (nowhere)"),
        (["--routing", "nowhere.yaml"], "there is no routing policy nowhere.yaml"),
        (["--profile", "p", "--target", "heer"], "did you mean here?"),
        (["--profile", "p", "--largest", "mem=5"], "did you mean mem_mb=…?"),
        (["--profile", "p", "--largest", "mem_mb=5GB"], "write a whole number, as mem_mb=8"),
    ],
)
def test_used_wrongly(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    written(here / "p", LOCAL)
    assert main(["doctor", *words]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_where_snakemake_is_not_installed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from snakemake_executor_takeda.doctor import project

    def no_snakemake(argv: object) -> None:
        raise ModuleNotFoundError("No module named 'snakemake'")

    monkeypatch.setattr(project, "_parsed", no_snakemake)
    written(here / "p", LOCAL)
    assert main(["doctor", "--profile", "p"]) == 2
    assert "pip install snakemake" in capsys.readouterr().err
    assert main(["doctor"]) == 2
    assert main(["doctor", "--routing", "p/routing.yaml"]) == 0


def test_a_policy_without_aws_asks_nobody(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(here / "p", LOCAL)
    assert main(["doctor", "--profile", "p"]) == 0
    assert capsys.readouterr().out == "2 checks, 0 findings\n"


def test_mistakes_of_a_policy_are_one_finding(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(here / "p", {**LOCAL, "default": "heer", "routse": []})
    assert main(["doctor", "--profile", "p"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fault: policy, p/routing.yaml"
    assert any("`routse`. Did you mean routes?" in line for line in lines)
    assert any("Did you mean here?" in line for line in lines)
    assert "  fix: mend each line; takeda policy check p/routing.yaml shows them" in lines
    assert lines[-1] == "1 check, 1 finding"


def test_a_version_that_does_not_fit(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    version = metadata.version
    old = "snakemake-interface-executor-plugins"
    monkeypatch.setattr(metadata, "version", lambda name: "8.2" if name == old else version(name))
    written(here / "p", LOCAL)
    assert main(["doctor", "--profile", "p", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {one["check"] for one in findings} == {"versions"}
    assert all("here is 8.2" in one["what"] for one in findings)
    assert "pip install --upgrade snakemake" in findings[0]["fix"]


# The largest job.


def test_who_says_what_the_largest_job_is(here: Path) -> None:
    policy = {
        "version": 1,
        "targets": {
            "big": {"backend": "slurm", "limits": {"threads": 64, "mem_mb": 256000}},
            "small": {"backend": "slurm"},
            "fargate": {"backend": "batch", "queue": "q", "platform": "FARGATE",
                        "execution_role_arn": "arn:aws:iam::123456789012:role/x"},
        },
        "routes": [
            {"when": {"mem_mb": ">=512000", "mpi": True}, "to": "big"},
            {"when": {"gpu": ">1, <8"}, "to": ["big", "small"]},
            {"when": {"threads": "<4"}, "to": "small"},
        ],
        "default": "small",
    }  # fmt: skip
    written(here / "p", policy)
    project = project_of(flags_of("p", None), wanted={"gpu": 2})
    big = project.largest["big"]
    assert {word: one.value for word, one in big.numbers.items()} == {
        **{"threads": 64, "mem_mb": 512000, "gpu": 2}
    }
    assert big.numbers["mem_mb"].said_by.startswith("route 1 (p/routing.yaml:")
    assert big.told("gpu") == "gpu=2 (--largest)"
    assert big.mpi_by.startswith("route 1")
    small = largest_of(project.targets["small"], project.policy, {})
    assert not small.is_known and not small.mpi_by
    # Fargate's own sizes are nobody's wish
    assert not largest_of(project.targets["fargate"], project.policy, {}).is_known


SNAKEFILE = """
rule all:
    input: "a", "b"

rule small:
    output: "a"
    shell: "touch {output}"

rule assemble:
    output: "b"
    threads: 64
    resources: mem_mb=256000, mpi=True, tasks=4
    shell: "touch {output}"
"""


def test_the_largest_jobs_of_a_snakefile(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from snakemake_executor_takeda.doctor.pipeline import largest_jobs

    (here / "Snakefile").write_text(SNAKEFILE)
    policy = {
        "version": 1,
        "targets": {"small": {"backend": "local"}, "big": {"backend": "local"}},
        "routes": [{"when": {"mpi": True}, "to": "big"}],
        "default": "small",
    }
    written(here / "p", policy)
    found = largest_jobs("p", None)
    assert found.keys() == {"small", "big"}
    assert found["big"].told("threads", "mem_mb", "tasks") == (
        "threads=64 (rule assemble), mem_mb=256000 (rule assemble), tasks=4 (rule assemble)"
    )
    assert found["big"].mpi_by == "rule assemble"
    assert found["small"].numbers["threads"].value == 1
    (here / "Snakefile").write_text("rule:\n    nonsense\n")
    assert main(["doctor", "--profile", "p", "--with-jobs", "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note["check"] == "jobs" and "takeda plan" in note["fix"]
    assert f"{here}/Snakefile:2: Unexpected keyword nonsense" in note["what"]


# What cannot be told.


@pytest.mark.sandbox
def test_what_may_not_be_asked_is_a_note_and_no_fault(on_sandbox: Any, stand_in: StandIn) -> None:
    stand_in.no_iam = stand_in.no_quotas = True
    facts = on_sandbox.ask(status=0)
    notes = {(one["check"], one["about"]): one for one in facts["notes"]}
    assert notes.keys() == {
        ("your rights", "this machine"),
        ("job role", "spot"),
        ("healthomics role", "omics"),
        ("vCPU quotas", "spot"),
        ("active runs", "HealthOmics, DYNAMIC"),
    }
    assert "iam:GetRole is not allowed" in notes["job role", "spot"]["what"]
    assert "--for doctor" in notes["job role", "spot"]["fix"]
    left = {(one["check"], one["because_of"]["check"]) for one in facts["not_looked_at"]}
    assert left == {
        ("job role's rights", "job role"),
        ("healthomics role's rights", "healthomics role"),
    }


@pytest.mark.sandbox
def test_without_a_profile_nobody_knows_the_bucket(
    on_sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    on_sandbox.ask(status=0)
    words = ["--routing", "profile/routing.yaml", "--target", "spot"]
    assert main(["doctor", "--json", *words]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note["check"] == "storage" and "--profile DIR" in note["fix"]


@pytest.mark.sandbox
def test_the_sandbox_alone_tells_most(
    on_sandbox: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its IAM simulates no policy, its Service Quotas have none: notes. As a person sees it."""
    for service in ("STS", "IAM", "SERVICE_QUOTAS"):
        monkeypatch.delenv(f"AWS_ENDPOINT_URL_{service}")
    del on_sandbox.target("spot")["image"]
    on_sandbox.ask(status=0)
    assert main(["doctor", "--profile", "profile"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "not looked at: your rights, this machine" in lines
    assert any("an emulator stands in for AWS Batch here" in line for line in lines)
    assert lines[-1].endswith(" checks, 0 findings, 6 not looked at")


@pytest.mark.parametrize("code", ["UnknownOperationException", "InvalidAction", "501"])
def test_a_service_without_the_call(code: str) -> None:
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": code, "Message": "?"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
    with (
        pytest.raises(NotTold, match="there is no such call where iam answers"),
        cloud.asking("iam", "iam:GetRole"),
    ):
        raise ClientError(answer, "GetRole")  # type: ignore[arg-type]


def test_a_busy_service_is_no_fault() -> None:
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}
    with (
        pytest.raises(NotTold, match="does not tell now"),
        cloud.asking("iam", "iam:GetRole", needed=True),
    ):
        raise ClientError(answer, "GetRole")  # type: ignore[arg-type]


def test_what_a_run_needs_and_may_not_ask_is_a_fault() -> None:
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
    with (
        pytest.raises(TakedaError, match="batch:DescribeJobQueues is not allowed"),
        cloud.asking("batch", "batch:DescribeJobQueues", needed=True),
    ):
        raise ClientError(answer, "DescribeJobQueues")  # type: ignore[arg-type]


# All at once.


def test_what_comes_after_a_fault_is_left_out_with_its_cause() -> None:
    bad = Checkup("bad", "x", lambda: [Finding("what", "why", "fix")])
    next_one = Checkup("next", "x", lambda: [], (bad,))
    last = Checkup("last", "x", lambda: [], (next_one,))
    other = Checkup("other", "x", lambda: [])
    visit = examine([last, other], 60)
    assert [one.checkup for one in visit.results] == [bad, next_one, last, other]
    assert visit.left_out() == [(next_one, bad), (last, bad)]
    assert [one.is_well for one in visit.results] == [False, False, False, True]


def test_a_warning_keeps_nobody_waiting() -> None:
    odd = Checkup("odd", "x", lambda: [Finding("what", "why", "fix", Severity.WARNING)])
    seen: list[str] = []
    after = Checkup("after", "x", lambda: seen.append("looked") or [], (odd,))  # type: ignore[func-returns-value]
    visit = examine([after], 60)
    assert seen == ["looked"]
    assert len(visit.findings()) == 1


def test_one_that_does_not_answer_holds_up_no_other() -> None:
    never = threading.Event()

    def waits() -> list[Finding]:
        never.wait()
        return []

    stuck = [Checkup(f"stuck {n}", "x", waits, vital=n == 8) for n in range(9)]
    quick = Checkup("quick", "x", lambda: [])
    visit = examine([*stuck, quick], 1)
    never.set()
    assert len(visit.notes()) == 8
    ((late, fault),) = visit.findings()
    assert late is stuck[8] and "a run stops at its start" in fault.why
    assert visit.notes()[0][1].what == "no answer within 1 s"
    assert "--timeout" in visit.notes()[0][1].fix
    assert visit.results[-1].is_well


def test_never_a_traceback() -> None:
    def breaks() -> Iterator[Finding]:
        raise ValueError("odd answer")
        yield

    visit = examine([Checkup("a", "x", breaks)], 60)
    ((_, note),) = visit.notes()
    assert "ValueError: odd answer" in note.what


def test_a_backend_of_somebody_else(here: Path) -> None:
    """One that brings checkups is asked for them; one that has none is not."""
    written(here / "p", LOCAL)
    project = project_of(flags_of("p", None))

    class Theirs:
        def checkups(self, targets: Any, asked: Any) -> list[Checkup]:
            assert asked.project is project
            return [Checkup("licence", target.name, list) for target in targets]

    topics = [one.topic for one in core.checkups_of(project, {"local": Theirs()})]  # type: ignore[dict-item]
    assert topics == ["versions", "licence"]
    assert [one.topic for one in core.checkups_of(project, {"local": object()})] == ["versions"]  # type: ignore[dict-item]


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "example: takeda doctor --profile profiles/" in capsys.readouterr().out

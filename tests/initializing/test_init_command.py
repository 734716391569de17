"""`takeda init`: what it finds, what it asks, what it writes, and that it replaces nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from snakemake_executor_takeda.cli import init, main
from snakemake_executor_takeda.initializing import filling, finding, writing
from snakemake_executor_takeda.values import TakedaError

ROLE = "arn:aws:iam::123456789012:role/"
FLAGS = {
    "bucket": "lab-bucket",
    "project": "study",
    "account": "123456789012",
    "image": "registry.example/worker:1",
}
DIGEST = f"registry.example/worker@sha256:{'ab' * 32}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With no AWS and no Slurm, unless a test has them."""
    own = ("TAKEDA_", "SLURM_", "AWS_")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in [one for one in os.environ if one.startswith(own)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def facts(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def ask(*words: str, status: int = 0) -> dict[str, Any]:
        assert main(["init", "--json", *words]) == status
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    return ask


def sinfo(folder: Path, *lines: str, status: int = 0) -> None:
    (folder / "sinfo.txt").write_text("".join(f"{line}\n" for line in lines))
    script = folder / "bin/sinfo"
    script.write_text(
        f"#!/bin/sh\nwhile IFS= read -r line; do printf '%s\\n' \"$line\"; done < {folder}/sinfo.txt\n"
        f"echo 'sinfo: fatal: no controller' >&2\nexit {status}\n"
    )
    script.chmod(0o755)


def words_of(profile: str) -> list[str]:
    wanted = filling.slots_of(filling.files_of(profile))
    values = {**FLAGS, "image": DIGEST} if profile == "gxp" else FLAGS
    return [
        word for name, value in values.items() if name in wanted for word in (f"--{name}", value)
    ]


@pytest.mark.parametrize("profile", filling.names())
def test_a_profile_of_the_project_is_filled_in(
    folder: Path, facts: Callable[..., dict[str, Any]], profile: str
) -> None:
    told = facts("mine", "--from", profile, *words_of(profile))
    texts = "".join(one.read_text() for one in (folder / "mine").glob("*.yaml"))
    assert {Path(one).name for one in told["written"]} == {
        one.name for one in (folder / "mine").iterdir()
    }
    for name in ("ACCOUNT", "BUCKET", "PROJECT", "IMAGE"):
        assert f"${{TAKEDA_{name}" not in texts
    assert "export them first" not in (folder / "mine/config.yaml").read_text()
    assert main(["policy", "check", "mine/routing.yaml"]) == 0
    config = yaml.safe_load((folder / "mine/config.yaml").read_text())
    prefix = {"parallelcluster": None, "sandbox": "s3://takeda-sandbox/study"}
    assert config.get("default-storage-prefix") == prefix.get(profile, "s3://lab-bucket/study")


@pytest.mark.parametrize("profile", ["batch-spot", "gxp", "hybrid", "healthomics"])
def test_what_has_to_be_said_is_told_with_its_flag(
    folder: Path, facts: Callable[..., dict[str, Any]], profile: str
) -> None:
    told = facts("mine", "--from", profile, status=1)
    flags = {one["flag"] for one in told["missing"]}
    assert flags == {"--bucket", "--image", "--account"}
    assert told["written"] == [] and not (folder / "mine").exists()


def test_an_image_that_is_to_be_pinned_is_pinned(facts: Callable[..., dict[str, Any]]) -> None:
    words = words_of("gxp")
    told = facts("--from", "gxp", *words, "--image", "worker:1", status=1)
    assert told["missing"] == [
        {"flag": "--image", "what": "this profile has it by digest: REPOSITORY@sha256:DIGITS"}
    ]


def test_roles_are_taken_whole_and_tell_the_account(facts: Callable[..., dict[str, Any]]) -> None:
    words = ["--bucket", "lab-bucket", "--image", "w:1", "--job-role", f"{ROLE}team/jobs"]
    routing = facts("--from", "batch-spot", *words)["files"]["routing.yaml"]
    policy = yaml.safe_load(routing)
    assert policy["targets"]["batch-od"]["job_role_arn"] == f"{ROLE}team/jobs"


HOSTILE = [
    "a: b #",
    'say "no"',
    "it's",
    "{[,&*!|>%@`",
    "no",
    "1e3",
    "0o17",
    "12:30:45",
    "~",
    "ü λ",
    "${HOME}",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("profile", [None, "batch-spot"])
def test_any_name_is_the_name_of_the_queue(
    folder: Path, facts: Callable[..., dict[str, Any]], name: str, profile: str | None
) -> None:
    from snakemake_executor_takeda.assembly import backend_factories
    from snakemake_executor_takeda.routing.policy import load_policy

    words = ["--from", profile, *words_of(profile)] if profile else ["--bucket", "lab-bucket"]
    facts("mine", *words, "--queue", name, "--spot-queue", name)
    models = {one: factory.options_model for one, factory in backend_factories().items()}
    policy = load_policy(folder / "mine/routing.yaml", models, {"HOME": "not this"})
    assert {one.options.queue for one in policy.targets.values()} == {name}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bucket", "s3://b"], "--bucket 's3://b'"),
        (["--queue", "a\nb"], "--queue"),
        (["--omics-role", "takeda"], "arn:aws:iam::123456789012:role/NAME"),
        (["--from", "batch-spto"], "did you mean batch-spot?"),
        (
            ["--from", "batch-spot", "--partition", "x"],
            "--partition: the profile batch-spot has no",
        ),
        (["--from", "x"], "parallelcluster"),
    ],
)
def test_a_wrong_value_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["init", "mine", *words]) == 1
    assert said in capsys.readouterr().err
    assert not (folder / "mine").exists()


def test_without_anything_the_flags_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 1
    said = capsys.readouterr().err
    assert "no AWS credentials" in said or "no AWS region" in said
    assert "no `sinfo`" in said
    assert "--queue, --spot-queue, --partition" in said


@pytest.mark.parametrize("name", ["config.yaml", "routing.yaml", "README.md"])
def test_what_is_there_is_named_and_stays(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / name).write_text("mine\n")
    assert main(["init", "mine", "--partition", "p"]) == 1
    assert f"mine/{name} is there already" in capsys.readouterr().err
    assert [one.name for one in (folder / "mine").iterdir()] == [name]
    assert (folder / "mine" / name).read_text() == "mine\n"


def test_a_link_to_nowhere_is_there_too(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine/config.yaml").symlink_to("elsewhere")
    assert main(["init", "mine", "--partition", "p"]) == 1
    assert not (folder / "mine/elsewhere").exists()


def test_other_files_of_the_folder_stay(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine/notes").write_text("mine\n")
    assert main(["init", "mine", "--partition", "p"]) == 0
    assert {one.name for one in (folder / "mine").iterdir()} == {
        *("notes", "config.yaml", "routing.yaml", "README.md")
    }
    assert not [one for one in folder.iterdir() if one.name.startswith(".mine")]


def test_a_file_that_comes_meanwhile_is_not_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = writing._move

    def late(draft: Path, whole: Path, files: Any) -> None:
        whole.mkdir()
        (whole / "config.yaml").write_text("theirs\n")
        move(draft, whole, files)

    monkeypatch.setattr(writing, "_move", late)
    with pytest.raises(TakedaError, match=r"config.yaml came to be meanwhile"):
        writing.write_all(folder / "mine", {"config.yaml": "a", "routing.yaml": "b"})
    assert [one.name for one in (folder / "mine").iterdir()] == ["config.yaml"]
    assert (folder / "mine/config.yaml").read_text() == "theirs\n"


def test_nothing_is_left_of_what_could_not_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(TakedaError, match="No space left"):
        writing.write_all(folder / "mine", {"config.yaml": "a"})
    assert [one.name for one in folder.iterdir() if "mine" in one.name] == []


def test_a_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--dry-run", "--partition", "p", "mine"]) == 0
    assert "partition: p" in capsys.readouterr().out
    assert not (folder / "mine").exists()


def test_partitions_are_told_apart_by_their_nodes(
    folder: Path, facts: Callable[..., dict[str, Any]]
) -> None:
    sinfo(
        folder,
        "up|dynamic,c7i.large,cr1|od*",
        "up|dynamic,hpc7a.96xlarge,cr2,efa|fast lane",
        "up|dynamic,m7i.2xlarge,cr3|spot-a",
        "up|static,m7i.xlarge,cr4|spot-a",
        "down|(null)|old",
        "up|(null)|other",
    )
    told = facts("mine", "--bucket", "lab-bucket")
    targets = yaml.safe_load(told["files"]["routing.yaml"])["targets"]
    assert targets["hpc"] == {"backend": "slurm", "partition": "od", "instances": ["c7i.large"]}
    assert targets["hpc-efa"]["partition"] == "fast lane" and targets["hpc-efa"]["efa"] is True
    assert targets["hpc-spot"]["instances"] == ["m7i.2xlarge", "m7i.xlarge"]
    assert targets["hpc-spot"]["fallback"] == "hpc"
    assert "old" not in told["files"]["routing.yaml"]


def test_a_cluster_alone_needs_no_s3(folder: Path, facts: Callable[..., dict[str, Any]]) -> None:
    sinfo(folder, "up|(null)|batch*")
    told = facts("mine")
    config = yaml.safe_load(told["files"]["config.yaml"])
    assert "default-storage-provider" not in config and config["latency-wait"] == 60
    assert not any("stage" in line for line in told["next"])


def test_a_slurm_that_does_not_answer_is_a_note(
    folder: Path, facts: Callable[..., dict[str, Any]]
) -> None:
    sinfo(folder, status=1)
    told = facts("mine", "--queue", "q", "--bucket", "lab-bucket")
    assert "Slurm not looked at: sinfo: fatal: no controller" in told["notes"]


def account(monkeypatch: pytest.MonkeyPatch, **slots: list[finding.Candidate]) -> None:
    monkeypatch.setattr(init, "FOLDER", Path("profiles/takeda"))
    monkeypatch.setattr(finding, "look", lambda region: finding.Found(dict(slots)))


def test_of_several_one_has_to_be_named(
    facts: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [finding.Candidate("q1"), finding.Candidate("q2")]
    account(monkeypatch, queue=two, bucket=[finding.Candidate("lab-bucket")])
    told = facts(status=1)
    (missing,) = told["missing"]
    assert missing["flag"] == "--queue" and "q1, q2 are there" in missing["what"]
    assert facts("--queue", "q2")["values"]["bucket"] == "lab-bucket"


def test_queues_are_of_the_kind_of_their_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    def environment(name: str, kind: str, **words: Any) -> dict[str, Any]:
        resources = {"type": kind, "maxvCpus": 8, **words}
        return {"computeEnvironmentArn": name, "computeResources": resources}

    def queue(name: str, *behind: str, state: str = "ENABLED") -> dict[str, Any]:
        order = [{"order": n, "computeEnvironment": one} for n, one in enumerate(behind)]
        return {"jobQueueName": name, "state": state, "computeEnvironmentOrder": order[::-1]}

    answers = {
        "describe_compute_environments": [
            environment("spot", "SPOT", instanceTypes=["c7i", "m7i"]),
            environment("od", "EC2", instanceTypes=["optimal"], maxvCpus=64),
            environment("fargate", "FARGATE"),
            {"computeEnvironmentArn": "eks"},
        ],
        "describe_job_queues": [
            queue("first-spot", "spot", "od"),
            queue("off", "od", state="DISABLED"),
            queue("serverless", "fargate"),
            queue("eks", "eks"),
            queue("gone", "deleted"),
        ],
    }
    monkeypatch.setattr(finding, "_pages", lambda service, region, name, key: answers[name])
    found = finding.Found()
    finding._queues(found, None)
    assert found.by_slot == {
        "spot_queue": [finding.Candidate("first-spot", "SPOT: c7i, m7i", ("c7i", "m7i"), 64)],
        "fargate_queue": [finding.Candidate("serverless", "FARGATE", (), 8)],
    }


def test_roles_are_those_that_a_service_may_assume() -> None:
    def trust(*services: str, effect: str = "Allow") -> dict[str, Any]:
        return {"Statement": [{"Effect": effect, "Principal": {"Service": list(services)}}]}

    assert list(finding._services(trust("omics.amazonaws.com"))) == ["omics.amazonaws.com"]
    assert list(finding._services(trust("omics.amazonaws.com", effect="Deny"))) == []
    assert list(finding._services({"Statement": {"Effect": "Allow", "Principal": "*"}})) == []
    assert list(finding._services(None)) == []


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_and_offered_what_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account(
        monkeypatch,
        queue=[finding.Candidate("q1"), finding.Candidate("q2", "EC2: c7i", ("c7i",))],
        spot_queue=[finding.Candidate("s1", "SPOT: c7i")],
        omics_role=[finding.Candidate(f"{ROLE}omics")],
        bucket=[finding.Candidate("lab-bucket")],
    )
    # Spot as offered; the second queue; no role; a bucket that is none, then the one offered; all else as it is
    monkeypatch.setattr(init.sys, "stdin", _Terminal("\n2\n-\nNO BUCKET\n\n\nreg/w:1\n"))
    asked = _Terminal()
    monkeypatch.setattr(init.sys, "stderr", asked)
    assert main(["init", "mine"]) == 0
    policy = yaml.safe_load((folder / "mine/routing.yaml").read_text())
    assert {name: one["queue"] for name, one in policy["targets"].items()} == {
        "batch-spot": "s1",
        "batch-od": "q2",
    }
    assert policy["targets"]["batch-od"]["instances"] == ["c7i"]
    assert policy["targets"]["batch-od"]["image"] == "reg/w:1"
    assert "--bucket 'NO BUCKET'" in asked.getvalue()
    assert "Batch queue of Spot instances [s1]: " in asked.getvalue()


def test_who_stops_answering_has_nothing_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init.sys, "stdin", _Terminal("q\n"))
    asked = _Terminal()
    monkeypatch.setattr(init.sys, "stderr", asked)
    assert main(["init", "mine"]) == 1
    assert "nothing was written" in asked.getvalue() and not (folder / "mine").exists()


SNAKEFILE = """
rule all:
    input: "out/A.txt", "wide.txt"
rule work:
    input: "in/{s}.txt"
    output: "out/{s}.txt"
    threads: 64
    shell: "cp {input} {output}"
rule wide:
    output: "wide.txt"
    resources: mpi="srun", tasks=2
    shell: "{resources.mpi} hostname > {output}"
"""


@pytest.fixture
def own_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One in which no other test has made queues or buckets."""
    from snakemake_executor_takeda.sandbox import control

    state = Path(tempfile.mkdtemp(prefix="takeda-sandbox-"))
    options = control.Options(services_port=0, moto_port=0, vcpus=4, memory_mib=16_384)
    try:
        control.up(state, options)
        for name, value in control.environment(state).items():
            monkeypatch.setenv(name, value)
        yield
    finally:
        control.down(state)
        shutil.rmtree(state, ignore_errors=True)


@pytest.mark.sandbox
def test_the_sandbox_has_all_that_a_profile_needs(
    folder: Path,
    own_sandbox: None,
    facts: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sinfo(folder, "up|(null)|hpc*")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "in").mkdir()
    (folder / "in/A.txt").write_text("a\n")
    told = facts()
    assert told["values"] == {
        "spot_queue": "takeda-sandbox-spot",
        "queue": "takeda-sandbox",
        "partition": "hpc",
        "omics_role": f"{ROLE}takeda-sandbox-omics",
        "bucket": "takeda-sandbox",
        "project": folder.name,
        "job_role": f"{ROLE}takeda-sandbox",
    }
    assert main(["plan", "--json", "--profile", "profiles/takeda"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {row["rule"]: row["target"] for row in plan["rules"]} == {
        "work": "batch-spot",
        "wide": "hpc",
    }
    assert plan["unstaged"]["files"] == 1


def test_the_package_has_the_profiles() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"profiles": "snakemake_executor_takeda/profiles"}
    assert len(filling.names()) >= 8

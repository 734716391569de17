"""`takeda stage` and what `takeda plan` says of inputs that are not in S3, against the sandbox's S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from snakemake_executor_takeda import staging
from snakemake_executor_takeda.cli import main

pytestmark = pytest.mark.sandbox

PIPELINE = """
rule all:
    input: "out/A.txt", "out/B.txt"
rule work:
    input: "data/{s}.fq", "ref", other="made/{s}.txt"
    output: "out/{s}.txt"
    resources: runtime=10
    shell: "touch {output}"
rule make:
    output: "made/{s}.txt"
    shell: "touch {output}"
"""


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox_env: dict[str, str]
) -> Iterator[Path]:
    for name, value in sandbox_env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(PIPELINE)
    for name in ("data", "made", "ref/deep"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("data/A.fq", "data/B.fq", "ref/genome.fa", "ref/deep/index.bin", "made/A.txt"):
        (tmp_path / name).write_text(f"what {name} holds")
    yield tmp_path


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"takeda-sandbox/{tmp_path.name}"


def storage(prefix: str) -> list[str]:
    return [
        *("--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{prefix}"),
        *("--shared-fs-usage", "none", "--takeda-batch-queue", "q"),
    ]


def keys(prefix: str) -> set[str]:
    bucket, _, below = prefix.partition("/")
    found = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=below)
    return {one["Key"].removeprefix(f"{below}/") for one in found.get("Contents", ())}


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([argv[0], "--json", *argv[1:]]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_pipeline_of_local_files_is_planned_staged_and_complete(
    project: Path, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = as_json(capsys, "plan", *storage(prefix))
    jobs = {row["rule"]: row["jobs"] for row in plan["rules"]}
    assert jobs == {"make": 2, "work": 2}, "made/A.txt is a rule's to make, here or not"
    assert plan["unstaged"]["files"] == 3
    assert keys(prefix) == set(), "plan uploads nothing"

    done = as_json(capsys, "stage", *storage(prefix))
    assert keys(prefix) == {"data/A.fq", "data/B.fq", "ref/genome.fa", "ref/deep/index.bin"}
    assert done["sent_bytes"] == done["bytes"] == sum(file["bytes"] for file in done["files"])
    body = boto3.client("s3").get_object(
        Bucket="takeda-sandbox", Key=f"{prefix.partition('/')[2]}/ref/deep/index.bin"
    )
    assert body["Body"].read() == b"what ref/deep/index.bin holds"

    assert as_json(capsys, "plan", *storage(prefix))["unstaged"]["files"] == 0
    assert as_json(capsys, "stage", *storage(prefix))["files"] == []


def test_a_changed_file_is_said_and_replaced_only_when_asked(
    project: Path, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage", *storage(prefix)]) == 0
    (project / "data/A.fq").write_text("other and longer than before")
    capsys.readouterr()
    assert main(["stage", *storage(prefix)]) == 0
    said = capsys.readouterr()
    assert "data/A.fq in S3 is not as the file here: --update" in said.err
    assert "nothing" in said.out
    done = as_json(capsys, "stage", "--update", *storage(prefix))
    assert [file["path"] for file in done["files"]] == ["data/A.fq"]
    key = f"{prefix.partition('/')[2]}/data/A.fq"
    found = boto3.client("s3").get_object(Bucket="takeda-sandbox", Key=key)["Body"].read()
    assert found == b"other and longer than before"


def test_what_is_ended_goes_on_with_the_parts_that_are_there(
    project: Path, prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = 5 * 2**20  # the least that S3 takes
    monkeypatch.setattr(staging, "PART_BYTES", part)
    large = b"".join(bytes([n]) * part for n in range(3)) + b"end"
    (project / "data/A.fq").write_bytes(large)
    whole = staging._part

    def ended(s3: Any, one: Any, upload_id: str, number: int, **rest: Any) -> Any:
        if number >= 3:
            raise KeyboardInterrupt
        return whole(s3, one, upload_id, number, **rest)

    monkeypatch.setattr(staging, "_part", ended)
    assert main(["stage", "--threads", "1", *storage(prefix)]) == 1
    assert "Say the same command to go on" in capsys.readouterr().err
    assert "data/A.fq" not in keys(prefix)

    monkeypatch.setattr(staging, "_part", whole)
    done = as_json(capsys, "stage", *storage(prefix))
    assert done["found_bytes"] == 2 * part
    key = f"{prefix.partition('/')[2]}/data/A.fq"
    s3 = boto3.client("s3")
    assert s3.get_object(Bucket="takeda-sandbox", Key=key)["Body"].read() == large
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="takeda-sandbox", Prefix=key)


def test_parts_of_another_version_of_the_file_are_sent_again(
    project: Path, prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = 5 * 2**20
    monkeypatch.setattr(staging, "PART_BYTES", part)
    s3, key = boto3.client("s3"), f"{prefix.partition('/')[2]}/data/A.fq"
    upload = s3.create_multipart_upload(Bucket="takeda-sandbox", Key=key)["UploadId"]
    s3.upload_part(
        Bucket="takeda-sandbox", Key=key, UploadId=upload, PartNumber=1, Body=b"x" * part
    )
    (project / "data/A.fq").write_bytes(b"y" * (part + 1))
    assert as_json(capsys, "stage", *storage(prefix))["found_bytes"] == 0
    assert s3.get_object(Bucket="takeda-sandbox", Key=key)["Body"].read() == b"y" * (part + 1)


def test_what_somebody_else_puts_there_meanwhile_is_left(
    project: Path, prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    s3, key = boto3.client("s3"), f"{prefix.partition('/')[2]}/data/A.fq"
    upload_all = staging.upload_all

    def after_theirs(*args: Any) -> None:
        s3.put_object(Bucket="takeda-sandbox", Key=key, Body=b"theirs")
        upload_all(*args)

    monkeypatch.setattr(staging, "upload_all", after_theirs)
    assert main(["stage", *storage(prefix)]) == 0
    assert "data/A.fq is there by now" in capsys.readouterr().err
    assert s3.get_object(Bucket="takeda-sandbox", Key=key)["Body"].read() == b"theirs"
    assert "data/B.fq" in keys(prefix), "the others are uploaded"


def test_a_dry_run_uploads_nothing(
    project: Path, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage", "--dry-run", *storage(prefix)]) == 0
    said = capsys.readouterr().out
    assert f"data/A.fq → s3://{prefix}/data/A.fq" in said
    assert keys(prefix) == set()


def test_without_s3_there_is_nothing_to_stage(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage", "--takeda-slurm-partition", "p"]) == 1
    assert "default-storage-provider: s3" in capsys.readouterr().err

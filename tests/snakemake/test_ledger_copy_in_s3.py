"""A run whose machine is gone is gone on with in a fresh clone, from the ledger's copy in S3."""

import json
import shutil

import boto3
import pytest
from runs_that_are_killed import KilledRun, end_controllers, tasks, wait_until

pytestmark = pytest.mark.sandbox
SNAKEFILE = """
rule all:
    input: expand("{n}.out", n=range(3))
rule work:
    output: "{n}.out"
    shell: "touch BEGUN/{wildcards.n}.$$; while [ ! -e BEGUN/go ]; do sleep 0.1; done; touch {output}"
"""
POLICY = """
version: 1
targets: {batch: {backend: batch, queue: takeda-sandbox}}
default: batch
"""


@pytest.fixture
def clones(project, tmp_path, sandbox_env):
    """Two directories with one workflow, the flags of its runs, and where its jobs note that they begin."""
    begun = tmp_path / "begun"
    begun.mkdir()
    bucket = tmp_path.name.replace("_", "-").lower()
    boto3.client("s3").create_bucket(Bucket=bucket)
    flags = [
        *("--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{bucket}/run"),
        *("--shared-fs-usage", "none", "--takeda-ledger-copy"),
    ]
    made = []
    for name in ("one", "other"):
        clone = type(project)(tmp_path / name)
        clone.path.mkdir()
        clone.write("Snakefile", SNAKEFILE.replace("BEGUN", str(begun)))
        clone.write("routing.yaml", POLICY)
        made.append(clone)
    yield made, flags, begun, bucket
    (begun / "go").touch()
    end_controllers()


def test_a_fresh_clone_goes_on_with_what_runs(clones):
    (one, other), flags, begun, bucket = clones
    KilledRun(one, *flags).kill_when(lambda: len(list(begun.iterdir())) == 3, "all begin")
    sent = {row[0] for row in tasks(one, "submission.external_id")}
    shutil.rmtree(one.path)
    second = KilledRun(other, *flags)
    log = other.path / ".snakemake/takeda/events.jsonl"
    wait_until(lambda: log.exists() and len(other.events("reattached")) == 3, "all are taken up")
    (begun / "go").touch()
    log = second.ends_well()
    assert "is known from s3://" in log and "jobs under way: 3 on batch" in log
    assert len(list(begun.iterdir())) == 4, "each began once"
    assert tasks(other) == [("succeeded",)] * 3
    assert {row[0] for row in tasks(other, "submission.external_id")} == sent
    head = json.loads(
        boto3.client("s3")
        .get_object(Bucket=bucket, Key="run/.takeda/ledger/Snakefile/head.json")["Body"]
        .read()
    )
    assert (head["run"]["state"], head["holder"]) == ("ended", None)


def test_without_s3_the_flag_is_refused_with_a_clear_error(clones):
    (one, _), _, _, _ = clones
    result = one.run("--takeda-ledger-copy")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "--takeda-ledger-copy is for runs that keep their files in S3" in result.stderr
    assert not (one.path / ".snakemake/takeda").exists()

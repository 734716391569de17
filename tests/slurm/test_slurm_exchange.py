"""What a run and its tasks hand over: by folders that both see, or by S3."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from slurm_builders import context, submission, target

from snakemake_executor_takeda.backends.slurm.arguments import job_request
from snakemake_executor_takeda.backends.slurm.exchange import (
    S3Records,
    SharedFolders,
    ThroughS3,
    exchange_of,
)
from snakemake_executor_takeda.values import TakedaError

PREFIX = "s3://bucket/run/.takeda/r1"


class FakeS3:
    def __init__(self):
        self.objects = {}
        self.calls = []
        self.is_down = False

    def put_object(self, Bucket, Key, Body):
        self.objects[f"{Bucket}/{Key}"] = Body

    def get_object(self, Bucket, Key):
        self._check(f"get {Key}")
        if f"{Bucket}/{Key}" not in self.objects:
            answer = {"Error": {"Code": "NoSuchKey"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
            raise ClientError(answer, "GetObject")
        return {"Body": io.BytesIO(self.objects[f"{Bucket}/{Key}"])}

    def get_paginator(self, name):
        assert name == "list_objects_v2"
        return self

    def paginate(self, Bucket, Prefix):
        self._check("list")
        keys = [key.partition("/")[2] for key in self.objects]
        yield {"Contents": [{"Key": key} for key in keys if key.startswith(Prefix)]}
        yield {}

    def _check(self, call):
        self.calls.append(call)
        if self.is_down:
            raise EndpointConnectionError(endpoint_url="http://s3")


def record(task_id, code=0, **more):
    facts = {"task_id": task_id, "exit_code": code, "started": 1.0, "ended": 3.0, **more}
    return json.dumps(facts).encode()


def afar(tmp_path):
    return replace(context(tmp_path), remote_prefix=PREFIX, sources_uri=f"{PREFIX}/sources.tar.xz")


@pytest.fixture
def s3():
    return FakeS3()


def test_records_are_read_once_each(s3):
    records = S3Records(s3, f"{PREFIX}/exits")
    s3.objects["bucket/run/.takeda/r1/exits/s1-t0.json"] = record("s1-t0", log_tail=["a", "b"])
    s3.objects["bucket/run/.takeda/r1/exits/s1-t1.json"] = record("s1-t1", 7)
    s3.objects["bucket/run/.takeda/r1/exits/s1-t2.json"] = b"{"
    assert records.names() == {"s1-t0", "s1-t1"}
    assert records.names() == {"s1-t0", "s1-t1"}
    assert sorted(s3.calls).count("get run/.takeda/r1/exits/s1-t0.json") == 1
    assert (records.read("s1-t1").exit_code, records.read("s1-t0").log_tail) == (7, ("a", "b"))
    assert records.read("s1-t9") is None


def test_a_storage_that_does_not_answer_ends_nothing(s3):
    records = S3Records(s3, f"{PREFIX}/exits")
    s3.objects["bucket/run/.takeda/r1/exits/s1-t0.json"] = record("s1-t0")
    assert records.names() == {"s1-t0"}
    s3.is_down = True
    assert records.names() == {"s1-t0"}
    assert records.read("s1-t1") is None
    assert records.read("s1-t0").exit_code == 0


def test_nothing_of_this_machine_reaches_the_cluster(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", "1")
    exchange = ThroughS3(afar(tmp_path), s3)
    on = target(workdir="/fsx/100%", scratch="/fsx/scratch")
    sent = submission([("true",)] * 3, on=on)
    request = exchange.placed(job_request(sent, on.options, tmp_path, tmp_path), sent)
    assert request.workdir == "/fsx/100%"
    assert request.log == "/fsx/100%%/takeda-align-1_%a.log"
    assert request.environment.keys() == {"SLURM_GET_USER_ENV", "PATH"}
    assert exchange.put_manifest(sent, b"x") == f"{PREFIX}/manifests/s1"
    assert s3.objects["bucket/run/.takeda/r1/manifests/s1"] == b"x"
    assert exchange.scratch(on) == Path("/fsx/scratch")
    assert exchange.on_nodes(sent).target.options.python == "python3"
    named = target(python="/opt/python")
    assert exchange.on_nodes(submission(on=named)).target.options.python == "/opt/python"


def test_shared_folders_bring_the_callers_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setenv("SLURM_JWT", "secret")
    exchange = SharedFolders(context(tmp_path))
    sent = submission()
    request = job_request(sent, sent.target.options, tmp_path, tmp_path)
    environment = exchange.placed(request, sent).environment
    assert environment["MINE"] == "1" and "SLURM_JWT" not in environment


def test_which_of_the_two(tmp_path, monkeypatch):
    monkeypatch.setattr("snakemake_executor_takeda.backends.aws.client", lambda *words: FakeS3())
    near, far = context(tmp_path), afar(tmp_path)

    def kind(where, from_afar, *targets):
        return type(exchange_of(targets or [target()], where, from_afar=from_afar))

    assert kind(near, False) is kind(near, True) is kind(far, False) is SharedFolders
    assert kind(far, True) is ThroughS3
    assert kind(far, False, target(exchange="s3")) is ThroughS3
    assert kind(far, True, target(exchange="shared"), target()) is SharedFolders
    with pytest.raises(TakedaError, match="have one `exchange`"):
        kind(far, True, target(exchange="shared"), target(exchange="s3"))
    with pytest.raises(TakedaError, match="default-storage-provider: s3"):
        kind(near, True, target(exchange="s3"))


@pytest.mark.sandbox
def test_the_worker_leaves_the_end_of_its_log_in_s3(sandbox_env, tmp_path):
    import boto3

    from snakemake_executor_takeda.worker.manifest import encode_manifest

    s3 = boto3.client("s3")
    bucket = f"exits-{os.urandom(4).hex()}"
    where = {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    script = "for n in $(seq 50); do echo line $n; done; exit 3"
    sent = submission([("sh", "-c", script)])
    manifest = tmp_path / "manifest"
    manifest.write_bytes(encode_manifest(sent, context(tmp_path)))
    words = ["--manifest", str(manifest), "--index", "0", "--exit-records", f"s3://{bucket}/exits"]
    log = tmp_path / "task.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "snakemake_executor_takeda.worker", *words]
        done = subprocess.run(command, stdout=output, stderr=output, check=False, timeout=60)
    assert done.returncode == 3
    records = S3Records(s3, f"s3://{bucket}/exits")
    assert records.names() == {"s1-t0"}
    left = records.read("s1-t0")
    assert (left.exit_code, left.log.partition(":")[2]) == (3, str(log))
    assert left.log_tail == tuple(f"line {n}" for n in range(21, 51))

"""Registration: inline or by S3, with a registry map, once under two controllers; and pruning."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.healthomics import pruning, registry
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.backends.healthomics.registry import Placing, Registry
from snakemake_executor_takeda.cli import main
from tests.healthomics.omics_in_process import Wire
from tests.sandbox.omics_client import WDL, Engine, Omics, packed

MAP = {
    "registryMappings": [
        {"upstreamRegistryUrl": "quay.io", "ecrRepositoryPrefix": "quay"},
    ]
}


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    omics = Omics(tmp_path, Engine(), monkeypatch)
    yield Wire(omics)
    omics.engine.is_open = True
    omics.stop()


def package(content: str = "a") -> Package:
    text = f"{WDL}# {content}\n"
    return Package("takeda-w", f"c-{content * 24}", "WDL", "main.wdl", packed(main__wdl=text), {})


def fast(wire: Wire, **more: Any) -> Registry:
    return Registry(wire.client(), placing=Placing(poll_seconds=0.01, **more))


def versions(wire: Wire, workflow_id: str) -> list[str]:
    items = wire.omics.call("ListWorkflowVersions", workflowId=workflow_id)["items"]
    return sorted(item["versionName"] for item in items)


def test_versions_lie_beneath_one_workflow_and_are_found_again(wire: Wire) -> None:
    first = fast(wire).ensure(package("a"))
    second = fast(wire).ensure(package("b"))
    assert first.workflow_id == second.workflow_id
    assert versions(wire, first.workflow_id) == [first.version, second.version]
    wire.calls.clear()
    one = fast(wire)
    assert one.ensure(package("a")) == first
    assert one.ensure(package("a")) == first
    assert not {"CreateWorkflow", "CreateWorkflowVersion"} & set(wire.calls)
    assert wire.calls["ListWorkflows"] == 1, "what was found is remembered"


def test_two_controllers_at_once(wire: Wire) -> None:
    found = []
    barrier = threading.Barrier(4)

    def register() -> None:
        barrier.wait()
        found.append(fast(wire).ensure(package("a")))

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert versions(wire, found[0].workflow_id) == [found[0].version]


def test_a_deleted_workflow_is_registered_again(wire: Wire) -> None:
    """Its requestId is spent."""
    found = []
    for _ in range(3):
        registered = fast(wire).ensure(package("a"))
        found.append(wire.omics.call("GetWorkflow", id=registered.workflow_id)["uuid"])
        for name in versions(wire, registered.workflow_id):
            wire.omics.call(
                "DeleteWorkflowVersion", workflowId=registered.workflow_id, versionName=name
            )
        wire.omics.call("DeleteWorkflow", id=registered.workflow_id)
    assert len(set(found)) == 3


def test_a_definition_that_may_not_be_put_to_s3() -> None:
    class Refusing:
        def put_object(self, **request: Any) -> None:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject")

    one = Registry(None, Refusing, Placing("s3://bucket/d"))  # type: ignore[arg-type, return-value]
    large = replace(package("a"), definition_zip=b"x" * (registry.MAX_INLINE_BYTES + 1))
    with pytest.raises(SubmissionError) as caught:
        one._definition(large, large.version)
    assert "could not be put to s3://bucket/d/takeda-w/" in caught.value.reason
    assert "s3:PutObject" in caught.value.advice


def test_a_registry_map_is_registered_and_is_part_of_the_version(wire: Wire) -> None:
    plain = fast(wire).ensure(package("a"))
    mapped = fast(wire, registry_map=MAP).ensure(package("a"))
    assert mapped.version != plain.version
    found = wire.omics.call(
        "GetWorkflowVersion", workflowId=mapped.workflow_id, versionName=mapped.version
    )
    assert found["containerRegistryMap"]["registryMappings"] == MAP["registryMappings"]
    assert Placing(registry_map=MAP).version_of(package("a")) == mapped.version


class FakeS3:
    def __init__(self) -> None:
        self.put: dict[str, bytes] = {}

    def put_object(self, **request: Any) -> None:
        self.put[f"s3://{request['Bucket']}/{request['Key']}"] = request["Body"]


@pytest.mark.parametrize("size", [registry.MAX_INLINE_BYTES, registry.MAX_INLINE_BYTES + 1])
def test_a_large_definition_goes_by_s3(size: int) -> None:
    s3 = FakeS3()
    placing = Placing("s3://bucket/definitions")
    one = Registry(None, lambda: s3, placing)  # type: ignore[arg-type, return-value]
    large = replace(package("a"), definition_zip=b"x" * size)
    definition = one._definition(large, large.version)
    uri = f"s3://bucket/definitions/takeda-w/{large.version}.zip"
    if size > registry.MAX_INLINE_BYTES:
        assert definition["definitionUri"] == uri
        assert "definitionZip" not in definition
        assert s3.put == {uri: large.definition_zip}
    else:
        assert definition["definitionZip"] == large.definition_zip
        assert s3.put == {}


def test_a_definition_uri_that_is_too_long_is_named() -> None:
    placing = Placing("s3://bucket/" + "d" * 250)
    one = Registry(None, FakeS3, placing)  # type: ignore[arg-type]
    large = replace(package("a"), definition_zip=b"x" * 5_000_000)
    with pytest.raises(SubmissionError, match=r"longer than the 256 characters.*definition_uri"):
        one._definition(large, large.version)


def test_what_the_service_finds_wrong_is_told(wire: Wire) -> None:
    bad = replace(package("a"), definition_zip=packed(main__wdl="workflow w { call nobody }"))
    with pytest.raises(SubmissionError, match=r"HealthOmics does not take main\.wdl: FAILED"):
        fast(wire).ensure(bad)
    # The failed workflow is not in the way of the corrected one.
    assert fast(wire).ensure(package("b")).version == package("b").version


@pytest.mark.parametrize("engine", ["CWL", "NEXTFLOW"])
def test_what_the_sandbox_lacks_is_no_fault_of_the_workflow(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    main_file = {"CWL": "wf.cwl", "NEXTFLOW": "wf.nf"}[engine]
    one = Package("takeda-n", "c-1", engine, main_file, _zip(main_file), {})
    with pytest.raises(SubmissionError, match=r"FAILED: the sandbox found no") as told:
        fast(wire).ensure(one)
    assert "the workflow is not at fault" in str(told.value)
    assert "correct" not in str(told.value)


def _zip(name: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, "x")
    return made.getvalue()


def version(name: str, day: int, *, in_use: bool = False) -> pruning.Version:
    made = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return pruning.Version("1", name, made, "ACTIVE", in_use)


def test_the_newest_and_those_in_use_stay() -> None:
    every = [
        version("c-3", 3),
        version("c-1", 1, in_use=True),
        version("c-0", 0),
        version("c-2", 2),
    ]
    assert [one.name for one in pruning.prunable(every, 1)] == ["c-0", "c-2"]
    assert [one.name for one in pruning.prunable(every, 3)] == ["c-0"]
    assert pruning.prunable(every, 4) == []


@pytest.fixture
def registered(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    monkeypatch.setattr("snakemake_executor_takeda.backends.aws.client", lambda _: wire.client())
    made = [fast(wire).ensure(package(letter)) for letter in "abc"]
    wire.omics.call(
        "CreateWorkflowVersion",
        workflowId=made[0].workflow_id,
        versionName="by-hand",
        engine="WDL",
        main="main.wdl",
        definitionZip=package().definition_zip,
    )
    return made[0].workflow_id, [str(one.version) for one in made]


def test_prune_shows_by_default_and_removes_when_told(
    wire: Wire, registered: tuple[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    workflow_id, names = registered
    assert main(["handoff", "prune", "w", "--keep", "1"]) == 0
    shown = capsys.readouterr().out
    assert "2 versions would be with --yes" in shown
    assert versions(wire, workflow_id) == ["by-hand", *names]
    wire.omics.start_run(workflow_id, workflowVersionName=names[0], name="open")
    assert main(["handoff", "prune", "takeda-w", "--keep", "1", "--yes", "--json"]) == 0
    facts = {one["version"]: one for one in json.loads(capsys.readouterr().out)["versions"]}
    assert facts[names[0]]["in_use"]
    assert not facts[names[0]]["removed"]
    assert facts[names[1]]["removed"]
    assert versions(wire, workflow_id) == ["by-hand", names[0], names[2]]


def test_prune_of_nothing(
    wire: Wire, registered: tuple[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["handoff", "prune", "nobody", "--keep", "1"]) == 1
    assert "no hand-off has registered a workflow takeda-nobody" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["handoff", "prune", "w", "--keep", "0"])
    assert caught.value.code == 2

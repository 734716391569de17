"""The backend against the sandbox's HealthOmics, which runs every workflow for real."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.healthomics import batches
from snakemake_executor_takeda.values import FailureKind, File, NamedFiles, TakedaError
from tests.healthomics.conftest import Cloud, Controller, job, wait_for, words_job

pytestmark = pytest.mark.sandbox

Controllers = Callable[..., Controller]


def write(tmp_path: Path, name: str, body: str) -> Path:
    (tmp_path / name).write_text(f"version 1.0\n{body}\n")
    return tmp_path


def one_task(name: str, command: str) -> str:
    return (
        f"workflow {name} {{ call t output {{ File o = t.o }} }}\n"
        f"task t {{ command <<< {command} >>> output {{ File o = stdout() }} }}"
    )


def test_a_hand_off_ends_with_its_outputs_in_place(cloud: Cloud, controllers: Controllers) -> None:
    controller = controllers()
    controller.backend.check()
    run_id, outcome = controller.run(words_job(cloud, least="2"))
    assert outcome.succeeded, outcome
    assert cloud.text("results/table.txt") == "# hi -\n3 c\n2 a\n2 b\n"
    assert cloud.text("results/one.counts") == "2 a\n1 b\n1 c\n"
    assert cloud.text("results/two.counts") == "1 b\n2 c\n1 d\n"
    run = cloud.omics.get_run(id=run_id)
    assert run["status"] == "COMPLETED"
    assert run["storageType"] == "DYNAMIC"
    assert run["tags"]["takeda:rule"] == "call_words"
    assert run["tags"]["takeda:run"].startswith("run-")
    assert run["parameters"]["least"] == 2
    tasks = cloud.omics.list_run_tasks(id=run_id)["items"]
    assert sorted(task["name"].split("-")[0] for task in tasks) == [
        "count",
        "count",
        "digest",
        "merge",
    ]


def test_an_equal_request_finds_the_run_it_started(cloud: Cloud, controllers: Controllers) -> None:
    first, _ = controllers().run(words_job(cloud))
    cloud.s3.delete_object(Bucket=cloud.bucket, Key="results/table.txt")
    second, outcome = controllers().run(words_job(cloud))
    assert (second, outcome.succeeded) == (first, True)
    assert cloud.text("results/table.txt").startswith("# hi")
    cloud.s3.put_object(Bucket=cloud.bucket, Key="in/one.txt", Body=b"z\n")
    third, _ = controllers().run(words_job(cloud))
    assert third != first, "other content under the same name is another request"


def test_a_run_whose_files_are_gone_is_not_found_again(
    cloud: Cloud, controllers: Controllers
) -> None:
    """Told by uuids: HealthOmics gives the ids of deleted runs to others."""
    uuids = []
    run_id, outcome = controllers().run(words_job(cloud))
    uuids.append(outcome.detail["uuid"])
    for key in cloud.keys(f"runs/{run_id}/"):
        cloud.s3.delete_object(Bucket=cloud.bucket, Key=key)
    run_id, outcome = controllers().run(words_job(cloud))
    assert outcome.succeeded
    uuids.append(outcome.detail["uuid"])
    cloud.omics.delete_run(id=run_id)
    _, outcome = controllers().run(words_job(cloud))
    assert outcome.succeeded
    uuids.append(outcome.detail["uuid"])
    assert len(set(uuids)) == 3


def test_settings_of_a_large_batch_lie_in_s3(cloud: Cloud) -> None:
    settings = [{"runSettingId": str(number)} for number in range(101)]
    first = batches.run_settings(lambda: cloud.s3, settings, cloud.uri("runs"))
    assert batches.run_settings(lambda: cloud.s3, settings, cloud.uri("runs")) == first
    (key,) = cloud.keys("runs/")
    assert first == {"s3UriSettings": cloud.uri(key)}
    assert json.loads(cloud.text(key)) == settings


def test_two_controllers_register_and_start_once(cloud: Cloud, controllers: Controllers) -> None:
    pair = [controllers(), controllers()]
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda c=one: found.append(c.run(words_job(cloud, label=cloud.bucket))[0])
        )
        for one in pair
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    named = cloud.omics.list_workflows(name="takeda-words")["items"]
    assert len(named) == 1
    versions = cloud.omics.list_workflow_versions(workflowId=named[0]["id"])["items"]
    assert len(versions) == 1


def test_a_failing_task_is_explained_and_a_rerun_is_a_new_run(
    cloud: Cloud, controllers: Controllers, tmp_path: Path
) -> None:
    write(tmp_path, "fail.wdl", one_task("fail", "echo the reason >&2; exit 3"))
    controller = controllers(tmp_path)
    failing = job("fail.wdl", outputs={"o": [cloud.uri("results/o")]})
    run_id, outcome = controller.run(failing)
    assert outcome.kind == FailureKind.USER
    assert "RUN_TASK_FAILED" in outcome.reason
    assert "task t" in outcome.reason
    assert "exit status 3" in outcome.reason
    assert outcome.log_tail[-1] == "the reason"
    assert f"run/{run_id}/task/" in outcome.log_location
    assert outcome.advice
    again, _ = controller.run(failing)
    assert again != run_id


def test_out_of_memory_is_told_apart(
    cloud: Cloud, controllers: Controllers, tmp_path: Path
) -> None:
    write(tmp_path, "oom.wdl", one_task("oom", "kill -9 $$"))
    _, outcome = controllers(tmp_path).run(job("oom.wdl", outputs={"o": [cloud.uri("o")]}))
    assert outcome.kind == FailureKind.OUT_OF_MEMORY
    assert "memory" in outcome.advice


def test_cancel_ends_the_run_with_all_its_processes(
    cloud: Cloud, controllers: Controllers, tmp_path: Path, sandbox_dir: Path
) -> None:
    from snakemake_executor_takeda.sandbox import processes
    from snakemake_executor_takeda.sandbox.omics.supervisor import RUN_MARK

    flag = tmp_path / "began"
    write(tmp_path, "slow.wdl", one_task("slow", f"setsid sleep 600 & touch {flag}; sleep 600"))
    controller = controllers(tmp_path)
    active = controller.submit(job("slow.wdl", outputs={"o": [cloud.uri("o")]}))
    run_id = active.accepted.external_id
    wait_for(flag.exists)
    uuid = cloud.omics.get_run(id=run_id)["uuid"]
    assert processes.marked(**{RUN_MARK: uuid})
    controller.backend.cancel([active])
    wait_for(lambda: cloud.run_status(run_id) == "CANCELLED")
    assert processes.marked(**{RUN_MARK: uuid}) == []
    assert cloud.keys(f"runs/{run_id}/") == []
    outcome = controller.finish([active])[run_id]
    assert "cancelled" in outcome.reason
    controller.backend.cancel([active])  # Once more is no error.


def test_one_listing_serves_all_runs(
    cloud: Cloud, controllers: Controllers, tmp_path: Path
) -> None:
    write(tmp_path, "slow.wdl", one_task("slow", "sleep 600"))
    controller = controllers(tmp_path)
    active = [
        controller.submit(job("slow.wdl", outputs={"o": [cloud.uri(f"o{number}")]}))
        if number == 0
        else controller.submit(
            job("slow.wdl", outputs={"o": [cloud.uri(f"o{number}")]}, attempt=number + 1)
        )
        for number in range(5)
    ]
    calls: list[str] = []
    controller.backend._omics.meta.events.register(
        "before-call.omics", lambda model, **_: calls.append(model.name)
    )
    try:
        assert [u for u in controller.backend.poll(active) if u.outcome is not None] == []
        assert calls == ["ListRuns"]
    finally:
        controller.backend.cancel(active)
        controller.finish(active)


def test_a_run_that_was_deleted_is_lost(
    cloud: Cloud, controllers: Controllers, tmp_path: Path
) -> None:
    write(tmp_path, "quick.wdl", one_task("quick", "echo"))
    controller = controllers(tmp_path)
    active = controller.submit(job("quick.wdl", outputs={"o": [cloud.uri("o")]}))
    run_id = active.accepted.external_id
    wait_for(lambda: cloud.run_status(run_id) == "COMPLETED")
    cloud.omics.delete_run(id=run_id)
    assert controller.finish([active])[run_id].kind == FailureKind.LOST


def test_a_mismatch_of_outputs_lists_what_was_produced(
    cloud: Cloud, controllers: Controllers
) -> None:
    _, outcome = controllers().run(words_job(cloud, counts=("one", "two", "three")))
    assert outcome.kind == FailureKind.USER
    assert "wants 3 file(s) of output `counts`, the run made 2" in outcome.reason
    assert "/out/table/table.txt" in outcome.reason


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("workflow w { call nobody }", "broken.wdl:2"),
        (one_task("w", "echo").replace("File o", "File p", 1), "no output `o`"),
        ("workflow w { input { Int n } output { File? o = 'x' } }", "needs `n` (Int)"),
    ],
)
def test_a_bad_workflow_is_refused_before_any_call(
    cloud: Cloud, controllers: Controllers, tmp_path: Path, body: str, words: str
) -> None:
    write(tmp_path, "broken.wdl", body)
    with pytest.raises(SubmissionError) as caught:
        controllers(tmp_path).submit(job("broken.wdl", outputs={"o": [cloud.uri("o")]}))
    assert caught.value.kind == FailureKind.CONFIGURATION
    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("handoff", "words"),
    [
        ("absent.wdl", "does not exist"),
        ("main.xyz", "is no workflow that can be handed off"),
        ("ready2run:7830534", "no Ready2Run workflow 7830534"),
        ("", "no `handoff` resource"),
    ],
)
def test_a_hand_off_that_is_no_wdl_file(
    cloud: Cloud, controllers: Controllers, handoff: str, words: str
) -> None:
    with pytest.raises(SubmissionError, match=words):
        controllers().submit(job(handoff, outputs={"o": [cloud.uri("o")]}))


def test_a_ready2run_workflow_with_a_log(cloud: Cloud, controllers: Controllers) -> None:
    rule = replace(
        job("ready2run:1000001", outputs={"table": [cloud.uri("results/lines.txt")]}),
        inputs=(NamedFiles("text", (File("in/two.txt", cloud.uri("in/two.txt")),), False),),
        logs=(File("logs/lines.log", cloud.uri("logs/lines.log")),),
    )
    run_id, outcome = controllers().run(rule)
    assert outcome.succeeded, outcome
    assert cloud.omics.get_run(id=run_id)["workflowType"] == "READY2RUN"
    assert cloud.text("results/lines.txt") == "1\n"
    log = cloud.text("logs/lines.log")
    assert log.startswith(f"run: {run_id}\nuuid: ")
    assert "status: COMPLETED\n" in log
    assert "task\tstatus\tcpus\tmemory_gib" in log
    assert "\nlines.count\tCOMPLETED\t" in log or "\ncount\tCOMPLETED\t" in log
    assert f"== run/{run_id}/engine\n" in log


def test_an_input_that_is_not_there(cloud: Cloud, controllers: Controllers) -> None:
    cloud.s3.delete_object(Bucket=cloud.bucket, Key="in/one.txt")
    with pytest.raises(SubmissionError, match=r"in/one\.txt is not there"):
        controllers().submit(words_job(cloud))


def test_check_names_target_and_value(
    cloud: Cloud, controllers: Controllers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        TakedaError, match=r"target omics: .*s3://no-such-bucket-x.* does not exist"
    ):
        controllers(output_uri="s3://no-such-bucket-x/runs").backend.check()
    monkeypatch.setenv("AWS_ENDPOINT_URL_OMICS", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "snakemake_executor_takeda.backends.aws.client.__kwdefaults__",
        {**aws.client.__kwdefaults__, "max_attempts": 1},
    )
    with pytest.raises(TakedaError, match="HealthOmics does not answer"):
        controllers().backend.check()

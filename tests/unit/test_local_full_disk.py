"""A disk that is full where a local target's tasks are written down: told as that, and nothing is lost."""

import errno
import os
import sys
import time

import pytest

from snakemake_executor_takeda.backends.base import RunContext
from snakemake_executor_takeda.backends.local import LocalBackend, LocalOptions
from snakemake_executor_takeda.full_disks import is_full
from snakemake_executor_takeda.values import (
    Active,
    FailureKind,
    JobSpec,
    Shape,
    Submission,
    Target,
    Task,
)
from snakemake_executor_takeda.worker.objects import Unreachable, write

FULL = f"OSError({errno.ENOSPC}, 'No space left on device', str(self))"
TARGET = Target("here", "local", options=LocalOptions())
TASK = Task("t1", JobSpec(1, "r", {}, 1, Shape(), {}), TARGET, ("true",))
SENT = Submission("s1", "takeda-r-1", TARGET, (TASK,))


@pytest.fixture
def backend(tmp_path):
    one = LocalBackend([TARGET], RunContext("run", tmp_path, tmp_path, None, None, None, tmp_path))
    one.check()
    return one


def ended(backend):
    one = Active(SENT, backend.submit(SENT), frozenset({"t1"}))
    while True:
        for update in backend.poll([one]):
            if update.outcome:
                return update.outcome
        time.sleep(0.02)


def test_a_task_that_cannot_leave_its_record_is_lost(backend, tmp_path, monkeypatch):
    code = (
        f"import pathlib\ndef fail(self, content): raise {FULL}\npathlib.Path.write_bytes = fail\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    outcome = ended(backend)
    assert outcome.kind == FailureKind.LOST
    assert f"below {tmp_path}" in outcome.reason
    assert "the command ended well" in outcome.log_tail[-1]


def test_a_log_that_has_no_room_is_no_bad_node(backend, monkeypatch):
    def start(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backend, "_start", start)
    assert ended(backend).kind == FailureKind.LOST


def test_a_manifest_that_has_no_room_is_told_as_such(tmp_path, monkeypatch):
    def fail(self, content):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(Unreachable) as caught:
        write(str(tmp_path / "manifest"), b"")
    assert is_full(caught.value)

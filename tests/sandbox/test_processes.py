"""Process groups: started, awaited and ended."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from snakemake_executor_takeda.sandbox import processes


def start(tmp_path: Path, *argv: str, **variables: str) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return processes.start(
        argv, environment=environment, directory=tmp_path, output=tmp_path / "out"
    )


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_children_are_awaited_without_threads(
    tmp_path: Path, has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    children: processes.Children[int] = processes.Children()
    for code in range(5):
        children.add(code, start(tmp_path, "sh", "-c", f"exit {code}"))
    ended: dict[int, int] = {}
    while len(children):
        ended.update(children.wait(10))
    assert ended == {code: code for code in range(5)}
    children.close()


def test_a_wake_up_ends_the_wait(tmp_path: Path) -> None:
    children: processes.Children[str] = processes.Children()
    children.wake()
    assert children.wait(None) == []
    children.close()


def test_signals_reach_the_group(tmp_path: Path) -> None:
    children: processes.Children[str] = processes.Children()
    children.add("a", start(tmp_path, "sh", "-c", "sleep 60 & sleep 60"))
    children.signal("a", signal.SIGTERM)
    assert children.wait(10) == [("a", -15)]
    children.signal("a", signal.SIGTERM)
    children.close()


def test_exit_codes_are_a_containers() -> None:
    assert [processes.exit_code(code) for code in (0, 3, -9, -15)] == [0, 3, 137, 143]


def test_the_output_goes_to_the_file(tmp_path: Path) -> None:
    start(tmp_path, "sh", "-c", "echo one; echo two >&2; cat").wait()
    assert (tmp_path / "out").read_text() == "one\ntwo\n"


def test_marked_processes_are_found_and_ended(tmp_path: Path) -> None:
    mark = {"TAKEDA_TEST_MARK": str(tmp_path)}
    process = start(tmp_path, "sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done", **mark)
    while not (tmp_path / "out").read_text():
        pass
    assert process.pid in processes.marked(**mark)
    assert processes.marked(TAKEDA_TEST_MARK=f"{tmp_path}x") == []
    assert processes.end_marked(0.2, **mark) >= 1
    assert process.wait() == -9
    assert processes.marked(**mark) == []


def test_a_pid_with_another_start_is_another_process(tmp_path: Path) -> None:
    ticks = processes.start_ticks(os.getpid())
    assert ticks is not None
    assert processes.is_running(os.getpid(), ticks)
    assert not processes.is_running(os.getpid(), ticks + 1)
    process = start(tmp_path, "true")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.is_running(process.pid)
    process.wait()

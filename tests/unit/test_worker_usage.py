"""A task's CPU time and peak memory, of all its processes together."""

import subprocess
import sys

from snakemake_executor_takeda.worker import usage

HOLD = "import sys; data = bytearray(60_000_000); print(flush=True); sys.stdin.read()"


def test_memory_of_several_processes_is_that_of_all():
    parent = (
        "import subprocess, sys\n"
        f"ones = [subprocess.Popen([sys.executable, '-c', {HOLD!r}], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE) for _ in range(2)]\n"
        "[one.stdout.readline() for one in ones]\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
        "[one.communicate() for one in ones]\n"
    )
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        together = usage.memory_kib(process.pid)
        process.stdin.close()
    assert 120_000_000 / 1024 < together < 220_000_000 / 1024


def test_the_largest_process_counts_however_short_it_lived(monkeypatch):
    monkeypatch.setattr(usage, "FIRST_PAUSE_SECONDS", 60.0)
    looker = usage.Usage()
    burn = "data = bytearray(80_000_000); sum(i * i for i in range(2_000_000))"
    subprocess.run([sys.executable, "-c", burn], check=True)
    used = looker.stop()
    assert used["max_rss_kib"] > 80_000_000 / 1024
    assert used["cpu_seconds"] > 0.05


def test_looks_while_the_task_runs(monkeypatch):
    monkeypatch.setattr(usage, "FIRST_PAUSE_SECONDS", 0.001)
    looks = []
    monkeypatch.setattr(usage, "memory_kib", lambda pid: looks.append(pid) or 10**9)
    looker = usage.Usage()
    while not looks:
        pass
    assert looker.stop()["max_rss_kib"] == 10**9


def test_a_process_that_is_gone_has_nothing():
    assert usage.memory_kib(2**22 + 1) == 0

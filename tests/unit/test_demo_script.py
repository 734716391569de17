"""`scripts/run-demo` with stand-ins: a signal ends Snakemake first, then the sandbox."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/run-demo"
SNAKEMAKE = """#!{python}
import signal, sys, time
log = open("log", "a", buffering=1)
try:
    log.write("snakemake began\\n")
    if "fails" in open("mode").read():
        sys.exit(3)
    while True:
        time.sleep(0.05)
except KeyboardInterrupt:
    time.sleep(0.3)
    log.write("snakemake ended\\n")
    sys.exit(1)
"""
TAKEDA = """#!/bin/sh
[ "$2" = env ] || echo "$@" >> log
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("scripts", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    programs = {
        "scripts/fetch-demo-data": "#!/bin/sh\n",
        ".venv/bin/takeda": TAKEDA,
        ".venv/bin/snakemake": SNAKEMAKE.replace("{python}", sys.executable),
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "mode").write_text("")
    return tmp_path


def said(tree: Path) -> list[str]:
    return (tree / "log").read_text().splitlines() if (tree / "log").exists() else []


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    """What runs under `nohup` or a shell's `&` ignores signals, and so would the script."""
    ignored = [
        number
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) == signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def start(tree: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"TAKEDA_SANDBOX_DIR": str(tree / "sandbox")}
    return subprocess.Popen(
        [tree / "scripts/run-demo", *words], env=environment, start_new_session=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("words", [(), ("--plain",)])
def test_a_signal_ends_snakemake_first(tree: Path, number: int, words: tuple[str, ...]) -> None:
    script = start(tree, *words)
    try:
        while "snakemake began" not in said(tree):
            assert script.poll() is None
            time.sleep(0.02)
        os.killpg(script.pid, number)  # as `timeout` and a terminal do
        assert script.wait(30) == (130 if number == signal.SIGINT else 143)
    finally:
        if script.poll() is None:
            script.kill()
            script.wait()
    last = ["snakemake began", "snakemake ended"]
    assert said(tree)[-3:] == (last if words else [*last, "sandbox down"])


def test_a_failure_is_passed_on(tree: Path) -> None:
    (tree / "mode").write_text("fails")
    assert start(tree).wait(30) == 3
    assert said(tree)[-2:] == ["snakemake began", "sandbox down"]

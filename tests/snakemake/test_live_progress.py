"""A run in a terminal: the table by target, Snakemake's own lines, a Ctrl-C; and the same without one."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from terminal_screen import screen

SNAKEFILE = """
rule all:
    input: "slow", expand("quick.{n}", n=range(3)), "local"
localrules: local
rule local:
    output: "local"
    shell: "echo said on this machine >&2; touch {output}"
rule quick:
    output: "quick.{n}"
    shell: "touch {output}"
rule slow:
    output: "slow"
    shell: "while [ ! -e ../go ]; do sleep 0.2; done; touch {output}"
"""
POLICY = """
version: 1
targets: {here: {backend: local, usd_per_cpu_hour: 3600}}
default: here
"""
HEADING = "takeda  waiting  starting  running  done  failed  interrupted"


class Run:
    """A command whose terminal is ours, of 300 columns and 50 lines."""

    def __init__(self, command, folder):
        self.written = ""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            environment = {**os.environ, "TERM": "xterm"}
            environment.pop("CI", None)
            os.execve(command[0], command, environment)
        size = struct.pack("HHHH", 50, 300, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def read_until(self, condition, seconds=90):
        """Until it holds of the screen, or the command has ended."""
        deadline = time.monotonic() + seconds
        while not condition(screen(self.written)):
            left = deadline - time.monotonic()
            assert left > 0, self.written[-3000:]
            if select.select([self._terminal], [], [], left)[0] and not self._read():
                return

    def _read(self):
        try:
            piece = os.read(self._terminal, 65536)
        except OSError:  # Linux says so once nobody has the terminal any more
            piece = b""
        self.written += piece.decode()
        return piece

    def press(self, keys):
        os.write(self._terminal, keys)

    def end(self):
        """→ exit status."""
        self.read_until(lambda lines: False)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@pytest.fixture
def pipeline(project):
    project.path = project.path / "work"
    project.path.mkdir()
    project.write("Snakefile", SNAKEFILE)
    project.write("routing.yaml", POLICY)
    return project


def row_of(lines):
    """The figures of the one target, where the table is the last that the screen has."""
    if len(lines) > 3 and lines[-3].startswith(HEADING) and lines[-2].startswith("here "):
        return lines[-2].split()[1:]
    return None


def of_log(path):
    """Snakemake's own lines, as its file has them, without those that tell what was said before."""
    (log,) = (path / ".snakemake/log").glob("*.snakemake.log")
    return [line.rstrip() for line in log.read_text().splitlines() if line.strip()]


def test_a_table_stands_below_snakemakes_lines_until_a_ctrl_c(pipeline):
    run = Run(pipeline.command(), pipeline.path)
    run.read_until(lambda lines: (row_of(lines) or [])[:6] == ["0", "0", "1", "3", "0", "0"])
    cost = row_of(screen(run.written))[6]
    run.press(b"\x03")
    assert run.end() == 1

    assert re.fullmatch(r"\$[\d.,]+", cost)
    left = screen(run.written)
    assert not any(line.startswith(HEADING) for line in left)
    assert "said on this machine" in left
    assert "takeda: cancelled 1 job on here (local); none is left" in left
    shown = iter(left)
    missing = [line for line in of_log(pipeline.path) if line not in shown]
    assert missing == [], "each line of the log is on the screen, in this order and unbroken"
    assert "\x1b[?25" not in run.written, "the cursor is never hidden"

    (cancelled,) = pipeline.events("cancelled")
    (end,) = pipeline.events("run_end")
    ended = pipeline.events("succeeded")
    assert len(ended) == 3
    total = sum(event["detail"]["usd"] for event in [*ended, cancelled])
    assert end["detail"]["usd"] == pytest.approx(total, abs=1e-5)
    assert end["detail"]["without_usd"] == 0
    assert any(line.startswith("cost: about $") for line in left)


def test_without_a_terminal_there_are_lines_only_and_the_cost_at_the_end(pipeline):
    (pipeline.path.parent / "go").touch()
    run = pipeline.run("--takeda-progress", "live")
    assert run.returncode == 0, run.stderr
    said = run.stdout + run.stderr
    assert "\x1b" not in said
    assert HEADING not in said
    assert "takeda: --takeda-progress live: no table is shown, as stderr is no terminal" in said
    assert re.search(r"^cost: about \$\S+ on here, as the policy has it$", said, re.MULTILINE)
    (end,) = pipeline.events("run_end")
    assert end["detail"]["usd"] > 0
    assert re.search(r"^ slow .* \$[\d.,]+$", said, re.MULTILINE)


def test_a_wrong_word_is_a_plain_error(pipeline):
    run = pipeline.run("--takeda-progress", "lif")
    assert run.returncode == 1
    assert "--takeda-progress lif: there are auto, live, none; did you mean `live`?" in run.stderr
    assert "Traceback" not in run.stderr

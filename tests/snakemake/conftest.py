"""Runs `snakemake --executor takeda` as a user does: a process, a Snakefile, a policy."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Project:
    """A working directory with a Snakefile and a policy whose one target is this machine."""

    path: Path

    def write(self, name, text):
        (self.path / name).write_text(textwrap.dedent(text))

    def command(self, *arguments):
        snakemake = [sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "50"]
        policy = ["--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.2"]
        return [*snakemake, *policy, *arguments]

    def run(self, *arguments, **environment):
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def events(self, *names):
        lines = (self.path / ".snakemake/takeda/events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [event for event in events if not names or event["event"] in names]


@pytest.fixture
def project(tmp_path):
    one = Project(tmp_path)
    one.write("routing.yaml", "version: 1\ntargets: {here: {backend: local}}\ndefault: here\n")
    return one

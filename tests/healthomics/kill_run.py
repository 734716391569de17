"""Kills the controller between StartRun and the ledger's confirmation, and starts it again.

    python tests/healthomics/kill_run.py --times 20

A controller is a whole `snakemake --executor takeda` with one hand-off. It gets SIGKILL at a random instant
after it has written down that it is about to start the run: while the call is on its way, or after its answer
was lost. The next controller must find the run: one run each, and the right result. Starts a sandbox of its
own; prints the seed, a line for each kill, and a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BINARIES = Path(sys.executable).parent
ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox"
LOST_ANSWER_WINDOW_S = 2.0
"""A controller that got no answer looks again after so long; the ledger lacks the run until then."""
LATENCY_S = 0.6
PATIENCE_S = 300.0
WDL = """version 1.0
workflow greet {
  input { String who }
  call hello { input: who = who }
  output { File text = hello.text }
}
task hello {
  input { String who }
  command <<< echo "hello ~{who}" > text.txt >>>
  output { File text = "text.txt" }
  runtime { cpu: 1  memory: "1 GiB"  container: "ubuntu:22.04" }
}
"""
SNAKEFILE = """
rule greet:
    output: text="results/{who}.txt"
    params: who="{who}"
    resources: handoff="greet.wdl"
    shell: "exit 1"
"""
POLICY = """
version: 1
targets:
  omics: {{backend: healthomics, role_arn: "{role}", output_uri: "s3://{bucket}/runs",
           registration_poll_seconds: 0.1, start_runs_per_second: 100}}
default: omics
"""
Phase = str
BETWEEN: Phase = "between StartRun and the confirmation"
BEFORE: Phase = "before StartRun was heard"
AFTER: Phase = "after the confirmation"


@dataclass(frozen=True)
class Kill:
    """One killed controller and what came after."""

    who: str
    how: str
    after_s: float
    phase: Phase
    runs: int
    """Runs of this request that HealthOmics had in the end."""
    result: str
    restart_s: float


class Trial:
    """A project in a working directory of its own, on the sandbox of the environment."""

    def __init__(self, folder: Path, seed: int) -> None:
        import boto3

        self.folder = folder
        self.random = random.Random(seed)
        self.s3, self.omics = boto3.client("s3"), boto3.client("omics")
        self.bucket = f"kills-{seed}-{os.getpid()}"
        self.s3.create_bucket(Bucket=self.bucket)
        (folder / "greet.wdl").write_text(WDL)
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "routing.yaml").write_text(POLICY.format(role=ROLE, bucket=self.bucket))

    def kill(self, number: int) -> Kill:
        """Kill one controller, then let another finish its work."""
        who = f"w{number}"
        how = self.random.choice(("lost answer", "slow call"))
        window = LOST_ANSWER_WINDOW_S if how == "lost answer" else 2 * LATENCY_S
        after_s = self.random.uniform(0, window)
        fault = (
            ("lost-answer:closed=1", "--times", "1")
            if how == "lost answer"
            else (f"latency={LATENCY_S}",)
        )
        takeda("sandbox", "faults", "set", *fault, "--call", "StartRun")
        since = time.time()
        first = self._snakemake(who)
        try:
            self._wait(first, lambda: self._row(since) is not None)
            if how == "lost answer":
                # The call itself is quick: the answer is lost once the run is there.
                self._wait(first, lambda: self.runs(who))
            time.sleep(after_s)
        finally:
            if first.poll() is None:
                os.killpg(first.pid, signal.SIGKILL)
                first.wait()
        phase = self._phase(who, since)
        takeda("sandbox", "faults", "clear")
        began = time.monotonic()
        second = self._snakemake(who)
        output, _ = second.communicate(timeout=PATIENCE_S)
        if second.returncode:
            raise AssertionError(f"the restart failed:\n{output}")
        key = f"work/results/{who}.txt"
        result = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()
        return Kill(
            who,
            how,
            round(after_s, 3),
            phase,
            len(self.runs(who)),
            result,
            round(time.monotonic() - began, 1),
        )

    def _snakemake(self, who: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "snakemake", "--executor", "takeda"),
                *("--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.2", "--nolock"),
                *("--default-storage-provider", "s3", "--rerun-incomplete"),
                *("--default-storage-prefix", f"s3://{self.bucket}/work"),
                *("--shared-fs-usage", "none", "--jobs", "1", f"results/{who}.txt"),
            ],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _wait(self, controller: subprocess.Popen[str], condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if controller.poll() is not None:
                output = controller.stdout.read() if controller.stdout else ""
                raise AssertionError(f"the controller ended before it was killed:\n{output}")
            if time.monotonic() > deadline:
                raise AssertionError("the controller started nothing")
            time.sleep(0.005)

    def _row(self, since: float) -> tuple[str | None] | None:
        """The ledger's row of the hand-off of a time: its run id, None in it as long as it is not confirmed."""
        path = self.folder / ".snakemake/takeda/ledger.sqlite"
        if not path.is_file():
            return None
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            try:
                rows = db.execute(
                    "select run_id from handoff where intent_at >= ?", (since,)
                ).fetchall()
            except sqlite3.OperationalError:
                return None
        return (rows[0][0],) if rows else None

    def runs(self, who: str) -> list[str]:
        """Ids of the runs that were started for it."""
        return [
            item["id"]
            for page in self.omics.get_paginator("list_runs").paginate()
            for item in page["items"]
            if item.get("name", "").startswith("takeda-greet-")
            and self._is_for(self.omics.get_run(id=item["id"]), who)
        ]

    def _is_for(self, run: Mapping[str, Any], who: str) -> bool:
        return f"/{self.bucket}/" in run["runOutputUri"] and run["parameters"]["who"] == who

    def _phase(self, who: str, since: float) -> Phase:
        row = self._row(since)
        if row is not None and row[0] is not None:
            return AFTER
        return BETWEEN if self.runs(who) else BEFORE


def kill_until(trial: Trial, times: int, tell: Callable[[str], None] = print) -> list[Kill]:
    """Kill controllers until `times` of them died between StartRun and the confirmation."""
    kills: list[Kill] = []
    while sum(one.phase == BETWEEN for one in kills) < times:
        if len(kills) > 4 * times + 4:
            raise AssertionError(f"too few of {len(kills)} kills came {BETWEEN}")
        one = trial.kill(len(kills))
        kills.append(one)
        tell(f"{len(kills):3}  {one.how:11}  +{one.after_s:.3f} s  {one.phase}: {one.runs} run(s)")
        if one.runs != 1 or one.result != f"hello {one.who}\n":
            raise AssertionError(f"not one run with the right result: {one}")
    # A call that was on its way when its controller died may have been heard later.
    late = {one.who: found for one in kills if len(found := trial.runs(one.who)) != 1}
    if late:
        raise AssertionError(f"more than one run in the end: {late}")
    return kills


def takeda(*words: str) -> str:
    return subprocess.run(
        [BINARIES / "takeda", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="kills that count (default: 20)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    from snakemake_executor_takeda.sandbox import control

    with tempfile.TemporaryDirectory(prefix="takeda-kills-") as folder:
        state = Path(folder, "sandbox")
        options = control.Options(services_port=0, moto_port=0, vcpus=4, memory_mib=16_384)
        control.up(state, options)
        try:
            os.environ |= control.environment(state) | {"TAKEDA_SANDBOX_DIR": str(state)}
            project = Path(folder, "project")
            project.mkdir()
            kills = kill_until(Trial(project, arguments.seed), arguments.times)
        finally:
            control.down(state)
    phases = {phase: sum(one.phase == phase for one in kills) for phase in (BEFORE, BETWEEN, AFTER)}
    facts = {
        "seed": arguments.seed,
        "kills": phases,
        "runs": sum(one.runs for one in kills),
        "restart_s": sorted(one.restart_s for one in kills),
    }
    print(json.dumps({**facts, "each": [asdict(one) for one in kills]}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

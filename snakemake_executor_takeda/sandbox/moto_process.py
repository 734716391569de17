"""The daemon's end of the moto server: starts it, hands logs over, ends it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from socket import socket
from typing import Any

from snakemake_executor_takeda.values import TakedaError

KEY_VARIABLE = "TAKEDA_SANDBOX_ACCESS_KEY"
"""Tells the child the key that callers must have. Others cannot read a process's variables."""


class MotoProcess:
    """The child process that answers for S3, SQS, EventBridge, CloudWatch Logs, IAM and the rest."""

    def __init__(self, listener: socket, snapshot: Path, environment: Mapping[str, str]) -> None:
        """`listener` is bound and listening; `snapshot` is where S3 is kept while the child is down."""
        listener.set_inheritable(True)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "snakemake_executor_takeda.sandbox.moto_child"),
                *("--fd", str(listener.fileno()), "--snapshot", str(snapshot)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env={**os.environ, **environment},
            text=True,
        )
        listener.close()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._open: dict[int, Callable[[], None]] = {}
        self._ready = threading.Event()
        self._ended = False
        self._has_rules = False
        threading.Thread(target=self._listen, name="moto answers", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._ended

    @property
    def has_rules(self) -> bool:
        """As `services.EventBus.has_rules`."""
        return self._has_rules

    def put(self, events: Sequence[Mapping[str, Any]]) -> None:
        """As `services.EventBus.put`."""
        with self._lock:
            if not self._ended:
                with contextlib.suppress(BrokenPipeError):
                    self._order({"events": events})

    def wait_ready(self, timeout_seconds: float) -> None:
        """Until it answers. Raises TakedaError when it ended instead."""
        if not self._ready.wait(timeout_seconds) or self._ended:
            raise TakedaError("the sandbox's S3 server (moto) did not start; see daemon.log")

    def write_log(self, group: str, stream: str, path: Path, done: Callable[[], None]) -> None:
        """As `services.Context.write_log`."""
        with self._lock:
            if not self._ended:
                number = next(self._numbers)
                self._open[number] = done
                try:
                    self._order({"id": number, "group": group, "stream": stream, "path": str(path)})
                except BrokenPipeError:
                    del self._open[number]
                else:
                    return
        done()

    def stop(self) -> None:
        """Let it save S3 and end. Large contents take their time, so it is not hurried."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.close()
        self._process.wait()

    def _order(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            fact = json.loads(line)
            if "ready" in fact:
                self._ready.set()
            elif "rules" in fact:
                self._has_rules = fact["rules"] > 0
            else:
                # without the lock: its holder may be waiting for the child, and the child for us
                done = self._open.pop(fact["done"], None)
                if done is not None:
                    done()
        with self._lock:
            self._ended = True
            left = list(self._open.values())
            self._open.clear()
        self._ready.set()
        for done in left:
            done()

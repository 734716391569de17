"""Runs the commands that the main node asks for, as sshd would: a shell, streams relayed, an exit code."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from snakemake_executor_takeda.worker.frames import Message

PIECE_BYTES = 64 * 1024
GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""
NOT_STARTED = 255
"""What ssh exits with for trouble of its own."""

_OF_THE_NODE = (
    *("AWS_", "ECS_", "TAKEDA_SANDBOX_", "TAKEDA_NODE"),
    # of the launcher's own processes: a daemon would take them for its own
    *("OMPI_", "OPAL_", "ORTE_", "PRTE_", "PMIX_", "PMI_", "HYDI_", "HYDRA_", "I_MPI_"),
)
_OF_THE_NODE_TOO = frozenset({"HOSTNAME", "HOME", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"})


def portable(environment: Mapping[str, str]) -> dict[str, str]:
    """What a task's environment gives to its commands on other nodes, as srun does: all but what
    belongs to a node or to the launcher."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_OF_THE_NODE) and name not in _OF_THE_NODE_TOO
    }


class Commands:
    """The commands under way on this node, by the number that the asker gave them."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        """`send` gets `out` messages of the streams, and one `exit` message of each command."""
        self._send = send
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._early: dict[int, list[Message]] = {}
        """What came for a command while it was being started."""
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, message: Message) -> None:
        """A message about a command: `run`, `stdin` (without data: the end of it) or `end`."""
        if message["id"] in self._early:
            self._early[message["id"]].append(message)
            return
        match message["type"]:
            case "run":
                self._early[message["id"]] = []
                task = asyncio.get_running_loop().create_task(self._run(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "stdin":
                self._write(message)
            case "end":
                self._signal(message["id"], signal.SIGTERM)
                asyncio.get_running_loop().call_later(
                    GRACE_SECONDS, self._signal, message["id"], signal.SIGKILL
                )

    async def end_all(self) -> None:
        """End what still runs: SIGTERM, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for command in list(self._processes):
                self._signal(command, number)
            if self._tasks:
                await asyncio.wait(set(self._tasks), timeout=GRACE_SECONDS)

    async def _run(self, message: Message) -> None:
        command = message["id"]
        try:
            Path(message["directory"]).mkdir(parents=True, exist_ok=True)
            process = await asyncio.create_subprocess_exec(
                # The words come as ssh gets them, which has a shell put them together again.
                *("/bin/sh", "-c", message["command"]),
                cwd=message["directory"],
                env={**os.environ, **message["variables"]},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            del self._early[command]
            self._out(command, "stderr", f"takeda-worker: cannot start it: {error}\n".encode())
            self._send({"type": "exit", "id": command, "code": NOT_STARTED})
            return
        self._processes[command] = process
        for early in self._early.pop(command):
            self.take(early)
        relays = asyncio.gather(
            self._relay(command, "stdout", process.stdout),
            self._relay(command, "stderr", process.stderr),
        )
        code = await process.wait()
        # What a daemon of the command keeps open is not waited for.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(relays, 1.0)
        del self._processes[command]
        self._send({"type": "exit", "id": command, "code": 128 - code if code < 0 else code})

    async def _relay(self, command: int, name: str, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (data := await stream.read(PIECE_BYTES)):
            self._out(command, name, data)

    def _out(self, command: int, name: str, data: bytes) -> None:
        text = base64.b64encode(data).decode()
        self._send({"type": "out", "id": command, "stream": name, "data": text})

    def _write(self, message: Message) -> None:
        process = self._processes.get(message["id"])
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(ConnectionError):
            if message["data"]:
                process.stdin.write(base64.b64decode(message["data"]))
            else:
                process.stdin.close()

    def _signal(self, command: int, number: int) -> None:
        process = self._processes.get(command)
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

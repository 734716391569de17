"""Runs a command on another node of this job, called as ssh is: `remote HOST COMMAND…`.

MPI launchers start their daemons by it. The worker of the main node, which listens on a socket in a
private directory, passes the command on and sends back output and exit code.
"""

from __future__ import annotations

import base64
import os
import socket
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from snakemake_executor_takeda.worker.frames import pack, unpack
from snakemake_executor_takeda.worker.launching import NOT_STARTED, PIECE_BYTES, portable

SOCKET_VARIABLE = "TAKEDA_NODES_SOCKET"
_OPTIONS_WITH_VALUE = frozenset("BbcDEeFIiJLlmOopQRSWw")
"""Of ssh. None of its options means anything here."""


def main() -> int:
    host, command = split_arguments(sys.argv[1:])
    path = os.environ.get(SOCKET_VARIABLE)
    if not host or not command or not path:
        print(
            "usage: remote HOST COMMAND… (in a task of a job of several nodes)",
            file=sys.stderr,
        )
        return NOT_STARTED
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(
            pack(
                {
                    "host": host,
                    "command": command,
                    "directory": str(Path.cwd()),
                    "variables": portable(os.environ),
                }
            )
        )
        threading.Thread(target=_pass_on_stdin, args=(connection,), daemon=True).start()
        with connection.makefile("rb") as stream:
            return _relay(stream)


def split_arguments(words: list[str]) -> tuple[str, str]:
    """The host without a user's name, and the command as ssh would give it to the remote shell."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if len(option) == 2 and option[1] in _OPTIONS_WITH_VALUE and rest:
            rest.pop(0)
    return (rest[0].rpartition("@")[2] if rest else ""), " ".join(rest[1:])


def _pass_on_stdin(connection: socket.socket) -> None:
    try:
        while True:
            data = os.read(0, PIECE_BYTES)
            connection.sendall(pack({"type": "stdin", "data": base64.b64encode(data).decode()}))
            if not data:
                return
    except OSError:
        return  # the command has ended, or there is no stdin


def _relay(stream: BinaryIO) -> int:
    while message := unpack(stream):
        if message["type"] == "exit":
            return int(message["code"])
        output = sys.stdout if message["stream"] == "stdout" else sys.stderr
        output.buffer.write(base64.b64decode(message["data"]))
        output.buffer.flush()
    return NOT_STARTED


if __name__ == "__main__":
    sys.stdout.flush()
    # not sys.exit: the thread may be reading stdin
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

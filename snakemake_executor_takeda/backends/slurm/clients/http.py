"""Questions and answers in JSON over one kept-alive connection: http(s), or a unix socket."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

SECONDS = 60.0
IDLE_SECONDS = 4.0
"""A server may close a connection that has been idle for longer, just as a request goes out."""


class NoAnswer(Exception):
    """Nothing came back, or not all of it: whether the request was heard is not known."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    """What the JSON says; the text itself where it is none."""


class JsonConnection:
    """One connection to a server, opened when it is needed and kept. Safe for several threads."""

    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        """`http://host:port`, `https://host/path` or `unix:///path/of/socket`."""
        parts = urlsplit(url)
        self._parts = parts
        self._seconds = seconds
        self._base = "" if parts.scheme == "unix" else parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0
        self._lock = threading.Lock()

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: Any = None,
        *,
        again: bool = True,
    ) -> Answer:
        """Raises NoAnswer. With `again` a request that a kept connection lost is sent once more."""
        body = None if content is None else json.dumps(content).encode()
        named = {**headers, "Accept": "application/json"}
        if body is not None:
            named["Content-Type"] = "application/json"
        with self._lock:
            is_kept = self._connection is not None
            if is_kept and time.monotonic() - self._used > IDLE_SECONDS:
                self._drop()
                is_kept = False
            try:
                return self._exchange(method, path, named, body)
            except NoAnswer as error:
                # a timeout is an answer's delay, not a connection's end
                if not (again and is_kept) or isinstance(error.__cause__, TimeoutError):
                    raise
                return self._exchange(method, path, named, body)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        try:
            if self._connection is None:
                self._connection = self._open()
            self._connection.request(method, self._base + path, body, dict(headers))
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        self._used = time.monotonic()
        return Answer(response.status, _read(content))

    def _open(self) -> http.client.HTTPConnection:
        parts = self._parts
        if parts.scheme == "unix":
            return _UnixConnection(unquote(parts.path), self._seconds)
        if parts.scheme == "https":
            import ssl

            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=self._seconds, context=context
            )
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._seconds)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")

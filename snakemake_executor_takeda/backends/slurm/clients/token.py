"""The token (JWT) that slurmrestd asks for: where it is found, when it ends, how it is renewed.

It is never an argument of a process, nor part of a message: only its time of expiry is.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "SLURM_JWT"
LIFESPAN_SECONDS = 12 * 3600
RENEW_SECONDS = 120.0
"""Before its end a token is renewed, so that no request meets the end itself."""
PAUSE_SECONDS = 30.0
"""Between two tries to renew one that can't be renewed."""
HOW_TO_GET_ONE = (
    "Get a token on a node of the cluster (`scontrol token lifespan=86400` prints "
    "SLURM_JWT=…), then export SLURM_JWT, or write the token to a file that only you can read and "
    "name it as the target's `jwt_file`; a file that is replaced while the run goes on is read again."
)


class Token:
    """From a file, else from SLURM_JWT, else from `scontrol token`, where these are there."""

    def __init__(
        self,
        file: str | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = Path(file) if file else None
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._tried = -PAUSE_SECONDS
        self._made: str | None = None
        """By `scontrol token`; it comes before the one it replaces."""

    def __repr__(self) -> str:
        return "Token(…)"

    def value(self) -> str | None:
        """None where there is none. One that is about to end is renewed first, if that can be."""
        token = self._known()
        ends = expiry(token)
        if token is None or (ends is not None and ends - self._clock() < RENEW_SECONDS):
            self.renew(token)
            token = self._known()
        return token

    def renew(self, refused: str | None) -> bool:
        """Look for another one than the one refused; whether there is one now."""
        known = self._known()
        if known is not None and known != refused:
            return True
        self._made = None
        if (known := self._known()) is not None and known != refused:
            return True
        now = self._clock()
        if abs(now - self._tried) < PAUSE_SECONDS:
            return False
        self._tried = now
        self._made = _from_scontrol(self._environ)
        return self._made is not None and self._made != refused

    def state(self) -> str:
        """What is wrong with it, in words without the token itself."""
        token = self._known()
        if token is None:
            return f"{self._file} has no token" if self._file else "there is no token"
        ends = expiry(token)
        if ends is not None and ends <= self._clock():
            at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ends))
            return f"the token of {self._source()} ended at {at}"
        return f"the token of {self._source()} is not valid there"

    def _source(self) -> str:
        if self._made:
            return "`scontrol token`"
        return str(self._file) if self._file else VARIABLE

    def _known(self) -> str | None:
        if self._made:
            return self._made
        if self._file is None:
            return self._environ.get(VARIABLE) or None
        try:
            return _bare(self._file.read_text())
        except OSError:
            return None


def expiry(token: str | None) -> float | None:
    """When a token ends, in seconds since 1970; None where it does not say."""
    try:
        claims = _claims(token)
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def user_of(token: str | None) -> str | None:
    """Whom Slurm takes the token's holder for (`sun`, its own claim)."""
    try:
        name = _claims(token).get("sun")
    except (ValueError, IndexError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def _claims(token: str | None) -> Any:
    payload = (token or "").split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def _from_scontrol(environ: Mapping[str, str]) -> str | None:
    if shutil.which("scontrol", path=environ.get("PATH")) is None:
        return None
    try:
        done = subprocess.run(
            ["scontrol", "token", f"lifespan={LIFESPAN_SECONDS}"],
            env={name: value for name, value in environ.items() if name != VARIABLE},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20.0,
            check=True,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _bare(done.stdout)


def _bare(text: str) -> str | None:
    """A token alone, or as `scontrol token` prints it: `SLURM_JWT=…`."""
    words = text.split()
    return words[-1].removeprefix(f"{VARIABLE}=") or None if words else None

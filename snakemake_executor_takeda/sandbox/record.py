"""What a running sandbox leaves in its state folder for `takeda sandbox` to find it again."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from snakemake_executor_takeda.sandbox import processes
from snakemake_executor_takeda.sandbox.variables import client_variables

SERVICES_PORT = 4610
MOTO_PORT = 4611
BUCKET = "takeda-sandbox"
ON_DEMAND_QUEUE = "takeda-sandbox"
SPOT_QUEUE = "takeda-sandbox-spot"
ROLE = "takeda-sandbox"
"""An IAM role for jobs and HealthOmics runs; the sandbox checks no permission."""
OMICS_ROLE = "takeda-sandbox-omics"
"""One for HealthOmics alone, as the examples have it."""


@dataclass(frozen=True)
class Record:
    """A running sandbox."""

    pid: int
    start_ticks: int | None
    moto_pid: int
    services_port: int
    moto_port: int
    access_key: str
    vcpus: int
    memory_mib: int
    runner: str

    @property
    def services_url(self) -> str:
        return f"http://127.0.0.1:{self.services_port}"

    @property
    def moto_url(self) -> str:
        return f"http://127.0.0.1:{self.moto_port}"

    @property
    def is_running(self) -> bool:
        return processes.is_running(self.pid, self.start_ticks)

    def variables(self) -> dict[str, str]:
        return client_variables(self.services_url, self.moto_url, self.access_key)


def default_state_dir() -> Path:
    """`$TAKEDA_SANDBOX_DIR`, else `takeda/sandbox` in `$XDG_STATE_HOME` or `~/.local/state`."""
    given = os.environ.get("TAKEDA_SANDBOX_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "takeda" / "sandbox"


def write(state_dir: Path, record: Record) -> None:
    _write_private(_path(state_dir), asdict(record))


def read(state_dir: Path) -> Record | None:
    """The record of the sandbox in this folder, be it running or dead; None after an orderly end."""
    try:
        return Record(**json.loads(_path(state_dir).read_text()))
    except FileNotFoundError:
        return None


def remove(state_dir: Path) -> None:
    _path(state_dir).unlink(missing_ok=True)


def access_key(state_dir: Path) -> str:
    """The folder's own access key: it stays, so that a shell's variables outlive a restart."""
    path = state_dir / "access-key.json"
    try:
        return str(json.loads(path.read_text())["access_key"])
    except FileNotFoundError:
        key = f"TAKEDASANDBOX{secrets.token_hex(8).upper()}"
        _write_private(path, {"access_key": key})
        return key


def _path(state_dir: Path) -> Path:
    return state_dir / "sandbox.json"


def _write_private(path: Path, value: dict[str, object]) -> None:
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(value, stream)
    part.replace(path)

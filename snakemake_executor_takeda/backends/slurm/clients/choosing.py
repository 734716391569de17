"""Which client speaks to the cluster of a run, and why: told at start in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm.clients import command_line
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmClient
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.values import Target

_WORDS = ("client", "rest_url", "jwt_file")
_ON_PYPI = "25.11"
LOAD_SECONDS = 60.0


@dataclass(frozen=True)
class Choice:
    """The name of a client, and what decided it."""

    client: str
    """`command-line`, `rest` or `pyslurm`."""
    reason: str


@dataclass(frozen=True)
class Here:
    """What there is on this machine; asked only as far as it matters."""

    pyslurm_version: Callable[[], str | None]
    """None where it is not installed."""
    slurm_version: Callable[[], str | None]
    """Of the commands."""


def open_client(targets: Sequence[Target]) -> tuple[SlurmClient, str]:
    """The client of a run, and the line that tells of it. Raises TakedaError."""
    options = agreed_options(targets)
    choice = choose(options, this_machine())
    if choice.client == "pyslurm":
        try:
            return _pyslurm(), _line(choice)
        except TakedaError as error:
            if options.client == "pyslurm":
                raise TakedaError(f"target {targets[0].name}: {error}") from error
            choice = Choice("command-line", str(error))
    if choice.client == "rest":
        from snakemake_executor_takeda.backends.slurm.clients.rest import Rest
        from snakemake_executor_takeda.backends.slurm.clients.token import Token

        assert options.rest_url  # the options see to it
        return Rest(options.rest_url, Token(options.jwt_file)), _line(choice)
    _check_commands(targets[0])
    return command_line.CommandLine(), _line(choice)


def agreed_options(targets: Sequence[Target]) -> SlurmOptions:
    """Of the first target that says anything: a run has one cluster and one client."""
    spoken = [
        target
        for target in targets
        if any(word in target.options.model_fields_set for word in _WORDS)
    ]
    if not spoken:
        options: SlurmOptions = targets[0].options
        return options
    first = spoken[0]
    for other in spoken[1:]:
        for word in _WORDS:
            one, two = getattr(first.options, word), getattr(other.options, word)
            if one != two:
                raise TakedaError(
                    f"targets {first.name} and {other.name} differ in `{word}` ({one} and {two}): "
                    "a run speaks to one cluster through one client. Say the same in both, or "
                    "leave it out of one."
                )
    options = first.options
    return options


def choose(options: SlurmOptions, here: Here) -> Choice:
    """What the targets say; else slurmrestd where they name one, pyslurm where it fits, the commands."""
    if options.client != "auto":
        return Choice(options.client, f"the targets say `client: {options.client}`")
    if options.rest_url:
        return Choice("rest", f"the targets name {options.rest_url}")
    installed = here.pyslurm_version()
    if installed is None:
        return Choice("command-line", "it is the default; the targets name no `rest_url`")
    cluster = here.slurm_version()
    if cluster and major_minor(installed) == major_minor(cluster):
        return Choice("pyslurm", f"pyslurm {installed} is installed and fits Slurm {cluster}")
    return Choice(
        "command-line",
        f"pyslurm {installed} is installed, but does not fit Slurm {cluster or 'of this machine'}",
    )


def major_minor(version: str) -> str | None:
    """`25.11` of `25.11.2` or `slurm-wlm 25.11.2`."""
    match = re.search(r"(\d+)\.(\d+)", version)
    return f"{int(match[1])}.{int(match[2])}" if match else None


def this_machine() -> Here:
    return Here(
        pyslurm_version=_pyslurm_version,
        slurm_version=_slurm_version,
    )


def _pyslurm_version() -> str | None:
    """By its metadata: to import one that does not fit may fail in any way."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pyslurm")
    except PackageNotFoundError:
        return None


def _slurm_version() -> str | None:
    try:
        done = subprocess.run(
            ["sinfo", "--version"], capture_output=True, text=True, timeout=20.0, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return match[0] if match else None


def _pyslurm() -> SlurmClient:
    """Raises TakedaError where it can't be used here."""
    installed, cluster = _pyslurm_version(), _slurm_version()
    fitting = major_minor(cluster or "")
    how = _installing(fitting)
    if installed is None:
        raise TakedaError(f"`client: pyslurm` needs pyslurm, which is not installed: {how}")
    if fitting and major_minor(installed) != fitting:
        raise TakedaError(f"pyslurm {installed} does not fit Slurm {cluster}: {how}")
    if "scancel" in command_line.missing_commands():
        raise TakedaError("pyslurm can't cancel single tasks of an array, and scancel is not found")
    if why := _why_pyslurm_does_not_load():
        raise TakedaError(f"pyslurm {installed} can't be loaded: {why}")
    import pyslurm

    from snakemake_executor_takeda.backends.slurm.clients.pyslurm import PySlurm

    return PySlurm(pyslurm)


def _installing(fitting: str | None) -> str:
    if fitting in (None, _ON_PYPI):
        return f'pip install "pyslurm=={_ON_PYPI}.*", for Slurm {_ON_PYPI}'
    return (
        f"build the branch {fitting}.x of https://github.com/PySlurm/pyslurm, as docs/slurm.md says"
    )


def _why_pyslurm_does_not_load() -> str | None:
    """Tried in a process of its own: without a configuration, Slurm's library ends the one it is in."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import pyslurm"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it takes more than {LOAD_SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]


def _line(choice: Choice) -> str:
    return f"Slurm is spoken to through {_NAMES[choice.client]}: {choice.reason}"


def _check_commands(target: Target) -> None:
    if missing := command_line.missing_commands():
        raise TakedaError(
            f"target {target.name} needs Slurm's commands; not found: {', '.join(missing)}. Run on "
            "a node of the cluster, add their folder to PATH, name the cluster's slurmrestd as the "
            "target's `rest_url`, or start a Slurm here: takeda sandbox slurm up && eval \"$(takeda "
            'sandbox env)"'
        )
    if path := command_line.missing_configuration():
        raise TakedaError(
            f"SLURM_CONF names {path}, which does not exist. Is the sandbox down? "
            "Start it (takeda sandbox slurm up) or unset SLURM_CONF."
        )


_NAMES = {"command-line": "its commands", "rest": "slurmrestd", "pyslurm": "pyslurm"}

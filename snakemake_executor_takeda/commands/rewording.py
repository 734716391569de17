"""The inner Snakemake's command in other words: what a target decides about a rule. Pure.

Snakemake evaluates what follows `=` in `--set-resources` as Python, after it has put variables of the
environment into it; a text is written so that neither changes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

PYXIS_OPTION = "--takeda-pyxis"
"""Read by `node`, never by Snakemake: its value is a JSON list of folders to mount."""
_METHOD_OPTIONS = frozenset(
    {"--software-deployment-method", "--deployment-method", "--deployment", "--sdm"}
)
_APPTAINER = frozenset({"apptainer", "singularity"})

Command = tuple[str, ...]


def is_inner(argv: Sequence[str]) -> bool:
    """Whether this is a command that `inner` has made; other words mean nothing to others."""
    return "--target-jobs" in argv


def with_text(argv: Command, rules: Iterable[str], resource: str, text: str) -> Command:
    """The same command in which these rules' resource is this text, to the letter."""
    value = repr(text).replace("$", "\\x24")
    for rule in rules:
        argv = with_entry(argv, "--set-resources", f"{rule}:{resource}=", value)
    return argv


def with_threads(argv: Command, rules: Iterable[str], threads: int) -> Command:
    """The same command in which these rules have as many threads, unless they have more already."""
    at = argv.index("--cores") + 1
    if int(argv[at]) >= threads:
        return argv
    argv = (*argv[:at], str(threads), *argv[at + 1 :])
    for rule in rules:
        argv = with_entry(argv, "--set-threads", f"{rule}=", str(threads))
    return argv


def with_entry(argv: Command, option: str, key: str, value: str) -> Command:
    """The same command with an entry in an option that takes several, in place of one of that key."""
    if option not in argv:
        return (*argv, option, f"{key}{value}")
    start = argv.index(option) + 1
    end = _end_of_values(argv, start)
    kept = (word for word in argv[start:end] if not word.startswith(key))
    return (*argv[:start], *kept, f"{key}{value}", *argv[end:])


def deployment_methods(argv: Command) -> Command:
    """What `--software-deployment-method` says."""
    at = _method_option(argv)
    return () if at is None else argv[at + 1 : _end_of_values(argv, at + 1)]


def without_apptainer(argv: Command) -> Command:
    """The command with Apptainer taken out of its software deployment methods."""
    at = _method_option(argv)
    if at is None:
        return argv
    end = _end_of_values(argv, at + 1)
    methods = tuple(word for word in argv[at + 1 : end] if word not in _APPTAINER)
    return (*argv[:at], *((argv[at], *methods) if methods else ()), *argv[end:])


def with_pyxis(argv: Command, mounts: Sequence[str]) -> Command:
    """The command in which rules' containers are Pyxis's, with these folders beside the task's own."""
    plain = without_apptainer(argv)
    methods = deployment_methods(plain)
    at = _method_option(plain)
    if at is None:
        plain = (*plain, "--software-deployment-method", "apptainer")
    else:
        plain = (*plain[: at + 1], *methods, "apptainer", *plain[at + 1 + len(methods) :])
    after_module = plain.index("-m") + 2
    words = (PYXIS_OPTION, json.dumps(list(mounts)))
    return (*plain[:after_module], *words, *plain[after_module:])


def _method_option(argv: Command) -> int | None:
    return next((i for i, word in enumerate(argv) if word in _METHOD_OPTIONS), None)


def _end_of_values(argv: Command, start: int) -> int:
    return next((i for i in range(start, len(argv)) if argv[i].startswith("-")), len(argv))

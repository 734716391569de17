"""What is installed here: Snakemake, this plugin, the storage plugin; do their versions go together?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from snakemake_executor_takeda.doctor.findings import Checkup, Finding, NotTold
from snakemake_executor_takeda.doctor.identity import HERE

if TYPE_CHECKING:
    from snakemake_executor_takeda.doctor.project import Project

OURS = "snakemake-executor-plugin-takeda"
S3_PLUGIN = "snakemake-storage-plugin-s3"
_WITH_S3 = f"pip install '{OURS}[s3]'"
_SHARED = "snakemake-interface-"
_NEEDS_S3 = frozenset({"batch", "healthomics"})
"""Backends whose jobs share no files with this machine."""


def checkups(project: Project) -> Iterator[Checkup]:
    yield Checkup("versions", HERE, _versions)
    storage = project.storage
    if storage.provider == "s3":
        yield Checkup("storage plugin", HERE, lambda: judged_plugin(_installed(S3_PLUGIN)))
    names = [one.name for one in project.targets.values() if one.backend in _NEEDS_S3]
    if names:
        yield Checkup("storage", HERE, partial(judged_storage, project, names))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _versions() -> Iterator[Finding]:
    names = ("snakemake", OURS, S3_PLUGIN)
    needed = {
        # Of others' requirements those that plugins and Snakemake meet in.
        name: [
            one for one in metadata.requires(name) or [] if name == OURS or one.startswith(_SHARED)
        ]
        for name in names
        if _installed(name)
    }
    wanted = {requirement for lines in needed.values() for requirement in lines}
    there = {name: _installed(name) for name in (*names, *map(_name_of, wanted))}
    return judged_versions(needed, {n: v for n, v in there.items() if v})


def judged_versions(
    needed: Mapping[str, Sequence[str]], there: Mapping[str, str]
) -> Iterator[Finding]:
    """What does not go together. `needed` is what each distribution requires, `there` what is installed."""
    if "snakemake" not in there:
        yield Finding(
            "Snakemake is not installed in this Python",
            "there is nothing that could run a pipeline",
            "pip install 'snakemake>=9' (into the environment that `takeda` is in)",
        )
        return
    from packaging.requirements import Requirement

    for name, lines in needed.items():
        for line in lines:
            one = Requirement(line)
            if one.marker is not None and not one.marker.evaluate({"extra": ""}):
                continue
            version = there.get(_plain(one.name))
            if version is None or one.specifier.contains(version, prereleases=True):
                continue
            yield Finding(
                f"{name} {there.get(name, '')} needs {one.name}{one.specifier}, here is {version}",
                "Snakemake does not find the plugin, or fails in the middle of a run",
                f"pip install --upgrade {name} '{one.name}{one.specifier}'",
            )


def _name_of(requirement: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return _plain(Requirement(requirement).name)
    except InvalidRequirement:
        return requirement


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def judged_plugin(version: str | None) -> Iterator[Finding]:
    if version is None:
        yield Finding(
            f"`default-storage-provider: s3` is set, and {S3_PLUGIN} is not installed",
            "Snakemake stops before it reads the workflow",
            _WITH_S3,
        )


def judged_storage(project: Project, names: Sequence[str]) -> Iterator[Finding]:
    """Targets whose jobs share no files need S3."""
    storage = project.storage
    if not (project.profile or storage.provider):
        raise NotTold(
            "no profile tells where the run's files are, so that its bucket was not looked at",
            "takeda doctor --profile DIR",
        )
    if unset := re.search(r"\$\{?(\w+)\}?", storage.prefix or ""):
        # Snakemake leaves a variable as it is where it is not set.
        yield Finding(
            f"default-storage-prefix is {storage.prefix}, and {unset[1]} is not set",
            "Snakemake takes it for a part of the path: every file is missing",
            f"export {unset[1]}=…, or write the prefix into {project.where_storage_is_said}",
        )
        return
    lines = []
    if storage.provider != "s3":
        lines.append("default-storage-provider: s3")
    if not (storage.prefix or "").startswith("s3://"):
        lines.append("default-storage-prefix: s3://BUCKET/PREFIX")
    if storage.shares_files:
        lines.append("shared-fs-usage: none")
    if lines:
        yield Finding(
            f"jobs of {', '.join(names)} share no files with this machine, and the run has no S3",
            "the run stops at its start",
            f"write into {project.where_storage_is_said}: {'; '.join(lines)}",
        )

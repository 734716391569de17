"""Which of HealthOmics' Nextflow versions a pipeline gets, and StartRun's `engineSettings`.

Facts from AWS's guide: versions, the keys `engineVersion` and `profile`, `manifest.nextflowVersion`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from snakemake_executor_takeda.backends.healthomics.mistakes import did_you_mean
from snakemake_executor_takeda.values import TakedaError

VERSIONS = ("22.04.0", "23.10.0", "24.10.8", "25.10.0", "26.04.0")
DEFAULT = "23.10.0"
"""What HealthOmics takes where a pipeline says nothing."""
FIRST_STRICT = "26.04.0"
"""The first that HealthOmics runs with the strict parser; new words of the language need that."""
PLUGINS = frozenset({"nf-schema", "nf-validation", "nf-core-utils", "nf-prov", "nf-fgbio"})
"""Runs cannot fetch others."""
PROFILE = "nextflow_profile"
"""The resource of a rule."""

_CONSTRAINT = re.compile(r"\s*(>=|<=|!=|==|=|>|<)?\s*(\d+(?:\.\d+)*)(?:[.-]?edge)?\s*(\+)?\s*")


def chosen_version(wanted: str | None, where: str, *, is_strict: bool = False) -> str | None:
    """The version of HealthOmics for a `manifest.nextflowVersion`; None for none that would fit, where
    the pipeline does not insist (`!`), or says nothing.

    The default where it fits, else the oldest above it, else the newest below: what is nearest to what
    the pipeline was written for. `is_strict` is for scripts that only the strict parser takes, which
    HealthOmics has from FIRST_STRICT on. Raises TakedaError.
    """
    there = [one for one in VERSIONS if not is_strict or _key(one) >= _key(FIRST_STRICT)]
    if not wanted:
        return FIRST_STRICT if is_strict else None
    fitting = [one for one in there if _fits(one, wanted)]
    if DEFAULT in fitting:
        return DEFAULT
    newer = [one for one in fitting if _key(one) > _key(DEFAULT)]
    if fitting:
        return newer[0] if newer else fitting[-1]
    if is_strict or wanted.strip().startswith("!"):
        strict = " with the strict parser, which the typed params block needs" if is_strict else ""
        raise TakedaError(
            f"{where}: manifest.nextflowVersion = {wanted!r} takes none of the versions that HealthOmics has"
            f"{strict}: {', '.join(there)}. Widen it, or take another revision of the pipeline"
        )
    return None


def settings(
    manifest_version: str | None,
    profiles: Sequence[str],
    asked_profile: Any,
    where: str,
    *,
    is_strict: bool = False,
) -> dict[str, Any]:
    """`engineSettings`: the version that fits the pipeline, and the rule's profile.

    Raises TakedaError for a profile that is not there: HealthOmics reads them in the package only.
    """
    found: dict[str, Any] = {}
    if version := chosen_version(manifest_version, where, is_strict=is_strict):
        found["engineVersion"] = version
    words = [part.strip() for part in str(asked_profile or "").split(",") if part.strip()]
    for one in words:
        if one != "standard" and one not in profiles:
            raise TakedaError(
                f"{where}: {PROFILE}={asked_profile!r}: the pipeline's nextflow.config has no profile "
                f"`{one}`.{did_you_mean(one, profiles)}"
            )
    if words:
        found["profile"] = ",".join(words)
    return found


def _fits(version: str, wanted: str) -> bool:
    """Whether a version lies in a range such as `!>=23.04.0, <26`; what is no range takes all."""
    for part in wanted.strip().removeprefix("!").split(","):
        found = _CONSTRAINT.fullmatch(part)
        if found is None:
            return True
        sign, number, plus = found.groups()
        ours, theirs = _key(version), _key(number)
        if plus:
            # `24.10+` is 24.10 or later, below 25.
            if not (ours >= theirs and ours[0] == theirs[0]):
                return False
            continue
        same = ours[: len(_parts(number))] == theirs[: len(_parts(number))]
        ok = {
            ">=": ours >= theirs,
            "<=": ours <= theirs or same,
            ">": ours > theirs,
            "<": ours < theirs,
            "!=": not same,
        }.get(sign or "=", same)
        if not ok:
            return False
    return True


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def refuse_profile(resources: Mapping[str, Any], language: str, where: str) -> None:
    """For a workflow that is no Nextflow pipeline. Raises TakedaError where a rule names a profile."""
    if asked := resources.get(PROFILE):
        raise TakedaError(
            f"{where}: {PROFILE}={asked!r} is for Nextflow pipelines, and this hand-off is {language}, "
            "which has no profiles; leave it out"
        )


def _key(version: str) -> tuple[int, ...]:
    parts = _parts(version)
    return tuple(parts + [0] * (3 - len(parts)))

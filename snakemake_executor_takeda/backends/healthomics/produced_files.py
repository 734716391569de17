"""What a run left, by path → the rule's outputs, for workflows that do not name what they produce."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from snakemake_executor_takeda.backends.healthomics.definition import Patterns
from snakemake_executor_takeda.backends.healthomics.fitting import parsed
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake
from snakemake_executor_takeda.values import UNKNOWN, JobSpec, TakedaError

NAME = "handoff_outputs"


def patterns_of(job: JobSpec) -> Patterns:
    """Of a rule's param or resource. Raises TakedaError."""
    given = job.params.get(NAME)
    given = job.resources.get(NAME) if given is None else given
    return read_patterns(given)


def read_patterns(given: Any) -> Patterns:
    """`{"vcf": "variants/*.vcf.gz"}`, or the text of one. Raises TakedaError."""
    if given is None or given == "" or given is UNKNOWN:
        return {}
    found = parsed(given) if isinstance(given, str) else given
    example = f'{NAME} wants globs by output name, such as {{"vcf": "variants/*.vcf.gz"}}'
    if not isinstance(found, Mapping):
        raise TakedaError(f"{example}, not {given!r}")
    patterns = {}
    for name, globs in found.items():
        words = [globs] if isinstance(globs, str) else globs
        if not (isinstance(words, (list, tuple)) and words and all(map(_is_glob, words))):
            raise TakedaError(
                f"{example}: `{name}` has {globs!r}; paths are below what the run publishes, without .."
            )
        patterns[str(name)] = tuple(word.removeprefix("./") for word in words)
    return patterns


def unused(patterns: Patterns, workflow: str, where: str) -> list[Mistake]:
    """For a workflow that names its outputs."""
    if not patterns:
        return []
    message = (
        f"{NAME} is for workflows that do not name their outputs; {workflow} does: leave it out"
    )
    return [Mistake(message, NAME, "", where)]


def _is_glob(word: Any) -> bool:
    return (
        isinstance(word, str)
        and bool(word)
        and not word.startswith("/")
        and "://" not in word
        and ".." not in PurePosixPath(word).parts
    )

"""What Slurm's library says went wrong → silence, no room, or a refusal. Pure."""

from __future__ import annotations

import re

from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)

_SILENCE = re.compile(
    r"unable to contact slurm controller|communication (connection|shutdown)|timed out"
    r"|zero bytes were transmitted|unexpected message received|incomplete packet|backoff"
    r"|slurm backup controller in standby",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"unable to create job record, try again|resource temporarily unavailable", re.IGNORECASE
)
_NO_SUCH_JOB = re.compile(r"invalid job id", re.IGNORECASE)


def error_of(words: str) -> SlurmSilent | SlurmFull | SlurmRefused:
    """The exception for an error's description (slurm_strerror, in all of the library's users)."""
    if _SILENCE.search(words):
        return SlurmSilent(words)
    if _FULL.search(words):
        return SlurmFull("its table of jobs is full (MaxJobCount)")
    return SlurmRefused(words)


def is_no_such_job(error: Exception) -> bool:
    return _NO_SUCH_JOB.search(str(error)) is not None

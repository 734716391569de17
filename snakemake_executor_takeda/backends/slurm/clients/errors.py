"""What Slurm's library says went wrong → silence, no room, or a refusal. Pure."""

from __future__ import annotations

import re

from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)

_SILENCE = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|timed out|reset)"
    r"|communication (connection |shutdown )?failure|message (send|receive) failure"
    r"|zero bytes were transmitted|unexpected message received|header lengths are longer"
    r"|insane message length|incomplete packet|unable to establish controller"
    r"|(controller is|backup controller) in standby|slurmctld.*not.*respond"
    r"|rate limit exceeded|backoff|protocol authentication error"
    r"|could not establish a configuration source|unable to process configuration file"
    r"|unexpected missing socket|transport endpoint is not connected|no route to host"
    r"|network is unreachable|broken pipe",
    re.IGNORECASE,
)
"""Of `slurm_strerror` and of the commands: the request may have been taken, or may be later."""
_FULL = re.compile(
    r"temporarily unable to accept job|job queue full|unable to create job record, try again"
    r"|resource temporarily unavailable",
    re.IGNORECASE,
)
_NO_SUCH_JOB = re.compile(r"invalid job id", re.IGNORECASE)


def is_silence(words: str) -> bool:
    """Whether the controller did not answer, or not to the point, as a busy one does."""
    return _SILENCE.search(words) is not None


def is_full(words: str) -> bool:
    """Whether its table of jobs has no room at present."""
    return _FULL.search(words) is not None


def error_of(words: str) -> SlurmSilent | SlurmFull | SlurmRefused:
    """The exception for an error's description (slurm_strerror, in all of the library's users)."""
    if is_silence(words):
        return SlurmSilent(words)
    if is_full(words):
        return SlurmFull("its table of jobs is full (MaxJobCount)")
    return SlurmRefused(words)


def is_no_such_job(error: Exception) -> bool:
    return _NO_SUCH_JOB.search(str(error)) is not None

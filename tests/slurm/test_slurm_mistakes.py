"""Mistakes of somebody who tries the Slurm backend for the first time, and what is said about them."""

from dataclasses import fields

import pytest

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.settings import ExecutorSettings
from snakemake_executor_takeda.values import FailureKind

# How it reads.


@pytest.mark.parametrize(
    ("reason", "advice", "said"),
    [
        ("no 'hcp'. Did you mean 'hpc'?", "Change it.", "no 'hcp'. Did you mean 'hpc'? Change it."),
        ("no 'x'. It has: sandbox.", "Change it.", "no 'x'. It has: sandbox. Change it."),
        ("a run uses one cluster", "Run on it.", "a run uses one cluster. Run on it."),
        ("it is full", "the service is busy", "it is full: the service is busy"),
        ("it is full", "", "it is full"),
    ],
)
def test_a_reason_and_its_remedy_are_sentences(reason, advice, said):
    assert str(SubmissionError(FailureKind.CONFIGURATION, reason, advice)) == said


def test_the_help_of_a_flag_with_a_default_tells_it():
    told = {
        field.name: f"Default: {field.default:g}." in field.metadata["help"]
        for field in fields(ExecutorSettings)
        if field.default is not None
    }
    assert told == dict.fromkeys(
        ["coalesce_seconds", "coalesce_max_seconds", "poll_seconds", "interruptions"], True
    )

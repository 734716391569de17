"""`retry:` of a policy: what it comes to for each target, and docs/routing.md on it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from routing_models import MODELS, load

from snakemake_executor_takeda.reporting.failures import failure_text
from snakemake_executor_takeda.retrying import ALONE_FACTOR, History, Resubmit, next_step
from snakemake_executor_takeda.routing.policy_file import PolicyRetryEntry, RetryEntry
from snakemake_executor_takeda.routing.schema import policy_schema
from snakemake_executor_takeda.settings import ExecutorSettings
from snakemake_executor_takeda.values import FailureKind, Outcome, RetryRules, TakedaError, Target

PAGE = (Path(__file__).parents[2] / "docs" / "routing.md").read_text(encoding="utf-8")
SECTION = PAGE.split("### What is repeated\n")[1].split("\n## ")[0]
EVERY_WORD = (
    "interruptions: 1, node_failure: 2, no_capacity: 3, image: 4, lost: 5, timeout: 6, "
    "out_of_memory: {factor: 3, times: 7, up_to_mb: 8}"
)


def rules(tmp_path: Path, own: str = "", of_policy: str = "") -> RetryRules:
    """Of a target with this `retry` in a policy with that one."""
    text = f"version: 1\ntargets:\n  a: {{backend: slurm{f', retry: {{{own}}}' if own else ''}}}\n"
    text += "default: a\n" + (f"retry: {{{of_policy}}}\n" if of_policy else "")
    jsonschema.validate(yaml.safe_load(text), policy_schema(MODELS))
    policy = load(tmp_path, text)
    assert not policy.warnings
    return policy.targets["a"].retry


def test_without_a_word_the_defaults_hold(tmp_path: Path) -> None:
    assert rules(tmp_path) == RetryRules() == PolicyRetryEntry().rules(None)  # type: ignore[call-arg]


def test_every_word_has_its_effect(tmp_path: Path) -> None:
    everything = RetryRules(1, 2, 3, 4, 5, 6, 3.0, 7, 8, total=9)
    assert rules(tmp_path, of_policy=f"{EVERY_WORD}, total: 9") == everything
    assert rules(tmp_path, EVERY_WORD) == replace(everything, total=30)


def test_what_a_target_leaves_out_is_the_policys(tmp_path: Path) -> None:
    of_policy = f"{EVERY_WORD}, total: 9"
    general = rules(tmp_path, of_policy=of_policy)
    assert rules(tmp_path, "lost: 0", of_policy) == replace(general, lost=0)
    # What is written is meant, the default's own value as well.
    assert rules(tmp_path, "image: 4, no_capacity: 20", "image: 1, no_capacity: 2").image == 4
    less = rules(tmp_path, "out_of_memory: {times: 0}", of_policy)
    assert replace(less, memory_factor=3.0, memory_up_to_mb=8) == replace(general, memory_times=0)


def test_a_word_without_a_value_takes_back_the_policys(tmp_path: Path) -> None:
    text = "version: 1\ntargets: {a: {backend: slurm, retry: {interruptions: , out_of_memory: }}}\n"
    text += f"default: a\nretry: {{{EVERY_WORD}}}\n"
    own = load(tmp_path, text).targets["a"].retry
    assert (own.interruptions, own.memory_times, own.image) == (None, 0, 4)


@pytest.mark.parametrize(
    ("own", "of_policy", "said"),
    [
        ("total: 3", "", "`total` counts over all targets: move it to the policy's own `retry`."),
        ("", "total: 0", "`total: 0` must be at least 1 (Most submissions of a job"),
        ("", "totl: 3", "the policy, retry: unknown word `totl`. Did you mean total?"),
        ("interrupted: 3", "", "unknown word `interrupted`. Did you mean interruptions?"),
        ("node_failures: 3", "", "unknown word `node_failures`. Did you mean node_failure?"),
        ("", "lost: -1", "`lost: -1` must be at least 0 (Jobs that the service forgot"),
        ("", "timeout: often", "`timeout: often` must be a whole number (Jobs that ran into"),
        ("no_capacity: 10000", "", "must be at most 1000 (No machine to be had"),
        ("user: 3", "", "unknown word `user`. Words: image, interruptions, lost, no_capacity"),
    ],
)
def test_mistakes(tmp_path: Path, own: str, of_policy: str, said: str) -> None:
    with pytest.raises(TakedaError) as caught:
        rules_or_mistake(tmp_path, own, of_policy)
    assert said in str(caught.value)
    assert "routing.yaml:3" in str(caught.value) if own else "routing.yaml:5" in str(caught.value)


def rules_or_mistake(tmp_path: Path, own: str, of_policy: str) -> None:
    text = f"version: 1\ntargets:\n  a: {{backend: slurm, retry: {{{own}}}}}\ndefault: a\n"
    load(tmp_path, text + f"retry: {{{of_policy}}}\n")


def test_a_budget_that_the_total_cuts_off_is_told(tmp_path: Path) -> None:
    text = "version: 1\ntargets:\n  a: {backend: slurm, retry: {lost: 9}}\ndefault: a\n"
    text += "retry:\n  total: 9\n  image: 8\n  no_capacity: 40\n"
    first, second = (one.split("routing.yaml:")[1] for one in load(tmp_path, text).warnings)
    assert first.startswith("8: the policy, retry: `no_capacity: 40` is never reached, as a job is")
    assert second.startswith("3: target a, retry: `lost: 9` is never reached, as a job is sent 9")


def test_defaults_are_no_reason_for_a_warning(tmp_path: Path) -> None:
    assert rules(tmp_path, of_policy="total: 1").total == 1


# The page.


def table() -> dict[str, tuple[str, str]]:
    """Kind, as the first cell of its row names it → word of `retry` and default."""
    found = {}
    for line in SECTION.splitlines():
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if line.startswith("| ") and len(cells) == 4:
            for kind in re.findall(r"`(\w+)`", cells[0].split(" (")[0]) or [cells[0]]:
                found[kind] = (cells[2].split(" (")[0].strip("`"), cells[3])
    del found["kind"]
    return found


def test_the_page_has_every_kind_and_every_word() -> None:
    rows = table()
    assert set(rows) == {*FailureKind, "all of them together"}
    words = {word for word, _ in rows.values() if word}
    assert words == set(PolicyRetryEntry.model_fields)
    assert words - {"total"} == set(RetryEntry.model_fields)


def test_the_defaults_of_the_page_are_those_of_the_code() -> None:
    defaults = RetryRules()
    for word, said in table().values():
        if word in ("no_capacity", "image", "lost", "timeout", "total"):
            assert said.startswith(str(getattr(defaults, word)))
    assert f"`--takeda-interruptions`, {ExecutorSettings().interruptions}:" in SECTION
    assert defaults.interruptions is None and defaults.node_failure is None
    assert defaults.memory_times == 0
    assert ALONE_FACTOR == 5 and "five times the budget" in SECTION


def test_the_failure_that_the_page_shows_is_the_one_told() -> None:
    od = Target("batch-od", "batch")
    spot = Target("batch-spot", "batch", fallback="batch-od")
    pull = "CannotPullContainerError: pull image manifest has been retried 5 times: i/o timeout"
    ends = [
        *(
            (spot, FailureKind.INTERRUPTED, f"Host EC2 (instance i-0{n}) terminated.")
            for n in "abc"
        ),
        *((od, FailureKind.IMAGE, pull) for _ in range(5)),
    ]
    ids = ["1d02:3", "58be", "a3f9", "7f61", "7f62", "7f63", "7f64", "9c04"]
    history = History()
    for (target, kind, reason), external_id in zip(ends, ids, strict=True):
        outcome = Outcome(kind, reason, advice="see whether the registry answers")
        step = next_step(
            outcome, target, history, fallback=target.fallback, interruptions=2, mem_mb=None
        )
        if isinstance(step, Resubmit):
            history = history.with_failure(target.name, outcome, external_id)
    assert not isinstance(step, Resubmit)
    text = failure_text(target, external_id, outcome, history, step.reason)
    assert f"```\n{text}\n```" in SECTION

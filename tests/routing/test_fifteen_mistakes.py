"""A policy with fifteen different mistakes: fifteen messages that a person can act on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from routing_models import MODELS

from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.routing.source import PolicyMistakes

FOLDER = Path(__file__).parent / "fifteen_mistakes"
GOLDEN = FOLDER / "messages.txt"


@pytest.fixture
def mistakes(monkeypatch: pytest.MonkeyPatch) -> PolicyMistakes:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(PolicyMistakes) as caught:
        load_policy(Path("routing.yaml"), MODELS, {})
    return caught.value


def test_the_messages_are_those_agreed_upon(mistakes: PolicyMistakes) -> None:
    assert f"{mistakes}\n" == GOLDEN.read_text(encoding="utf-8")


def test_each_is_of_its_own_kind_and_says_where_and_what_to_do(mistakes: PolicyMistakes) -> None:
    assert len(mistakes.mistakes) == len({one.text for one in mistakes.mistakes}) == 15
    remedy = re.compile(
        r"Did you mean [\w./-]+\?|remove it|export [A-Z_]+=|write a number|add `|keep one of them"
    )
    for one in mistakes.mistakes:
        lines = (FOLDER / one.place.file).read_text(encoding="utf-8").splitlines()
        # A word of the line that is named is in the message.
        words = set(re.findall(r"[\w-]{3,}", lines[one.place.line - 1]))
        assert words & set(re.findall(r"[\w-]{3,}", one.text)), one
        assert remedy.search(one.text), one

"""The `takeda` command used wrongly, and read by something that stops reading."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.cli.terminal import READER_GONE

TAKEDA = "import sys; from snakemake_executor_takeda.cli import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sandbox statsu", "'statsu' is not known: did you mean status?"),
        ("sanbox", "'sanbox' is not known: did you mean sandbox?"),
        ("audit verfy", "'verfy' is not known: did you mean verify?"),
        ("audit verify --head 57", "'57' is no end of a log: give its number and hash"),
        ("policy xyz", "'xyz' is not known: there are check"),
        ("sandbox up --runner dokcer", "'dokcer' is not known: did you mean docker?"),
        ("sandbox faults set x=1 --seed x", "--seed: 'x' is not a whole number, such as 7"),
        ("sandbox up --vcpus 0", "--vcpus: '0' is not a whole number of at least 1"),
        ("sandbox up --port 70000", "--port: '70000' is no port: give 0 to 65535"),
        ("handoff run-local a.wdl --cores many", "--cores: 'many' is not a whole number"),
    ],
)
def test_a_wrong_word_is_answered_with_what_is_expected(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        *("", "audit", "audit export", "audit show", "audit verify"),
        *("handoff", "handoff init", "handoff check", "handoff run-local"),
        *("policy", "policy check", "sandbox", "sandbox up"),
    ],
)
def test_every_help_has_an_example(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words.split(), "--help"])
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"example: takeda {words}".strip() in said


@pytest.mark.parametrize("words", [["sandbox", "status", "--json"], ["policy", "check", "a.yaml"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_ends_it_quietly(
    words: list[str], unbuffered: str, tmp_path: Path
) -> None:
    policy = "version: 1\ntargets: {a: {backend: slurm}}\ndefault: a\n"
    (tmp_path / "a.yaml").write_text(policy, encoding="utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", TAKEDA, *words],
            env={
                **os.environ,
                "TAKEDA_SANDBOX_DIR": str(tmp_path),
                "PYTHONUNBUFFERED": unbuffered,
            },
            cwd=tmp_path,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == READER_GONE == 141

"""A dozen CWL documents of all types: init, check, runs on this machine and by hand-off, equal outputs.

`cwl/` has a JSON of inputs beside each; data is made here.
"""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from snakemake_executor_takeda.cli import main
from tests.healthomics.conftest import make_cloud
from tests.healthomics.test_handoff_twenty import all_keys, body, hand_off, results

pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")

CWL = Path(__file__).parent / "cwl"
NAMES = sorted(path.stem for path in CWL.glob("*.cwl"))
DATA = {
    "one.txt": "a b c a\nsecond line\nthird\n",
    "two.txt": "b c c d\na b\n",
    "three.txt": "three\n",
    "folder/x.txt": "x\n",
    "folder/deeper/y.txt": "y\n",
    "ref.fa": "ACGT\n",
    "ref.fa.idx": "index\n",
    "ref.dict": "dictionary\n",
    "a.bam": "a\n",
    "a.bam.bai": "index of a\n",
    "b.bam": "b\n",
    "b.bam.bai": "index of b\n",
}


@pytest.fixture(scope="module")
def snakefile() -> str:
    """What init prints for each, and a target for all of it."""
    text = StringIO()
    with redirect_stdout(text):
        for name in NAMES:
            inputs = str(CWL / f"{name}.json")
            assert main(["handoff", "init", str(CWL / f"{name}.cwl"), "--inputs", inputs]) == 0
    wanted = ", ".join(f"rules.{name}.output" for name in NAMES)
    return f"{text.getvalue()}\nrule all:\n    default_target: True\n    input: {wanted}\n"


def test_there_are_twelve() -> None:
    assert len(NAMES) == 12
    assert all((CWL / f"{name}.json").is_file() for name in NAMES)


def test_check_finds_nothing_wrong(
    snakefile: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "Snakefile").write_text(snakefile)
    monkeypatch.chdir(tmp_path)
    assert main(["handoff", "check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["rule"]: one["mistakes"] for one in found["handoffs"]} == {n: [] for n in NAMES}


@pytest.mark.sandbox
def test_a_run_by_hand_off_gives_what_run_local_gives(
    snakefile: str,
    tmp_path: Path,
    sandbox_env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = run_all_local(snakefile, tmp_path / "local", monkeypatch)
    assert expected["results/words/table"] == b"7\n6\n"
    assert expected["results/beside/made/out.fa.idx"] == b"index\n"
    (tmp_path / "handed").mkdir()
    cloud = make_cloud()
    done = hand_off(tmp_path / "handed", snakefile, cloud, DATA)
    assert done.returncode == 0, done.stderr
    produced = {
        key.removeprefix("work/"): body(cloud, key) for key in all_keys(cloud, "work/results/")
    }
    assert produced.keys() == expected.keys()
    assert {key for key in expected if produced[key] != expected[key]} == set()
    assert {key.split("/")[1] for key in expected} == set(NAMES)


def run_all_local(snakefile: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Each rule of the Snakefile by `run-local` in this process, with what its shell command says."""
    from snakemake_executor_takeda.cli.handoff.planning import planned

    path.mkdir()
    (path / "Snakefile").write_text(snakefile)
    for name, text in DATA.items():
        file = path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(path)
    for job in planned(["--nolock"]).jobs:
        words = ["handoff", "run-local", str(job.resources["handoff"]), "--cores", "2"]
        for named in job.inputs:
            if named.name is not None:
                words += ["--input", named.name, *(file.path for file in named.files)]
        for param, value in job.params.items():
            said = [str(one) for one in value] if isinstance(value, list) else [str(value)]
            words += ["--param", param, *said]
        for named in job.outputs:
            option = "--output-dir" if named.files[0].is_directory else "--output"
            words += [option, str(named.name), *(file.path for file in named.files)]
        assert main(words) == 0, f"{job.rule}: {words}"
    return {f"results/{name}": data for name, data in results(path / "results").items()}

"""`takeda handoff run-local` for real, with miniwdl and no container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"
WORDS = str(DATA / "words.wdl")


def start(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("takeda")), "handoff", "run-local", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(cwd: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    process = start(cwd, *arguments, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.rglob(".takeda-handoff-*")]


def running_below(directory: Path) -> list[str]:
    """Command lines of processes whose working directory lies below this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            inside = (entry / "cwd").readlink().is_relative_to(directory)
            if inside and int(entry.name) != os.getpid():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "one.txt").write_text("a b c a\n")
    (tmp_path / "two.txt").write_text("b c c d\n")
    return tmp_path


def test_runs_a_scatter_and_puts_outputs_in_place(texts: Path) -> None:
    code, out, err = run(
        texts,
        *(WORDS, "--input", "texts", "one.txt", "two.txt", "--param", "label", "hello"),
        *("--param", "least=2", "--param", "upper", "True"),
        *("--output", "table", "out/deep/table.txt"),
        *("--output", "counts", "out/one.counts", "out/two.counts"),
    )
    assert (code, out, err) == (0, "", "")
    assert (texts / "out/deep/table.txt").read_text() == "# hello -\n3 C\n2 A\n2 B\n"
    assert (texts / "out/one.counts").read_text() == "2 A\n1 B\n1 C\n"
    assert (texts / "out/two.counts").is_file()
    assert not (texts / "out/two.counts").is_symlink()
    assert leftovers(texts) == []
    assert (texts / "one.txt").read_text() == "a b c a\n"


def test_many_at_once_in_one_directory(texts: Path) -> None:
    processes = [
        start(
            texts,
            *(WORDS, "--input", "texts", "one.txt", "--param", "label", f"n{number}"),
            *("--output", "table", f"table{number}.txt"),
        )
        for number in range(6)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, errors
    for number in range(6):
        assert (texts / f"table{number}.txt").read_text().startswith(f"# n{number} ")
    assert leftovers(texts) == []


def test_a_failing_task_is_named_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "fail.wdl").write_text(
        "version 1.0\n"
        "workflow w { call bad output { File o = bad.o } }\n"
        "task bad { command { echo one line >&2; echo the reason >&2; exit 3 }"
        " output { File o = stdout() } }\n"
    )
    (tmp_path / "old.txt").write_text("kept")
    code, _, err = run(tmp_path, "fail.wdl", "--output", "o", "old.txt")
    assert code == 1
    assert "fail.wdl: task bad: the command failed with exit status 3" in err
    assert "  the reason" in err
    assert "Traceback" not in err
    assert (tmp_path / "old.txt").read_text() == "kept"
    assert leftovers(tmp_path) == []


def test_tasks_see_no_aws_credentials_and_need_no_docker(tmp_path: Path) -> None:
    (tmp_path / "env.wdl").write_text(
        "version 1.0\n"
        "workflow w { call show output { File o = show.o } }\n"
        "task show { command { env | grep AWS || true } output { File o = stdout() }"
        ' runtime { docker: "no/such:image" } }\n'
    )
    code, _, err = run(tmp_path, "env.wdl", "--output", "o.txt", AWS_SECRET_ACCESS_KEY="s3cret")
    assert (code, err) == (0, "")
    assert (tmp_path / "o.txt").read_text() == ""


def test_an_input_that_is_passed_on_is_copied_not_moved(tmp_path: Path) -> None:
    (tmp_path / "pass.wdl").write_text(
        "version 1.0\nworkflow w { input { File f } output { File o = f  Array[File] l = [f] } }\n"
    )
    (tmp_path / "in.txt").write_text("data")
    code, _, err = run(
        tmp_path,
        *("pass.wdl", "--input", "f", "in.txt", "--output", "o", "a.txt"),
        *("--output-dir", "l", "gathered"),
    )
    assert (code, err) == (0, "")
    assert (tmp_path / "in.txt").read_text() == "data"
    assert (tmp_path / "a.txt").read_text() == "data"
    assert (tmp_path / "gathered/in.txt").read_text() == "data"


def test_a_retried_task_starts_in_a_clean_directory(tmp_path: Path) -> None:
    (tmp_path / "retry.wdl").write_text(
        "version 1.0\n"
        "workflow w { input { File f } call flaky { input: f = f }"
        " output { File o = flaky.o } }\n"
        "task flaky { input { File f } command <<<\n"
        '  test -e leftover && { echo "not clean" >&2; exit 9; }\n'
        "  touch leftover\n"
        '  n=$(cat "~{f}"); m=$(cat $COUNTER 2>/dev/null || echo 0); echo $((m + 1)) > $COUNTER\n'
        "  test $m -ge 1 || exit 1\n"
        "  echo $n $m\n"
        ">>> output { File o = stdout() } runtime { maxRetries: 2 } }\n"
    )
    (tmp_path / "in.txt").write_text("x")
    code, _, err = run(
        tmp_path,
        *("retry.wdl", "--input", "f", "in.txt", "--output", "o", "o.txt"),
        COUNTER=str(tmp_path / "counter"),
    )
    assert (code, err) == (0, "")
    assert (tmp_path / "counter").read_text() == "2\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_tasks(tmp_path: Path, number: int) -> None:
    (tmp_path / "slow.wdl").write_text(
        "version 1.0\n"
        "workflow w { call slow output { File o = slow.o } }\n"
        f"task slow {{ command {{ touch {tmp_path}/began; sleep 600 & sleep 600 }}"
        " output { File o = stdout() } }\n"
    )
    process = start(tmp_path, "slow.wdl", "--output", "o", "o.txt")
    try:
        while not (tmp_path / "began").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert running_below(tmp_path) == []
    assert leftovers(tmp_path) == []


def test_run_dir_keeps_logs(texts: Path) -> None:
    code, _, err = run(
        texts,
        *(WORDS, "--input", "texts", "one.txt", "--param", "label", "x"),
        *("--output", "table", "t.txt", "--run-dir", "kept"),
    )
    assert (code, err) == (0, "")
    assert (texts / "kept/workflow.log").is_file()
    assert (texts / "t.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("absent.wdl", "--output", "o", "x"), 1, "there is no WDL file absent.wdl"),
        ((WORDS, "--output", "tabel", "x"), 1, "needs `texts` (Array[File]+), `label`"),
        (
            (WORDS, "--input", "texts", "one.txt", "--param", "label=x", "--output", "tabel=x"),
            1,
            "Did you mean `table`?",
        ),
        ((WORDS, "--input", "texts", "none.txt", "--output", "table", "x"), 1, "no input file"),
        ((WORDS, "--input", "texts", "s3://b/x", "--output", "table", "x"), 1, "local files only"),
        ((WORDS,), 2, "at least one --output"),
        ((), 2, "required: WORKFLOW"),
        ((WORDS, "--cores", "0", "--output", "o", "x"), 2, "--cores"),
        ((WORDS, "--param", "share", "x", "--output", "table", "x"), 1, "wants Float?, not 'x'"),
        (
            (WORDS, "--input", "texts", "one.txt", "--input", "texts", "x", "--output", "o", "x"),
            2,
            "given twice",
        ),
    ],
)
def test_bad_use_is_told_in_one_message(
    texts: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    found, _, err = run(texts, *arguments)
    assert found == code
    assert words in err
    assert "Traceback" not in err
    if code == 2:
        assert len(err.splitlines()) == 1
        assert "see `takeda handoff run-local --help`" in err


@pytest.mark.parametrize("keep", [False, True])
def test_tasks_see_a_plain_path_wherever_outputs_go(tmp_path: Path, keep: bool) -> None:
    folder = tmp_path / "étude nº 1"
    temporary = tmp_path / "plain"
    folder.mkdir()
    temporary.mkdir()
    (folder / "cat.wdl").write_text(
        "version 1.0\n"
        "workflow w { input { File f }\n"
        "  call one { input: f = f } call two { input: f = one.o } output { File o = two.o } }\n"
        "task one { input { File f } command { cat ~{f} > o.txt; echo $(pwd)/o.txt >> o.txt }"
        ' output { File o = "o.txt" } }\n'
        "task two { input { File f } command { cat ~{f}; echo $TMPDIR ~{f} }"
        " output { File o = stdout() } }\n"
    )
    (folder / "in.txt").write_text("data\n")
    kept = ("--run-dir", "kept here") if keep else ()
    code, _, err = run(
        folder,
        *("cat.wdl", "--input", "f", "in.txt", "--output", "o", "o 1.txt", *kept),
        TMPDIR=str(temporary),
    )
    assert (code, err) == (0, "")
    said = (folder / "o 1.txt").read_text().split()
    assert said[0] == "data"
    assert [Path(one).name for one in said[1:]] == ["o.txt", "tmp", "o.txt"]
    assert all(one.startswith(f"{temporary}/") for one in said[1:])
    assert list(temporary.iterdir()) == []
    assert leftovers(folder) == []
    assert (folder / "kept here").exists() == keep


def test_a_signal_removes_the_plain_path_too(tmp_path: Path) -> None:
    folder, temporary = tmp_path / "a b", tmp_path / "plain"
    folder.mkdir()
    temporary.mkdir()
    (folder / "slow.wdl").write_text(
        "version 1.0\n"
        "workflow w { call slow output { File o = slow.o } }\n"
        f"task slow {{ command {{ touch {temporary}/began; sleep 600 }}"
        " output { File o = stdout() } }\n"
    )
    process = start(folder, "slow.wdl", "--output", "o", "o.txt", TMPDIR=str(temporary))
    try:
        while not (temporary / "began").exists():
            assert process.poll() is None
            time.sleep(0.05)
        assert list(temporary.glob("takeda-run-*"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert list(temporary.glob("takeda-run-*")) == []
    assert leftovers(folder) == []


def test_a_shard_over_structs_is_named_by_call_and_index(tmp_path: Path) -> None:
    (tmp_path / "each.wdl").write_text(
        "version 1.0\n"
        "struct Sample { String id Boolean ok }\n"
        "workflow w { input { Array[Sample] samples }\n"
        "  scatter (s in samples) { call c { input: ok = s.ok } }"
        " output { Array[File] o = c.o } }\n"
        "task c { input { Boolean ok } command { ~{ok} } output { File o = stdout() } }\n"
    )
    samples = '[{"id": "x", "ok": true}, {"id": "y", "ok": false}]'
    code, _, err = run(
        tmp_path, "each.wdl", "--param", f"samples={samples}", "--output-dir", "o", "o"
    )
    assert code == 1
    assert "each.wdl: task c-1: the command failed with exit status 1" in err


@pytest.mark.parametrize("keep", [False, True])
def test_another_number_of_files_is_told_by_names(texts: Path, keep: bool) -> None:
    code, _, err = run(
        texts,
        *(WORDS, "--input", "texts", "one.txt", "two.txt", "--param", "label", "x"),
        *("--output", "counts", "only-1", "only-2", "only-3"),
        *(("--run-dir", "kept") if keep else ()),
    )
    assert code == 1
    assert '  counts: ["one.txt.counts", "two.txt.counts"]' in err
    assert ("the run's directory: kept" if keep else "--run-dir DIR keeps it") in err
    assert str(texts) not in err

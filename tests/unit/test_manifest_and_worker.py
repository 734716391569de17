"""The manifest finds each child its entry; the worker runs it and tells the truth about it."""

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.base import RunContext
from snakemake_executor_takeda.values import JobSpec, Shape, Submission, Target, Task
from snakemake_executor_takeda.worker.exits import DISK_FULL, UNREACHABLE
from snakemake_executor_takeda.worker.manifest import encode_manifest, read_entry

TARGET = Target("t", "local")


def submission(*argvs):
    job = JobSpec(1, "r", {}, 1, Shape(), {})
    tasks = tuple(Task(f"run-t{n}", job, TARGET, tuple(argv)) for n, argv in enumerate(argvs))
    return Submission("run-s1", "takeda-r-run-1", TARGET, tasks)


def context(tmp_path: Path, sources: str | None = None, environment: str | None = None):
    return RunContext("run", tmp_path, tmp_path, None, sources, environment, tmp_path)


def reader(data: bytes):
    reads = []

    def read_range(start, end):
        reads.append(end - start)
        return data[start:end]

    return read_range, reads


def test_an_entry_is_found_among_ten_thousand_by_small_reads(tmp_path):
    argvs = [("echo", f"wild\n card {n} “ü”") for n in range(10_000)]
    data = encode_manifest(submission(*argvs), context(tmp_path))
    for index in (0, 1, 5_000, 9_999):
        read_range, reads = reader(data)
        assert read_entry(read_range, index)["argv"] == list(argvs[index])
        assert len(reads) == 3 and sum(reads) < 1_000


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_outside_the_array_is_refused(tmp_path, index):
    read_range, _ = reader(encode_manifest(submission(["a"], ["b"]), context(tmp_path)))
    with pytest.raises(IndexError, match="holds 2 entries"):
        read_entry(read_range, index)


def work(manifest: bytes, tmp_path: Path, *arguments: str, **environment: str):
    path = tmp_path / "manifest"
    path.write_bytes(manifest)
    command = [sys.executable, "-m", "snakemake_executor_takeda.worker", "--manifest", str(path)]
    return subprocess.run(
        [*command, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_worker_runs_the_argument_list_as_it_is(tmp_path):
    hostile = "$(touch pwned) `touch pwned`; touch pwned"
    manifest = encode_manifest(submission(["/bin/echo", hostile]), context(tmp_path))
    result = work(manifest, tmp_path)
    assert (result.returncode, result.stdout) == (0, hostile + "\n")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("variable", ["AWS_BATCH_JOB_ARRAY_INDEX", "SLURM_ARRAY_TASK_ID"])
def test_the_index_comes_from_the_array(tmp_path, variable):
    manifest = encode_manifest(
        submission(["/bin/echo", "first"], ["/bin/echo", "second"]), context(tmp_path)
    )
    assert work(manifest, tmp_path, **{variable: "1"}).stdout == "second\n"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)])
def test_the_exit_record_and_the_exit_status_agree(tmp_path, script, code):
    manifest = encode_manifest(submission(["/bin/sh", "-c", script]), context(tmp_path))
    result = work(manifest, tmp_path, "--exit-records", str(tmp_path / "exits"))
    record = json.loads((tmp_path / "exits" / "run-t0.json").read_text())
    assert result.returncode == record["exit_code"] == code
    assert record["ended"] >= record["started"] > 0


FAILING_WRITES = """
import os, pathlib
def fail(self, content):
    self.touch()
    raise OSError({errno}, os.strerror({errno}), str(self))
pathlib.Path.write_bytes = fail
"""


@pytest.mark.parametrize("log", ["log", "/dev/full"])
@pytest.mark.parametrize(
    ("fault", "script", "code"),
    [
        (errno.ENOSPC, "exit 0", DISK_FULL),
        (errno.EDQUOT, "exit 0", DISK_FULL),
        (errno.ENOSPC, "exit 7", DISK_FULL),
        # It ended well, and outputs are believed: only nobody can read how long it took.
        (errno.EACCES, "exit 0", 0),
        (errno.EACCES, "exit 7", UNREACHABLE),
    ],
)
def test_without_a_record_the_exit_status_tells_the_end(tmp_path, log, fault, script, code):
    manifest = tmp_path / "manifest"
    manifest.write_bytes(encode_manifest(submission(["/bin/sh", "-c", script]), context(tmp_path)))
    (tmp_path / "sitecustomize.py").write_text(FAILING_WRITES.format(errno=fault))
    exits = tmp_path / "exits"
    command = [sys.executable, "-m", "snakemake_executor_takeda.worker"]
    command += ["--manifest", str(manifest), "--exit-records", str(exits)]
    path = os.pathsep.join(sys.path)
    with (tmp_path / log).open("w") as output:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{path}"},
            stdout=output,
            stderr=output,
            check=False,
        )
    assert done.returncode == code
    assert list(exits.iterdir()) == [], "nothing half written is left"
    if log == "log":
        said = (tmp_path / log).read_text()
        assert f"cannot write {exits}/run-t0.json: {os.strerror(fault)}" in said
        assert ("the command ended well" in said) == (script == "exit 0")


def test_no_room_for_the_tasks_directory_is_a_full_disk_and_is_recorded(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, tempfile\n"
        "def fail(prefix, dir):\n"
        f"    raise OSError({errno.ENOSPC}, 'No space left on device', dir)\n"
        "tempfile.mkdtemp = fail\n"
    )
    manifest = encode_manifest(
        submission(["true"]), context(tmp_path, sources=str(tmp_path / "none"))
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    place = ["--exit-records", str(tmp_path / "exits"), "--scratch", str(tmp_path / "scratch")]
    result = work(manifest, tmp_path, *place, PYTHONPATH=path)
    assert result.returncode == DISK_FULL
    assert f"no room for the task's directory: [Errno 28] No space left on device: '{tmp_path}" in (
        result.stderr
    )
    record = json.loads((tmp_path / "exits" / "run-t0.json").read_text())
    assert record["exit_code"] == DISK_FULL


def test_sources_are_unpacked_into_a_directory_of_the_tasks_own(tmp_path):
    archive = tmp_path / "sources.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        info = tarfile.TarInfo("rules/Snakefile")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    manifest = encode_manifest(
        submission(["/bin/sh", "-c", "pwd; cat rules/Snakefile"]),
        context(tmp_path, sources=str(archive)),
    )
    scratch = tmp_path / "scratch"
    result = work(manifest, tmp_path, "--scratch", str(scratch))
    directory, content = result.stdout.splitlines()
    assert content == "hello"
    assert Path(directory).parent == scratch
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../../escaped", tarfile.REGTYPE, ""),
        ("/tmp/takeda-escaped", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "../../.."),
        ("link", tarfile.LNKTYPE, "/etc/hostname"),
        ("node", tarfile.FIFOTYPE, ""),
    ],
)
def test_an_archive_that_leaves_its_directory_is_refused(tmp_path, name, kind, link):
    archive = tmp_path / "sources.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info, io.BytesIO())
    manifest = encode_manifest(submission(["/bin/true"]), context(tmp_path, sources=str(archive)))
    result = work(manifest, tmp_path, "--scratch", str(tmp_path / "a" / "b"))
    assert result.returncode != 0 and "leaves their directory" in result.stderr
    assert list(tmp_path.rglob("escaped")) == [] and not Path("/tmp/takeda-escaped").exists()


def test_a_signal_reaches_the_tool_behind_a_launcher_that_waits(tmp_path):
    """Snakemake waits for its job on SIGTERM: the job itself must get it."""
    script = "trap : TERM; sh -c 'echo ready; exec sleep 600'; exit 9"
    (tmp_path / "manifest").write_bytes(
        encode_manifest(submission(["/bin/sh", "-c", script]), context(tmp_path))
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "snakemake_executor_takeda.worker",
            "--manifest",
            str(tmp_path / "manifest"),
        ],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(20) == 9
    process.stdout.close()


def test_variables_of_the_run_reach_the_task(tmp_path):
    variables = tmp_path / "environment.json"
    variables.write_text(json.dumps({"TOKEN": "s3cret"}))
    manifest = encode_manifest(
        submission(["/bin/sh", "-c", "echo $TOKEN"]),
        context(tmp_path, environment=str(variables)),
    )
    assert b"s3cret" not in manifest
    assert work(manifest, tmp_path).stdout == "s3cret\n"


def test_ranks_on_one_node_may_be_started_by_root(tmp_path):
    show = "echo $OMPI_ALLOW_RUN_AS_ROOT $PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"
    manifest = encode_manifest(submission(("sh", "-c", show)), context(tmp_path))
    assert work(manifest, tmp_path, "--mpi").stdout.split() == ["1", "1"]
    given = work(manifest, tmp_path, "--mpi", OMPI_ALLOW_RUN_AS_ROOT="0")
    assert given.stdout.split() == ["0", "1"]
    assert work(manifest, tmp_path).stdout.split() == []

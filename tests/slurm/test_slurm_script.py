"""The job's script, run by a real shell: what the worker is told, in which environment."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_builders import submission, target

from snakemake_executor_takeda.backends.slurm import SlurmOptions
from snakemake_executor_takeda.backends.slurm.script import batch_script
from snakemake_executor_takeda.values import Shape
from snakemake_executor_takeda.worker.exits import NO_MODULES

HOSTILE = ["/tmp/a b", "/x'; touch /tmp/pwned; '", "/$(id)", "/`id`", '/a"b', "/a\\b", "/%a", "/-x"]
WORKER = ["-P", "-m", "snakemake_executor_takeda.worker"]
SAY_ALL = f"""#!{sys.executable}
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ)]))
"""


@pytest.fixture
def run(tmp_path):
    """Run the script of a submission; → the worker's words and variables, or what was said."""
    python = tmp_path / "my python's"
    python.write_text(SAY_ALL)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)

    def run_it(shape=None, path="/run", argvs=(("true",),), given=None, efa=False, **words):
        on = target(python=str(python), **words)
        on = type(on)(**{**vars(on), "efa": efa})
        script = batch_script(
            submission(argvs, shape, on=on),
            manifest=Path(path) / "manifest",
            exit_records=Path(path),
            scratch=Path(path) / "scratch",
        )
        shell = script.splitlines()[0].removeprefix("#!")
        done = subprocess.run(
            [shell],
            input=script,
            text=True,
            capture_output=True,
            env={"PATH": os.defpath, "SLURM_CPUS_PER_TASK": "3", **(given or {})},
            check=False,
        )
        if done.returncode:
            return done.returncode, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return run_it


@pytest.mark.parametrize("path", HOSTILE)
def test_no_value_leaves_its_quotes(run, path):
    words, _ = run(path=path, given={"SLURM_ARRAY_TASK_ID": "17"})
    assert words == [
        *WORKER,
        *("--manifest", f"{Path(path)}/manifest"),
        *("--index", "17"),
        *("--exit-records", path),
        *("--scratch", f"{Path(path)}/scratch"),
    ]


@pytest.mark.parametrize("value", [*HOSTILE, "two\nlines", "", "export X=1"])
def test_variables_of_a_target_are_what_they_are(run, value):
    _, variables = run(environment={"MINE": value, "PATH_TO": "/opt"}, given={"MINE": "login's"})
    assert variables["MINE"] == value
    assert variables["PATH_TO"] == "/opt"


@pytest.mark.parametrize(
    ("word", "value", "why"),
    [
        ("environment", {"AWS_SECRET_ACCESS_KEY": "x"}, "AWS_SHARED_CREDENTIALS_FILE"),
        ("environment", {"AWS_SESSION_TOKEN": "x"}, "instance profile"),
        ("environment", {"API_TOKEN": "x"}, "envvars"),
        ("environment", {"A;touch /tmp/pwned": "x"}, "a variable's name"),
        ("environment", {"A": "a\0b"}, "NUL"),
        ("modules", ["openmpi; touch /tmp/pwned"], "a module is a name"),
        ("modules", ["--version"], "a module is a name"),
        ("container_mounts", ["/a,b"], "cannot mount"),
        ("container_runtime", "docker", "apptainer"),
        ("mpi", "srun 'a", "quotation"),
    ],
)
def test_hostile_or_useless_words_of_a_target(word, value, why):
    with pytest.raises(ValueError, match=why):
        SlurmOptions(**{word: value})


def test_the_path_of_a_file_of_secrets_is_none():
    names = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "db_password_file")
    paths = dict.fromkeys(names, "/home/me/file")
    assert SlurmOptions(environment=paths).environment == paths


def test_a_serial_job_gets_nothing_of_mpi(run):
    words, variables = run(Shape(cpus=3), efa=True)
    assert variables["SRUN_CPUS_PER_TASK"] == "3"
    assert not {name for name in variables if name.startswith(("OMP", "FI_", "SLURM_MPI", "I_MPI"))}
    assert "--allocation" not in words
    assert "--efa" not in words


def test_ranks_by_srun(run):
    words, variables = run(Shape(cpus=3, nodes=2, tasks=4, mpi="srun"))
    assert variables["SLURM_MPI_TYPE"] == "pmix"
    assert variables["SLURM_KILL_BAD_EXIT"] == "1"
    assert variables["SLURM_PMIX_FENCE"] == "ring"
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["SRUN_CPUS_PER_TASK"] == "3"
    assert "OMPI_MCA_hwloc_base_binding_policy" not in variables
    assert words[-1] == "--allocation"


def test_ranks_by_mpirun(run):
    """Its daemons are started by srun: they must not get the CPUs of one rank, nor a PMI."""
    _, variables = run(Shape(cpus=3, nodes=2, tasks=4, mpi="mpirun"))
    assert "SRUN_CPUS_PER_TASK" not in variables
    assert "SLURM_MPI_TYPE" not in variables
    assert "SLURM_PMIX_FENCE" not in variables
    assert variables["OMPI_MCA_hwloc_base_binding_policy"] == "none"
    assert variables["PRTE_MCA_hwloc_default_binding_policy"] == "none"
    assert "PRTE_MCA_hwloc_default_binding_policy" not in run(Shape(tasks=4, mpi="mpirun"))[1]


def test_efa(run):
    words, variables = run(Shape(nodes=2, tasks=4, mpi="srun"), efa=True)
    assert words[-1] == "--efa"
    told = {
        "FI_PROVIDER": "efa",
        "OMPI_MCA_pml": "cm",
        "OMPI_MCA_mtl": "ofi",
        "I_MPI_FABRICS": "shm:ofi",
        "I_MPI_OFI_PROVIDER": "efa",
    }
    assert told.items() <= variables.items()


def test_what_the_user_set_stays(run):
    given = {
        "FI_PROVIDER": "tcp",
        "OMPI_MCA_pml": "",
        "OMP_NUM_THREADS": "2",
        "SLURM_MPI_TYPE": "pmi2",
        "I_MPI_FABRICS": "ofi",
    }
    shape = Shape(cpus=3, nodes=2, tasks=4, mpi="srun")
    _, variables = run(shape, efa=True, given=given, environment={"OMPI_MCA_mtl": "psm2"})
    assert given.items() <= variables.items()
    assert variables["OMPI_MCA_mtl"] == "psm2"
    assert variables["I_MPI_OFI_PROVIDER"] == "efa"


def exported(function):
    return {"BASH_FUNC_module%%": "() { " + function + "\n}"}


def test_modules_are_loaded_by_the_callers_own_function(run):
    """dash as the script's shell would have dropped it."""
    _, variables = run(
        modules=["libfabric-aws", "openmpi/4.1.7"], given=exported('export LOADED="$*"')
    )
    assert variables["LOADED"] == "load libfabric-aws openmpi/4.1.7"


def test_modules_that_cannot_be_loaded_end_the_job(run):
    code, said = run(modules=["nope"], given=exported("echo no such module >&2; return 1"))
    assert code == NO_MODULES
    assert "no such module" in said
    assert "the target's modules could not be loaded" in said


def test_modules_where_there_are_none(run, tmp_path):
    """The places of an installation are looked for; a node without one says so."""
    empty = {"MODULESHOME": str(tmp_path), "LMOD_DIR": str(tmp_path), "BASH_ENV": ""}
    inner = ("python", "--target-jobs", "x", "--software-deployment-method", "env-modules")
    if Path("/etc/profile.d/modules.sh").exists() or Path("/etc/profile.d/lmod.sh").exists():
        _, variables = run(argvs=(inner,), given=empty)
        assert "BASH_FUNC_module%%" in variables
    else:
        code, said = run(argvs=(inner,), given=empty)
        assert code == NO_MODULES
        assert "environment modules are asked for" in said

"""Launchers, PMIs and containers of ranks: what is decided from a rule and a target. Pure."""

import shlex

import pytest
from slurm_builders import submission, target

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm import commands, containers, mpi
from snakemake_executor_takeda.jobs import shape_of
from snakemake_executor_takeda.values import JobSpec, Shape, TakedaError

INNER = (
    *("python", "-P", "-m", "snakemake_executor_takeda.commands.node", "--snakefile", "Snakefile"),
    *(
        "--target-jobs",
        '["align", {}]',
        "--allowed-rules",
        "align",
        "--cores",
        "1",
        "--attempt",
        "1",
    ),
)
DEBIAN = """MPI plugin types are...
\tpmix
\tnone
\tcray_shasta
\tpmi2
specific pmix plugin versions available: pmix_v4
"""
OLDER = """srun: MPI types are...
srun: none
srun: pmi2
srun: pmix
srun: pmix_v3
"""


def job(shape=None, container=None, is_group=False, **resources):
    return JobSpec(
        1, "align", {}, 1, shape or Shape(), resources, container=container, is_group=is_group
    )


@pytest.mark.parametrize("word", [True, 1, "True", "yes", "on", "default", " true "])
def test_words_that_leave_the_launcher_to_the_target(word):
    shape = shape_of({"mpi": word}, 1, "here")
    assert mpi.launcher_of(job(shape), target()) == "srun --mpi=pmix"
    assert mpi.launcher_of(job(shape), target(mpi="mpirun")) == "mpirun"


@pytest.mark.parametrize("word", [False, 0, "", "no", "False", "off", None])
def test_words_that_mean_no_mpi(word):
    assert shape_of({"mpi": word}, 1, "here").mpi is None


def test_a_rules_own_launcher_is_kept():
    assert mpi.launcher_of(job(Shape(mpi="mpiexec -v")), target(mpi="mpirun")) == "mpiexec -v"


@pytest.mark.parametrize(
    ("rule", "on_target", "pmi"),
    [
        ("srun", "srun --mpi=pmi2", "pmi2"),
        ("srun --mpi=pmix_v4", "srun --mpi=pmi2", "pmix_v4"),
        ("/opt/slurm/bin/srun --mpi pmi2 -l", "mpirun", "pmi2"),
        ("srun", "mpirun", "pmix"),
        (None, "srun --mpi=pmi2", "pmi2"),
        ("mpirun", "srun --mpi=pmi2", None),
    ],
)
def test_the_pmi_of_srun(rule, on_target, pmi):
    told = mpi.variables(job(Shape(nodes=2, tasks=2, mpi=rule)), target(mpi=on_target))
    assert told.get("SLURM_MPI_TYPE") == pmi


def test_what_srun_knows():
    assert mpi.read_pmi_types(DEBIAN) == ["pmix", "none", "cray_shasta", "pmi2", "pmix_v4"]
    assert {"pmix", "pmi2", "pmix_v3", "none"} <= set(mpi.read_pmi_types(OLDER))
    assert mpi.read_pmi_types("") == []


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        ({"nodes": 4, "tasks": 2, "mpi": "srun"}, "2 of the nodes would have no rank"),
        ({"nodes": 2, "tasks": 6, "tasks_per_node": 2, "mpi": "srun"}, "have room for 4 ranks"),
        ({"mpi": "srun --mpi=pmx"}, "no PMI 'pmx'; it has pmix"),
        ({"mpi": "srun 'a"}, "No closing quotation"),
        ({"mpi": "mpirun 'a"}, "No closing quotation"),
    ],
)
def test_what_cannot_be(resources, why):
    one = job(shape_of(resources, 1, "here"), **resources)
    with pytest.raises(SubmissionError, match=why):
        mpi.check(one, target(), mpi.read_pmi_types(DEBIAN))


@pytest.mark.parametrize(
    "resources",
    [
        {"nodes": 3, "tasks": 4, "mpi": "srun"},
        {"tasks": 6, "tasks_per_node": 4, "mpi": "mpirun"},
        {"nodes": 2},
        {"mpi": "srun --mpi=pmix/v4"},
        {"mpi": "srun --mpi=none"},
        {"mpi": "mpirun --mpi=whatever"},
    ],
)
def test_what_can_be(resources):
    one = job(shape_of(resources, 1, "here"), **resources)
    mpi.check(one, target(), mpi.read_pmi_types(DEBIAN))


def test_a_pmi_is_not_refused_where_srun_was_not_asked():
    mpi.check(job(Shape(mpi="srun --mpi=pmx")), target(), ())


def argv_of(one, on, argv=INNER):
    sent = submission([argv], on=on)
    task = type(sent.tasks[0])("t", one, on, argv)
    return commands.on_target(type(sent)("s", "n", on, (task,))).tasks[0].argv


def test_a_launcher_is_told_to_the_inner_snakemake():
    argv = argv_of(job(Shape(mpi="true")), target(mpi="srun --mpi=pmi2 -l"))
    assert argv[-2:] == ("--set-resources", "align:mpi='srun --mpi=pmi2 -l'")
    assert argv_of(job(Shape(mpi="srun")), target()) == INNER
    assert argv_of(job(), target()) == INNER


def test_a_direct_command_is_left_alone():
    assert argv_of(job(Shape(mpi="true")), target(), ("tool", "x")) == ("tool", "x")


def test_threads_are_the_cpus_of_a_rank():
    argv = argv_of(job(Shape(cpus=8, mpi="srun"), cpus_per_task=8), target())
    assert argv[argv.index("--cores") + 1] == "8"
    assert argv[-2:] == ("--set-threads", "align=8")
    more = tuple("16" if word == "1" else word for word in INNER)
    assert argv_of(job(Shape(cpus=8), cpus_per_task=8), target(), more) == more


PYXIS = {"container_runtime": "pyxis", "container_mounts": ["/fsx"]}
IMAGE = "docker://quay.io/biocontainers/bwa:0.7.17"


def test_ranks_are_put_into_the_image_by_the_launcher():
    on = target(**PYXIS)
    argv = argv_of(job(Shape(mpi="true"), IMAGE), on, (*INNER, "--sdm", "apptainer", "conda"))
    assert argv[argv.index("--sdm") + 1 :][:1] == ("conda",)
    launcher = eval(argv[-1].removeprefix("align:mpi="))
    # As the rule's shell reads it, in a directory whose name is no shell's friend.
    words = shlex.split(launcher.replace('"$PWD"', '"/a b"'))
    assert words == [
        *("srun", "--mpi=pmix", "--container-image=docker://quay.io#biocontainers/bwa:0.7.17"),
        *("--container-workdir=/a b", "--container-mounts=/a b:/a b,/fsx:/fsx"),
    ]
    # Snakemake puts variables of its own environment into what it evaluates.
    assert "$" not in argv[-1]


def test_a_serial_rule_runs_in_the_image_by_the_inner_snakemake():
    argv = argv_of(job(Shape(), IMAGE), target(**PYXIS), (*INNER, "--sdm", "conda"))
    assert argv[2:6] == (
        *("-m", "snakemake_executor_takeda.commands.node"),
        *("--takeda-pyxis", '["/fsx"]'),
    )
    assert argv[-3:] == ("--sdm", "conda", "apptainer")
    assert argv_of(job(), target(**PYXIS)) == INNER
    assert argv_of(job(Shape(), IMAGE), target()) == INNER
    assert "--takeda-pyxis" in argv_of(job(is_group=True), target(**PYXIS))


@pytest.mark.parametrize(
    ("container", "shape", "why"),
    [
        ("tool.sif", Shape(), "enroot import"),
        ("library://tool", Shape(), "docker://REGISTRY"),
        ("docker://a b", Shape(), "no image of a registry"),
        ("docker://$(reboot)", Shape(), "no image of a registry"),
        ("/images/a\nb.sqsh", Shape(), "control character"),
        (IMAGE, Shape(nodes=2, tasks=2, mpi="mpirun"), "cannot reach the others"),
    ],
)
def test_containers_that_pyxis_cannot_run(tmp_path, container, shape, why):
    with pytest.raises(SubmissionError, match=why):
        containers.check(job(shape, container), target(**PYXIS), tmp_path)


def test_a_folder_that_pyxis_cannot_mount(tmp_path):
    with pytest.raises(SubmissionError, match="cannot mount"):
        containers.check(job(Shape(), IMAGE), target(**PYXIS), tmp_path / "a,b")
    containers.check(job(Shape(), IMAGE), target(), tmp_path / "a,b")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("docker://ubuntu:24.04", "docker://ubuntu:24.04"),
        ("docker://biocontainers/bwa", "docker://biocontainers/bwa"),
        ("docker://ghcr.io/a/b@sha256:00ff", "docker://ghcr.io#a/b@sha256:00ff"),
        ("docker://localhost:5000/a", "docker://localhost:5000#a"),
        ("docker://me.org#a/b:1", "docker://me.org#a/b:1"),
        ("/images/tool.sqsh", "/images/tool.sqsh"),
        ("file:///images/tool.sqsh", "/images/tool.sqsh"),
    ],
)
def test_names_of_images(url, name):
    assert containers.image_name(url) == name


def test_a_srun_without_pyxis():
    with pytest.raises(TakedaError, match="Pyxis plug-in is not installed"):
        containers.check_srun(target(**PYXIS), "Usage: srun …")
    containers.check_srun(target(**PYXIS), "  --container-image=[USER@]…")


def test_ranks_on_several_nodes_need_a_scratch_that_they_share():
    """From afar, where a job stages into its own node's /tmp unless the target says otherwise."""
    spread = job(Shape(tasks=4, mpi="srun"))
    with pytest.raises(SubmissionError, match="names no `scratch`"):
        mpi.check_scratch(spread, target())
    mpi.check_scratch(spread, target(scratch="/fsx"))
    mpi.check_scratch(job(Shape(tasks=4, mpi="srun"), nodes=1), target())
    mpi.check_scratch(job(Shape(cpus=4)), target())

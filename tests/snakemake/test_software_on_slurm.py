"""Rules' software on a real Slurm: Apptainer, Pyxis, environment modules, conda.

Environment modules are real. Apptainer, conda and the Pyxis plug-in of srun are stand-ins, as Debian
has none of them: programs on the PATH that take the real one's words, note them down, and run the
command on the node itself.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_takeda.worker.exits import NO_MODULES

pytestmark = pytest.mark.slurm

ALLREDUCE = Path(__file__).parent.parent / "slurm" / "allreduce.py"
PATIENCE_SECONDS = 120
IMAGE = "docker://quay.io/lab/tool:1.2"
APPTAINER = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open("{noted}", "a") as noted:
    json.dump([os.environ.get("SLURMD_NODENAME"), words], noted)
    noted.write("\\n")
if words == ["--version"]:
    print("apptainer version 1.3.4")
elif words[0] == "pull":
    open(words[words.index("--name") + 1], "w").close()
else:
    at = next(i for i, word in enumerate(words) if word.endswith(".simg"))
    os.environ["IN_IMAGE"] = words[at]
    os.execvp(words[at + 1], words[at + 1 :])
"""
SRUN = """#!{python}
import json, os, sys
words = sys.argv[1:]
ours = [word for word in words if word.startswith("--container-")]
if words == ["--help"]:
    print("      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH", flush=True)
for word in ours:
    name, _, value = word.partition("=")
    if name == "--container-image":
        os.environ["IN_IMAGE"] = value
    if name == "--container-workdir":
        os.chdir(value)
if ours:
    with open("{noted}", "a") as noted:
        json.dump([os.environ.get("SLURMD_NODENAME"), words], noted)
        noted.write("\\n")
os.execv("{srun}", ["srun", *(word for word in words if word not in ours)])
"""
CONDA = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open("{noted}", "a") as noted:
    json.dump([os.environ.get("SLURMD_NODENAME"), words], noted)
    noted.write("\\n")
if words == ["--version"]:
    print("conda 25.9.1")
elif words[:1] == ["info"]:
    print(json.dumps({{"conda_prefix": "{base}", "platform": "linux-64"}}))
elif words[:1] == ["config"]:
    print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
elif "create" in words:
    os.makedirs(words[words.index("--prefix") + 1] + "/conda-meta")
"""


class Project:
    """A folder with a workflow, a policy, and stand-ins first on the PATH."""

    def __init__(self, path, slurm_env):
        self.path = path
        self.noted = path / "noted"
        self.bin = path / "bin"
        self.bin.mkdir()
        # The stand-ins' images have the `python` of the tests, which has Snakemake.
        own = Path(sys.executable).parent
        path = slurm_env.get("PATH", os.environ["PATH"])
        self.environment = {**os.environ, **slurm_env, "PATH": f"{self.bin}:{own}:{path}"}

    def workflow(self, text, **words):
        (self.path / "Snakefile").write_text(text)
        policy = {
            "version": 1,
            "targets": {"hpc": {"backend": "slurm", "partition": "hpc", **words}},
            "default": "hpc",
        }
        (self.path / "routing.yaml").write_text(json.dumps(policy))

    def stand_in(self, name, text, **values):
        values = {"python": sys.executable, "noted": self.noted, **values}
        (self.bin / name).write_text(text.format(**values))
        (self.bin / name).chmod(0o755)

    def run(self, *words):
        command = [sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "10"]
        command += ["--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.5", *words]
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def notes(self):
        """Node (None for the controller) and words of each call of a stand-in."""
        return [json.loads(line) for line in self.noted.read_text().splitlines()]

    def read(self, name):
        return (self.path / name).read_text()


@pytest.fixture
def project(tmp_path, slurm_env):
    folder = tmp_path / "it's a $HOME run"
    folder.mkdir()
    return Project(folder, slurm_env)


IN_IMAGE = f"""
rule all:
    input: "plain", "hostile", "script"

rule plain:
    output: "plain"
    container: "{IMAGE}"
    shell: "echo $(printenv IN_IMAGE || echo nothing) in $PWD > {{output}}"

rule hostile:
    output: "hostile"
    container: "{IMAGE}"
    shell: r'''printf '%s\\n' "it's" '$HOME "x"' $IN_IMAGE > {{output}}'''

rule script:
    output: "script"
    container: "{IMAGE}"
    script: "script.py"
"""
SCRIPT = """import os
open(snakemake.output[0], "w").write(os.environ["IN_IMAGE"])
"""


def test_apptainer_as_snakemake_has_it(tmp_path, slurm_env):
    project = Project(tmp_path, slurm_env)
    project.stand_in("apptainer", APPTAINER)
    project.workflow(IN_IMAGE)
    (project.path / "script.py").write_text(SCRIPT)
    code, said = project.run(
        *("--sdm", "apptainer", "--apptainer-prefix", f"{tmp_path}/images"),
        *("--apptainer-args", "--bind /data --nv"),
    )
    assert code == 0, said
    (image,) = (tmp_path / "images").glob("*.simg")
    assert project.read("plain") == f"{image} in {project.path}\n"
    assert project.read("script") == str(image)
    pulls = [(node, words) for node, words in project.notes() if words[:1] == ["pull"]]
    assert len(pulls) == 1, "each image is pulled once"
    runs = [(node, words) for node, words in project.notes() if "exec" in words]
    assert len(runs) == 3
    assert all(node.startswith("node-") for node, _ in runs)
    assert all({"--bind", "/data", "--nv"} <= set(words) for _, words in runs)


def test_without_a_flag_containers_mean_nothing(project):
    """Snakemake's rule, which a target with Apptainer does not change."""
    project.workflow(IN_IMAGE)
    code, said = project.run("plain")
    assert code == 0, said
    assert project.read("plain").startswith("nothing in /")


def test_pyxis(project):
    project.stand_in("srun", SRUN, srun=shutil.which("srun"))
    project.workflow(IN_IMAGE, container_runtime="pyxis", container_mounts=["/usr/share"])
    (project.path / "script.py").write_text(SCRIPT)
    code, said = project.run()
    assert code == 0, said
    image = "docker://quay.io#lab/tool:1.2"
    assert project.read("plain") == f"{image} in {project.path}\n"
    assert project.read("hostile") == f'it\'s\n$HOME "x"\n{image}\n'
    assert project.read("script") == image
    assert len(project.notes()) == 3
    for node, words in project.notes():
        assert node.startswith("node-")
        assert f"--container-workdir={project.path}" in words
        (mounts,) = (word for word in words if word.startswith("--container-mounts="))
        assert f"{project.path}:{project.path}" in mounts
        assert "/usr/share:/usr/share" in mounts


GROUPED = f"""
rule second:
    input: "first"
    output: "second"
    group: "both"
    container: "docker://second"
    shell: "echo $IN_IMAGE | cat {{input}} - > {{output}}"

rule first:
    output: "first"
    group: "both"
    container: "{IMAGE}"
    shell: "echo $IN_IMAGE > {{output}}"
"""


def test_pyxis_in_a_group_of_rules_with_different_images(project):
    project.stand_in("srun", SRUN, srun=shutil.which("srun"))
    project.workflow(GROUPED, container_runtime="pyxis")
    code, said = project.run("second")
    assert code == 0, said
    assert project.read("second") == "docker://quay.io#lab/tool:1.2\ndocker://second\n"


RANKS = f"""
rule ranks:
    output: "ranks"
    container: "{IMAGE}"
    resources: mpi=True, nodes=2, tasks=4, tasks_per_node=2, mem_mb=100
    shell:
        "{{resources.mpi}} -n {{resources.tasks}} "
        "sh -c 'echo rank in $IN_IMAGE in $PWD; exec {sys.executable} {ALLREDUCE}' > {{output}};"
        "echo shell in $(printenv IN_IMAGE || echo nothing) >> {{output}}"
"""


def test_ranks_in_images_of_pyxis(project):
    project.stand_in("srun", SRUN, srun=shutil.which("srun"))
    project.workflow(RANKS, container_runtime="pyxis")
    code, said = project.run("ranks")
    assert code == 0, said
    lines = project.read("ranks").splitlines()
    where = f"rank in docker://quay.io#lab/tool:1.2 in {project.path}"
    assert lines.count(where) == 4
    assert len([line for line in lines if "sum 10" in line]) == 4
    assert lines[-1] == "shell in nothing"


def test_a_cluster_without_pyxis_is_told_at_start(project):
    project.workflow(IN_IMAGE, container_runtime="pyxis")
    code, said = project.run("plain")
    assert code == 1
    assert "target hpc says `container_runtime: pyxis`, but srun here does not know" in said
    assert "Traceback" not in said
    assert not (project.path / "plain").exists()


def test_an_image_that_pyxis_cannot_run_is_told_at_start(project):
    project.stand_in("srun", SRUN, srun=shutil.which("srun"))
    project.workflow(IN_IMAGE.replace(IMAGE, "tool.sif"), container_runtime="pyxis")
    code, said = project.run("plain")
    assert code == 1
    assert "enroot import" in said
    assert "rule plain" in said


MODULES = """
rule in_module:
    output: "module"
    envmodules: "lab/tool/1.2"
    shell: "tool > {output}"
"""
MODULEFILE = """#%Module
prepend-path PATH {folder}
setenv TOOL_IS {name}
"""


@pytest.fixture
def modules(project):
    """Real environment modules with two modules of our own."""
    init = Path("/usr/share/modules/init/bash")
    if not init.exists():
        pytest.skip("no environment modules on this machine: apt-get install environment-modules")
    folder = project.path.parent / "modulefiles"
    for name in ("lab/tool/1.2", "mpi/5"):
        (folder / name).parent.mkdir(parents=True)
        text = MODULEFILE.format(folder=project.path.parent / "tools", name=name)
        (folder / name).write_text(text)
    tool = project.path.parent / "tools" / "tool"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "tool of $TOOL_IS"\n')
    tool.chmod(0o755)
    for name in [name for name in project.environment if name.startswith("BASH_FUNC")]:
        del project.environment[name]
    project.environment["MODULEPATH"] = str(folder)
    return folder


def test_environment_modules_of_a_rule(project, modules):
    project.workflow(MODULES)
    code, said = project.run("module", "--sdm", "env-modules")
    assert code == 0, said
    assert project.read("module") == "tool of lab/tool/1.2\n"


def test_modules_of_a_target(project, modules):
    project.workflow(MODULES, modules=["mpi/5"])
    code, said = project.run("module")
    assert code == 0, said
    assert project.read("module") == "tool of mpi/5\n"


def test_a_module_that_is_not_there(project, modules):
    project.workflow(MODULES, modules=["mpi/6"])
    code, said = project.run("module")
    assert code == 1
    assert "takeda: configuration on hpc" in said
    assert f"exit code {NO_MODULES}" in said
    assert "environment modules could not be loaded on the node" in said
    assert "Change `modules` of target hpc (mpi/6)" in said
    assert re.search(r"the target's modules could not be loaded on node-\d", said)


CONDA_RULES = """
rule all:
    input: expand("conda.{n}", n=range(4))

rule in_conda:
    output: "conda.{n}"
    conda: "env.yaml"
    shell: "echo $ACTIVE > {output}"
"""


def test_conda_environments_are_made_once_by_the_controller(tmp_path, slurm_env):
    project = Project(tmp_path, slurm_env)
    project.stand_in("conda", CONDA, base=tmp_path)
    (project.bin / "activate").write_text('export ACTIVE="$1"\n')
    project.workflow(CONDA_RULES)
    (tmp_path / "env.yaml").write_text("channels: [conda-forge]\ndependencies: [samtools]\n")
    code, said = project.run("--sdm", "conda", "--conda-prefix", f"{tmp_path}/environments")
    assert code == 0, said
    used = {project.read(f"conda.{n}").strip() for n in range(4)}
    assert len(used) == 1
    assert used.pop().startswith(f"{tmp_path}/environments/")
    made = [node for node, words in project.notes() if "create" in words]
    assert made == [None], "not on the nodes"

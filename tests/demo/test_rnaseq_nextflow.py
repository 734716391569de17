"""CONTRACT tests of the RNA-seq pipeline: no Nextflow engine was to be had.

Its files are held to nf-core's layout and to each other, its scripts are parsed by Groovy, the commands of
its processes are run by bash as Nextflow would fill them in, and its hand-off is played by a stand-in.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from snakemake_executor_takeda.backends.healthomics.nextflow_definition import NextflowDefinition
from snakemake_executor_takeda.backends.healthomics.nextflow_pipeline import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "workflows" / "rnaseq-nf"
PIPELINE = FOLDER / "rnaseq"
STAND_IN = ROOT / "tests" / "healthomics" / "nextflow_stand_in.py"
SETTINGS = yaml.safe_load((FOLDER / "config.yaml").read_text())


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simulated(folder: Path) -> tuple[Path, list[Path]]:
    """What the rule `simulate` makes: its folder, and the reads."""
    samples = SETTINGS["samples"]
    reads = [folder / f"reads/{sample}_{mate}.fastq.gz" for sample in samples for mate in (1, 2)]
    reads[0].parent.mkdir(parents=True)
    names = {
        name: str(folder / file)
        for name, file in {
            "sheet": "samples.csv",
            "transcripts": "transcripts.fasta",
            "truth": "truth.tsv",
        }.items()
    }
    script("simulate_reads").main(
        SimpleNamespace(
            params=SimpleNamespace(samples=samples, simulation=SETTINGS["simulation"]),
            output=SimpleNamespace(reads=[str(one) for one in reads], **names),
        )
    )
    return folder, reads


def test_the_layout_is_nf_cores() -> None:
    for path in (
        *("main.nf", "nextflow.config", "nextflow_schema.json", "workflows/rnaseq.nf"),
        *("subworkflows/local/quantify.nf", "modules/local/bwa_mem.nf", "conf/base.config"),
        *("conf/modules.config", "conf/test.config", "assets/schema_input.json"),
        "assets/samplesheet.csv",
    ):
        assert (PIPELINE / path).is_file(), path


def test_config_and_schema_have_the_same_params_and_defaults() -> None:
    pipeline = load(PIPELINE)
    assert pipeline.schema is not None
    assert pipeline.config.params().keys() == pipeline.schema.properties.keys()
    for name, default in pipeline.config.params().items():
        assert pipeline.schema.properties[name].schema.get("default") == default
    assert pipeline.mentioned <= pipeline.params.keys()
    assert pipeline.nextflow_version == "!>=23.10.0"
    assert pipeline.config.profiles == ("docker", "test")


def test_all_it_publishes_is_exported_and_its_programs_stay_programs() -> None:
    definition = NextflowDefinition(load(PIPELINE))
    assert definition.notes() == []
    assert definition.pipeline.publishing.params == ("outdir",)
    assert definition.engine_settings({}, "") == {"engineVersion": "23.10.0"}
    package = definition.package({})
    assert package.parameter_template["outdir"]["optional"] is False
    assert {name for name in definition.pipeline.files if os.access(PIPELINE / name, os.X_OK)} == {
        "bin/merge_columns.awk",
        "bin/transcript_tpm.awk",
    }


def test_the_included_names_are_there() -> None:
    for path in PIPELINE.rglob("*.nf"):
        for name, source in re.findall(r"include \{ (\w+)\s+\} from '([^']+)'", path.read_text()):
            text = (path.parent / f"{source}.nf").read_text()
            assert re.search(rf"^(process|workflow) {name} \{{", text, re.MULTILINE), (path, name)


def test_groovy_parses_every_script(tmp_path: Path) -> None:
    if shutil.which("groovy") is None:
        pytest.skip("there is no groovy on PATH")
    (tmp_path / "parse.groovy").write_text(
        "import org.codehaus.groovy.control.*\n"
        "args.each { path ->\n"
        "  def unit = new CompilationUnit()\n"
        "  unit.addSource(new File(path))\n"
        "  unit.compile(Phases.CONVERSION)\n"
        "  println path\n"
        "}\n"
    )
    paths = sorted(str(path) for path in PIPELINE.rglob("*.nf"))
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    done = subprocess.run(
        ["groovy", str(tmp_path / "parse.groovy"), *paths],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "JAVA_HOME is not defined" in done.stderr:
        pytest.skip(f"groovy has no Java: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == paths


class Task:
    """Runs the command of a process in a directory of its own, as Nextflow would fill it in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0

    def run(self, module: str, sample: str, inputs: dict[str, Any], *args: str) -> Path:
        self.number += 1
        work = self.folder / str(self.number)
        work.mkdir(parents=True)
        values = {"meta.id": sample, "prefix": sample, "task.cpus": "2"}
        values |= {"args": args[0] if args else "", "args2": args[1] if len(args) > 1 else ""}
        for name, paths in inputs.items():
            every = paths if isinstance(paths, list) else [paths]
            for path in every:
                (work / path.name).symlink_to(path)
            values[name] = " ".join(path.name for path in every)
        text = (PIPELINE / f"modules/local/{module}.nf").read_text()
        (command,) = re.findall(r'"""\n(.*?)"""', text, re.DOTALL)
        command = re.sub(r"\$\{([\w.]+)\}", lambda found: values[found[1]], command)
        assert "${" not in command
        done = subprocess.run(
            ["bash", "-eu", "-c", command.replace("\\\\", "\\")],
            cwd=work,
            env={**os.environ, "PATH": f"{PIPELINE / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        outputs = re.findall(
            r"path\('([^']+)'\)|path '([^']+)', emit", text.partition("output:")[2]
        )
        for pattern in (one or other for one, other in outputs):
            assert list(work.glob(pattern)), f"{module} makes no {pattern}"
        return work


def test_the_commands_of_its_processes_find_what_was_simulated(tmp_path: Path) -> None:
    made, reads = simulated(tmp_path / "made")
    task = Task(tmp_path / "work")
    index = task.run("bwa_index", "", {"transcripts": made / "transcripts.fasta"}) / "index"
    counts = []
    for number, sample in enumerate(SETTINGS["samples"]):
        pair = reads[2 * number : 2 * number + 2]
        bam = task.run("bwa_mem", sample, {"reads": pair, "index": index}, "-K 10000000")
        bam = bam / f"{sample}.bam"
        stats = task.run("samtools_flagstat", sample, {"bam": bam}) / f"{sample}.flagstat"
        assert "8000 + 0 primary" in stats.read_text()
        counted = task.run("count_transcripts", sample, {"bam": bam}, "-q 10", "-v fragment=200")
        counts.append(counted / f"{sample}.counts.tsv")
    merged = task.run("merge_counts", "", {"counts": counts})
    judge = script("judge_tpm")
    truth = judge.read_table(made / "truth.tsv")
    found = judge.judge(truth, judge.read_table(merged / "tpm.tsv"))
    assert found["largest_error"] < SETTINGS["largest_error"]
    assert (found["samples"], found["transcripts"]) == (4, 12)
    shuffled = dict(zip(truth, [*list(truth.values())[2:], *list(truth.values())[:2]], strict=True))
    wrong = judge.judge(shuffled, judge.read_table(merged / "tpm.tsv"))
    assert wrong["largest_error"] > SETTINGS["largest_error"], "swapped samples go unseen"


def test_contract_of_its_rule(tmp_path: Path) -> None:
    """The Snakefile as it is, with a pipeline that a stand-in plays: the truth as the result."""
    shutil.copytree(FOLDER, tmp_path / "rnaseq-nf")
    rows = dict.fromkeys(SETTINGS["samples"], "x")
    publish = {"merged/counts.tsv": "", **{f"samtools/{one}.flagstat": one for one in rows}}
    made, _ = simulated(tmp_path / "made")
    header, *lines = (made / "truth.tsv").read_text().splitlines()
    tpm = [header]
    for line in lines:
        name, *shares = line.split("\t")
        tpm.append("\t".join([name, *(str(float(one) * 1e6) for one in shares)]))
    publish["merged/tpm.tsv"] = "\n".join(tpm) + "\n"
    plan = tmp_path / "rnaseq-nf/rnaseq/stand_in.json"
    plan.write_text(json.dumps({"publish": publish}))
    program = tmp_path / "bin/nextflow"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "run").mkdir()
    record = tmp_path / "record.json"
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        [str(binaries / "snakemake"), "-c2", "-s", str(tmp_path / "rnaseq-nf/Snakefile")],
        cwd=tmp_path / "run",
        env={
            **os.environ,
            "PATH": f"{program.parent}:{binaries}:{os.environ['PATH']}",
            "NEXTFLOW_STAND_IN_RECORD": str(record),
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads((tmp_path / "run/results/accuracy.json").read_text())["largest_error"] == 0
    for sample in rows:
        assert (tmp_path / f"run/work/flagstat/{sample}.flagstat").read_text() == sample
    params = json.loads(record.read_text())["params"]
    assert sorted(params) == [
        *("container", "fragment_length", "input", "min_mapq", "outdir", "reads", "transcripts"),
    ]
    assert (len(params["reads"]), params["min_mapq"]) == (8, 10)

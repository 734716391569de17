"""Nextflow pipelines as they are read: params, schemas, versions, publishing, packages. No engine."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.healthomics import nextflow_packaging, nextflow_text
from snakemake_executor_takeda.backends.healthomics.definitions import (
    Definitions,
    open_definition,
    prepare,
)
from snakemake_executor_takeda.backends.healthomics.files import LocalFiles, RuleFiles
from snakemake_executor_takeda.backends.healthomics.nextflow_definition import NextflowDefinition
from snakemake_executor_takeda.backends.healthomics.nextflow_engine import chosen_version
from snakemake_executor_takeda.backends.healthomics.nextflow_pipeline import Pipeline, load
from snakemake_executor_takeda.backends.healthomics.requests import merged_settings
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.values import UNKNOWN, File, NamedFiles, TakedaError
from tests.healthomics.conftest import job
from tests.healthomics.test_handoff_elsewhere import git

MAIN = """#!/usr/bin/env nextflow
include { ALIGN } from './modules/align'
params.min_qual = 20
workflow { ALIGN(params.reads, params.undeclared) }
"""

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "lab/align pipeline parameters",
    "description": "Aligns reads",
    "type": "object",
    "$defs": {
        "input_output": {
            "type": "object",
            "required": ["input", "outdir", "aligner"],
            "properties": {
                "input": {
                    "type": "string",
                    "format": "file-path",
                    "pattern": r"^\S+\.csv$",
                    "description": "The sample\nsheet",
                    "errorMessage": "a CSV without spaces in its name",
                },
                "outdir": {"type": "string", "format": "directory-path"},
                "index": {"type": "string", "format": "directory-path"},
                "beds": {"type": "array", "items": {"type": "string", "format": "file-path"}},
            },
        },
        "options": {
            "properties": {
                "aligner": {"type": "string", "enum": ["star", "salmon"], "default": "star"},
                "threads": {"type": "integer", "minimum": 1, "maximum": 64},
                "fraction": {"type": "number"},
                "paired": {"type": "boolean"},
                "label": {"type": "string"},
                "sizes": {"type": "array", "items": {"type": "integer"}},
                "monochrome_logs": {"type": "boolean", "hidden": True},
            }
        },
    },
    "allOf": [{"$ref": "#/$defs/input_output"}, {"$ref": "#/$defs/options"}],
}


def write(folder: Path, **files: str) -> Path:
    """Files by their names, `__` a slash and a last `_` a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def pipeline(folder: Path, config: str = "", script: str = MAIN, **files: str) -> Pipeline:
    return load(write(folder, main_nf=script, nextflow_config=config, **files))


def with_schema(folder: Path, schema: Mapping[str, Any] = SCHEMA) -> NextflowDefinition:
    (folder / "nextflow_schema.json").write_text(json.dumps(schema))
    return NextflowDefinition(pipeline(folder, "params { aligner = 'star' }"))


def named(name: str, *uris: str) -> NamedFiles:
    return NamedFiles(name, tuple(File(f"in/{u[5:]}", u) for u in uris), len(uris) != 1)


def given(
    definition: NextflowDefinition, *inputs: NamedFiles, **params: Any
) -> tuple[dict[str, Any], list[str]]:
    values, mistakes = definition.parameters(
        inputs, params, files=RuleFiles(inputs), where="Snakefile:3", defaults={}
    )
    return values, [str(one) for one in mistakes]


# Texts.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("true", True),
        ("1_000", 1000),
        ("-2.5e-3", -0.0025),
        ("7L", 7),
        ("'it\\'s $x'", "it's $x"),
        ('"plain"', "plain"),
        ('"""three\nlines"""', "three\nlines"),
        ("['a', \"b\", [1, 2]]", ["a", "b", [1, 2]]),
        ("[a: 1, 'b-c': [2]]", {"a": 1, "b-c": [2]}),
        ("[:]", {}),
        ("[]", []),
        ('"${projectDir}/x"', nextflow_text.Computed('"${projectDir}/x"')),
        ("8.GB", nextflow_text.Computed("8.GB")),
        ("[a, 1]", nextflow_text.Computed("[a, 1]")),
        ("'a' + 'b'", nextflow_text.Computed("'a' + 'b'")),
        ("{ 2 * task.attempt }", nextflow_text.Computed("{ 2 * task.attempt }")),
    ],
)
def test_literals_are_read_and_nothing_else(text: str, value: object) -> None:
    assert nextflow_text.literal(nextflow_text.read(text)) == value


def test_brackets_in_strings_comments_and_patterns_do_not_count() -> None:
    text = nextflow_text.read(
        "a = '{' // {\nb = /x{2}/\nc = \"${x ? \"{\" : '('}\" /* [ */\nd = [1,\n 2]\ne = f\n  ?: 3\n"
    )
    found = [one.assignment for one in nextflow_text.statements(text)]
    assert [left for left, _ in filter(None, found)] == ["a", "b", "c", "d", "e"]


# Pipelines.

CONFIG = """
params {
    reads   = null      // comment
    genome  = 'GRCh38'
    outdir  = "./results"
    fasta   = "${projectDir}/x.fa"
    genomes { GRCh38 { fasta = 'x' } }
}
params.grouped { a = 1 }
params.threads = 4
includeConfig 'conf/base.config'
includeConfig params.custom ? "${params.custom}/x.config" : "/dev/null"
profiles {
    docker { docker.enabled = true }
    'my-test' { params.reads = 'x'; includeConfig 'conf/test.config' }
}
plugins { id 'nf-schema@2.3.0' }
manifest {
    name = 'lab/count-reads'
    description = 'Counts'
    version = '1.2'
    nextflowVersion = '!>=24.10.5'
}
"""


def test_params_come_from_config_scripts_and_included_files(tmp_path: Path) -> None:
    found = pipeline(
        tmp_path,
        CONFIG,
        conf__base_config="params.deep = 1.5\n",
        conf__test_config="params.only_in_profile = 1",
        modules__align_nf="params.of_module = true\nprocess ALIGN { script: '''}''' }",
    )
    shown = {name: one.shown_default for name, one in found.params.items()}
    assert shown == {
        "of_module": "true",
        "min_qual": "20",
        "reads": None,
        "genome": '"GRCh38"',
        "outdir": '"./results"',
        "fasta": "computed",
        "genomes": "computed",
        "grouped": "computed",
        "threads": "4",
        "deep": "1.5",
    }
    assert found.params["threads"].type == "Integer"
    assert (found.name, found.version, found.description) == ("count_reads", "1.2", "Counts")
    assert found.config.profiles == ("docker", "my-test")
    assert found.mentioned >= {"reads", "undeclared"}
    assert found.files == (
        *("conf/base.config", "conf/test.config", "main.nf", "modules/align.nf"),
        "nextflow.config",
    )


def test_typed_params_of_a_script(tmp_path: Path) -> None:
    script = """
params {
    reads: Path
    samples: List<String> = ['a']
    depth: Integer = 3
    mask: Path?
    fast: Boolean
}
workflow { main: x = 1 }
"""
    found = NextflowDefinition(pipeline(tmp_path, script=script))
    kinds = {one.name: (one.type, one.kind, one.required) for one in found.signature().inputs}
    assert kinds == {
        "reads": ("Path", "file", True),
        "samples": ("List<String>", "value", False),
        "depth": ("Integer", "value", False),
        "mask": ("Path?", "file", False),
        "fast": ("Boolean", "value", False),
    }
    values, said = given(found, named("reads", "s3://b/r.fq"), depth="7", fast="true", samples="x")
    assert (values, said) == (
        {"reads": "s3://b/r.fq", "depth": 7, "fast": True, "samples": "x"},
        [],
    )
    _, said = given(found, depth="seven", mask="m.bed")
    assert said == [
        "Snakefile:3: param `mask`: m.bed is no input of the rule; add it under `input:` or write its "
        "S3 URI",
        "Snakefile:3: pipeline " + found.name + " needs `reads` (Path)",
        "Snakefile:3: param `depth` wants Integer, not 'seven'",
    ]


def test_a_main_script_that_the_manifest_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        nextflow_config="manifest.mainScript = 'flows/run.nf'",
        flows__run_nf="workflow { }",
    )
    for path in (tmp_path, tmp_path / "flows/run.nf"):
        assert (load(path).root, load(path).main) == (tmp_path, "flows/run.nf")
    other = write(tmp_path / "alone", go_nf="workflow { }")
    assert (load(other / "go.nf").root, load(other / "go.nf").main) == (other, "go.nf")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"main_nf": "println 'x'"}, "has neither a workflow nor a process"),
        ({"nextflow_config": "x = 1"}, "is no Nextflow pipeline: it has no main.nf"),
        (
            {"main_nf": "nextflow.enable.dsl = 1\nworkflow { }"},
            r"main\.nf:1: DSL 1 is not supported; migrate it to DSL 2",
        ),
        (
            {"main_nf": "workflow { }", "nextflow_config": "manifest.mainScript = '../x.nf'"},
            r"has no \.\./x\.nf",
        ),
    ],
)
def test_what_is_no_pipeline(tmp_path: Path, files: dict[str, str], words: str) -> None:
    write(tmp_path, **files)
    with pytest.raises(TakedaError, match=words):
        open_definition(tmp_path)


def test_a_directory_without_a_pipeline_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TakedaError, match=r"or a directory with a Nextflow pipeline"):
        Definitions((tmp_path,)).of(job("empty", outputs={}))
    with pytest.raises(TakedaError, match=r"handoff='nowhere' does not exist"):
        Definitions((tmp_path,)).of(job("nowhere", outputs={}))


# Schemas.


def test_a_schemas_values(tmp_path: Path) -> None:
    definition = with_schema(tmp_path)
    values, said = given(
        definition,
        named("input", "s3://b/sheet.csv"),
        named("index", "s3://b/index"),
        named("beds", "s3://b/a.bed"),
        aligner="salmon",
        threads="8",
        fraction="0.5",
        paired="True",
        label=7,
        sizes=(1, 2),
        monochrome_logs=None,
    )
    assert said == []
    assert values == {
        "input": "s3://b/sheet.csv",
        "index": "s3://b/index/",
        "beds": ["s3://b/a.bed"],
        "aligner": "salmon",
        "threads": 8,
        "fraction": 0.5,
        "paired": True,
        "label": "7",
        "sizes": [1, 2],
        "outdir": "/mnt/workflow/pubdir",
    }


def test_all_that_a_schema_does_not_take_is_told_at_once(tmp_path: Path) -> None:
    _, said = given(
        with_schema(tmp_path),
        named("input", "s3://b/sheet.txt"),
        named("index", "s3://b/1", "s3://b/2"),
        aligner="bwa",
        threads=65,
        paired="yes",
        sizes=["x"],
        thread=1,
        label=...,
    )
    assert said == [
        "Snakefile:3: input `index`: param `index` takes one path, not 2: give a sample sheet, or the "
        "S3 URI of a glob under params:",
        "Snakefile:3: pipeline align has no param for the param `thread`. Did you mean `threads`?",
        "Snakefile:3: param `label` is `...`: write a value",
        'Snakefile:3: param `aligner` wants "star" or "salmon", not "bwa"',
        'Snakefile:3: param `input` wants text that matches ^\\S+\\.csv$, not "s3://b/sheet.txt": a CSV '
        "without spaces in its name",
        'Snakefile:3: param `paired` wants boolean, not "yes"',
        'Snakefile:3: param `sizes` wants array at [0], not "x"',
        "Snakefile:3: param `threads` wants at most 64, not 65",
    ]


def test_what_a_schema_requires_may_have_a_default(tmp_path: Path) -> None:
    _, said = given(with_schema(tmp_path))
    assert said == [
        "Snakefile:3: pipeline align: the pipeline requires `input` (string (file-path))"
    ]


def test_what_a_rule_sets_itself_comes_first(tmp_path: Path) -> None:
    definition = with_schema(tmp_path)
    inputs = [named("input", "s3://b/sheet.csv")]
    values, mistakes = definition.parameters(
        inputs,
        {"outdir": "/mnt/workflow/pubdir/sub", "threads": 2},
        files=RuleFiles(inputs),
        where="",
        defaults={"threads": 3, "label": "x", "input": "s3://b/other.csv"},
    )
    assert (mistakes, values) == (
        [],
        {
            "input": "s3://b/sheet.csv",
            "outdir": "/mnt/workflow/pubdir/sub",
            "threads": 2,
            "label": "x",
        },
    )


def test_a_schema_is_not_fetched_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *words, **_: asked.append(words))
    properties = {"a": {"$ref": "https://example.org/other.json"}}
    with pytest.raises(TakedaError, match="cannot be used"):
        given(with_schema(tmp_path, {"properties": properties}), a=1)
    assert asked == []


def test_params_that_are_required_together(tmp_path: Path) -> None:
    groups = [{"required": ["bam"]}, {"required": ["fastq", "index"]}]
    names = {name: {"type": "string"} for name in ("bam", "fastq", "index")}
    definition = with_schema(tmp_path, {"properties": names, "anyOf": groups})
    _, said = given(definition, fastq="s3://b/x")
    assert said == [
        "Snakefile:3: pipeline "
        f"{definition.name}: at least one of these is required: `bam` or `fastq` and `index`"
    ]
    definition = with_schema(tmp_path, {"properties": names, "not": {"required": ["bam"]}})
    _, said = given(definition, bam="s3://b/x")
    assert said == [
        f"Snakefile:3: pipeline {definition.name}: the params together do not fit not of "
        "nextflow_schema.json"
    ]


def test_the_older_draft_and_values_that_are_not_known_yet(tmp_path: Path) -> None:
    older = {
        "$schema": "http://json-schema.org/draft-07/schema",
        "definitions": SCHEMA["$defs"],
        "allOf": [{"$ref": "#/definitions/input_output"}, {"$ref": "#/definitions/options"}],
    }
    definition = with_schema(tmp_path, older)
    _, said = given(definition, input=UNKNOWN, threads=0)
    assert said == ["Snakefile:3: param `threads` wants at least 1, not 0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON: line 1"),
        ("[]", "is no JSON object"),
        ("{}", "names no params"),
        (
            '{"properties": {"a": {"$ref": "https://example.org/other.json"}}}',
            "cannot be used: Unresolvable",
        ),
    ],
)
def test_what_is_no_schema(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "nextflow_schema.json").write_text(text)
    with pytest.raises(TakedaError, match=words):
        given(NextflowDefinition(pipeline(tmp_path)), a=1)


def test_without_any_declaration_a_rules_params_are_declared(tmp_path: Path) -> None:
    definition = NextflowDefinition(pipeline(tmp_path, script="workflow { println params.x }"))
    values, said = given(definition, named("reads", "s3://b/1", "s3://b/2"), x=1)
    assert (values, said) == ({"reads": ["s3://b/1", "s3://b/2"], "x": 1}, [])
    assert sorted(definition.package(values).parameter_template) == ["reads", "x"]
    assert definition.package({}).parameter_template == {}


def test_a_script_may_use_what_it_does_not_declare(tmp_path: Path) -> None:
    definition = NextflowDefinition(pipeline(tmp_path))
    values, said = given(definition, undeclared="x", min_qual="30", other=1)
    assert values == {"undeclared": "x", "min_qual": 30}
    assert said == [
        f"Snakefile:3: pipeline {definition.name} has no param for the param `other`. There are: min_qual."
    ]


def test_words_of_a_shell_command_are_the_same_values(tmp_path: Path) -> None:
    definition = with_schema(tmp_path)
    for name in ("sheet.csv", "a.bed"):
        (tmp_path / name).write_text("")
    words = {"sizes": ["1"], "threads": ["8"], "paired": ["True"], "label": ["None"]}
    values, _ = definition.parameters(
        [
            NamedFiles("input", (File(str(tmp_path / "sheet.csv"), None),), False),
            NamedFiles("beds", (File(str(tmp_path / "a.bed"), None),), False),
        ],
        {name: definition.from_words(name, said) for name, said in words.items()},
        files=LocalFiles(),
        where="",
        defaults={"fraction": 1},
    )
    assert values == {
        "input": str(tmp_path / "sheet.csv"),
        "beds": [str(tmp_path / "a.bed")],
        "outdir": "/mnt/workflow/pubdir",
        "sizes": ["1"],
        "threads": 8,
        "paired": True,
        "fraction": 1,
    }


# Engine.


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        (None, None),
        ("!>=23.04.0", "23.10.0"),
        (">=21.10.3", "23.10.0"),
        ("!>=24.10.5", "24.10.8"),
        ("!>=25.04.3", "25.10.0"),
        ("!>=25.10.4", "26.04.0"),
        ("24.10+", "24.10.8"),
        ("25.10", "25.10.0"),
        ("=22.04.0", "22.04.0"),
        (">=22.01, <23", "22.04.0"),
        (">24.10.8, !=25.10.0", "26.04.0"),
        ("<=22.10", "22.04.0"),
        (">=27", None),
        ("whatever", "23.10.0"),
    ],
)
def test_the_version_that_fits_a_manifest(wanted: str | None, version: str | None) -> None:
    assert chosen_version(wanted, "x") == version


def test_a_version_that_healthomics_does_not_have(tmp_path: Path) -> None:
    definition = NextflowDefinition(
        pipeline(
            tmp_path, "manifest.nextflowVersion = '!>=27.04'", MAIN.replace("params.min", "// ")
        )
    )
    with pytest.raises(TakedaError, match=r"takes none of .* 25\.10\.0, 26\.04\.0\. Widen it"):
        definition.engine_settings({}, "Snakefile:3")
    assert any("it runs 23.10.0" in one for one in definition.notes())


def test_typed_params_need_the_strict_parser(tmp_path: Path) -> None:
    script = "params { x: Path }\nworkflow { }"
    for wanted, version in {"": "26.04.0", "!>=25.10": "26.04.0"}.items():
        config = f"manifest.nextflowVersion = '{wanted}'" if wanted else ""
        definition = NextflowDefinition(pipeline(tmp_path, config, script))
        assert definition.engine_settings({}, "") == {"engineVersion": version}
    definition = NextflowDefinition(
        pipeline(tmp_path, "manifest.nextflowVersion = '25.10+'", script)
    )
    with pytest.raises(TakedaError, match=r"with the strict parser, .* needs: 26\.04\.0\. Widen"):
        definition.engine_settings({}, "Snakefile:3")


def test_profiles_and_what_a_target_says(tmp_path: Path) -> None:
    definition = NextflowDefinition(pipeline(tmp_path, CONFIG))
    asked = definition.engine_settings({"nextflow_profile": "docker, my-test"}, "Snakefile:3")
    assert asked == {"engineVersion": "24.10.8", "profile": "docker,my-test"}
    of_target = {"engineVersion": "25.10", "agentMode": "true"}
    assert merged_settings(of_target, asked, "Snakefile:3", "omics") == {**asked, **of_target}
    with pytest.raises(TakedaError, match=r"asks for 'docker,my-test', target omics says 'docker'"):
        merged_settings({"profile": "docker"}, asked, "Snakefile:3", "omics")
    with pytest.raises(TakedaError, match=r"no profile `dokker`\. Did you mean `docker`\?"):
        definition.engine_settings({"nextflow_profile": "dokker"}, "Snakefile:3")


# Publishing.

PROCESSES = """
process PARAM { publishDir "${params.outdir}/bam", mode: params.mode
  script: "x" }
process BARE { publishDir params.results + '/x'
  script: "x" }
process CLOSURE { publishDir \\
  path: { "${params.outdir}/${meta.id}" }, saveAs: { it }
  script: "x" }
process DECIDED { publishDir { params.save ? "${params.outdir}/a" : params.outdir }
  script: "x" }
process RELATIVE { publishDir 'counts', mode: 'copy', pattern: '*.txt'
  publishDir "logs/${sample}"
  script: "x" }
process EXPORTED { publishDir '/mnt/workflow/pubdir/x'
  script: "x" }
process FIXED { publishDir '/data/results'
  script: "x" }
process BUCKET { publishDir 's3://b/x'
  script: "x" }
process UNKNOWN { publishDir where_to, mode: 'copy'
  script: "x" }
process OWN_OPTION { publishDir 'y', mode: params.mode
  script: "x" }
workflow { }
"""


def test_where_processes_publish_to(tmp_path: Path) -> None:
    found = pipeline(tmp_path, "params { outdir = 'r'; results = 'r' }", PROCESSES)
    assert found.publishing.params == ("outdir", "results")
    assert found.publishing.config() == (
        "process {\n"
        "    withName: 'RELATIVE' { publishDir = [[path: '/mnt/workflow/pubdir/counts', mode: 'copy', "
        "pattern: '*.txt'], [path: { \"/mnt/workflow/pubdir/logs/${sample}\" }]] }\n"
        "}\n"
    )
    assert [note.partition(": ")[0] for note in found.publishing.notes()] == [
        *("main.nf:16", "main.nf:18", "main.nf:20", "main.nf:22"),
    ]
    assert (
        "publishes to /data/results, which HealthOmics does not export"
        in (found.publishing.notes()[0])
    )
    values, _ = given(NextflowDefinition(found), results="s3://b/mine")
    assert values == {"outdir": "/mnt/workflow/pubdir", "results": "s3://b/mine"}


def test_only_params_for_results_are_set(tmp_path: Path) -> None:
    names = ("out_dir", "ResultsDir", "kept", "database", "cache", "home")
    script = "workflow { }\n" + "".join(
        f"process P{number} {{ publishDir params.{name}\n script: 'x' }}\n"
        for number, name in enumerate(names)
    )
    config = "params { kept = './kept'; cache = 's3://b/x'; database = null; home = '/x' }"
    definition = NextflowDefinition(pipeline(tmp_path, config, script))
    assert definition.pipeline.publishing_params == ("out_dir", "ResultsDir", "kept")
    assert [note.split()[4] for note in definition.notes()] == [
        *("params.database", "params.cache", "params.home"),
    ]


def test_publishing_in_a_config(tmp_path: Path) -> None:
    config = """
params.outdir = 'r'
process {
    publishDir = [path: { "${params.outdir}/${task.process}" }, mode: 'copy']
    withName: 'A:B' { publishDir = [[path: "${params.outdir}/x"], [path: 'y']] }
    withLabel: c { publishDir = { meta.x ? "${params.outdir}/x" : '/z' } }
}
outputDir = params.elsewhere ?: 'results'
profiles { local { process.publishDir = '/x' } }
"""
    found = pipeline(tmp_path, config).publishing
    assert found.params == ("outdir", "elsewhere")
    assert [note.partition(": ")[0] for note in found.notes()] == ["nextflow.config:5"]
    assert pipeline(tmp_path).publishing.notes() == [
        "the pipeline has no publishDir and no output block, and so a run exports nothing"
    ]
    with_block = MAIN + "output { results { path '.' } }\n"
    assert pipeline(tmp_path, script=with_block).publishing.notes() == []


def test_plugins_that_a_run_cannot_fetch(tmp_path: Path) -> None:
    script = MAIN + "output { a { path '.' } }"
    config = "plugins { id 'nf-schema@2'\n id 'nf-amazon@3' }"
    notes = NextflowDefinition(pipeline(tmp_path, config, script)).notes()
    assert [note.partition(" is not")[0] for note in notes] == ["plugin nf-amazon@3"]


# Packages.


def packed(definition: NextflowDefinition) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(definition.package({}).definition_zip))


def test_a_package_is_the_tree_with_programs_and_without_results(tmp_path: Path) -> None:
    write(
        tmp_path,
        main_nf=PROCESSES,
        nextflow_config="params.outdir = 'r'",
        bin__count_sh="#!/bin/sh\n",
        work__ab__x_txt="big",
        results__x_txt="big",
        __git__config="x",
        __nextflow__history="x",
        modules__work__main_nf="process W { script: 'x' }",
        run_log="x",
    )
    (tmp_path / ".git").mkdir(exist_ok=True)
    (tmp_path / ".git/config").write_text("x")
    (tmp_path / ".nextflow.log").write_text("x")
    (tmp_path / "bin/count.sh").chmod(0o755)
    definition = NextflowDefinition(load(tmp_path))
    archive = packed(definition)
    assert archive.namelist() == [
        *("bin/count.sh", "main.nf", "modules/work/main.nf", "nextflow.config"),
    ]
    assert archive.getinfo("bin/count.sh").external_attr >> 16 & 0o111
    assert not archive.getinfo("main.nf").external_attr >> 16 & 0o111
    config = archive.read("nextflow.config").decode()
    assert config.startswith("params.outdir = 'r'\n\n// What follows is added by takeda")
    assert config.endswith(load(tmp_path).publishing.config())
    assert (tmp_path / "nextflow.config").read_text() == "params.outdir = 'r'"
    assert definition.package({}).main == "main.nf"
    assert definition.package({}).engine == "NEXTFLOW"


def test_a_package_is_the_same_for_the_same_files_and_another_for_others(tmp_path: Path) -> None:
    first, second = (write(tmp_path / one, main_nf=MAIN, x_txt="1") for one in "ab")
    of = [NextflowDefinition(load(one)).package({}) for one in (first, second)]
    assert of[0].definition_zip == of[1].definition_zip
    assert of[0].version == of[1].version
    (second / "x.txt").chmod(0o755)
    assert NextflowDefinition(load(second)).package({}).version != of[0].version
    (first / "x.txt").write_text("2")
    assert NextflowDefinition(load(first)).package({}).version != of[0].version


def test_a_pipeline_past_the_limit_names_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nextflow_packaging, "MAX_ZIP_BYTES", 500)
    found = pipeline(tmp_path, big_bam="x" * 600, small_txt="y")
    with pytest.raises(TakedaError, match=r"takes 500 \(largest: big\.bam 600, main\.nf \d+"):
        NextflowDefinition(found).package({})


def test_a_link_to_a_directory_cannot_be_packaged(tmp_path: Path) -> None:
    write(tmp_path / "p", main_nf=MAIN)
    (tmp_path / "p/data").symlink_to(tmp_path)
    with pytest.raises(TakedaError, match="data is a link to a directory"):
        load(tmp_path / "p")


def test_a_rule_is_prepared_with_all_that_a_run_needs(tmp_path: Path) -> None:
    pipeline(tmp_path / "p", CONFIG)
    rule = job(
        "p",
        inputs={"reads": ["s3://b/1.fq", "s3://b/2.fq"]},
        outputs={"counts": ["s3://b/counts.txt"]},
        params={"handoff_outputs": {"counts": "counts/*.txt"}, "threads": 2},
    )
    prepared = prepare(rule, Definitions((tmp_path,)))
    assert prepared.parameters == {
        "outdir": "/mnt/workflow/pubdir",
        "reads": ["s3://b/1.fq", "s3://b/2.fq"],
        "threads": 2,
    }
    assert prepared.engine_settings == {"engineVersion": "24.10.8"}
    assert prepared.used == ("s3://b/1.fq", "s3://b/2.fq")
    assert prepared.package is not None
    assert prepared.package.name == "takeda-count_reads"


def test_a_pipeline_in_a_repository_is_its_root_or_a_folder(tmp_path: Path) -> None:
    remote = write(tmp_path / "remote", main_nf=MAIN, flows__main_nf=MAIN)
    git(remote, "init", "--quiet", "--initial-branch=main")
    git(remote, "add", ".")
    git(remote, "commit", "--quiet", "-m", "one")
    git(remote, "tag", "v1.2")
    definitions = Definitions((tmp_path / "work",))
    found = {
        path: definitions.of(job(f"git+file://{remote}@v1.2{path}", outputs={}))
        for path in ("", "#flows", "#flows/main.nf")
    }
    packed = [one.package({}) for one in found.values()]
    assert all(one is not None and one.main == "main.nf" for one in packed)
    assert packed[0] != packed[1] == packed[2]
    with pytest.raises(TakedaError, match=r"at v1\.2 has no file nothing"):
        definitions.of(job(f"git+file://{remote}@v1.2#nothing", outputs={}))


def test_outputs_lie_below_either_exported_directory(tmp_path: Path) -> None:
    definition = NextflowDefinition(pipeline(tmp_path))
    produced = {
        path: f"s3://r/{path}" for path in ("output/a.txt", "pubdir/a.txt", "pubdir/x/b.txt")
    }
    outputs = [NamedFiles("o", (File("o", "s3://b/o"),), False)]
    for glob, source in {"x/*": "pubdir/x/b.txt", "pubdir/*": "pubdir/a.txt"}.items():
        (found,) = definition.match_outputs(outputs, produced, "", {"o": (glob,)})
        assert found.source == f"s3://r/{source}"


# The command line.


def test_init_prints_a_rule_that_check_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with_schema(write(tmp_path / "flow", main_nf=MAIN + PROCESSES))
    assert main(["handoff", "init", "flow", "--rule", "align"]) == 0
    out, _ = capsys.readouterr()
    assert 'input="path/to/input",  # string (file-path): The sample sheet' in out
    assert "# 1 more params are hidden by the workflow's author: see --json" in out
    assert "# threads=...,  # integer" in out
    assert 'handoff_outputs={"published": "."}' in out
    assert "monochrome_logs" not in out
    (tmp_path / "Snakefile").write_text(out)
    capsys.readouterr()
    code = main(["handoff", "check"])
    out, _ = capsys.readouterr()
    assert (code, out.splitlines()[-1]) == (
        1,
        "1 hand-off(s), 1 job(s): 1 mistake(s)",
    )
    assert 'wants text that matches ^\\S+\\.csv$, not "path/to/input"' in out
    text = (tmp_path / "Snakefile").read_text()
    (tmp_path / "Snakefile").write_text(text.replace("path/to/input", "sheet.csv"))
    assert main(["handoff", "check"]) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[-1] == "1 hand-off(s), 1 job(s): no mistakes"

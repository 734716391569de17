"""A pipeline with what real pipelines use, unedited, with nothing shared but S3."""

import json
import os
import subprocess
import sys
import uuid

import boto3
import pytest

SNAKEFILE = """
envvars: "GREETING"
configfile: "config/config.yaml"
include: "rules/more.smk"
import helper

SAMPLES = ["a", "b"]

rule all:
    input: "report.txt", "gathered.txt", "gathered_here.txt", "after_two.txt", "tree", "piped.txt"

rule from_function:
    input: lambda wildcards: f"raw/{wildcards.sample}.txt"
    output: temp("counted/{sample}.txt")
    params: suffix=lambda wildcards, input: len(input)
    log: "logs/{sample}.log"
    benchmark: "bench/{sample}.tsv"
    threads: 2
    resources: mem_mb=lambda wildcards, attempt: 200 * attempt
    shell: "cat {input} > {output}; echo {params.suffix} {threads} >> {output}; echo hi > {log}"

rule raw:
    output: "raw/{sample}.txt"
    run:
        with open(output[0], "w") as file:
            file.write(f"{wildcards.sample} {config['word']} {os.environ['GREETING']}\\n")

rule report:
    input: expand("counted/{sample}.txt", sample=SAMPLES)
    output: "report.txt"
    script: "scripts/report.py"

rule produce:
    output: pipe("through")
    shell: "echo through a pipe > {output}"

rule consume:
    input: "through"
    output: "piped.txt"
    shell: "cat {input} > {output}; echo '{config[quoted]}' >> {output}"

rule folder:
    output: directory("tree")
    shell: "mkdir -p {output}/deep; echo 1 > {output}/deep/one; echo 2 > {output}/two"

checkpoint split:
    output: directory("parts")
    shell: "mkdir -p {output}; for n in 1 2 3; do echo $n > {output}/$n.txt; done"

def parts(wildcards):
    folder = checkpoints.split.get().output[0]
    found = glob_wildcards(os.path.join(folder, "{n}.txt")).n
    return expand("squared/{n}.txt", n=sorted(found))

rule square:
    input: "parts"
    output: "squared/{n}.txt"
    group: "squares"
    shell: "n=$(cat {input}/{wildcards.n}.txt); echo $((n * n)) > {output}"

rule gather:
    input: parts
    output: "gathered.txt"
    shell: "cat {input} < /dev/null > {output}"

rule gather_here:
    input: parts
    output: "gathered_here.txt"
    localrule: True
    shell: "cat {input} < /dev/null > {output}"

checkpoint choose:
    input: "parts"
    output: "chosen.txt"
    shell: "echo 2 > {output}"

def chosen(wildcards):
    # A second checkpoint, known only once the first is there.
    found = glob_wildcards(os.path.join(checkpoints.split.get().output[0], "{n}.txt")).n
    with checkpoints.choose.get().output[0].open() as file:
        wanted = file.read().strip()
    return [f"squared/{n}.txt" for n in found if n == wanted]

rule after_two:
    input: chosen
    output: "after_two.txt"
    shell: "cat {input} < /dev/null > {output}"
"""


@pytest.fixture
def project(tmp_path, sandbox_env):
    files = {
        "Snakefile": SNAKEFILE,
        "config/config.yaml": "word: configured\n",
        "rules/more.smk": "rule unused:\n    output: 'never'\n    shell: 'touch {output}'\n",
        "scripts/report.py": "lines = [open(f).read() for f in snakemake.input]\n"
        "open(snakemake.output[0], 'w').write(''.join(lines))\n",
        "helper.py": "WORD = 'beside the Snakefile'\n",
        # A module of this name beside the Snakefile must not become Python's own `queue`.
        "queue.py": "raise RuntimeError('the wrong queue')\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.sandbox
def test_everything_runs_as_it_is(project):
    bucket = f"test-{uuid.uuid4().hex}"
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket)
    # `helper.py` and `queue.py` are sources only where git knows them, which is Snakemake's rule.
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *words], cwd=project, check=True)
    command = [
        *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "50"),
        *("--takeda-batch-queue", "takeda-sandbox", "--takeda-poll-seconds", "0.5"),
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://{bucket}/run", "--local-cores", "2"),
        *("--config", """quoted=say "both" ways"""),
    ]
    environment = {**os.environ, "GREETING": "hello", "PYTHONSAFEPATH": "1"}
    result = subprocess.run(
        command,
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr

    def content(key):
        return s3.get_object(Bucket=bucket, Key=f"run/{key}")["Body"].read().decode()

    assert content("report.txt") == "a configured hello\n1 2\nb configured hello\n1 2\n"
    assert content("gathered.txt") == content("gathered_here.txt") == "1\n4\n9\n"
    assert content("after_two.txt") == "4\n"
    assert content("piped.txt") == 'through a pipe\nsay "both" ways\n'
    assert content("logs/a.log") == "hi\n"
    assert content("bench/a.tsv").startswith("s\th:m:s")
    keys = {item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert {"run/tree/deep/one", "run/tree/two"} <= keys
    assert "run/counted/a.txt" not in keys, "temp() files are removed"
    lines = (project / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    succeeded = [event for event in map(json.loads, lines) if event["event"] == "succeeded"]
    assert {event["rule"] for event in succeeded} >= {"raw", "from_function", "report", "split"}
    (made,) = next(event for event in succeeded if event["rule"] == "report")["detail"]["outputs"]
    told = s3.head_object(Bucket=bucket, Key="run/report.txt")
    assert made == {
        "uri": f"s3://{bucket}/run/report.txt",
        "etag": told["ETag"].strip('"'),
        "bytes": told["ContentLength"],
    }
    assert not [key for key in keys if key.endswith("environment.json")], "removed at the end"

# Configuration, sample sheets, and what rules ask of them.
import csv

from snakemake.utils import min_version, validate

min_version("8.0")


report: "../report/workflow.rst"


configfile: "config/config.yaml"


validate(config, schema="../schemas/config.schema.yaml")


def read_sheet(path):
    with open(path, newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


SAMPLES = [row["sample"] for row in read_sheet(config["samples"])]
UNITS = {(row["sample"], row["unit"]): row for row in read_sheet(config["units"])}


wildcard_constraints:
    sample="|".join(SAMPLES),
    unit="|".join({unit for _, unit in UNITS}),
    vartype="snvs|indels",


# The genome's sequences are known when its index is there.
def get_contigs():
    with checkpoints.genome_faidx.get().output[0].open() as index:
        return [line.split("\t")[0] for line in index]


def get_fastq(wildcards):
    unit = UNITS[wildcards.sample, wildcards.unit]
    reads = {"r1": unit["fq1"]}
    return reads | {"r2": unit["fq2"]} if unit["fq2"] else reads


def get_trimmed_reads(wildcards):
    name = f"results/trimmed/{wildcards.sample}-{wildcards.unit}"
    if UNITS[wildcards.sample, wildcards.unit]["fq2"]:
        return [f"{name}.1.fastq.gz", f"{name}.2.fastq.gz"]
    return [f"{name}.fastq.gz"]


def get_read_group(wildcards):
    platform = UNITS[wildcards.sample, wildcards.unit]["platform"]
    sample = wildcards.sample
    return rf"@RG\tID:{sample}-{wildcards.unit}\tSM:{sample}\tPL:{platform}"


def get_bams():
    folder = "dedup" if config["processing"]["remove-duplicates"] else "mapped"
    return [f"results/{folder}/{sample}-{unit}.bam" for sample, unit in UNITS]

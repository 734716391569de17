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


CONDITIONS = {row["sample"]: row["condition"] for row in read_sheet(config["samples"])}
UNITS = {(row["sample"], row["unit"]): row for row in read_sheet(config["units"])}


wildcard_constraints:
    sample="|".join(CONDITIONS),
    unit="|".join({unit for _, unit in UNITS}),
    contrast="|".join(config["diffexp"]["contrasts"]),


def get_fastq(wildcards):
    unit = UNITS[wildcards.sample, wildcards.unit]
    return {"r1": unit["fq1"], "r2": unit["fq2"]}


def get_reads(wildcards):
    if not config["trimming"]["activate"]:
        return get_fastq(wildcards)
    name = f"results/trimmed/{wildcards.sample}-{wildcards.unit}"
    return {"r1": f"{name}_R1.fastq.gz", "r2": f"{name}_R2.fastq.gz"}


def names_of_units():
    return [f"{sample}-{unit}" for sample, unit in UNITS]


# The first time that a job fails it may be for its memory.
def twice_each_time(mem_mb):
    return lambda wildcards, attempt: mem_mb * 2 ** (attempt - 1)

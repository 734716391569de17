from math import ceil

from snakemake.utils import min_version, validate

min_version("8.0")


configfile: "config/config.yaml"


validate(config, schema="../schemas/config.schema.yaml")

RANKS = range(1, config["n_hits"] + 1)


scattergather:
    library=ceil(config["n_ligands"] / config["ligands_per_job"]),


wildcard_constraints:
    rank=r"\d+",


localrules:
    all,

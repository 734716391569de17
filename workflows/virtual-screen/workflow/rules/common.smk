from math import ceil

from snakemake.utils import min_version, validate

min_version("8.0")


configfile: "config/config.yaml"


validate(config, schema="../schemas/config.schema.yaml")

RANKS = range(1, config["md"]["n_hits"] + 1)


scattergather:
    library=ceil(config["library"]["n_ligands"] / config["library"]["chunk"]),


wildcard_constraints:
    rank=r"\d+",


localrules:
    all,

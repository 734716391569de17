"""Puts all tables into one text, each below its name. Run by Snakemake."""

from pathlib import Path

parts = [f"== {Path(name).name}\n{Path(name).read_text()}" for name in snakemake.input]  # noqa: F821
Path(snakemake.output[0]).write_text("".join(parts))  # noqa: F821

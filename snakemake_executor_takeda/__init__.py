"""Runs the rules of one Snakemake pipeline on AWS Batch, Slurm and AWS HealthOmics."""

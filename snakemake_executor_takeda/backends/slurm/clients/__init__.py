"""The ways to speak to Slurm: all of them offer `base.SlurmClient`."""

"""What `takeda doctor` looks at: is this environment ready for a run?

`project` is what it is asked about, `core` says what is looked at, `examining` looks, `findings` are what
comes of it. Each area has a file whose questions to a service give plain values and whose judges are pure:
`identity` (credentials, clock), `storage`, `software`, `images`, `rights` (roles and policies), `quotas`, and for the targets
`batch`, `slurm` and `healthomics`, which their backends name.
"""

"""Snakemake on the node: as `python -m snakemake`, but for two words that would be misread there.

A rule's own `retries:` overrules the `--retries 0` of the command line, so that the node would try
again by itself, unseen and on the same machine, and the controller after it: with `retries: 2` a
failing job ran six times instead of three, and larger memory at the next attempt never came. And
`--target-jobs` is read as `commands.encode_targets` writes it.

On a target whose containers are Pyxis's, a first word says so: see `pyxis`.
"""

from __future__ import annotations

import json
import sys

from snakemake_executor_takeda.commands.rewording import PYXIS_OPTION


def main() -> None:
    from snakemake import cli
    from snakemake.rules import Rule
    from snakemake_interface_executor_plugins.utils import TargetSpec

    from snakemake_executor_takeda.commands import decode_targets

    Rule.restart_times = property(lambda rule: 0, lambda rule, times: None)
    cli.parse_target_jobs_cli_args = lambda words: [
        TargetSpec(*one) for one in decode_targets(words)
    ]
    argv = sys.argv[1:]
    if argv[:1] == [PYXIS_OPTION]:
        from snakemake_executor_takeda.commands.pyxis import replace_apptainer

        replace_apptainer(json.loads(argv[1]))
        argv = argv[2:]
    cli.main(argv)


if __name__ == "__main__":
    main()

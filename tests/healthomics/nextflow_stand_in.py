"""A stand-in for `nextflow`, for contract tests: it runs no pipeline.

It checks the command line, the params file and the config that it is given, writes them down, and
"publishes" what `stand_in.json` beside the main script says: texts by path, below the param `outdir`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

OPTIONS = {"-c", "-params-file", "-work-dir", "-ansi-log", "-profile", "-output-dir"}


def main(argv: list[str]) -> int:
    if argv == ["-v"]:
        print("nextflow version 25.10.0.9999")
        return 0
    # `nextflow [options of its own] run SCRIPT [options of run]`
    assert argv[0] == "-log", argv
    assert argv[2] == "run", argv
    script, options = Path(argv[3]), dict(zip(argv[4::2], argv[5::2], strict=True))
    assert script.is_file(), script
    assert options.keys() <= OPTIONS, argv
    params = json.loads(Path(options["-params-file"]).read_text())
    assert isinstance(params, dict), params
    config = Path(options["-c"]).read_text()
    for opening, closing in ("{}", "[]"):
        assert config.count(opening) == config.count(closing), config
    assert "trace {" in config, config
    assert options["-ansi-log"] == "false", argv
    plan = json.loads((script.parent / "stand_in.json").read_text())
    if record := os.environ.get("NEXTFLOW_STAND_IN_RECORD"):
        environment = {k: v for k, v in os.environ.items() if k.startswith(("AWS_", "NXF_"))}
        said = {"argv": argv, "params": params, "config": config, "environment": environment}
        Path(record).write_text(json.dumps(said))
    files = [one for one in _values(params) if one.startswith("/") and not one.startswith("/mnt/")]
    for one in files:
        if one != params.get("outdir"):
            assert Path(one).exists(), one
    return _play(plan, params, options, config)


def _play(
    plan: dict[str, Any], params: dict[str, Any], options: dict[str, str], config: str
) -> int:
    trace = Path(config.split("file = '")[1].split("'")[0])
    code = int(plan.get("exit", 0))
    work = Path(options["-work-dir"], "ab", "1")
    work.mkdir(parents=True)
    (work / ".command.err").write_text("a tool's last words\n")
    trace.write_text(
        "task_id\thash\tname\tstatus\texit\tsubmit\tstart\tcomplete\tcpus\tworkdir\n"
        f"1\tab/1\tCOUNT (a)\t{'FAILED' if code else 'COMPLETED'}\t{code}\t1000\t1000\t2000\t2\t{work}\n"
    )
    if code:
        print("Execution aborted", file=sys.stderr)
        return 1
    outdir = Path(options.get("-output-dir") or params["outdir"])
    assert outdir.is_dir(), f"{outdir} is not the export directory"
    for name, text in plan["publish"].items():
        path, made = outdir / name, work / Path(name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        # As `publishDir` does where a pipeline does not say `mode: 'copy'`.
        made.write_text(_filled(text, params))
        path.symlink_to(made)
    return 0


def _filled(text: str, params: dict[str, Any]) -> str:
    """`{name}` is the param's value, or what is in its files."""
    for name, value in params.items():
        paths = value if isinstance(value, list) else [value]
        if f"{{{name}}}" in text:
            parts = [Path(one).read_text() if isinstance(one, str) else str(one) for one in paths]
            text = text.replace(f"{{{name}}}", "".join(parts))
    return text


def _values(params: dict[str, Any]) -> list[str]:
    every = [
        one for value in params.values() for one in (value if isinstance(value, list) else [value])
    ]
    return [one for one in every if isinstance(one, str)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

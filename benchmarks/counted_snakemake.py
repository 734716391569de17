"""Snakemake, and a note of the processes that it started: `python counted_snakemake.py NOTE ARGUMENTS…`.

The note is JSON: how many by program, and the Unix time of the last one of each.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any


def main() -> None:
    note = Path(sys.argv[1])
    started: Counter[str] = Counter()
    last: dict[str, float] = {}
    initialize = subprocess.Popen.__init__

    def counted(self: Any, args: Any, *more: Any, **named: Any) -> None:
        # The peer's are shell strings.
        words = shlex.split(args) if isinstance(args, str) else [os.fspath(args[0])]
        program = Path(words[0]).name
        started[program] += 1
        initialize(self, args, *more, **named)
        last[program] = time.time()

    subprocess.Popen.__init__ = counted  # type: ignore[method-assign]
    os.register_at_fork(before=lambda: started.update(["(fork)"]))

    from snakemake.cli import main as snakemake

    try:
        snakemake(sys.argv[2:])
    finally:
        note.write_text(json.dumps({"processes": started, "last": last}))


if __name__ == "__main__":
    main()

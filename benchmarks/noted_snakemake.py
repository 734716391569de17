"""Snakemake, and a note of each request to AWS: `python noted_snakemake.py NOTE ARGUMENTS…`.

The note is JSON lines: Unix time at which it was sent, service, operation, HTTP status (null where there was
no answer). A request that botocore repeats is noted each time.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from botocore.endpoint import Endpoint


def main() -> None:
    # What a shell starts with `&` ignores Ctrl-C, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    get_response = Endpoint._do_get_response
    with Path(sys.argv[1]).open("a", buffering=1) as note:

        def noted(self: Any, request: Any, operation: Any, context: Any) -> Any:
            sent = time.time()
            answer, error = get_response(self, request, operation, context)
            status = answer[0].status_code if answer else None
            service = operation.service_model.service_name
            note.write(json.dumps([sent, service, operation.name, status]) + "\n")
            return answer, error

        Endpoint._do_get_response = noted

        from snakemake.cli import main as snakemake

        snakemake(sys.argv[2:])


if __name__ == "__main__":
    main()

"""Snakemake's own parser and messages, where a command asks it something and says what comes of it itself."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """What Snakemake and a Snakefile print on the way is not the command's to say; it is given instead."""
    said = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield said
    finally:
        logging.disable(level)


def reason(said: str) -> str:
    """The error itself, without the usage and the news of profiles before it."""
    parts = re.split(r"^(?:\S+: )?error: ", said.strip(), flags=re.MULTILINE | re.IGNORECASE)
    return parts[-1].strip()

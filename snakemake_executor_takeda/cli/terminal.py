"""What the commands share: arguments with messages that help, columns, and a reader who has gone."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

READER_GONE = 128 + signal.SIGPIPE
"""Exit status, as a shell has it of a command that SIGPIPE ended."""


class Parser(argparse.ArgumentParser):
    """One whose subcommands and choices, where misspelt, are answered with the nearest."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        from difflib import get_close_matches

        choices = [str(choice) for choice in action.choices]
        near = get_close_matches(str(value), choices, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(choices)}"
        raise argparse.ArgumentError(action, f"{value!r} is not known: {hint}")


def port(text: str) -> int:
    return _whole(text, range(65536), "no port: give 0 to 65535")


def positive(text: str) -> int:
    return _whole(text, range(1, 2**31), "not a whole number of at least 1")


def whole(text: str) -> int:
    return _whole(text, range(-(2**63), 2**63), "not a whole number, such as 7")


def _whole(text: str, good: range, otherwise: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or number not in good:
        raise argparse.ArgumentTypeError(f"{text!r} is {otherwise}")
    return number


def add_offline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--offline",
        action="store_true",
        help="take S3 as empty and ask it nothing: inputs are those beside the Snakefile, and all jobs "
        "are to be run; it needs no account",
    )


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """The rows, the first of them headings, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def console() -> Console:
    """Standard output, as wide as the terminal; where there is none, in a log or a pipe, 120 columns."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)


@contextmanager
def quiet_where_nobody_reads() -> Iterator[None]:
    """Ends the process as SIGPIPE would, without a traceback, where `| head` has read enough.

    SIGPIPE itself stays ignored: a socket to a service that has gone must not end a command.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would be written, and refused, once more as Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(READER_GONE) from None

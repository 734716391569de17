"""The table at the bottom of a terminal while a run goes on; what others write appears above it.

The cursor is never hidden, and stands below the table: however the process ends, the terminal is as it
was. The table is written anew only where it has changed."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.reporting.money import NOTHING
from snakemake_executor_takeda.reporting.progress import Progress, Row
from snakemake_executor_takeda.values import TakedaError

CHOICES = ("auto", "live", "none")
SHORTEST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 2.0
"""What running jobs cost grows, though nothing happens."""
SPARE_LINES = 4
"""Of a terminal, which stay for what others write."""
COLUMNS = ("waiting", "starting", "running", "done", "failed", "interrupted")
_OFF = ("", "0", "false", "no")


def check_progress(said: str) -> None:
    """Raises TakedaError for what --takeda-progress does not know."""
    if said in CHOICES:
        return
    near = nearest(said, CHOICES, cutoff=0.5)
    hint = f"did you mean `{near}`?" if near else "say one of them"
    raise TakedaError(f"--takeda-progress {said}: there are {', '.join(CHOICES)}; {hint}")


def is_wanted(said: str, output: Any, environ: Mapping[str, str]) -> bool:
    """Whether a terminal, where there is one, gets a table. `output` are Snakemake's OutputSettings."""
    if said == "none" or environ.get("TERM", "dumb") == "dumb":
        return False
    if said == "live":
        return True
    quiet = {one.name for one in output.quiet or ()}
    is_ci = environ.get("CI", "").lower() not in _OFF
    return not (is_ci or output.verbose or output.debug_dag or quiet & {"PROGRESS", "ALL"})


def handler_at_terminal(handlers: Iterable[logging.Handler]) -> logging.StreamHandler[Any] | None:
    """The one by which Snakemake writes to a terminal that can show the table; None where there is none.
    A logger plugin that writes there itself takes its place."""
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            encoding = getattr(handler.stream, "encoding", None) or ""
            if handler.stream.isatty() and encoding.lower().startswith("utf"):
                return handler
    return None


def table(rows: Sequence[Row], width: int, height: int) -> list[str]:
    """Its lines, none of them longer than `width`; of more targets than `height` has room for those
    that have jobs under way come first."""
    shown = list(rows)
    room = max(1, height - 3)
    if len(shown) > room:
        busy = sorted(shown, key=lambda row: not row.is_busy)[:room]
        shown = [row for row in shown if row in busy]
    has_cost = any(row.spend.known for row in rows)
    cells: list[tuple[str, ...]] = [("takeda", *COLUMNS, "cost")]
    cells += [_cells(row) for row in shown]
    if len(rows) > 1:
        left_out = len(rows) - len(shown)
        name = f"all, with {left_out} more" if left_out else "all"
        cells.append(_cells(_sum(name, rows)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [""]
    for target, *figures in cells:
        line = target.ljust(widths[0])
        for figure, one in zip(figures if has_cost else figures[:-1], widths[1:], strict=False):
            line += "  " + figure.rjust(one)
        lines.append(line[: width - 1])
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    return (row.target, *(f"{getattr(row, name):,}" for name in COLUMNS), str(row.spend))


def _sum(name: str, rows: Sequence[Row]) -> Row:
    counts = {column: sum(getattr(row, column) for row in rows) for column in COLUMNS}
    return Row(name, **counts, spend=sum((row.spend for row in rows), NOTHING))


class Live:
    """The table on one terminal, from `start` to `stop`; a thread writes it anew at most four times a
    second.

    What comes by Snakemake's log handler, `sys.stderr` or `sys.stdout` is written above it, by whole
    lines. What a job on this machine writes comes by neither: while one runs, there is no table."""

    def __init__(
        self,
        progress: Progress,
        handler: logging.StreamHandler[Any],
        logger: logging.Logger,
    ) -> None:
        self._progress = progress
        self._handler = handler
        self._logger = logger
        self._terminal: TextIO = handler.stream
        self._lock = threading.RLock()
        self._lines: list[str] = []
        """The table as it was made last."""
        self._shown = 0
        """Lines of it on the terminal."""
        self._local_jobs = _LocalJobs(self._hide)
        self._is_hidden = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="takeda-progress", daemon=True)
        self._above: list[tuple[str, _Above]] = []

    def start(self) -> None:
        above = _Above(self._terminal, self._write_above)
        for name in ("stderr", "stdout"):
            stream = getattr(sys, name)
            if _is_same_terminal(stream, self._terminal):
                one = above if name == "stderr" else _Above(stream, self._write_above)
                setattr(sys, name, one)
                self._above.append((name, one))
        self._handler.setStream(above)
        self._logger.addHandler(self._local_jobs)
        self._thread.start()

    def stop(self) -> None:
        """Take the table away, and put everything back. Safe to call twice."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._progress.changed.set()
        self._logger.removeHandler(self._local_jobs)
        with self._lock:
            self._lines = []
            with suppress(OSError):
                self._write("")
        self._handler.setStream(self._terminal)
        for name, one in self._above:
            if getattr(sys, name) is one:
                setattr(sys, name, one.stream)
            with suppress(OSError):
                one.let_go()

    def _run(self) -> None:
        with suppress(OSError):  # a terminal that has gone needs no table
            while not self._stopping.is_set():
                self._progress.changed.wait(LONGEST_PAUSE_SECONDS)
                self._progress.changed.clear()
                self._draw()
                self._stopping.wait(SHORTEST_PAUSE_SECONDS)

    def _draw(self) -> None:
        rows = self._progress.rows()
        if not rows:
            return
        width, height = os.get_terminal_size(self._terminal.fileno())
        lines = table(rows, width, height - SPARE_LINES)
        with self._lock:
            if self._stopping.is_set() or (lines == self._lines and self._shown):
                return
            self._lines = lines
            if not self._is_hidden:
                self._write("")

    def _hide(self, is_hidden: bool) -> None:
        with self._lock:
            self._is_hidden = is_hidden
            with suppress(OSError):
                self._write("")

    def _write_above(self, text: str) -> None:
        with self._lock:
            self._write(text)

    def _write(self, text: str) -> None:
        """Whole lines, and the table after them, in one go: nobody sees the terminal in between."""
        if not _is_in_foreground(self._terminal):
            # The shell has the terminal, and what is above its prompt is its own.
            self._shown, before, lines = 0, "", []
        else:
            before = f"\r\x1b[{self._shown}A" if self._shown else ""
            lines = [] if self._is_hidden else self._lines
        if not (before or text or lines):
            return
        if before and (text or len(lines) < self._shown):
            before += "\x1b[J"
        # A table in place of a table is written over it: nothing flickers.
        self._terminal.write(before + text + "".join(f"{line}\x1b[K\n" for line in lines))
        self._shown = len(lines)
        self._terminal.flush()


class _Above:
    """Takes the place of a stream of the terminal; passes whole lines on."""

    def __init__(self, stream: TextIO, write_above: Callable[[str], None]) -> None:
        self.stream = stream
        self._write_above = write_above
        self._lock = threading.RLock()
        self._text = ""
        """What does not end with a line yet."""
        self._process = os.getpid()
        self._is_free = False

    def write(self, text: str) -> int:
        if self._is_free or os.getpid() != self._process:
            return self.stream.write(text)
        with self._lock:
            self._text += text
            if text.endswith("\n"):
                self._pass_on()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._is_free or os.getpid() != self._process:
            self.stream.flush()
            return
        with self._lock:
            self._pass_on()

    def let_go(self) -> None:
        """Pass on what is left; whoever has kept this stream writes to the terminal itself from now on."""
        with self._lock:
            self._is_free = True
            self.stream.write(self._text)
            self._text = ""
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _pass_on(self) -> None:
        lines, end, rest = self._text.rpartition("\n")
        self._text = rest
        if end:
            self._write_above(lines + end)


class _LocalJobs(logging.Handler):
    """Hears by Snakemake's log which jobs run on this machine, and tells whether there is any."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        super().__init__(logging.INFO)
        self._tell = tell
        self._running: set[Any] = set()

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        before = bool(self._running)
        if event == "job_info" and getattr(record, "local", False):
            self._running.add(getattr(record, "jobid", None))
        elif event == "job_finished":
            self._running.discard(getattr(record, "job_id", None))
        elif event == "job_error":
            self._running.discard(getattr(record, "jobid", None))
        if bool(self._running) != before:
            self._tell(bool(self._running))


def _is_same_terminal(stream: Any, terminal: TextIO) -> bool:
    try:
        return stream.isatty() and os.path.sameopenfile(stream.fileno(), terminal.fileno())
    except (AttributeError, OSError, ValueError):
        return False  # closed, or none of the system's


def _is_in_foreground(terminal: TextIO) -> bool:
    try:
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return True  # a terminal, but not the one that controls this process

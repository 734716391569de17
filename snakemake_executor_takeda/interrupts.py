"""Ctrl-C is said once: from the first on, further ones must not cut short the ending of jobs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


def only_the_first_interrupt() -> Callable[[], None]:
    """Let the first Ctrl-C raise KeyboardInterrupt as ever, and ignore all that follow.

    Returns what puts things back. Does nothing outside the main thread, or where somebody else
    already handles Ctrl-C.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        return lambda: None

    def first(number: int, frame: FrameType | None) -> None:
        # Not SIG_IGN: what is started to end the jobs would inherit it.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        raise KeyboardInterrupt

    def put_back() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, first)
    return put_back

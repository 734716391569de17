"""Ctrl-C takes effect, once: from then on, further ones must not cut short the ending of jobs."""
# `takeda cancel` asks by a signal of its own: SIGINT is ignored by what a shell without a terminal has
# started in the background, as by cron and CI jobs, and SIGTERM is Snakemake's.

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

ASKED = signal.SIGUSR1
"""Has the effect of a Ctrl-C."""
PATIENCE_SECONDS = 5.0
"""After which a Ctrl-C that has had no effect is said again."""


def one_interrupt(
    has_effect: Callable[[], bool], patience_seconds: float = PATIENCE_SECONDS
) -> Callable[[], None]:
    """Let a Ctrl-C, or ASKED, raise KeyboardInterrupt, and ignore those that follow.

    Python drops an exception that is raised in a finalizer or a callback, be it this one. So where
    `has_effect` is still false some time later, it is raised once more.

    Returns what puts things back; ASKED is ignored then. Does nothing outside the main thread, and nothing
    to a signal that somebody else already handles or, as SIGINT in the background, ignores.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    taken = []
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        taken.append(signal.SIGINT)
    if signal.getsignal(ASKED) in (signal.SIG_DFL, signal.SIG_IGN):
        taken.append(ASKED)
    if not taken:
        return lambda: None
    # Of what threads wait for, the one thing that a signal handler may use at any moment.
    raised: queue.SimpleQueue[bool] = queue.SimpleQueue()
    main_thread = threading.get_ident()
    quiet_until = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal quiet_until
        if has_effect() or time.monotonic() < quiet_until:
            return
        quiet_until = time.monotonic() + patience_seconds / 2
        raised.put(True)
        raise KeyboardInterrupt

    def say_again() -> None:
        while raised.get():
            try:
                if not raised.get(timeout=patience_seconds):
                    return
            except queue.Empty:
                if not has_effect():
                    signal.pthread_kill(main_thread, taken[0])

    def put_back() -> None:
        raised.put(False)
        if threading.current_thread() is threading.main_thread():
            for number in taken:
                is_ours = number == ASKED
                signal.signal(number, signal.SIG_IGN if is_ours else signal.default_int_handler)

    threading.Thread(target=say_again, name="takeda-interrupts", daemon=True).start()
    for number in taken:
        signal.signal(number, handle)
    return put_back

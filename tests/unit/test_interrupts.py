"""Ctrl-C is raised once, but is not lost where Python drops the exception."""

import signal
import threading

import pytest

from snakemake_executor_takeda.interrupts import ASKED, one_interrupt


class Run:
    cancelled = False


@pytest.fixture
def patience():
    return 3600


@pytest.fixture
def run(patience):
    run = Run()
    put_back = one_interrupt(lambda: run.cancelled, patience)
    yield run
    put_back()


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_it_is_raised_once(run):
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    run.cancelled = True
    interrupt()
    interrupt()


def test_one_right_after_another_does_not_cut_short_how_the_first_is_taken(run):
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    interrupt()


# Long enough for a busy machine to have told of the first one.
@pytest.mark.parametrize("patience", [1.0])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_a_finalizer_swallows_is_raised_again(run):
    class Swallows:
        def __del__(self):
            interrupt()

    with pytest.raises(KeyboardInterrupt):
        Swallows()
        threading.Event().wait(10)
    run.cancelled = True


def test_others_who_handle_ctrl_c_are_left_alone():
    def theirs(number, frame):
        pass

    before = signal.signal(signal.SIGINT, theirs)
    try:
        one_interrupt(lambda: False)()
        assert signal.getsignal(signal.SIGINT) is theirs
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_of_its_own_has_the_same_effect_also_where_ctrl_c_has_none():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        put_back = one_interrupt(lambda: False)
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(ASKED)
        put_back()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_things_are_put_back():
    one_interrupt(lambda: False)()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Whoever is asked as it ends must not be killed by that.
    assert signal.getsignal(ASKED) is signal.SIG_IGN

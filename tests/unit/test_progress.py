"""Counts and costs by target while a run goes on, and the table on a terminal."""

import logging
import os
import pty
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from terminal_screen import screen

from snakemake_executor_takeda.reporting import live
from snakemake_executor_takeda.reporting.costs import Prices, cost_line
from snakemake_executor_takeda.reporting.money import NOTHING, Spend
from snakemake_executor_takeda.reporting.progress import Progress, Row
from snakemake_executor_takeda.routing.market_prices import PriceMarket
from snakemake_executor_takeda.routing.prices import price_book
from snakemake_executor_takeda.settings import ExecutorSettings
from snakemake_executor_takeda.values import FailureKind, Outcome, Shape, TakedaError, Target

NOW = [0.0]


@pytest.fixture
def progress():
    NOW[0] = 0.0
    return Progress(lambda: NOW[0])


def test_a_job_is_counted_where_it_is_and_an_interruption_where_it_was(progress):
    progress.waits(1, "spot")
    progress.waits(2, "spot")
    assert progress.rows() == [Row("spot", waiting=2)]
    progress.starts(1, "spot")
    progress.runs(1, "spot", None)
    progress.starts(2, "spot")
    assert progress.rows() == [Row("spot", starting=1, running=1, spend=Spend(0, 0, 1))]
    progress.ends(1, "spot", "interrupted", NOTHING)
    progress.waits(1, "od")
    progress.ends(2, "spot", "failed", NOTHING)
    assert progress.rows() == [Row("spot", failed=1, interrupted=1), Row("od", waiting=1)]
    progress.ends(1, "od", "done", NOTHING)
    assert progress.rows()[1] == Row("od", done=1)


def test_what_is_cancelled_is_counted_nowhere_but_paid_for(progress):
    progress.runs(1, "t", 3.6)
    NOW[0] = 100.0
    assert progress.seconds(1) == 100.0
    progress.ends(1, "t", "cancelled", Spend(0.1, 1))
    assert progress.rows() == [Row("t", spend=Spend(0.1, 1, 0))]
    assert progress.seconds(1) is None


def test_running_jobs_cost_by_the_time_since_each_of_them_started(progress):
    progress.runs(1, "t", 3600.0)
    NOW[0] = 10.0
    progress.runs(2, "t", 7200.0)
    progress.runs(3, "t", None)
    NOW[0] = 15.0
    (row,) = progress.rows()
    assert (row.spend.known, row.spend.unknown) == (2, 1)
    assert row.spend.usd == pytest.approx(15 * 1 + 5 * 2)
    progress.ends(1, "t", "done", Spend(14.0, 1))
    NOW[0] = 20.0
    assert progress.rows()[0].spend.usd == pytest.approx(14 + 10 * 2)
    assert progress.ended() == {"t": Spend(14.0, 1)}


def test_counts_stand_when_threads_tell_at_once(progress):
    def tell(first):
        for key in range(first, first + 500):
            progress.waits(key, "t")
            progress.starts(key, "t")
            progress.runs(key, "t", 1.0)
            progress.ends(key, "t", "done", Spend(1.0, 1))

    threads = [threading.Thread(target=tell, args=(first,)) for first in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.rows() == [Row("t", done=2000, spend=Spend(2000.0, 2000))]


@pytest.mark.parametrize(
    ("spend", "said"),
    [
        (NOTHING, "–"),
        (Spend(0.0, 0, 3), "?"),
        (Spend(1.2, 3, 0), "$1.20"),
        (Spend(1.2, 3, 1), "≥ $1.20"),
    ],
)
def test_what_is_not_known_is_never_told_as_nothing(spend, said):
    assert str(spend) == said


# What a task costs.

BATCH = Target("b", "batch", instances=("c7i",), capacity="on-demand")
BOOK = price_book("us-east-1")


def prices(book=BOOK):
    return Prices(PriceMarket(lambda target: book), lambda target: book)


def test_a_job_costs_its_part_of_an_instance_for_its_time():
    half = Shape(cpus=1, mem_mb=1500)
    hourly = prices().per_hour(BATCH, half)
    assert hourly == pytest.approx(BOOK.on_demand_usd("c7i.large") / 2)
    spend = prices().spend(BATCH, half, Outcome(wall_seconds=1800))
    assert spend == Spend(pytest.approx(hourly / 2, abs=1e-6), 1)
    failed = Outcome(FailureKind.USER, wall_seconds=1800)
    assert prices().spend(BATCH, half, failed) == spend


def test_a_targets_own_price_goes_before_the_tables():
    own = Target("t", "local", usd_per_cpu_hour=0.5)
    shape = Shape(cpus=4)
    assert Prices().spend(own, shape, Outcome(wall_seconds=900)) == Spend(0.5, 1)
    assert Prices().source(own) == "the policy"


def test_without_a_price_or_a_time_the_cost_is_not_known():
    assert Prices().spend(BATCH, Shape(), Outcome(wall_seconds=5)) == Spend(0, 0, 1)
    lost = Outcome(FailureKind.LOST)
    assert prices().spend(BATCH, Shape(), lost) == Spend(0, 0, 1)
    assert prices().spend(BATCH, Shape(mem_mb=1000), lost, seconds=3600).known == 1
    assert prices().spend(BATCH, Shape(), Outcome(FailureKind.NO_CAPACITY)) == NOTHING


def test_fargate_is_paid_for_a_minute_at_least():
    target = Target("f", "batch", capacity="on-demand", options=SimpleNamespace(platform="FARGATE"))
    shape = Shape(cpus=1, mem_mb=2000)
    short, minute, longer = (
        prices().spend(target, shape, Outcome(wall_seconds=seconds)).usd for seconds in (5, 60, 120)
    )
    assert 0 < short == minute == pytest.approx(longer / 2, abs=1e-6)


def test_a_run_of_healthomics_costs_what_it_is_billed_by():
    target = Target("o", "healthomics")
    usage = {"omics.c.large": 3600.0, "STATIC": 1200.0}
    omics = BOOK.healthomics
    expected = omics.usd_per_hour["omics.c.large"] + 1200 * omics.static_storage_usd_per_gib_hour
    spend = prices().spend(target, Shape(), Outcome(detail={"usage": usage}, wall_seconds=9))
    assert spend == Spend(pytest.approx(expected, abs=1e-6), 1)
    unheard = {"omics.x.large": 60.0}
    assert prices().spend(target, Shape(), Outcome(detail={"usage": unheard})).unknown == 1
    assert prices().spend(target, Shape(), Outcome(wall_seconds=9)).unknown == 1
    assert prices().source(target) == f"the price table of {omics.source.date}"


def test_trouble_with_the_tables_is_told_once_and_keeps_no_job_from_its_report():
    def unreadable(target):
        raise TakedaError("cannot use the prices")

    said = []
    one = Prices(PriceMarket(unreadable), unreadable, said.append)
    for cpus in (1, 2):
        assert one.spend(BATCH, Shape(cpus=cpus), Outcome(wall_seconds=5)).unknown == 1
    assert said == ["what the run costs is not known in full: cannot use the prices"]


def test_the_last_line_says_what_was_spent_where_and_by_whose_prices():
    sources = {"b": "the price table of 2026-07-01", "p": "the policy"}.get
    assert cost_line({"b": Spend(1.234, 2)}, sources) == (
        "cost: about $1.23 on b, as the price table of 2026-07-01 has it"
    )
    assert cost_line({"b": Spend(1, 2), "p": Spend(2, 1, 4), "o": Spend(0, 0, 3)}, sources) == (
        "cost: about $3.00: $1.00 on b, $2.00 on p, as the price table of 2026-07-01 and the policy "
        "have it; of 4 on p, 3 on o it is not known"
    )
    assert cost_line({"o": Spend(0, 0, 3), "b": NOTHING}, sources) == ""


# The table.


def test_the_table_has_a_line_for_each_target_and_one_for_all():
    rows = [Row("spot", 1200, 0, 3, 7, 1, 2, Spend(1.2, 9, 1)), Row("omics", 1)]
    assert live.table(rows, 100, 20) == [
        "",
        "takeda  waiting  starting  running  done  failed  interrupted     cost",
        "spot      1,200         0        3     7       1            2  ≥ $1.20",
        "omics         1         0        0     0       0            0        –",
        "all       1,201         0        3     7       1            2  ≥ $1.20",
    ]
    assert "cost" not in live.table(rows[1:], 100, 20)[1]
    assert len(live.table(rows[1:], 100, 20)) == 3


def test_a_small_terminal_gets_the_busy_targets_and_no_line_that_would_wrap():
    rows = [Row(f"target-{n}", done=n, running=n % 2) for n in range(9)]
    lines = live.table(rows, 30, 7)
    assert [line.split()[0] for line in lines[2:-1]] == [f"target-{n}" for n in (1, 3, 5, 7)]
    assert lines[-1].startswith("all, with 5 more")
    assert max(map(len, lines)) == 29


def output(**changes):
    return SimpleNamespace(**{"quiet": None, "verbose": False, "debug_dag": False, **changes})


@pytest.mark.parametrize(
    ("said", "environ", "settings", "expected"),
    [
        ("auto", {"TERM": "xterm"}, {}, True),
        ("auto", {"TERM": "xterm", "CI": "true"}, {}, False),
        ("live", {"TERM": "xterm", "CI": "true"}, {"verbose": True}, True),
        ("auto", {"TERM": "xterm", "CI": "false"}, {}, True),
        ("auto", {"TERM": "dumb"}, {}, False),
        ("live", {}, {}, False),
        ("none", {"TERM": "xterm"}, {}, False),
        ("auto", {"TERM": "xterm"}, {"verbose": True}, False),
        ("auto", {"TERM": "xterm"}, {"debug_dag": True}, False),
        ("auto", {"TERM": "xterm"}, {"quiet": {"PROGRESS"}}, False),
        ("auto", {"TERM": "xterm"}, {"quiet": {"REASON"}}, True),
    ],
)
def test_who_gets_a_table(said, environ, settings, expected):
    from snakemake.settings.enums import Quietness

    if "quiet" in settings:
        settings = {"quiet": {Quietness[name] for name in settings["quiet"]}}
    assert live.is_wanted(said, output(**settings), environ) is expected


def test_a_word_that_is_not_known_is_answered_with_the_nearest():
    with pytest.raises(TakedaError) as error:
        live.check_progress("lively")
    assert str(error.value) == (
        "--takeda-progress lively: there are auto, live, none; did you mean `live`?"
    )
    for known in live.CHOICES:
        live.check_progress(known)


def test_what_is_no_terminal_gets_none():
    handler = logging.StreamHandler(sys.stderr)
    assert not sys.stderr.isatty()
    assert live.handler_at_terminal([handler]) is None


class Terminal:
    """A pseudo-terminal as this process's stderr and stdout, with Snakemake's kind of handler."""

    def __init__(self, monkeypatch, progress):
        self._reading, writing = pty.openpty()
        os.set_blocking(self._reading, False)
        self.stream = os.fdopen(writing, "w", encoding="utf-8")
        self._stdout = os.fdopen(os.dup(writing), "w", encoding="utf-8", buffering=1)
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(live.os, "get_terminal_size", lambda descriptor: (80, 40))
        self.logger = logging.Logger("snakemake")
        self.handler = logging.StreamHandler(self.stream)
        self.logger.addHandler(self.handler)
        self.live = live.Live(progress, self.handler, self.logger)
        self._written = b""

    def start(self, *, draws=False):
        """In the test itself: pytest has streams of its own for what comes before."""
        self._monkeypatch.setattr(sys, "stderr", self.stream)
        self._monkeypatch.setattr(sys, "stdout", self._stdout)
        assert live.handler_at_terminal(self.logger.handlers) is self.handler
        if not draws:
            # The thread draws when it likes: here the tests do.
            self.live._thread = SimpleNamespace(start=lambda: None)
        self.live.start()

    def written(self):
        try:
            while piece := os.read(self._reading, 65536):
                self._written += piece
        except OSError:
            pass
        return self._written.decode()

    def close(self):
        self.live.stop()
        self.stream.close()
        self._stdout.close()
        os.close(self._reading)


@pytest.fixture
def terminal(monkeypatch, progress):
    one = Terminal(monkeypatch, progress)
    yield one
    one.close()


TABLE = ["", "takeda  waiting  starting  running  done  failed  interrupted"]
ONE_WAITS = "t             1         0        0     0       0            0"


def test_what_others_write_stands_above_the_table_by_whole_lines(terminal, progress):
    terminal.start()
    progress.waits(1, "t")
    terminal.live._draw()
    assert screen(terminal.written()) == [*TABLE, ONE_WAITS, ""]
    terminal.logger.info("a line of Snakemake's\nand one more")
    print("of the", end=" ")
    terminal.stream.flush()
    assert screen(terminal.written())[:2] == ["a line of Snakemake's", "and one more"]
    print("Snakefile")
    print("a warning", file=sys.stderr)
    said = ["a line of Snakemake's", "and one more", "of the Snakefile", "a warning"]
    assert screen(terminal.written()) == [*said, *TABLE, ONE_WAITS, ""]
    print("left", end="", file=sys.stderr)
    terminal.live.stop()
    assert screen(terminal.written()) == [*said, "left"]
    terminal.logger.info("after")
    assert screen(terminal.written()) == [*said, "leftafter", ""]


def test_the_terminal_is_put_back(terminal, progress):
    terminal.start()
    progress.waits(1, "t")
    terminal.live._draw()
    kept = sys.stderr
    assert kept is not terminal.stream
    terminal.live.stop()
    terminal.live.stop()
    assert sys.stderr is terminal.stream
    assert terminal.handler.stream is terminal.stream
    assert terminal.logger.handlers == [terminal.handler]
    kept.write("whoever has kept the stream may still write\n")
    terminal.live._draw()
    assert screen(terminal.written()) == ["whoever has kept the stream may still write", ""]


def test_nothing_is_written_where_nothing_has_changed(terminal, progress):
    terminal.start()
    progress.waits(1, "t")
    terminal.live._draw()
    before = terminal.written()
    terminal.live._draw()
    assert terminal.written() == before
    progress.starts(1, "t")
    terminal.live._draw()
    assert "\x1b[J" not in terminal.written(), "an empty moment flickers"
    assert screen(terminal.written())[2].split() == ["t", "0", "1", "0", "0", "0", "0"]


def test_while_a_job_runs_on_this_machine_there_is_no_table(terminal, progress):
    terminal.start()
    progress.waits(1, "t")
    terminal.live._draw()
    for jobid in (7, 8):
        terminal.logger.info(
            f"local {jobid}", extra={"event": "job_info", "local": True, "jobid": jobid}
        )
    progress.starts(1, "t")
    terminal.live._draw()
    assert screen(terminal.written()) == ["local 7", "local 8", ""]
    terminal.logger.info("done", extra={"event": "job_finished", "job_id": 7})
    assert screen(terminal.written())[-2:] == ["done", ""]
    terminal.logger.error("failed", extra={"event": "job_error", "jobid": 8})
    assert screen(terminal.written())[-4:-2] == TABLE


def test_in_the_background_the_terminal_is_the_shells(terminal, progress, monkeypatch):
    terminal.start()
    progress.waits(1, "t")
    terminal.live._draw()
    monkeypatch.setattr(live, "_is_in_foreground", lambda stream: False)
    written = terminal.written()
    progress.starts(1, "t")
    terminal.live._draw()
    terminal.logger.info("said all the same")
    assert terminal.written() == f"{written}said all the same\r\n"


def test_its_thread_draws_what_changes(terminal, progress, monkeypatch):
    has_drawn = threading.Event()
    draw = terminal.live._draw
    monkeypatch.setattr(terminal.live, "_draw", lambda: (draw(), has_drawn.set()))
    terminal.start(draws=True)
    progress.waits(1, "t")
    assert has_drawn.wait(30)
    terminal.live.stop()
    terminal.live._thread.join(30)
    assert not terminal.live._thread.is_alive()


# The page.

PAGE = (Path(__file__).parents[2] / "docs/progress.md").read_text()


def test_the_page_shows_what_is_shown():
    rows = [
        Row("batch-spot", 40, 112, 96, 862, 1, 7, Spend(12.31, 960, 3)),
        Row("hpc", 0, 1, 2, 3, 0, 0, Spend(4.08, 5)),
        Row("omics", running=1, spend=Spend(0, 0, 1)),
    ]
    assert "\n".join(live.table(rows, 100, 40)) in PAGE
    spends = {"batch-spot": Spend(12.31, 960, 2), "hpc": Spend(4.08, 5), "omics": Spend(0, 0, 1)}
    assert cost_line(spends, lambda target: "the price table of 2026-07-14") in PAGE


def test_the_page_has_every_choice_and_column():
    for word in (*live.CHOICES, *live.COLUMNS):
        assert f"`{word}`" in PAGE
    assert f"`{ExecutorSettings().progress}` (default)" in PAGE
    assert ExecutorSettings().progress in live.CHOICES

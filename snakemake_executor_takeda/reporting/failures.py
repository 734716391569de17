"""A failure that explains itself, in the words that Snakemake prints."""

from __future__ import annotations

from snakemake_executor_takeda.plain_text import without_controls
from snakemake_executor_takeda.retrying import History
from snakemake_executor_takeda.values import Outcome, Target


def failure_text(
    target: Target | None,
    external_id: str | None,
    outcome: Outcome,
    history: History = History(),  # noqa: B008 - frozen
    given_up: str = "",
) -> str:
    """A failure that explains itself: kind, reason, last log lines, where the log is, how the job
    failed before and why it is not sent again, what to do."""
    where = f" on {target.name}" if target else ""
    who = f" ({external_id})" if external_id else ""
    code = f", exit code {outcome.exit_code}" if outcome.exit_code is not None else ""
    lines = [f"takeda: {outcome.kind}{where}{who}{code}: {outcome.reason}"]
    if outcome.log_tail:
        lines += ["last lines of its log:", *(f"    {line}" for line in outcome.log_tail)]
    if outcome.log_location:
        lines.append(f"whole log: {outcome.log_location}")
    for what, key in (("log in the console", "log_url"), ("job in the console", "job_url")):
        if key in outcome.detail:
            lines.append(f"{what}: {outcome.detail[key]}")
    if history.failures:
        lines += ["it was sent again after:", *(f"    {line}" for line in history.lines())]
    if given_up:
        lines.append(f"not sent again: {given_up}")
    if outcome.advice:
        lines.append(f"what to do: {outcome.advice}")
    return without_controls("\n".join(lines))

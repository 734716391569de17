"""Who asks AWS, and at what time: credentials, and this machine's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from snakemake_executor_takeda.doctor.cloud import Cloud, Once, asking
from snakemake_executor_takeda.doctor.findings import Checkup, Finding, NotTold, Severity, halves
from snakemake_executor_takeda.values import TakedaError

MAX_SKEW_S = 300
"""A signature (SigV4) is good for five minutes, before and after."""
WARN_SKEW_S = 60
HERE = "this machine"


@dataclass(frozen=True)
class Caller:
    """What STS says of who asks."""

    account: str
    arn: str
    skew_s: float | None
    """Seconds by which this machine's clock is ahead of AWS's; None where the answer has no date."""

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn` or `aws-us-gov`."""
        return self.arn.split(":")[1] if self.arn.startswith("arn:") else "aws"


def caller_of(cloud: Cloud) -> Once[Caller]:
    """Asked once. Raises TakedaError, or NotTold."""

    def ask() -> Caller:
        with asking("sts", "sts:GetCallerIdentity"):
            answer = cloud.client("sts").get_caller_identity()
        return Caller(answer["Account"], answer["Arn"], skew_of(answer, time.time()))

    return Once(ask)


def checkups(caller: Once[Caller], names: str) -> tuple[Checkup, Checkup]:
    """Credentials, and the clock. `names` are the targets that need them."""
    credentials = Checkup("credentials", HERE, lambda: _credentials(caller, names), vital=True)
    clock = Checkup("clock", HERE, lambda: judged_clock(caller().skew_s), after=(credentials,))
    return credentials, clock


def _credentials(caller: Once[Caller], names: str) -> Iterator[Finding]:
    from botocore.exceptions import ClientError

    try:
        caller()
    except (TakedaError, ClientError, NotTold) as error:
        # A clock that is wrong makes good credentials look bad.
        refusal = error if isinstance(error, ClientError) else error.__cause__
        skew = skew_of(getattr(refusal, "response", {}), time.time())
        wrong = [one for one in judged_clock(skew) if one.severity is Severity.FAULT]
        if wrong:
            yield from wrong
            return
        if isinstance(error, NotTold):
            return  # where no STS answers, others still may
        what, fix = halves(str(error), "look at the credentials: aws sts get-caller-identity")
        yield Finding(what, f"nothing can be asked of AWS, which {names} needs", fix)


def skew_of(answer: Mapping[str, Any], now: float) -> float | None:
    """By the Date header of an answer of AWS, in seconds; `now` is in seconds since 1970."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not date:
        return None
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def judged_clock(skew_s: float | None) -> Iterator[Finding]:
    """What to say of a clock that is `skew_s` ahead."""
    if skew_s is None or abs(skew_s) < WARN_SKEW_S:
        return
    ahead = "ahead of" if skew_s > 0 else "behind"
    is_fault = abs(skew_s) >= MAX_SKEW_S
    yield Finding(
        f"this machine's clock is {_span(abs(skew_s))} {ahead} AWS's",
        "AWS refuses what is signed more than 5 minutes ago or ahead"
        if is_fault
        else "at 5 minutes AWS refuses every call, and times of files cannot be compared",
        "sudo timedatectl set-ntp true    (or: sudo chronyc makestep)",
        Severity.FAULT if is_fault else Severity.WARNING,
    )


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"

"""Which directory goes on with a run whose files are in S3: the last one that said so there.

Copies of a directory number what they send alike: with two of them at work, one would take the other's
tasks for its own."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import (
    error_message,
    http_status,
    join_s3_uri,
    split_s3_uri,
)
from snakemake_executor_takeda.resuming import ago
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.ledger import KnownRun


@dataclass(frozen=True)
class Owner:
    """A directory, as a run's prefix names it."""

    host: str
    workdir: str
    since: float
    """Unix time."""


class Ownership:
    """The object `controller.json` below a run's prefix."""

    def __init__(self, s3: Any, prefix: str) -> None:
        self._s3 = s3
        self._bucket, self._key = split_s3_uri(join_s3_uri(prefix, "controller.json"))
        self._etag: str | None = None
        """Of what the last look found."""

    def check(self, known: KnownRun, workdir: Path) -> None:
        """Raises TakedaError where another directory went on with the run after this one, or after the
        one that this is a copy of; ClientError where S3 does not say."""
        owner = self._owner()
        if owner is None:
            return
        if (owner.host, owner.workdir) in (
            (known.host, known.workdir),
            (socket.gethostname(), str(workdir)),
        ):
            return
        raise TakedaError(
            f"run {known.run_id} was gone on with in {owner.workdir} on {owner.host}, {ago(owner.since)} "
            f"ago: what {workdir} knows of its jobs is out of date. Go on there; or, once that run has "
            "ended, move .snakemake/takeda away here and start anew"
        )

    def take(self, workdir: Path) -> None:
        """This directory goes on with the run, if none has said so since the last look. Raises TakedaError
        where one has, or where it cannot be written down."""
        from botocore.exceptions import ClientError

        owner = Owner(socket.gethostname(), str(workdir), time.time())
        body = json.dumps(asdict(owner)).encode()
        where = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
        try:
            self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=body, **where)
        except ClientError as error:
            if http_status(error) in (404, 409, 412):
                now = self._owner()
                if now == owner:
                    return  # it was written, and the answer was lost
                who = f"{now.workdir} on {now.host}" if now else "another directory"
                raise TakedaError(
                    f"{who} goes on with this run at the same moment, and a run has one controller: look "
                    "there with `takeda status`"
                ) from error
            raise TakedaError(
                f"cannot write s3://{self._bucket}/{self._key}: {error_message(error)}"
            ) from error

    def _owner(self) -> Owner | None:
        from botocore.exceptions import ClientError

        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=self._key)
            self._etag = answer["ETag"]
            return Owner(**json.loads(answer["Body"].read()))
        except ClientError as error:
            # Who may not list a bucket is told 403 of what is not there.
            if http_status(error) in (403, 404):
                return None
            raise
        except (TypeError, ValueError):
            return None  # of another version

"""The ledger's copy in S3: what a controller on another machine needs to go on with a run.

Below `<staging>/ledger/<workflow>/`: `head.json`, which run it is and who controls it; for each submission
an object below `submissions/<run id>/`, written before the call and after the answer; and now and then all
of it in `runs/<run id>.json.gz`, whereupon the objects of submissions are removed. See decision 022."""

from __future__ import annotations

import gzip
import json
import os
import queue
import re
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import (
    client,
    error_code,
    error_message,
    http_status,
    join_s3_uri,
    readable_errors,
    split_s3_uri,
)
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.ledger import SCHEMA_VERSION, UNFINISHED, Ledger, last_run, read_only
from snakemake_executor_takeda.processes import process_began
from snakemake_executor_takeda.values import FailureKind, TakedaError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

RENEWED_SECONDS = 30.0
FREE_AFTER_SECONDS = 120.0
"""A controller that has written nothing for so long, by S3's clock, is taken to be gone."""
SURE_SECONDS = 80.0
"""A controller that could not renew its hold for so long sends nothing more: another may be at it soon."""
FOLDED_SECONDS = 60.0
FOLD_SHARE = 20
"""Folding takes no more than one part in so many of the time, however long the run."""
_ATTEMPTS = 4
_MOST_DELETED = 1000
"""In one DeleteObjects."""

Row = dict[str, Any]


def workflow_key(snakefile: Path, workdir: Path) -> str:
    """The same wherever a workflow is cloned to; below one prefix in S3 it names one workflow."""
    path = os.path.relpath(snakefile, workdir)
    return re.sub(r"[^A-Za-z0-9.-]+", "_", path.removeprefix("./"))


class LedgerCopy:
    """`restore`, then `hold`, before anything is sent; `begin` when the run is in the ledger; `close`.

    Of a ledger it is told by `intended`, `accepted` and `changed`, from any thread."""

    def __init__(
        self,
        prefix: str,
        ledger: Path,
        workdir: Path,
        trouble: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`prefix`: S3 URI of this workflow's copy."""
        self._prefix, self._ledger, self._workdir = prefix, ledger, workdir
        self._trouble = trouble
        self._clock = clock
        self._s3: Any = client("s3", max_attempts=_ATTEMPTS)
        self._run: Row | None = None
        self._etag: str | None = None
        self._token = secrets.token_hex(8)
        self._renewed = clock()
        self._is_held = False
        self._lost = ""
        """Who controls the run instead."""
        self._written: set[str] = set()
        """Submissions that have an object of their own."""
        self._to_write: set[str] = set()
        self._is_dirty = False
        self._folded = clock()
        self._fold_pause = FOLDED_SECONDS
        self._told = ""
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="takeda-ledger-copy", daemon=True)

    def restore(self) -> str | None:
        """Where a run of this workflow did not end and this directory knows of none, put it into this
        directory's ledger; → what to tell the user. Raises TakedaError where somebody is at it."""
        with _readable(self._prefix):
            head = self._read_head()
            if head is None:
                return None
            self._check_is_free(head)
            self._run = run = head["run"]
            local = last_run(self._ledger)
            if run is None or run["state"] not in UNFINISHED:
                return None
            if local and local.is_unfinished:
                if local.run_id != run["run_id"]:
                    raise TakedaError(
                        f"run {local.run_id} of this directory did not end, and neither did run "
                        f"{run['run_id']} of {run['workdir']} on {run['host']}, which {self._prefix} has: "
                        "end one of them with `takeda cancel`"
                    )
                return None
            if _knows(self._ledger, run["run_id"]):
                return None  # `takeda cancel` has ended it here
            rows = self._read_rows(run["run_id"])
        _insert(self._ledger, run, *rows)
        return (
            f"what run {run['run_id']} has sent from {run['host']} is known from {self._prefix}: "
            f"{len(rows[0])} submissions, {len(rows[1])} tasks"
        )

    def hold(self) -> None:
        """Nobody else controls the workflow from now on. Raises TakedaError where somebody is at it."""
        with _readable(self._prefix):
            head = self._read_head()
            if head:
                self._check_is_free(head)
                self._run = head["run"]
            if not self._put_head():
                head = self._read_head()
                raise TakedaError(_taken((head and head["holder"]) or {}, 0.0))
            self._is_held = True

    def begin(self, run_id: str) -> None:
        """The run is in the ledger; keep the copy up to date from now on. Raises TakedaError."""
        with _readable(self._prefix):
            self._run = self._rows_of_ledger(run_id)[0]
            self._put_head()
        self._thread.start()

    # What the ledger tells.

    def intended(self, submission_id: str) -> None:
        """Returns when the copy has it. Raises SubmissionError: then nothing may be sent."""
        from botocore.exceptions import BotoCoreError, ClientError

        self._check_is_held()
        self._is_dirty = True
        try:
            self._put_submission(submission_id)
        except (ClientError, BotoCoreError) as error:
            raise SubmissionError(
                FailureKind.LOST,
                f"the ledger's copy in S3 could not be written, so that nothing was sent: {error}",
                f"see whether you may write below {self._prefix}",
            ) from error

    def accepted(self, submission_id: str) -> None:
        self._is_dirty = True
        self._inbox.put(submission_id)

    def changed(self) -> None:
        self._is_dirty = True

    def close(self) -> None:
        """Write what is left to write, and let others at it."""
        if self._thread.ident:
            self._inbox.put(None)
            self._thread.join()
        if self._is_held and not self._lost:
            self._release()

    def _release(self) -> None:
        with self._telling():
            if self._run:
                run_id = str(self._run["run_id"])
                with closing(read_only(self._ledger)) as db:
                    rows = _select(db, "select * from run where run_id = ?", run_id)
                self._run = rows[0] if rows else self._run
            self._put_head(is_held=False)

    # In its own thread.

    def _work(self) -> None:
        going_on = True
        while going_on:
            try:
                item = self._inbox.get(timeout=self._pause())
                going_on = item is not None
                if item is not None:
                    self._to_write.add(item)
            except queue.Empty:
                pass
            with self._telling():
                self._step(at_last=not going_on)

    def _pause(self) -> float:
        due = self._renewed + RENEWED_SECONDS
        if self._is_dirty:
            due = min(due, self._folded + self._fold_pause)
        return max(1.0, due - self._clock())

    def _step(self, *, at_last: bool) -> None:
        if self._lost:
            return
        if self._clock() - self._renewed >= RENEWED_SECONDS:
            self._put_head()
        for submission_id in sorted(self._to_write):
            self._put_submission(submission_id)
            self._to_write.discard(submission_id)
        if self._is_dirty and (at_last or self._clock() - self._folded >= self._fold_pause):
            self._fold()

    def _fold(self) -> None:
        """All of the run in one object, in place of the objects of its submissions."""
        assert self._run is not None
        run_id = str(self._run["run_id"])
        began = self._clock()
        self._folded, self._is_dirty = began, False
        try:
            self._run, submissions, tasks = self._rows_of_ledger(run_id)
            if is_unfinished := self._run["state"] in UNFINISHED:
                self._put(_folded(run_id), {"submissions": submissions, "tasks": tasks})
        except BaseException:
            self._is_dirty = True
            raise
        with self._writing:
            covered = self._written & {one["submission_id"] for one in submissions}
        names = [_name(run_id, one) for one in sorted(covered)]
        self._delete(names if is_unfinished else [*names, _folded(run_id)])
        with self._writing:
            self._written -= covered
        self._fold_pause = max(FOLDED_SECONDS, FOLD_SHARE * (self._clock() - began))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What is late in the copy is asked of its service once more after a restart: no harm."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (ClientError, BotoCoreError, sqlite3.Error, OSError) as error:
            if str(error) != self._told:
                self._told = str(error)
                self._trouble(f"the ledger's copy below {self._prefix} is behind: {error}")

    # Objects.

    def _check_is_held(self) -> None:
        if not self._lost and self._clock() - self._renewed > SURE_SECONDS:
            with self._telling():
                self._put_head()
        if self._lost or self._clock() - self._renewed > SURE_SECONDS:
            why = self._lost or f"S3 took no word of this controller for {SURE_SECONDS:.0f} s"
            raise SubmissionError(
                FailureKind.LOST if not self._lost else FailureKind.CONFIGURATION,
                f"nothing was sent, as another controller may be at this run: {why}",
            )

    def _put_head(self, *, is_held: bool = True) -> bool:
        """False where another controller was there first."""
        from botocore.exceptions import ClientError

        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_began": process_began(os.getpid()),
            "workdir": str(self._workdir),
            "token": self._token,
        }
        head = {
            "schema": SCHEMA_VERSION,
            "run": self._run,
            "holder": holder if is_held else None,
        }
        bucket, _ = split_s3_uri(self._prefix)
        with self._writing:
            moment = self._clock()
            where = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
            try:
                answer = self._s3.put_object(
                    Bucket=bucket,
                    Key=self._key("head.json"),
                    Body=json.dumps(head).encode(),
                    **where,
                )
                self._etag = answer["ETag"]
            except ClientError as error:
                if http_status(error) not in (404, 409, 412):
                    raise
                # A call of one's own whose answer was lost may have changed it.
                found = self._read_head()
                theirs = found["holder"] if found else None
                if theirs is None or theirs["token"] != self._token:
                    self._lost = _taken(theirs or {}, 0.0)
                    return False
            self._renewed = moment
        return True

    def _put_submission(self, submission_id: str) -> None:
        assert self._run is not None
        with closing(read_only(self._ledger)) as db:
            submission = "select * from submission where submission_id = ?"
            tasks = "select * from task where submission_id = ?"
            content = {
                "submissions": _select(db, submission, submission_id),
                "tasks": _select(db, tasks, submission_id),
            }
        self._put(_name(str(self._run["run_id"]), submission_id), content)
        with self._writing:
            self._written.add(submission_id)

    def _put(self, name: str, content: Mapping[str, list[Row]]) -> None:
        bucket, _ = split_s3_uri(self._prefix)
        body = gzip.compress(json.dumps(content).encode(), compresslevel=4)
        self._s3.put_object(Bucket=bucket, Key=self._key(name), Body=body)

    def _delete(self, names: list[str]) -> None:
        bucket, _ = split_s3_uri(self._prefix)
        for start in range(0, len(names), _MOST_DELETED):
            keys = [{"Key": self._key(name)} for name in names[start : start + _MOST_DELETED]]
            self._s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})

    def _read_head(self) -> Any:
        """None where there is none. Its age, by S3's clock, is in `age`."""
        found = self._get("head.json")
        if found is None:
            return None
        content, answer = found
        head = json.loads(content)
        if head["schema"] > SCHEMA_VERSION:
            raise TakedaError(
                f"{self._prefix} is of a later version of this plugin (schema {head['schema']}, this one "
                f"knows {SCHEMA_VERSION}): update snakemake-executor-plugin-takeda"
            )
        self._etag = answer["ETag"]
        head["age"] = _age(answer)
        return head

    def _read_rows(self, run_id: str) -> tuple[list[Row], list[Row]]:
        """Submissions and tasks of a run: as they were folded last, and what was written since."""
        submissions: dict[str, Row] = {}
        tasks: dict[str, Row] = {}
        bucket, _ = split_s3_uri(self._prefix)
        folder = self._key(f"submissions/{run_id}/")
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder)
        listed = [one["Key"] for page in pages for one in page.get("Contents", [])]
        names = [_folded(run_id)]
        names += [f"submissions/{run_id}/{key.removeprefix(folder)}" for key in listed]
        for name in names:
            found = self._get(name)
            if found is None:
                continue
            content = json.loads(gzip.decompress(found[0]))
            # Of what was folded later than it was written, the fold knows more.
            for row in content["submissions"]:
                if submissions.get(row["submission_id"], row)["state"] in (row["state"], "intent"):
                    submissions[row["submission_id"]] = row
            for row in content["tasks"]:
                if tasks.get(row["task_id"], row)["state"] in (row["state"], "intent"):
                    tasks[row["task_id"]] = row
        self._written |= {key.removeprefix(folder).removesuffix(".json.gz") for key in listed}
        return list(submissions.values()), list(tasks.values())

    def _get(self, name: str) -> tuple[bytes, Mapping[str, Any]] | None:
        from botocore.exceptions import ClientError

        bucket, _ = split_s3_uri(self._prefix)
        try:
            answer = self._s3.get_object(Bucket=bucket, Key=self._key(name))
            return answer["Body"].read(), answer
        except ClientError as error:
            if http_status(error) == 404 and error_code(error) != "NoSuchBucket":
                return None
            raise

    def _key(self, name: str) -> str:
        return split_s3_uri(join_s3_uri(self._prefix, name))[1]

    def _rows_of_ledger(self, run_id: str) -> tuple[Row, list[Row], list[Row]]:
        with closing(read_only(self._ledger)) as db:
            db.execute("begin")
            (run,) = _select(db, "select * from run where run_id = ?", run_id)
            of_run = "select * from submission where run_id = ?"
            submissions = _select(db, of_run, run_id)
            of_them = (
                "select task.* from task join submission using (submission_id) where run_id = ?"
            )
            return run, submissions, _select(db, of_them, run_id)

    def _check_is_free(self, head: Mapping[str, Any]) -> None:
        holder, age = head["holder"], head["age"]
        if holder is None or age > FREE_AFTER_SECONDS:
            return
        if holder["host"] == socket.gethostname():
            is_gone = process_began(holder["pid"]) != holder["process_began"]
            # Of this directory, the lock tells.
            if is_gone or holder["workdir"] == str(self._workdir):
                return
        raise TakedaError(_taken(holder, age))


def _taken(holder: Mapping[str, Any], age: float) -> str:
    if not holder:
        return "another controller of this workflow was faster: look who it is, and end one of them"
    return (
        f"process {holder['pid']} on {holder['host']} controls this workflow, in {holder['workdir']} "
        f"({age:.0f} s ago it said so): wait for it, or end it there. If that machine is gone, start again "
        f"in {max(1.0, FREE_AFTER_SECONDS - age):.0f} s"
    )


def _age(answer: Mapping[str, Any]) -> float:
    """Seconds since an object was written, by the clock of S3."""
    from email.utils import parsedate_to_datetime

    said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(said).timestamp() if said else time.time()
    return float(now - answer["LastModified"].timestamp())


def _name(run_id: str, submission_id: str) -> str:
    return f"submissions/{run_id}/{submission_id}.json.gz"


def _folded(run_id: str) -> str:
    return f"runs/{run_id}.json.gz"


def _select(db: sqlite3.Connection, query: str, value: str) -> list[Row]:
    cursor = db.execute(query, (value,))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _knows(path: Path, run_id: str) -> bool:
    if not path.exists():
        return False
    with closing(read_only(path)) as db:
        has_runs = db.execute("select 1 from sqlite_master where name = 'run'").fetchone()
        return bool(has_runs and _select(db, "select 1 from run where run_id = ?", run_id))


def _insert(path: Path, run: Row, submissions: Iterable[Row], tasks: Iterable[Row]) -> None:
    """Into the ledger of a directory, which is made where there is none; all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Ledger(path, str(run["run_id"])).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("begin immediate")
        for table, rows in (("run", [run]), ("submission", submissions), ("task", tasks)):
            known = {row[1] for row in db.execute(f"pragma table_info({table})")}
            for row in rows:
                names = sorted(known & row.keys())
                places = ", ".join("?" * len(names))
                db.execute(
                    f"insert or replace into {table} ({', '.join(names)}) values ({places})",  # noqa: S608
                    [row[name] for name in names],
                )
        db.execute("commit")


@contextmanager
def _readable(prefix: str) -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        with readable_errors("s3"):
            yield
    except ClientError as error:
        raise TakedaError(_refused(prefix, error)) from error


def _refused(prefix: str, error: ClientError) -> str:
    return (
        f"the ledger's copy (--takeda-ledger-copy) cannot be kept below {prefix}: "
        f"{error_message(error)} ({error_code(error)}). Name a bucket that is there, in which you may "
        "list, read, write and delete"
    )

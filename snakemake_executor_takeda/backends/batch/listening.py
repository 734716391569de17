"""Event mode: one thread per SQS queue takes in what EventBridge says of the jobs' states.

Events come at least once and in any order, and nothing proves that the rule behind a queue is right until
one has come. So a queue is relied on only once it has told of a job of this run in that job queue, and as
long as it can be read; `polling` asks the service meanwhile, and from time to time in any case.
"""

from __future__ import annotations

import difflib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch.job_events import TOLD, job_of, newer
from snakemake_executor_takeda.backends.batch.patience import patiently, role_needs
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.batch.api import Clients
    from snakemake_executor_takeda.values import Target

MESSAGES_A_CALL = 10
WAIT_S = 20
"""The longest that SQS holds a call while there is no message."""
HIDDEN_S = 10
"""How long a message that is not ours stays hidden from the controller whose it is."""
FOREIGN_PAUSE_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
WAKE_EVERY_S = 0.2
MANY_FOREIGN = 1000

_log = logging.getLogger(__name__)


class Ear(threading.Thread):
    """Listens at one queue. Messages of other runs' jobs are left there, ours are deleted."""

    def __init__(
        self,
        name: str,
        sqs: Any,
        url: str,
        is_ours: Callable[[Mapping[str, Any]], bool],
        wake: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name=f"takeda-events-{name}", daemon=True)
        self.queue = name
        self._sqs = sqs
        self._url = url
        self._is_ours = is_ours
        self._wake = wake
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._ending = threading.Event()
        self._spoken_of: set[str] = set()
        """Job queues of which an event has come: a rule may leave out others."""
        self._silence: str | None = None
        self._foreign = 0
        self._woke_at = float("-inf")
        self._owes_a_wake = False

    def is_relied_on(self, job_queue: str) -> bool:
        """Whether ends in this job queue (name or ARN) are told here, so that nobody has to ask."""
        return _queue_name(job_queue) in self._spoken_of and self._silence is None

    def take(self) -> list[Mapping[str, Any]]:
        """The jobs told of since the last time, each as its latest event has it."""
        with self._lock:
            jobs, self._jobs = self._jobs, {}
        return list(jobs.values())

    def stop(self) -> None:
        """Let the thread end with the call it is in, at most WAIT_S from now; it takes nothing more."""
        self._ending.set()

    def run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._ending.is_set():
            try:
                only_foreign = self.listen_once()
            except Exception as error:  # noqa: BLE001 - a dead thread would be relied on for ever
                self._fell_silent(error)
                self._ending.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            if only_foreign:
                self._ending.wait(FOREIGN_PAUSE_S)

    def listen_once(self) -> bool:
        """One call, and another to delete what was ours; → there were messages, but none was ours."""
        messages = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=MESSAGES_A_CALL,
            WaitTimeSeconds=0 if self._owes_a_wake else WAIT_S,
            VisibilityTimeout=HIDDEN_S,
        ).get("Messages", [])
        if self._ending.is_set():
            return False
        ours = [one for one in messages if self._heard(one)]
        self._wake_if_due(full=len(messages) == MESSAGES_A_CALL)
        if ours:
            self._remove(ours)
        self._count_foreign(len(messages) - len(ours))
        self._silence = None
        return bool(messages) and not ours

    def _heard(self, message: Mapping[str, Any]) -> bool:
        job = job_of(message.get("Body", ""))
        if job is None or not self._is_ours(job):
            return False
        self._spoken_of.add(_queue_name(job["jobQueue"]))
        if job["status"] in TOLD:
            with self._lock:
                self._jobs[job["jobId"]] = newer(self._jobs.get(job["jobId"]), job)
            self._owes_a_wake = True
        return True

    def _wake_if_due(self, *, full: bool) -> None:
        """While a burst goes on, not for each ten messages of it."""
        now = self._clock()
        if self._owes_a_wake and (not full or now - self._woke_at >= WAKE_EVERY_S):
            self._owes_a_wake = False
            self._woke_at = now
            self._wake()

    def _remove(self, messages: Sequence[Mapping[str, Any]]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        # What is refused comes again, and is then a duplicate like any other.
        self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _count_foreign(self, count: int) -> None:
        before, self._foreign = self._foreign, self._foreign + count
        if before < MANY_FOREIGN <= self._foreign:
            _log.warning(
                "the SQS queue %s is full of events that are not of this run, which makes it slow: "
                "give each controller a queue of its own, with a short retention period, and a rule "
                "that names the job queue and the states RUNNING, SUCCEEDED, FAILED",
                self.queue,
            )

    def _fell_silent(self, error: Exception) -> None:
        """Warned of once for each kind of silence."""
        from botocore.exceptions import ClientError

        what = aws.error_code(error) if isinstance(error, ClientError) else type(error).__name__
        if what != self._silence:
            self._silence = what
            _log.warning(
                "the SQS queue %s of `event_queue` cannot be read any more (%s): AWS Batch is asked "
                "instead",
                self.queue,
                error,
            )


class Ears:
    """The queues of all targets of one run."""

    def __init__(self) -> None:
        self._ears: dict[str, Ear] = {}

    def open(
        self,
        clients: Clients,
        urls: Mapping[str, str],
        is_ours: Callable[[Mapping[str, Any]], bool],
        wake: Callable[[], None],
    ) -> None:
        """Begin to listen; `urls` is by what the policy calls a queue."""
        by_url: dict[str, Ear] = {}
        for name, url in urls.items():
            if url not in by_url:
                by_url[url] = Ear(name, clients.sqs, url, is_ours, wake)
                by_url[url].start()
            self._ears[name] = by_url[url]

    def told_of(self, target: Target) -> bool:
        """Whether the ends of this target's jobs are told of."""
        ear = self._ears.get(target.options.event_queue or "")
        return ear is not None and ear.is_relied_on(target.options.queue)

    def take(self) -> Iterable[Mapping[str, Any]]:
        """The jobs told of since the last time."""
        for ear in set(self._ears.values()):
            yield from ear.take()

    def close(self) -> None:
        for ear in self._ears.values():
            ear.stop()


def check_event_queues(clients: Clients, targets: Iterable[Target]) -> dict[str, str]:
    """URL by `event_queue`, for those that targets name. Raises TakedaError where one cannot be read."""
    first_target = {
        target.options.event_queue: target.where for target in targets if target.options.event_queue
    }
    return {queue: _checked(clients.sqs, queue, name) for queue, name in first_target.items()}


def _checked(sqs: Any, queue: str, target: str) -> str:
    from botocore.exceptions import ClientError

    where = f"{target}: the SQS queue {queue!r} of `event_queue`"
    _, region = _place(queue)
    if region and region != sqs.meta.region_name:
        raise TakedaError(
            f"{where} is in the region {region}, this run in {sqs.meta.region_name}: name a queue that "
            "is there, as the EventBridge rule for the jobs must be"
        )
    try:
        url = patiently("SQS", lambda: _url(sqs, queue))
        # Reads, so that a missing right is found now; the message, if any, stays where it is.
        patiently(
            "SQS",
            lambda: sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=1, WaitTimeSeconds=0, VisibilityTimeout=0
            ),
        )
    except ClientError as error:
        code = aws.error_code(error)
        if "NonExistentQueue" in code or code == "QueueDoesNotExist":
            raise TakedaError(
                f"{where} does not exist in this account and region{_near(sqs, queue)} Correct "
                "`event_queue`, or leave it out: then the jobs are polled"
            ) from error
        raise TakedaError(
            f"{where} cannot be read ({code}): {aws.error_message(error)}"
            f"{role_needs(error, 'sqs:GetQueueUrl, sqs:ReceiveMessage and sqs:DeleteMessage on it')}. "
            "Or leave `event_queue` out: then the jobs are polled"
        ) from error
    return url


def _queue_name(job_queue: str) -> str:
    return job_queue.rpartition("/")[2]


def _url(sqs: Any, queue: str) -> str:
    if queue.startswith(("http://", "https://")):
        return queue
    if queue.startswith("arn:"):
        *_, account, name = queue.split(":")
        found = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
    else:
        found = sqs.get_queue_url(QueueName=queue)
    return str(found["QueueUrl"])


def _place(queue: str) -> tuple[str, str | None]:
    """Name and region that a queue's name, ARN or URL says; None for the region where it says none."""
    if queue.startswith("arn:"):
        parts = queue.split(":")
        return parts[-1], parts[3]
    if queue.startswith(("http://", "https://")):
        url = urlsplit(queue)
        host = (url.hostname or "").split(".")
        is_aws = len(host) > 3 and host[0] == "sqs" and host[2] == "amazonaws"
        return url.path.rpartition("/")[2], host[1] if is_aws else None
    return queue, None


def _near(sqs: Any, queue: str) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        urls = sqs.list_queues(MaxResults=1000).get("QueueUrls", [])
    except (BotoCoreError, ClientError):
        return "."
    names = [url.rpartition("/")[2] for url in urls]
    near = difflib.get_close_matches(_place(queue)[0], names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "."

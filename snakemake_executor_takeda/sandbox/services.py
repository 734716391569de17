"""What an emulated service is: a botocore model's name, a handler per operation, a life cycle.

To add a service, write a module with `def service(context: Context) -> Service` and name it in
`server.SERVICE_MODULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from snakemake_executor_takeda.sandbox.injecting import Faults

Handler = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""Gets an operation's validated members by their model names and returns its output's members.

Blobs arrive as bytes and timestamps as aware datetimes; the output may hold datetimes (or epoch
seconds) and bytes. Members whose value is None are left out of the answer, a member that the model
does not have is a bug and answers 500. Handlers are called from many threads at once.
"""

REGION = "us-east-1"
ACCOUNT_ID = "123456789012"
"""The account id that moto uses; ARNs of all services agree on it."""


class ServiceError(Exception):
    """An error in the service's own words, which boto3 raises as a ClientError with this code.

    The HTTP status is the model's for that code (400 where it has none); `members` are further
    members of the error's shape.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.members = members or {}


class EventBus(Protocol):
    """EventBridge's default bus, for services that publish."""

    @property
    def has_rules(self) -> bool:
        """Whether any rule could want an event."""

    def put(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Publish events, each with EventBridge's members and `time` in epoch seconds. Returns at
        once; they are delivered in this order."""


@dataclass(frozen=True)
class Context:
    """What a service gets from the sandbox it is part of."""

    state_dir: Path
    """Absolute, exists, only its owner can read it. A service keeps its files in a folder of its own."""
    database: Path
    """The sandbox's SQLite database (WAL); a service's tables begin with its model's name."""
    services_url: str
    """Where Batch and HealthOmics answer, such as `http://127.0.0.1:4610`."""
    moto_url: str
    """Where S3, SQS, EventBridge, CloudWatch Logs and the rest answer."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The AWS variables with which any AWS client, ours or a job's, talks to this sandbox."""
    write_log: Callable[..., None] | None = None
    """`write_log(group, stream, path, done)`: bring a text file to CloudWatch Logs, a line an event,
    without waiting; `done()` is called once the stream can be read (or never will be)."""
    vcpus: int = 8
    memory_mib: int = 16_384
    runner: str = "process"
    """`process`, `docker` or `stub`: how a Batch job's container is run. HealthOmics' tasks are run as
    local processes where Batch jobs are not run at all."""
    events: EventBus | None = None
    faults: Faults = field(default_factory=Faults)
    """What is to go wrong on purpose."""
    region: str = REGION
    account_id: str = ACCOUNT_ID


class Service(Protocol):
    """An emulated service. The server calls `start` once before the first request and `stop` once
    after the last; `stop` ends every process that the service started."""

    model_name: str
    """botocore's name of the service: `batch`, `omics`."""
    handlers: Mapping[str, Handler]
    """Operation name (`SubmitJob`) → handler. The rest answers that the sandbox does not have it."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def facts(self) -> Mapping[str, Any]:
        """What `takeda sandbox status --json` shows of it, such as jobs by state. Cheap."""

"""The sandbox's one process: the emulated services behind HTTP, with moto as its child.

Started by `takeda sandbox up`. It says one line of JSON on standard output, `{"ready": true}` or
`{"error": "…"}`, and runs until SIGTERM.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import ports, processes, record
from snakemake_executor_takeda.sandbox.injecting import Faults
from snakemake_executor_takeda.sandbox.moto_process import KEY_VARIABLE, MotoProcess
from snakemake_executor_takeda.sandbox.rest_json import Router
from snakemake_executor_takeda.sandbox.server import ApiCalls, Front, Gate, HttpServer
from snakemake_executor_takeda.sandbox.services import ACCOUNT_ID, Context, Service
from snakemake_executor_takeda.sandbox.variables import client_variables
from snakemake_executor_takeda.values import TakedaError

SERVICE_MODULES = (
    "snakemake_executor_takeda.sandbox.batch",
    "snakemake_executor_takeda.sandbox.omics",
)
"""Each has `service(context: Context) -> Service`."""

_SAVE_CALLS_SECONDS = 2.0
_MOTO_START_SECONDS = 120.0
_SHUTDOWN_LOOK_SECONDS = 0.02


def main() -> int:
    arguments = _arguments()
    state_dir: Path = arguments.dir
    # nothing in here may ever talk to the real AWS
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = (state_dir / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _refuse(f"another sandbox runs in {state_dir}")
    sandbox = Sandbox(state_dir, arguments.vcpus, arguments.memory, arguments.runner)
    try:
        sandbox.start(arguments.port, arguments.s3_port)
    except TakedaError as error:
        sandbox.stop()
        return _refuse(str(error))
    except BaseException:
        sandbox.stop()
        raise
    _say({"ready": True})
    while not ended.wait(_SAVE_CALLS_SECONDS):
        sandbox.save_calls()
        if sandbox.has_lost_moto:
            print("the S3 server (moto) ended: a sandbox without it is none", file=sys.stderr)
            break
    sandbox.stop()
    return 0 if ended.is_set() else 1


class Sandbox:
    """All parts, started in order and stopped in the opposite one."""

    def __init__(self, state_dir: Path, vcpus: int, memory_mib: int, runner: str) -> None:
        self._state_dir = state_dir
        self._vcpus = vcpus
        self._memory_mib = memory_mib
        self._runner = runner
        self._database = state_dir / "state.sqlite"
        self._http: HttpServer | None = None
        self._http_thread: threading.Thread | None = None
        self._moto: MotoProcess | None = None
        self._services: list[Service] = []
        self._calls = ApiCalls({})
        self._faults: Faults | None = None
        self._record: record.Record | None = None

    def start(self, services_port: int, moto_port: int) -> None:
        """Raises TakedaError for what the user can mend."""
        self._calls = ApiCalls(_load_calls(self._database))
        try:
            self._http = HttpServer(services_port)
        except OSError as error:
            raise TakedaError(ports.occupied(services_port, "--port", error)) from None
        try:
            listener = socket.create_server(("127.0.0.1", moto_port), backlog=128)
        except OSError as error:
            raise TakedaError(ports.occupied(moto_port, "--s3-port", error)) from None
        moto_port = listener.getsockname()[1]
        key = record.access_key(self._state_dir)
        services_url = f"http://127.0.0.1:{self._http.server_port}"
        moto_url = f"http://127.0.0.1:{moto_port}"
        variables = client_variables(services_url, moto_url, key)
        own = {processes.MARK: f"{self._state_dir} moto", KEY_VARIABLE: key}
        self._moto = MotoProcess(listener, self._state_dir / "s3", own)
        self._faults = Faults(self._database)
        context = Context(
            state_dir=self._state_dir,
            database=self._database,
            services_url=services_url,
            moto_url=moto_url,
            environment=variables,
            write_log=self._moto.write_log,
            vcpus=self._vcpus,
            memory_mib=self._memory_mib,
            runner=self._runner,
            faults=self._faults,
            events=self._moto,
        )
        services = _make_services(context)
        self._moto.wait_ready(_MOTO_START_SECONDS)
        _provide_on_moto(moto_url, variables)
        for service in services:
            service.start()
            self._services.append(service)
        _provide_queues(services[0], self._vcpus)
        self._http.front = Front(
            Router(services), Gate(key), self._calls, self._facts, self._faults
        )
        self._http_thread = threading.Thread(
            target=self._http.serve_forever, args=(_SHUTDOWN_LOOK_SECONDS,), daemon=True
        )
        self._http_thread.start()
        self._record = record.Record(
            pid=os.getpid(),
            start_ticks=processes.start_ticks(os.getpid()),
            moto_pid=self._moto.pid,
            services_port=self._http.server_port,
            moto_port=moto_port,
            access_key=key,
            vcpus=self._vcpus,
            memory_mib=self._memory_mib,
            runner=self._runner,
        )
        record.write(self._state_dir, self._record)

    def stop(self) -> None:
        """Requests first, then jobs and runs, then S3: each needs those after it."""
        if self._http is not None:
            if self._http_thread is not None:
                self._http.shutdown()
            self._http.server_close()
        for service in reversed(self._services):
            service.stop()
        if self._moto is not None:
            self._moto.stop()
        if self._record is not None:
            if self._faults is not None:
                self._faults.forget()
            self.save_calls()
            record.remove(self._state_dir)

    @property
    def has_lost_moto(self) -> bool:
        return self._moto is not None and self._moto.has_ended

    def save_calls(self) -> None:
        """And how often faults were injected."""
        if self._faults is not None:
            self._faults.save()
        with sqlite3.connect(self._database, timeout=10) as connection:
            connection.executemany(
                "insert or replace into sandbox_calls values (?, ?, ?)",
                [
                    (service, operation, count)
                    for service, operations in self._calls.counts().items()
                    for operation, count in operations.items()
                ],
            )
        connection.close()

    def _facts(self) -> Mapping[str, Any]:
        return {
            "api_calls": self._calls.counts(),
            "services": {service.model_name: service.facts() for service in self._services},
        }


def _make_services(context: Context) -> list[Service]:
    services = []
    for name in SERVICE_MODULES:
        make = getattr(importlib.import_module(name), "service", None)
        if make is not None:
            services.append(make(context))
    return services


def _provide_on_moto(moto_url: str, variables: Mapping[str, str]) -> None:
    """The bucket and the roles that examples use."""
    import boto3

    session = boto3.Session(
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_DEFAULT_REGION"],
    )
    s3 = session.client("s3", endpoint_url=moto_url)
    if record.BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=record.BUCKET)
    iam = session.client("iam", endpoint_url=moto_url)
    for name, trusted in (
        (record.ROLE, ["ecs-tasks.amazonaws.com", "omics.amazonaws.com"]),
        (record.OMICS_ROLE, ["omics.amazonaws.com"]),
    ):
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": trusted},
            "Action": "sts:AssumeRole",
        }
        document = {"Version": "2012-10-17", "Statement": [statement]}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))


def _provide_queues(batch: Service, vcpus: int) -> None:
    """An on-demand and a Spot queue, each with a compute environment of its own."""
    call = batch.handlers
    known = call["DescribeJobQueues"]({}) or {}
    names = {queue["jobQueueName"] for queue in known["jobQueues"]}
    for name, kind in ((record.ON_DEMAND_QUEUE, "EC2"), (record.SPOT_QUEUE, "SPOT")):
        if name in names:
            call["UpdateComputeEnvironment"](
                {"computeEnvironment": name, "computeResources": {"maxvCpus": vcpus}}
            )
            continue
        call["CreateComputeEnvironment"](
            {
                "computeEnvironmentName": name,
                "type": "MANAGED",
                "computeResources": {
                    "type": kind,
                    "allocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED"
                    if kind == "SPOT"
                    else "BEST_FIT_PROGRESSIVE",
                    "minvCpus": 0,
                    "maxvCpus": vcpus,
                    "instanceTypes": ["optimal"],
                    "subnets": ["subnet-00000000"],
                    "securityGroupIds": ["sg-00000000"],
                    "instanceRole": f"arn:aws:iam::{ACCOUNT_ID}:instance-profile/{record.ROLE}",
                },
            }
        )
        call["CreateJobQueue"](
            {
                "jobQueueName": name,
                "priority": 1,
                "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": name}],
            }
        )


def _load_calls(database: Path) -> dict[str, dict[str, int]]:
    with sqlite3.connect(database) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute(
            "create table if not exists sandbox_calls (service text not null,"
            " operation text not null, calls integer not null, primary key (service, operation))"
        )
        rows = connection.execute("select service, operation, calls from sandbox_calls").fetchall()
    connection.close()
    counts: dict[str, dict[str, int]] = {}
    for service, operation, calls in rows:
        counts.setdefault(service, {})[operation] = calls
    return counts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--s3-port", type=int, required=True)
    parser.add_argument("--vcpus", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True, help="MiB")
    parser.add_argument("--runner", choices=("process", "docker", "stub"), required=True)
    return parser.parse_args()


def _refuse(message: str) -> int:
    _say({"error": message})
    return 1


def _say(fact: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()
    # whoever started us stops listening now
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    os.close(silence)


if __name__ == "__main__":
    sys.exit(main())

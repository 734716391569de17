"""A job of several nodes: the same worker starts on each; the main node runs the task.

The main node listens at a port of its private address and writes address, port and a fresh token to
an object below the run's prefix, which the job's role can read. The other nodes find it there,
connect, and run what the task has started on them (see `remote`). The connection is also the sign of
life: whoever loses it knows that the other is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.worker import mpi
from snakemake_executor_takeda.worker.efa import lack_of_devices
from snakemake_executor_takeda.worker.exits import NODE_LOST, NODES_MISSING, NODES_UNFIT
from snakemake_executor_takeda.worker.frames import Connection, meet_main
from snakemake_executor_takeda.worker.hub import (
    PING_SECONDS,
    SILENCE_SECONDS,
    Hub,
    end_task,
)
from snakemake_executor_takeda.worker.launching import Commands
from snakemake_executor_takeda.worker.objects import read_if_there, write
from snakemake_executor_takeda.worker.remote import SOCKET_VARIABLE

LOOK_SECONDS = 0.5
CONNECT_SECONDS = 10.0
ESCALATION_SECONDS = 30.0
"""A task that has not ended so long after a node was lost is left behind."""


@dataclass(frozen=True)
class Here:
    """Which node of the job this is."""

    index: int
    main: int
    count: int
    attempt: int
    main_address: str | None
    """Known to all nodes but the main one."""

    @property
    def is_main(self) -> bool:
        return self.index == self.main


@dataclass(frozen=True)
class Plan:
    """What the job's command line says about its nodes."""

    meeting: str
    """URI below which the nodes of this submission leave word."""
    wait_s: float
    ranks: int
    ranks_per_node: int
    cpus_per_rank: int
    efa_devices: int


def here(environment: Mapping[str, str]) -> Here | None:
    """From Batch's variables; None in a job of one container."""
    count = int(environment.get("AWS_BATCH_JOB_NUM_NODES", "1"))
    if count < 2:
        return None
    return Here(
        index=int(environment["AWS_BATCH_JOB_NODE_INDEX"]),
        main=int(environment["AWS_BATCH_JOB_MAIN_NODE_INDEX"]),
        count=count,
        attempt=int(environment.get("AWS_BATCH_JOB_ATTEMPT", "1")),
        main_address=environment.get("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"),
    )


def own_address(main_address: str | None) -> str:
    """This node's address in the job's network: the one it would reach the main node from."""
    if address := os.environ.get("TAKEDA_NODE_ADDRESS"):
        return address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent. The main node has no other to go by: any address beyond its own network.
        probe.connect((main_address or "192.0.2.1", 9))
        return str(probe.getsockname()[0])


def run_main(
    here: Here, plan: Plan, task: Callable[[Callable[[Path], dict[str, str]]], int]
) -> int:
    """Gather the nodes and run the task; → exit code.

    `task` is given what it calls with its directory, once it has one, and gets variables for the
    task's environment.
    """
    _end_on_sigterm()
    address = own_address(here.main_address)
    token = secrets.token_bytes(32)
    with _private_directory() as private:
        hub = Hub(
            main=here.main,
            count=here.count,
            address=address,
            token=token,
            socket_path=private / "socket",
            on_loss=_report_loss,
        )
        port = hub.start()
        unfit = lack_of_devices(plan.efa_devices)
        offer = {"address": address, "port": port, "token": token.hex()}
        write(_place(here, plan, "main"), json.dumps(offer).encode())
        try:
            try:
                hub.wait(plan.wait_s if unfit is None else 0)
                problem = _problem(hub, here, plan, unfit)
                if problem is not None:
                    _say(problem[1])
                    # those that come late need not wait
                    write(_place(here, plan, "main"), json.dumps({"over": problem[1]}).encode())
                    return problem[0]

                def prepare(directory: Path) -> dict[str, str]:
                    hub.begin(directory)
                    return _variables(hub.addresses(), plan, private)

                code = task(prepare)
                return _ended_for(hub.lost) if code and hub.lost else code
            finally:
                hub.over()
        except SystemExit:
            # a node was lost when there was no task yet to hear of it
            if hub.lost is None:
                raise
            return _ended_for(hub.lost)


def follow(here: Here, plan: Plan, fill: Callable[[Path], None]) -> int:
    """Run on this node what the main node's task starts here, until that is over; → exit code.

    `fill` puts the workflow's sources into a new task directory.
    """
    return asyncio.run(_Follower(here, plan, fill).run())


class _Follower:
    def __init__(self, here: Here, plan: Plan, fill: Callable[[Path], None]) -> None:
        self._here, self._plan, self._fill = here, plan, fill
        self._deadline = time.monotonic() + plan.wait_s
        self._address = own_address(here.main_address)
        self._made: Path | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        stop = loop.create_task(self._stopped.wait())
        work = loop.create_task(self._work())
        await asyncio.wait({stop, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                return await work
            return 128 + signal.SIGTERM
        return work.result()

    async def _work(self) -> int:
        self._leave_word(None)
        connection = await self._connect()
        if connection is None:
            return NODES_MISSING
        connection.send(
            {
                "index": self._here.index,
                "address": self._address,
                "unfit": lack_of_devices(self._plan.efa_devices),
            }
        )
        commands = Commands(connection.send)
        pings = asyncio.get_running_loop().create_task(self._ping(connection))
        try:
            return await self._hear(connection, commands)
        except asyncio.CancelledError:
            connection.send({"type": "bye", "why": "it was told to stop (SIGTERM)"})
            with contextlib.suppress(ConnectionError):
                await connection.drain()
            raise
        except ConnectionError as error:
            _say(f"the main node went away ({error}); what ran for it here is ended")
            return NODE_LOST
        finally:
            pings.cancel()
            await commands.end_all()
            connection.close()
            if self._made:
                shutil.rmtree(self._made, ignore_errors=True)

    async def _hear(self, connection: Connection, commands: Commands) -> int:
        while True:
            try:
                message = await asyncio.wait_for(connection.receive(), SILENCE_SECONDS)
            except TimeoutError:
                raise ConnectionError(f"silent for {SILENCE_SECONDS:.0f} s") from None
            match message["type"]:
                case "over":
                    return 0
                case "begin":
                    self._make(Path(message["directory"]))
                    connection.send({"type": "ready"})
                case "ping":
                    pass
                case _:
                    commands.take(message)

    async def _ping(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            connection.send({"type": "ping"})

    def _make(self, directory: Path) -> None:
        """The task's directory, unless it is on a file system that the nodes share."""
        if not directory.exists():
            directory.mkdir(parents=True)
            self._made = directory
            self._fill(directory)

    async def _connect(self) -> Connection | None:
        why = "it has not said where it is"
        while time.monotonic() < self._deadline:
            offer = read_if_there(_place(self._here, self._plan, "main"))
            if offer is not None:
                said = json.loads(offer)
                if "over" in said:
                    why = f"it has given up ({said['over']})"
                    break
                try:
                    return await self._meet(said)
                except (OSError, TimeoutError) as error:
                    why = f"{error or 'no answer'}"
                    self._leave_word(why)
            await asyncio.sleep(LOOK_SECONDS)
        _say(f"the main node ({self._here.main_address}) could not be reached: {why}")
        return None

    async def _meet(self, offer: Mapping[str, Any]) -> Connection:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(offer["address"], offer["port"], local_addr=(self._address, 0)),
            CONNECT_SECONDS,
        )
        return await asyncio.wait_for(
            meet_main(reader, writer, bytes.fromhex(offer["token"])), CONNECT_SECONDS
        )

    def _leave_word(self, trouble: str | None) -> None:
        """What the main node reads of a node that does not connect."""
        word = {"address": self._address, "trouble": trouble}
        write(_place(self._here, self._plan, str(self._here.index)), json.dumps(word).encode())


def _problem(hub: Hub, here: Here, plan: Plan, unfit: str | None) -> tuple[int, str] | None:
    """Why the task cannot begin, with the exit code that says so."""
    reasons = ({here.main: unfit} if unfit else {}) | hub.unfit()
    if reasons:
        return NODES_UNFIT, "; ".join(f"node {index}: {why}" for index, why in reasons.items())
    if hub.lost is not None:
        index, why = hub.lost
        return NODE_LOST, f"node {index} went away before the task began: {why}"
    missing = hub.missing()
    if not missing:
        return None
    words = {index: read_if_there(_place(here, plan, str(index))) for index in missing}
    for index, word in words.items():
        said = json.loads(word) if word else {}
        if said.get("trouble"):
            return NODES_UNFIT, (
                f"node {index} ({said['address']}) has started but cannot connect to the main node "
                f"({said['trouble']}): let the security group of the compute environment allow all "
                "traffic among its members"
            )
    names = ", ".join(map(str, missing))
    return NODES_MISSING, (
        f"after {plan.wait_s:.0f} s these of {here.count} nodes have not started: {names}. See their "
        "logs in Batch (JOB#INDEX), or raise `node_wait` of the target"
    )


def _variables(addresses: list[str], plan: Plan, private: Path) -> dict[str, str]:
    places = mpi.slots(addresses, plan.ranks, plan.ranks_per_node)
    hosts, hydra, agent = private / "hosts", private / "hydra", private / "remote"
    hosts.write_text(mpi.open_mpi_hosts(places))
    hydra.write_text(mpi.hydra_hosts(places))
    # Launchers want one program. The interpreter's path is a variable: it needs no quoting.
    agent.write_text(
        '#!/bin/sh\nexec "$TAKEDA_NODES_PYTHON" -P -m snakemake_executor_takeda.worker.remote "$@"\n'
    )
    agent.chmod(0o700)
    return {
        SOCKET_VARIABLE: str(private / "socket"),
        "TAKEDA_NODES_PYTHON": sys.executable,
        **mpi.variables(
            hosts=str(hosts),
            hydra=str(hydra),
            agent=str(agent),
            cpus_per_rank=plan.cpus_per_rank,
            given=os.environ,
        ),
    }


def _place(here: Here, plan: Plan, name: str) -> str:
    """Where a node leaves word: every attempt has places of its own."""
    return f"{plan.meeting}/{here.attempt}/{name}.json"


def _ended_for(lost: tuple[int, str]) -> int:
    """The exit code of a lost node. It is said last, too: what the task says of its own end is long, and
    of a log the last lines are shown."""
    _say(f"ended because node {lost[0]} went away: {lost[1]}")
    return NODE_LOST


def _report_loss(index: int, why: str) -> None:
    _say(f"node {index} went away: {why}; the task is ended, as its ranks would wait for ever")
    end_task()
    timer = threading.Timer(ESCALATION_SECONDS, os._exit, (NODE_LOST,))
    timer.daemon = True
    timer.start()


@contextmanager
def _private_directory() -> Iterator[Path]:
    """Nobody else can look into it, and the path of a socket in it is not too long."""
    with tempfile.TemporaryDirectory(prefix="takeda-nodes-", dir="/tmp") as directory:
        yield Path(directory)


def _end_on_sigterm() -> None:
    """Process 1 of a container would not end by a signal that it has no handler for."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _say(text: str) -> None:
    print(f"takeda-worker: {text}", file=sys.stderr, flush=True)

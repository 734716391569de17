"""The main node's side of a job of several nodes: knows the others, and passes commands on to them.

A thread of its own serves two sockets: one that the other nodes connect to, and a private one for the
`remote` commands of the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_takeda.worker.frames import Connection, Message, meet_child
from snakemake_executor_takeda.worker.launching import NOT_STARTED, Commands

PING_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""A node that has said nothing for so long, not even a ping, is gone."""
HANDSHAKE_SECONDS = 10.0
FAREWELL_SECONDS = 5.0


@dataclass(eq=False)
class Child:
    """Another node, connected."""

    index: int
    address: str
    connection: Connection
    unfit: str | None
    """Why it cannot take part."""
    agents: dict[int, Connection] = field(default_factory=dict)
    """Who asked for the commands that run there."""


class Hub:
    """Of one attempt. Its methods are for the main thread."""

    def __init__(
        self,
        *,
        main: int,
        count: int,
        address: str,
        token: bytes,
        socket_path: Path,
        on_loss: Callable[[int, str], None],
    ) -> None:
        """`on_loss` is called once, from the hub's thread, with the first node that went away and why,
        unless all is over."""
        self._main, self._count = main, count
        self._address, self._token, self._socket_path = address, token, socket_path
        self._on_loss = on_loss
        self._children: dict[int, Child] = {}
        self._ready: set[int] = set()
        self._changed = threading.Condition()
        self._lost: tuple[int, str] | None = None
        self._is_over = False
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._agents_here: dict[int, Connection] = {}
        self._thread = threading.Thread(target=self._serve, name="nodes", daemon=True)

    def start(self) -> int:
        """Listen; → the port. Raises OSError."""
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    @property
    def lost(self) -> tuple[int, str] | None:
        """The first node that went away, and why."""
        return self._lost

    def missing(self) -> list[int]:
        """The nodes that have not connected."""
        with self._changed:
            others = set(range(self._count)) - {self._main}
            return sorted(others - self._children.keys())

    def unfit(self) -> dict[int, str]:
        """Nodes that cannot take part, and why."""
        with self._changed:
            return {one.index: one.unfit for one in self._children.values() if one.unfit}

    def wait(self, seconds: float) -> bool:
        """Up to `seconds` until all nodes are there; at once where one is unfit or has left."""
        with self._changed:
            return self._changed.wait_for(
                lambda: (
                    len(self._children) == self._count - 1
                    or self._lost is not None
                    or any(one.unfit for one in self._children.values())
                ),
                seconds,
            )

    def addresses(self) -> list[str]:
        """Of all nodes, the main node first."""
        with self._changed:
            others = sorted(self._children.values(), key=lambda one: one.index)
            return [self._address, *(one.address for one in others)]

    def begin(self, directory: Path) -> None:
        """Have the task's directory on all nodes. Returns early where a node is lost."""
        self._loop.call_soon_threadsafe(
            self._tell_all, {"type": "begin", "directory": str(directory)}
        )
        with self._changed:
            self._changed.wait_for(
                lambda: self._lost is not None or len(self._ready) == self._count - 1
            )

    def over(self) -> None:
        """Let the other nodes end, and stop."""
        with self._changed:
            self._is_over = True
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._part(), self._loop).result(2 * FAREWELL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(FAREWELL_SECONDS)

    # in the hub's thread

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._here = Commands(self._from_here)
        self._loop.run_forever()

    async def _listen(self) -> int:
        await asyncio.start_unix_server(self._on_agent, self._socket_path)
        server = await asyncio.start_server(self._on_child, self._address, 0)
        self._pings = self._loop.create_task(self._ping())
        return int(server.sockets[0].getsockname()[1])

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            self._tell_all({"type": "ping"})

    def _tell_all(self, message: Message) -> None:
        for child in self._children.values():
            child.connection.send(message)

    async def _on_child(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connection = await asyncio.wait_for(
                meet_child(reader, writer, self._token), HANDSHAKE_SECONDS
            )
            hello = await asyncio.wait_for(connection.receive(), HANDSHAKE_SECONDS)
        except OSError:
            writer.close()  # somebody else
            return
        child = Child(hello["index"], hello["address"], connection, hello["unfit"])
        with self._changed:
            if child.index in self._children:
                writer.close()  # a node that connects again has lost what ran there
                return
            self._children[child.index] = child
            self._changed.notify_all()
        why = await self._hear(child)
        connection.close()
        for agent in child.agents.values():
            agent.send({"type": "exit", "code": NOT_STARTED})
        with self._changed:
            first = not self._is_over and self._lost is None
            if first:
                self._lost = (child.index, why)
            self._children.pop(child.index, None)
            self._changed.notify_all()
        if first:
            self._on_loss(child.index, why)

    async def _hear(self, child: Child) -> str:
        """What a node says, until it says no more; → why."""
        while True:
            try:
                message = await asyncio.wait_for(child.connection.receive(), SILENCE_SECONDS)
            except TimeoutError:
                return f"it has said nothing for {SILENCE_SECONDS:.0f} s"
            except OSError as error:
                return str(error)
            match message["type"]:
                case "bye":
                    return str(message["why"])
                case "ready":
                    with self._changed:
                        self._ready.add(child.index)
                        self._changed.notify_all()
                case "out" | "exit":
                    await self._to_agent(child.agents, message)

    def _from_here(self, message: Message) -> None:
        task = self._loop.create_task(self._to_agent(self._agents_here, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _to_agent(agents: dict[int, Connection], message: Message) -> None:
        agent = agents.get(message["id"])
        if agent is None:
            return
        if message["type"] == "exit":
            del agents[message["id"]]
        agent.send(message)
        with contextlib.suppress(ConnectionError):
            await agent.drain()

    async def _on_agent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agent = Connection(reader, writer)
        number = next(self._numbers)
        agents: dict[int, Connection] = {}
        tell: Callable[[Message], None] | None = None
        try:
            request = await agent.receive()
            found = self._place(request["host"])
            if found is None:
                self._refuse(agent, request["host"])
                await agent.drain()
                return
            tell, agents = found
            agents[number] = agent
            tell({**request, "type": "run", "id": number})
            while True:
                tell({**await agent.receive(), "id": number})
        except ConnectionError:
            pass  # it has got its exit code, or was ended itself
        finally:
            if tell is not None and agents.pop(number, None) is not None:
                tell({"type": "end", "id": number})
            writer.close()

    def _place(self, host: str) -> tuple[Callable[[Message], None], dict[int, Connection]] | None:
        """How to have a command run on a node, and where who asked is noted."""
        if host == self._address:
            return self._here.take, self._agents_here
        for child in self._children.values():
            if child.address == host:
                return child.connection.send, child.agents
        return None

    def _refuse(self, agent: Connection, host: str) -> None:
        nodes = ", ".join([self._address, *(one.address for one in self._children.values())])
        print(f"takeda-worker: {host} is no node of this job: {nodes}", file=sys.stderr)
        agent.send({"type": "exit", "code": NOT_STARTED})

    async def _part(self) -> None:
        self._pings.cancel()
        self._tell_all({"type": "over"})
        await self._here.end_all()
        deadline = self._loop.time() + FAREWELL_SECONDS
        while self._children and self._loop.time() < deadline:
            await asyncio.sleep(0.02)


def end_task() -> None:
    """End the task of this process as its own signal handler does.

    The signal is for the main thread, which waits for the task: one for the process may be taken by
    another thread, and then nobody stops waiting."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGTERM)

"""Messages between the nodes of one job: JSON with its length before it and, on the network, a seal.

Both ends know a token that only the job's role can read. Each sends a nonce, and of token and nonces
comes the key of that connection. Every frame carries an HMAC of its direction, number and content, so
that nobody else can say anything, repeat it, or leave it out unseen. The contents are not encrypted:
they are command lines and output, within the job's own network.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import struct
from typing import Any, BinaryIO

NONCE_BYTES = 32
SEAL_BYTES = hashlib.sha256().digest_size
MOST_BYTES = 16 * 2**20
"""Of one frame. Streams are cut into far smaller pieces."""
_LENGTH = struct.Struct(">I")

Message = dict[str, Any]


class BrokenFrame(ConnectionError):
    """What came is no frame of the other end: too long, or not sealed by it."""


def pack(message: Message) -> bytes:
    """A message for a socket that nobody else can open."""
    content = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(content)) + content


def unpack(stream: BinaryIO) -> Message | None:
    """The next message that `pack` wrote; None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    content = stream.read(length)
    return None if len(content) < length else json.loads(content)


def session_key(token: bytes, main_nonce: bytes, child_nonce: bytes) -> bytes:
    """The key of one connection: a nonce of each end makes it a new one."""
    return hmac.digest(token, b"takeda nodes 1" + main_nonce + child_nonce, "sha256")


class Seal:
    """One direction of one connection: numbers the frames, and seals or checks them."""

    def __init__(self, key: bytes, direction: bytes) -> None:
        self._key = hmac.digest(key, direction, "sha256")
        self._number = 0

    def of(self, content: bytes) -> bytes:
        """The seal of the next frame."""
        numbered = self._number.to_bytes(8, "big") + content
        self._number += 1
        return hmac.digest(self._key, numbered, "sha256")


class Connection:
    """Sends and receives messages over a pair of asyncio streams."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ours: Seal | None = None,
        theirs: Seal | None = None,
    ) -> None:
        """Without seals it speaks as `pack` and `unpack` do."""
        self._reader, self._writer = reader, writer
        self._ours, self._theirs = ours, theirs

    def send(self, message: Message) -> None:
        """Put it on its way; `drain` waits until there is room for more."""
        content = json.dumps(message, separators=(",", ":")).encode()
        seal = self._ours.of(content) if self._ours else b""
        self._writer.write(_LENGTH.pack(len(content)) + seal + content)

    async def drain(self) -> None:
        await self._writer.drain()

    async def receive(self) -> Message:
        """The next message. Raises ConnectionError where there is none any more."""
        (length,) = _LENGTH.unpack(await _exactly(self._reader, _LENGTH.size))
        if length > MOST_BYTES:
            raise BrokenFrame(f"a frame of {length} bytes")
        seal = await _exactly(self._reader, SEAL_BYTES) if self._theirs else b""
        content = await _exactly(self._reader, length)
        if self._theirs and not hmac.compare_digest(seal, self._theirs.of(content)):
            raise BrokenFrame("a frame without the job's seal")
        message: Message = json.loads(content)
        return message

    def close(self) -> None:
        self._writer.close()


async def meet_child(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: bytes
) -> Connection:
    """The main node's end of a connection. Whether the other end knows the token shows with its first
    frame."""
    mine = secrets.token_bytes(NONCE_BYTES)
    writer.write(mine)
    key = session_key(token, mine, await _exactly(reader, NONCE_BYTES))
    return Connection(reader, writer, ours=Seal(key, b"main"), theirs=Seal(key, b"child"))


async def meet_main(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: bytes
) -> Connection:
    """Another node's end of it."""
    mine = secrets.token_bytes(NONCE_BYTES)
    writer.write(mine)
    key = session_key(token, await _exactly(reader, NONCE_BYTES), mine)
    return Connection(reader, writer, ours=Seal(key, b"child"), theirs=Seal(key, b"main"))


async def _exactly(reader: asyncio.StreamReader, count: int) -> bytes:
    try:
        return await reader.readexactly(count)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection was closed") from error

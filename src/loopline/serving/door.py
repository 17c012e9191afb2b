"""The control door: how the supervisor gives its workers a new routing table, and learns that it is in force.

A Unix socket pair made at a worker's start, frames of a length (u32, little-endian) and JSON. The worker says `hello`; then
it is told `prepare` with a table (it loads, warms and checks every new bundle, and changes nothing) and `commit` (one
assignment). It acknowledges an epoch only with that done. The end of the door means that the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopline.errors import Conflict, Invalid, LooplineError
from loopline.failpoints import failpoint
from loopline.serving import live as lives
from loopline.serving.engine import Engine
from loopline.serving.records import ControlMessage

logger = logging.getLogger("loopline.serving")
_HEAD = struct.Struct("<I")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor wants."""

    do: Literal["prepare", "commit"]
    epoch: int
    message: ControlMessage | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker says: the epoch in force (after `hello` and `commit`) or made ready (after `prepare`), or an error."""

    did: Literal["hello", "prepare", "commit"]
    epoch: int
    error: dict[str, Any] | None = None


def frame(record: Order | Reply) -> bytes:
    """The bytes of a record on the door."""
    data = msgspec.json.encode(record)
    return _HEAD.pack(len(data)) + data


def receive(sock: socket.socket) -> bytes | None:
    """The next frame's payload, waited for; None at the end of the door."""
    head = _exactly(sock, _HEAD.size)
    return None if head is None else _exactly(sock, _HEAD.unpack(head)[0])


def _exactly(sock: socket.socket, count: int) -> bytes | None:
    found = bytearray()
    while len(found) < count:
        try:
            part = sock.recv(count - len(found))
        except OSError:
            return None
        if not part:
            return None
        found += part
    return bytes(found)


class Door:
    """The worker's side."""

    def __init__(self, engine: Engine, gone: Callable[[], None]) -> None:
        self._engine = engine
        self._gone = gone
        self._ready: lives.Live | None = None

    async def serve(self, sock: socket.socket) -> None:
        """Obeys orders until the supervisor hangs up; then `gone` is called."""
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        live = self._engine.live
        error = next((e.to_dict() for e in live.failed.values()), None)
        writer.write(frame(Reply(did="hello", epoch=live.epoch, error=error)))
        try:
            while True:
                (length,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                order = msgspec.json.decode(await reader.readexactly(length), type=Order)
                try:
                    epoch, error = await self._obey(order), None
                except LooplineError as e:
                    epoch, error = self._engine.live.epoch, e.to_dict()
                except Exception as e:
                    logger.exception("An order failed")
                    epoch, error = self._engine.live.epoch, Invalid(f"The worker failed: {e}", code="worker").to_dict()
                failpoint("serving.door.before_acknowledge")
                writer.write(frame(Reply(did=order.do, epoch=epoch, error=error)))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            self._gone()

    async def _obey(self, order: Order) -> int:
        if order.do == "prepare":
            if order.message is None:
                raise Invalid("There is no table in the order.", code="no-table")
            live = self._engine.live
            opening = self._engine.settings.opening
            ready = await asyncio.to_thread(lives.prepare, order.message, self._engine.known(), opening, live.failed)
            if self._ready is not None:
                self._engine.discard(self._ready)
            self._ready = ready
            return ready.epoch
        if self._ready is None or self._ready.epoch != order.epoch:
            raise Conflict(f"Epoch {order.epoch} was not prepared.", code="not-prepared")
        self._engine.swap(self._ready)
        self._ready = None
        return order.epoch


def read_state(path: Path) -> ControlMessage | None:
    """The last table that was put in force; None where there was none. Raises `Invalid`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ControlMessage)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise Invalid(f"{path} is not a routing table: {e}.", code="bad-table", hint="Remove the file.") from e


def write_state(path: Path, message: ControlMessage) -> None:
    """Keeps a table for workers that start later; the file appears whole or not at all, readable to this user alone."""
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(message))
        file.flush()
        failpoint("serving.door.before_sync")
        os.fsync(file.fileno())
    failpoint("serving.door.before_rename")
    new.replace(path)

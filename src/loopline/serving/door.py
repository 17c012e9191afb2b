"""The control door: how the supervisor gives its workers a new routing table, and learns that it is in force.

A Unix socket pair made at a worker's start, frames of a length (u32, little-endian) and JSON. The worker says `hello`; then
it is told `prepare` with a table (it loads, warms and checks every new bundle, and changes nothing) and `commit` (one
assignment). It acknowledges an epoch only with that done. Where a caller wants a model loaded or unloaded it `asks`, and is given
an `answer`, once the table that comes of it is in force. The end of the door means that the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopline.errors import Conflict, Invalid, LooplineError, Unavailable, from_dict
from loopline.failpoints import failpoint
from loopline.serving import live as lives
from loopline.serving.engine import Engine
from loopline.serving.records import ControlMessage

logger = logging.getLogger("loopline.serving")
_HEAD = struct.Struct("<I")
ALIVE = 5.0
"""Seconds between two words of a worker that loads models."""
PATIENCE = 120.0
"""Seconds that a model may take to be loaded by all workers."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants of the models that are served; `number` tells it from others of the same worker."""

    number: int
    action: Literal["load", "unload"]
    model: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor wants, or answers: to the change of a `number`, with an error where it was not made."""

    do: Literal["prepare", "commit", "answer"]
    epoch: int = 0
    message: ControlMessage | None = None
    number: int = 0
    error: dict[str, Any] | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker says: the epoch in force (after `hello` and `commit`) or made ready (after `prepare`), an error, the change
    that it asks for, or that it loads models and is about it."""

    did: Literal["hello", "loads", "prepare", "commit", "asks"]
    epoch: int
    error: dict[str, Any] | None = None
    change: Change | None = None


@contextlib.contextmanager
def loading(tell: Callable[[bytes], None]) -> Iterator[None]:
    """While models are loaded: every few seconds `tell` is called, in a thread, with what says so to the supervisor."""
    done = threading.Event()

    def say() -> None:
        while not done.wait(ALIVE):
            with contextlib.suppress(OSError, RuntimeError):  # the supervisor, or the loop, is gone
                tell(frame(Reply(did="loads", epoch=0)))

    thread = threading.Thread(target=say, name="loading", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


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
        self._writer: asyncio.StreamWriter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self._count = 0

    async def ask(self, action: Literal["load", "unload"], model: str) -> None:
        """Has the supervisor load or unload a model; returns when all workers serve what comes of it.

        Raises the `LooplineError` that stands against it, or `Unavailable` where no answer comes.
        """
        if self._writer is None:
            raise _gone()
        self._count += 1
        number = self._count
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        change = Change(number=number, action=action, model=model)
        try:
            failpoint("serving.door.before_ask")
            self._writer.write(frame(Reply(did="asks", epoch=self._engine.live.epoch, change=change)))
            async with asyncio.timeout(PATIENCE):
                error = await answer
        except TimeoutError:
            raise _gone() from None
        finally:
            del self._asked[number]
        if error is not None:
            raise from_dict(error)

    async def serve(self, sock: socket.socket) -> None:
        """Obeys orders until the supervisor hangs up; then `gone` is called."""
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        self._writer, self._loop = writer, asyncio.get_running_loop()
        live = self._engine.live
        error = next((e.to_dict() for e in live.failed.values()), None)
        writer.write(frame(Reply(did="hello", epoch=live.epoch, error=error)))
        try:
            while True:
                (length,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                order = msgspec.json.decode(await reader.readexactly(length), type=Order)
                if order.do == "answer":
                    asked = self._asked.get(order.number)
                    if asked is not None and not asked.done():
                        asked.set_result(order.error)
                    continue
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
            self._writer = None
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_result(_gone().to_dict())
            self._gone()

    def _tell(self, said: bytes) -> None:
        """Says something to the supervisor, from whichever thread."""
        loop = self._loop
        if self._writer is not None and loop is not None:
            loop.call_soon_threadsafe(self._writer.write, said)

    async def _obey(self, order: Order) -> int:
        if order.do == "prepare":
            if order.message is None:
                raise Invalid("There is no table in the order.", code="no-table")
            live = self._engine.live
            opening = self._engine.settings.opening
            with loading(self._tell):
                ready = await asyncio.to_thread(
                    lives.prepare, order.message, self._engine.known(), opening, live.failed
                )
            if self._ready is not None:
                self._engine.discard(self._ready)
            self._ready = ready
            return ready.epoch
        if self._ready is None or self._ready.epoch != order.epoch:
            raise Conflict(f"Epoch {order.epoch} was not prepared.", code="not-prepared")
        self._engine.swap(self._ready)
        self._ready = None
        return order.epoch


def _gone() -> Unavailable:
    return Unavailable(
        "What loads models does not answer for now.", code="worker-down", hint="Look at the index, and ask again."
    )


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

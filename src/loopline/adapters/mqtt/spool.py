"""Messages on this disk: from before they are acknowledged to the broker until they are in a version.

A spool is a folder of its own: who the broker takes us for (`session.json`), and segments (`00000000000000000001.spool`, named by
their first message) of batches, each with its length and checksum before it. A batch is durable before its messages are
acknowledged. What a kill left unfinished at the end is cut off: it was not acknowledged, and comes again.

A message that comes again with the mark of a second delivery is known by its packet number, topic and payload, among those whose
acknowledgement the broker has not been seen to take.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

import msgspec

from loopline.errors import Conflict
from loopline.failpoints import failpoint
from loopline.ports.files import disk_errors, sync_folder, write_whole

_SEGMENT = 8 << 20
_HEAD = struct.Struct(">II")


class Message(NamedTuple):
    """A message as it came; without a topic it is a word of ours about what did not come."""

    packet: int
    topic: str
    payload: bytes
    time: int
    """When it came, in milliseconds since 1970."""
    trace: tuple[str, str] = ("", "")
    """What its publisher said of which trace it is: W3C traceparent and tracestate."""


class _Session(msgspec.Struct, frozen=True):
    client: str
    subscribed: bool


class _Batch(msgspec.Struct, array_like=True, frozen=True):
    first: int
    settled: bool
    """Whether the broker has taken the acknowledgements of all that is before this batch."""
    messages: list[Message]


class Spool:
    """The messages of one subscription, numbered from 1. `client` and `taken` are of the position that is read from.

    Raises `Conflict` (code "source-busy") where another process has it open.
    """

    def __init__(self, folder: Path, *, client: str = "", taken: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(self._lock)
            raise Conflict(
                "The same topics are being collected for the same dataset.",
                code="source-busy",
                hint="Wait until that is done.",
            ) from e
        self._open = True
        try:
            self._session = msgspec.json.decode((folder / "session.json").read_bytes(), type=_Session)
        except FileNotFoundError:
            known = client or f"loopline{secrets.token_hex(7)}"  # 22 letters and digits, which every broker takes
            self._session = _Session(known, subscribed=bool(client))
        self.last = taken
        """The number of the last message."""
        self._unsettled: dict[int, bytes] = {}
        self._recover()

    @property
    def client(self) -> str:
        """The name under which the broker keeps what comes."""
        return self._session.client

    @property
    def subscribed(self) -> bool:
        """Whether the broker has said that it keeps what comes."""
        return self._session.subscribed

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.stat().st_size for segment in self._segments())

    @property
    def unsettled(self) -> bool:
        """Whether some of its messages may come again, as far as is on record."""
        return bool(self._unsettled)

    def subscribe(self) -> None:
        """Puts on record that the broker keeps what comes from now on."""
        self._session = _Session(self.client, subscribed=True)
        write_whole(self._folder / "session.json", msgspec.json.encode(self._session), mode=0o600)

    def append(self, messages: Sequence[Message], *, settled: bool) -> None:
        """Keeps messages; they are durable when this returns."""
        body = msgspec.msgpack.encode(_Batch(self.last + 1, settled, list(messages)))
        segments = self._segments()
        new = not segments or segments[-1].stat().st_size >= _SEGMENT
        path = self._folder / f"{self.last + 1:020}.spool" if new else segments[-1]
        with disk_errors(path), open(path, "ab") as file:
            before = file.tell()
            try:
                failpoint("mqtt.spool.write")
                file.write(_HEAD.pack(len(body), zlib.crc32(body)) + body)
                file.flush()
                failpoint("mqtt.spool.before_sync")
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, before)
                raise
        if new:
            sync_folder(self._folder)
        failpoint("mqtt.spool.kept")
        self.last += len(messages)
        self._remember(messages, settled=settled)

    def known(self, message: Message) -> bool:
        """Whether a message that comes a second time is here already."""
        return self._unsettled.get(message.packet) == _digest(message)

    def behind(self, number: int) -> Iterator[tuple[int, Message]]:
        """The messages behind a number, each with its own."""
        segments = self._segments()
        for segment, later in zip_longest(segments, segments[1:]):
            if later is not None and _first(later) <= number + 1:
                continue
            for batch, _ in _batches(segment):
                for at, message in enumerate(batch.messages, batch.first):
                    if at > number:
                        yield at, message

    def forget(self, number: int) -> None:
        """Lets go of messages up to a number; the last two segments stay, for what may come again."""
        segments = self._segments()
        for segment, later in pairwise(segments[:-1]):
            if _first(later) <= number + 1:
                segment.unlink()

    def close(self) -> None:
        """Lets others have it."""
        if self._open:
            os.close(self._lock)
            self._open = False

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("*.spool"))

    def _recover(self) -> None:
        """Cuts off what was not finished, and finds out what may come again."""
        for segment in self._segments()[-2:]:
            whole = 0
            for batch, end in _batches(segment):
                self._remember(batch.messages, settled=batch.settled)
                self.last = max(self.last, batch.first + len(batch.messages) - 1)
                whole = end
            if segment.stat().st_size > whole:
                os.truncate(segment, whole)

    def _remember(self, messages: Sequence[Message], *, settled: bool) -> None:
        if settled:
            self._unsettled.clear()
        self._unsettled.update((one.packet, _digest(one)) for one in messages if one.packet)


def _digest(message: Message) -> bytes:
    topic = message.topic.encode()
    return blake2b(b"%d %s%s" % (len(topic), topic, message.payload), digest_size=16).digest()


def _batches(segment: Path) -> Iterator[tuple[_Batch, int]]:
    """The whole batches of a segment, each with where it ends."""
    with segment.open("rb") as file:
        end = 0
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            body = file.read(length)
            if len(body) < length or zlib.crc32(body) != checksum:
                return
            end += _HEAD.size + length
            yield msgspec.msgpack.decode(body, type=_Batch), end


def _first(segment: Path) -> int:
    return int(segment.stem)

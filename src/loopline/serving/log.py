"""The prediction log: what was answered is on file before the answer leaves.

A folder of append-only segments, several writers, each with its own open segment (held by flock). A segment is the magic line
and then frames: length (u32), crc32 (u32), payload (msgpack of `Frame`), little-endian; one frame a request. A frame that a
crash or a full disk cut off fails its crc; whoever opens the folder for writing truncates such a tail, whoever reads stops
before it. The text of rows and answers is stored as it was received and sent.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopline.errors import Invalid, NotFound
from loopline.failpoints import failpoint
from loopline.serving.records import Mode, PredictionRecord

MAGIC = b"loopline predictions 1\n"
SUFFIX = ".segment"
_HEAD = struct.Struct("<II")
_LARGEST = 1 << 30


class Part(msgspec.Struct, frozen=True, array_like=True):
    """The rows of a request that one variant answered; `rows` None: all of them."""

    model: str
    variant: str
    mode: Mode
    propensity: float
    rows: list[int] | None = None


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One request as it is on file. `sent` are the rows in the given `form`, `answered` a JSON list of predictions."""

    time_ms: int
    request: str
    endpoint: str
    parts: list[Part]
    status: int
    latency_us: int
    form: Literal["list", "object", "rows", "columns", "none"]
    sent: bytes
    answered: bytes
    route_keys: list[str | None] | str | None = None
    error: str = ""
    caller: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def encode(frame: Frame) -> bytes:
    """The frame's bytes on file."""
    payload = _encode(frame)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


class PredictionLog:
    """One writer. `append` is a single write(2); it raises OSError where the disk takes it not whole, and then nothing is kept."""

    def __init__(
        self, folder: Path, worker: int, *, segment_bytes: int, segment_age_ms: int, now: int, always_sync: bool = False
    ) -> None:
        self.folder = folder
        self.worker = worker
        self._bytes = segment_bytes
        self._age = segment_age_ms
        self._always = always_sync
        self.unsynced = False
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        recover(folder)
        self._open(now)

    def _open(self, now: int) -> None:
        # Names and the ids of predictions begin with the time, so that they sort by it.
        mark = secrets.token_hex(3)
        self.prefix = f"{now:011x}{self.worker:02x}{mark}-"
        self.path = self.folder / f"{now:013d}-{self.worker:02d}-{mark}{SUFFIX}"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._opened = now
        self._size = 0
        self._start = False

    def append(self, frames: list[bytes], now: int) -> None:
        """Writes the frames, all or none. With `always_sync` they are on the disk when this returns."""
        if self._size and (self._size >= self._bytes or now - self._opened >= self._age):
            self.rotate(now)
        data = b"".join(frames) if self._start else MAGIC + b"".join(frames)
        failpoint("serving.log.before_write")
        written = 0
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
            failpoint("serving.log.after_write")
            if self._always:
                os.fdatasync(self._fd)
        except OSError:
            if written:
                os.ftruncate(self._fd, self._size)
            raise
        self._start = True
        self._size += len(data)
        self.unsynced = True

    def sync(self) -> None:
        """Brings what was written to the disk itself; may be called from another thread than `append`."""
        self.unsynced = False
        fd = os.dup(self._fd)
        try:
            failpoint("serving.log.before_sync")
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def due(self, now: int) -> bool:
        """Whether the segment is old enough for the next one, and not empty."""
        return self._size > 0 and now - self._opened >= self._age

    def rotate(self, now: int) -> None:
        """Closes the segment and opens the next one."""
        old = self._fd
        failpoint("serving.log.before_rotate")
        os.fdatasync(old)
        self._open(max(now, self._opened + 1))
        os.close(old)

    def close(self) -> None:
        """Closes the segment; an empty one is removed."""
        if not self._size:
            self.path.unlink(missing_ok=True)
        else:
            failpoint("serving.log.before_close")
            os.fdatasync(self._fd)
        os.close(self._fd)


def segments(folder: Path) -> list[Path]:
    """All segments of a folder, the oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def is_open(path: Path) -> bool:
    """Whether a writer still holds this segment: it may grow."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def recover(folder: Path) -> list[Path]:
    """Truncates the torn tails that dead writers left; gives the segments that had one. Living writers' are not touched."""
    mended = []
    for path in segments(folder):
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            size = os.fstat(file.fileno()).st_size
            end = _end(file.read())
            if end == 0:
                path.unlink()  # not one whole frame was written
                mended += [path] if size else []
            elif end < size:
                failpoint("serving.log.before_truncate")
                os.ftruncate(file.fileno(), end)
                mended.append(path)
    return mended


def _end(data: bytes) -> int:
    """Where the last whole frame ends; 0 where there is none."""
    if not data.startswith(MAGIC):
        return 0
    end = 0
    for end, _ in _payloads(data, len(MAGIC)):  # noqa: B007 - the last one counts
        pass
    return end


def _payloads(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The whole frames' payloads from an offset on, each with the offset after it."""
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        if length > _LARGEST or end > len(data):
            return
        payload = data[at + _HEAD.size : end]
        if zlib.crc32(payload) != crc:
            return
        yield end, payload
        at = end


def read_frames(path: Path, offset: int = 0, limit: int = 64 << 20) -> tuple[list[Frame], int]:
    """The whole frames from `offset` on (at most about `limit` bytes), and the offset to go on from. Raises `NotFound`."""
    try:
        with path.open("rb") as file:
            if offset == 0:
                magic = file.read(len(MAGIC))
                if magic != MAGIC:
                    if MAGIC.startswith(magic):
                        return [], 0
                    raise Invalid(f"{path} is not a segment of a prediction log.", code="bad-segment")
                offset = len(MAGIC)
            file.seek(offset)
            data = file.read(limit)
            if len(data) == limit:  # a frame that is larger than the limit is read all the same
                (length,) = struct.unpack_from("<I", data)
                if length + _HEAD.size > limit and length <= _LARGEST:
                    data += file.read(length + _HEAD.size - limit)
    except FileNotFoundError as e:
        raise NotFound(f"There is no segment {path}.", code="no-segment") from e
    frames, end = [], 0
    for end, payload in _payloads(data, 0):  # noqa: B007 - the last one is the offset
        frames.append(_decode(payload))
    return frames, offset + end


def read_segment(path: Path, offset: int = 0, limit: int = 64 << 20) -> tuple[list[PredictionRecord], int]:
    """The predictions from `offset` on, one record a row, and the offset to go on from (give it back to read what came since).

    At most about `limit` bytes are read; the end is reached when no record is given. Raises `NotFound`, `Invalid`.
    """
    frames, end = read_frames(path, offset, limit)
    return [record for frame in frames for record in records(frame)], end


def records(frame: Frame) -> list[PredictionRecord]:
    """The records of one request."""
    shared: dict[str, Any] = {
        "request": frame.request,
        "time_ms": frame.time_ms,
        "endpoint": frame.endpoint,
        "latency_us": frame.latency_us,
        "status": frame.status,
        "error": frame.error,
        "caller": frame.caller,
    }
    if frame.status >= 400:
        part = frame.parts[0] if frame.parts else Part("", "", "live", 1.0)
        return [PredictionRecord(id=frame.request, model=part.model, variant=part.variant, mode=part.mode, **shared)]
    answers = msgspec.json.decode(frame.answered)
    rows = _rows(frame, len(answers))
    parts: list[Part] = [frame.parts[0]] * len(answers)
    for part in frame.parts:
        for n in part.rows or ():
            parts[n] = part
    keys = frame.route_keys if isinstance(frame.route_keys, list) else [frame.route_keys] * len(answers)
    found = []
    for answer, row, part, key in zip(answers, rows, parts, keys, strict=True):
        answer.pop("model", None)
        answer.pop("variant", None)
        found.append(
            PredictionRecord(
                id=answer.pop("id"),
                model=part.model,
                variant=part.variant,
                mode=part.mode,
                propensity=part.propensity,
                route_key=key,
                row=row,
                output=answer,
                **shared,
            )
        )
    return found


def _rows(frame: Frame, n: int) -> list[dict[str, Any] | None]:
    if frame.form == "none":
        return [None] * n
    if frame.form == "columns":
        columns = msgspec.msgpack.decode(frame.sent)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    try:
        sent = msgspec.json.decode(frame.sent)
    except (msgspec.DecodeError, RecursionError):
        return [None] * n  # one request that cannot be read any more must not hide all those after it
    rows: list[dict[str, Any] | None] = (
        [sent] if frame.form == "object" else sent["rows"] if frame.form == "rows" else sent
    )
    return rows


def read_on(folder: Path, offsets: dict[str, int]) -> Iterator[tuple[str, int, list[PredictionRecord]]]:
    """What came since in all segments of a folder: (segment's name, the offset after it, records); nothing where nothing came."""
    for path in segments(folder):
        offset = offsets.get(path.name, 0)
        while True:
            try:
                found, end = read_segment(path, offset)
            except NotFound:  # it was removed since, so all of it was read before
                break
            if not found:
                break
            yield path.name, end, found
            offset = end


def remove_read(folder: Path, offsets: dict[str, int], before: int) -> list[str]:
    """Removes the segments that were begun before a moment, are closed, and were read to their end (`offsets`); gives their names.

    Whoever keeps the offsets forgets those after that, and not before: a segment without one is read from its start.
    """
    gone = []
    for path in segments(folder):
        begun = int(path.name.partition("-")[0])
        if begun < before and not is_open(path) and offsets.get(path.name) == path.stat().st_size:
            failpoint("serving.log.before_remove")
            path.unlink()
            gone.append(path.name)
    return gone

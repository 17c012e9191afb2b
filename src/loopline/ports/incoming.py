"""A body on its way into a file: hashed, and on its way to the disk, while more of it comes."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from loopline.errors import Unavailable
from loopline.failpoints import failpoint

DIGEST_LENGTH = 71
"""Characters of a digest."""
_PIECE = 1 << 20
_BATCH = 8 << 20
"""Bytes after which the disk is to begin with them, so that little is left to do for whoever syncs the file."""
_BEGIN = 2  # SYNC_FILE_RANGE_WRITE


class Incoming:
    """A new file, read-only for all others, that takes a body piece by piece and is gone at the end of its block.

    One piece is written, in a thread, while the next comes; no more than the two are in memory. Raises `Unavailable` (code
    "disk-full").
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = blake3()
        self._held: list[bytes] = []
        self._size = 0
        self._file_size = self._begun = 0
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Incoming:
        with _full():
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing})
        await asyncio.to_thread(self._leave)

    async def add(self, piece: bytes) -> None:
        """Takes the next bytes."""
        self._held.append(piece)
        self._size += len(piece)
        if self._size >= _PIECE:
            await self._written()
            self._begin()

    async def end(self) -> str:
        """The digest of all bytes, which are in the file then (and not on the disk for sure)."""
        await self._written()
        self._begin()
        await self._written()
        return f"blake3:{self._state.hexdigest()}"

    def _begin(self) -> None:
        """Has a thread write what is at hand."""
        pieces, self._held, self._size = self._held, [], 0
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, pieces)

    async def _written(self) -> None:
        if self._writing is not None:
            with _full():
                await asyncio.shield(self._writing)

    def _write(self, pieces: list[bytes]) -> None:
        failpoint("incoming.add.write")
        for piece in pieces:
            self._state.update(piece)
            rest = memoryview(piece)
            while rest:  # a write may take a part only
                rest = rest[os.write(self._file, rest) :]
            self._file_size += len(piece)
        if self._file_size - self._begun >= _BATCH:
            _begin_sync(self._file, self._begun, self._file_size - self._begun)
            self._begun = self._file_size

    def _leave(self) -> None:
        os.close(self._file)
        self.path.unlink(missing_ok=True)  # which takes its time, where the disk is at work on it


def _begin_sync(descriptor: int, start: int, length: int) -> None:
    """Has the system begin to write a part of a file to its disk, where it can be asked to. Nothing depends on it."""
    begin = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if begin is not None:
        begin(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), _BEGIN)


def sweep(folder: Path) -> None:
    """Makes the folder for incoming bodies and removes what processes left that were killed: names begin with their numbers."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        number = path.name.partition("-")[0]
        if number.isdecimal() and not _alive(int(number)):
            path.unlink(missing_ok=True)


@contextmanager
def _full() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable(
            "The disk is full, and the body was not taken.", code="disk-full", hint="Free some space and send it again."
        ) from e


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

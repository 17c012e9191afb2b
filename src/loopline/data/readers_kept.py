"""Blocks of a table that were made at some cost and are read again: a few in memory, more in a file that has no name."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa

from loopline.data.readers_packed import Content, mapped, release
from loopline.ports.files import disk_errors

_IN_MEMORY = 16 << 20
_AT_WORK = 8  # blocks that were handed on and may still be written by other threads


class Kept:
    """Blocks in the order in which they were handed in, all of the same columns, whose types may differ.

    `scratch` is the folder where the file lies, which is gone with the last that reads it.
    """

    def __init__(self, scratch: Path | None) -> None:
        self._folder = scratch or Path(tempfile.gettempdir())
        self._bytes = 0
        self._frames: list[pl.DataFrame] = []
        self._numbers: dict[str, int] = {}
        self._file: IO[bytes] | None = None
        self._places: list[tuple[int, int]] = []
        self._mapped: Content = b""

    def __len__(self) -> int:
        return len(self._frames) + len(self._places)

    def add(self, block: pl.DataFrame) -> None:
        """Keeps a block. Raises `Unavailable` (code "disk-full") where there is no space."""
        self._bytes += int(block.estimated_size())
        if self._bytes <= _IN_MEMORY:
            self._frames.append(block)
            return
        self._numbers = {name: number for number, name in enumerate(block.columns)}
        # By numbers: a name with a NUL is none to Arrow.
        numbered = block.rename({name: str(number) for name, number in self._numbers.items()})
        table = numbered.to_arrow(compat_level=pl.CompatLevel.newest())
        with disk_errors(self._folder):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - as long as it is read
                weakref.finalize(self, self._file.close)
            start = self._file.tell()
            with pa.ipc.new_stream(pa.PythonFile(self._file, "w"), table.schema) as out:
                out.write_table(table)
            self._file.flush()
        self._places.append((start, self._file.tell()))

    def read(self, place: int, names: Sequence[str]) -> pl.DataFrame:
        """Some columns of a block, by its number from 0. What is in the file stays there, and `release` lets go of it."""
        if place < len(self._frames):
            return self._frames[place].select(names)
        start, end = self._places[place - len(self._frames)]
        if self._file is not None and len(self._mapped) < end:
            self._mapped = mapped(self._file.fileno())
        part = pa.py_buffer(memoryview(self._mapped)[start:end])
        fields = {name: self._numbers[name] for name in names}
        with pa.ipc.open_stream(part, options=pa.ipc.IpcReadOptions(included_fields=list(fields.values()))) as some:
            found = pl.DataFrame(pl.from_arrow(some.read_all()))
        return found.select(pl.col(str(number)).alias(name) for name, number in fields.items())

    def release(self, place: int) -> None:
        """Lets go of the memory that a block was read to, and the few before it: what still worked on them has read them again."""
        last = place - len(self._frames)
        if last >= 0:
            release(self._mapped, self._places[max(0, last - _AT_WORK)][0], self._places[last][1])

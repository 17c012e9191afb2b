"""Rows put aside on the disk, in files that have no name: too large for memory, or made at some cost and read again."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa

from loopline.data.readers_packed import Content, mapped, release
from loopline.ports.files import disk_errors
from loopline.quality.blocks import Blocks

WHERE_THEY_LIE = 16
"""So many tables are read where they lie."""
_IN_MEMORY = 16 << 20
_AT_WORK = 8  # blocks that were handed on and may still be written by other threads


class Spool:
    """Blocks in the order in which they were handed in, all of the same columns, whose types may differ.

    The first `share`th of 16 MiB stay in memory; the others lie in a file in the folder `scratch`, which is gone with the last that
    reads it.
    """

    def __init__(self, scratch: Path | None, share: int = 1) -> None:
        self._folder = scratch or Path(tempfile.gettempdir())
        self._left = _IN_MEMORY // share
        self._height = 0
        self._frames: list[pl.DataFrame] = []
        self._columns: list[str] = []
        self._file: IO[bytes] | None = None
        self._places: list[tuple[int, int]] = []
        self._mapped: Content = b""

    def __len__(self) -> int:
        return len(self._frames) + len(self._places)

    def add(self, block: pl.DataFrame) -> None:
        """Puts a block behind the others. Raises `Unavailable` (code "disk-full") where there is no space."""
        self._height += block.height
        self._left -= int(block.estimated_size())
        if self._left >= 0:
            self._frames.append(block)
            return
        self._columns = block.columns
        table = block.to_arrow(compat_level=pl.CompatLevel.newest())
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
        options = pa.ipc.IpcReadOptions(included_fields=[self._columns.index(name) for name in names])
        with pa.ipc.open_stream(part, options=options) as some:
            return pl.DataFrame(pl.from_arrow(some.read_all())).select(names)

    def release(self, place: int) -> None:
        """Lets go of the memory that a block was read to, and the few before it: what still worked on them has read them again."""
        last = place - len(self._frames)
        if last >= 0:
            release(self._mapped, self._places[max(0, last - _AT_WORK)][0], self._places[last][1])

    def blocks(self, schema: pl.Schema) -> Blocks:
        """The rows of all blocks, which are of this schema; no more can be added."""
        return self.part(range(len(self)), schema, self._height)

    def part(self, places: range, schema: pl.Schema, height: int, nulls: Mapping[str, int] | None = None) -> Blocks:
        """The rows of some blocks, which are of this schema."""

        def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
            for place in places:
                yield self.read(place, names)
                self.release(place)

        return Blocks(schema, height, read, nulls)


def spooled(frames: Iterable[pl.DataFrame], schema: pl.Schema, scratch: Path | None) -> Blocks:
    """The rows of frames of one schema, put aside."""
    spool = Spool(scratch)
    for frame in frames:
        spool.add(frame)
    return spool.blocks(schema)


class Aside:
    """Tables put aside: however many they are, as few files are open as there are sets of columns among them.

    A table that is read where it lies holds its file open, and a process may hold a thousand: the first few may lie.
    """

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._spools: dict[tuple[str, ...], Spool] = {}
        self._lying = 0

    def behind_few(self, rows: Blocks) -> Blocks:
        """The same rows: of the first tables where they lie, of those behind them put aside."""
        self._lying += 1
        return rows if self._lying <= WHERE_THEY_LIE else self.put(rows)

    def put(self, rows: Blocks) -> Blocks:
        """The same rows, read once. Raises `Unavailable` (code "disk-full") where there is no space."""
        spool = self._spools.setdefault(tuple(rows.columns), Spool(self._scratch))
        first = len(spool)
        for block in rows:
            spool.add(block)
        return spool.part(range(first, len(spool)), rows.schema, rows.height, rows.nulls)

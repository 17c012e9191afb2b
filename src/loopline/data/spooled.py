"""Rows put aside on the disk, in files that have no name: what is too large for memory, and is not kept."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import polars as pl
import pyarrow as pa

from loopline.data.readers_arrow import arrow_rows
from loopline.data.readers_kept import Kept
from loopline.data.readers_packed import mapped
from loopline.ports.files import disk_errors
from loopline.quality.blocks import Blocks


class Spools:
    """So many files in `scratch` for rows of one schema. Raises `Unavailable` (code "disk-full") where there is no space."""

    def __init__(self, schema: pl.Schema, count: int, scratch: Path | None) -> None:
        self._schema = schema
        self._heights = [0] * count
        self._folder = scratch or Path(tempfile.gettempdir())
        self._stack = contextlib.ExitStack()
        kinds = pl.DataFrame(schema=schema).to_arrow().schema
        with disk_errors(self._folder):
            made = (tempfile.TemporaryFile(dir=self._folder) for _ in range(count))  # noqa: SIM115 - the stack closes them
            self._files = [self._stack.enter_context(file) for file in made]
            self._writers = [pa.ipc.new_file(file, kinds) for file in self._files]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, number: int, rows: pl.DataFrame) -> None:
        """Puts rows behind those of a file, to be read as a block of their own."""
        with disk_errors(self._folder):
            self._writers[number].write_table(rows.to_arrow())
        self._heights[number] += rows.height

    def blocks(self) -> list[Blocks]:
        """The rows of each file, which is there as long as they are; no more can be added."""
        found = []
        for file, writer, height in zip(self._files, self._writers, self._heights, strict=True):
            with disk_errors(self._folder):
                writer.close()
                file.flush()
            found.append(arrow_rows(mapped(file.fileno()), self._schema, height, "what was put aside"))
        return found


def spooled(frames: Iterable[pl.DataFrame], schema: pl.Schema, scratch: Path | None) -> Blocks:
    """The rows of frames of one schema, in one such file."""
    with Spools(schema, 1, scratch) as spools:
        for frame in frames:
            spools.add(0, frame)
        return spools.blocks()[0]


class Aside:
    """Tables put aside: however many they are, as few files are open as there are sets of columns among them.

    A table that is read where it lies holds its file open, and a process may hold a thousand. What is small stays in memory.
    """

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._kept: dict[tuple[str, ...], Kept] = {}

    def put(self, rows: Blocks) -> Blocks:
        """The same rows, read once. Raises `Unavailable` (code "disk-full") where there is no space."""
        kept = self._kept.setdefault(tuple(rows.columns), Kept(self._scratch))
        first = len(kept)
        for block in rows:
            kept.add(block)
        places = range(first, len(kept))

        def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
            for place in places:
                yield kept.read(place, names)
                kept.release(place)

        return Blocks(rows.schema, rows.height, read, rows.nulls)

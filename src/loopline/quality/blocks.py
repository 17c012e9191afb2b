"""A table that is read one block of rows after the other, as often as it is asked for: what is in memory is one block.

A small table is one block. What is made of a table's rows one by one is made of each block; what is asked of all rows together
reads the columns that it needs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import polars as pl

_Piece = TypeVar("_Piece")


class Blocks:
    """The rows of a table in order. `read` gives them anew each time, of some of the columns, in frames of the same schema."""

    def __init__(
        self,
        schema: pl.Schema,
        height: int,
        read: Callable[[Sequence[str]], Iterator[pl.DataFrame]],
        nulls: Mapping[str, int] | None = None,
    ) -> None:
        self.schema = schema
        self.height = height
        self._read = read
        self._nulls = nulls

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Blocks:
        """A frame that is in memory anyway, as one block."""
        return cls(frame.schema, frame.height, lambda names: iter([frame.select(names)]))

    @classmethod
    def chained(cls, tables: Sequence[Blocks]) -> Blocks:
        """The rows of tables of the same schema, one behind the other."""

        def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
            for table in tables:
                yield from table._read(names)

        return cls(tables[0].schema, sum(table.height for table in tables), read)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return self.schema.names()

    @property
    def nulls(self) -> Mapping[str, int]:
        """How many values each column lacks."""
        if self._nulls is None:
            counts = dict.fromkeys(self.columns, 0)
            for block in self:
                for name, count in block.null_count().row(0, named=True).items():
                    counts[name] += count
            self._nulls = counts
        return self._nulls

    @property
    def empty(self) -> pl.DataFrame:
        """A frame of the columns, without rows."""
        return pl.DataFrame(schema=self.schema)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self._read(self.columns)

    def only(self, names: Sequence[str]) -> Blocks:
        """Some of the columns."""
        kept = list(names)
        return Blocks(pl.Schema({name: self.schema[name] for name in kept}), self.height, lambda n: self._read(n))

    def frame(self) -> pl.DataFrame:
        """All rows at once, in memory."""
        whole: pl.DataFrame = pl.concat([self.empty, *self], rechunk=True)
        return whole

    def mapped(self, make: Callable[[pl.DataFrame], pl.DataFrame]) -> Blocks:
        """What is made of each block, row for row."""

        def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
            return (make(block).select(names) for block in self)

        return Blocks(make(self.empty).schema, self.height, read)

    def filtered(self, mask: pl.Series) -> Blocks:
        """The rows at which a mask as long as the table is true."""

        def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
            start = 0
            for block in self._read(names):
                yield block.filter(mask.slice(start, block.height))
                start += block.height

        return Blocks(self.schema, int(mask.sum()), read)

    def behind(self, first: Blocks) -> Blocks:
        """The rows behind those of another table of the same schema."""
        return Blocks.chained([first, self])

    def rows(self, places: Sequence[int]) -> pl.DataFrame:
        """Some rows by their numbers (from 0), in that order."""
        found, start = [self.empty], 0
        wanted = sorted(set(places))
        for block in self if wanted else ():
            here = [place - start for place in wanted if start <= place < start + block.height]
            found.append(block[here])
            start += block.height
            if start > wanted[-1]:
                break
        order = {place: number for number, place in enumerate(wanted)}
        return pl.concat(found)[[order[place] for place in places]]


def ipc_stream(frame: pl.DataFrame) -> bytes:
    """A frame as an Arrow IPC stream."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()


def ahead(pieces: Iterator[_Piece], thread: Executor) -> Iterator[_Piece]:
    """The same pieces; while one is worked on, the next is made in a thread."""
    coming = thread.submit(next, pieces, None)
    while (piece := coming.result()) is not None:
        coming = thread.submit(next, pieces, None)
        yield piece

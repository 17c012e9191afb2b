"""Arrow IPC, a file or a stream: how much its messages unpack to is read from them first, then pyarrow reads and checks them.

What is not packed is read from the mapped file some rows at a time; a packed batch is unpacked at once. The messages and the footer
are those of the Arrow columnar format, "Serialization and Interprocess Communication".
"""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from loopline.data.readers_packed import LARGEST, Content, bound, release
from loopline.data.readers_types import check_names
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks

_FILE = b"ARROW1"
_TAIL = 4 + len(_FILE)  # behind the footer: its length, and the mark again
_DICTIONARY, _BATCH = 2, 3
_ROWS = 1 << 17


class _Said(NamedTuple):
    """What the messages of a file say: bytes of their buffers once unpacked, values, rows."""

    size: int
    cells: int
    rows: int


def read_arrow(content: Content, called: str) -> Blocks:
    """The rows of an Arrow IPC file or stream. Raises `Invalid` for one that is damaged, cut off or a bomb."""
    data = pa.py_buffer(content)
    whole = content[: len(_FILE)] == _FILE
    with _damaged(called):
        said = _said(content, _in_footer(data) if whole else pa.ipc.MessageReader.open_stream(data))
        if said.size > bound(len(content)) or 8 * said.cells > LARGEST:
            raise Invalid(
                f"{called} unpacks to {max(said.size, 8 * said.cells) >> 20:,} MiB, from {len(content):,} bytes.",
                code="table-large",
                hint="Give it in parts, or as Parquet.",
            )
        with (pa.ipc.open_file if whole else pa.ipc.open_stream)(data) as opened:
            check_names(opened.schema.names, called)
            empty = pl.DataFrame(pl.from_arrow(opened.schema.empty_table()))
    return arrow_rows(content, empty.schema, said.rows, called)


def arrow_rows(content: Content, schema: pl.Schema, height: int, called: str) -> Blocks:
    """The rows of an Arrow IPC file or stream of which it is known already what it holds."""
    data = pa.py_buffer(content)
    whole = content[: len(_FILE)] == _FILE

    def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
        for batch in _batches(data, called, whole=whole):
            for start in range(0, batch.num_rows, _ROWS):
                with _damaged(called):
                    rows = batch.slice(start, _ROWS).select(list(names))
                    rows.validate(full=True)  # offsets that point elsewhere would read memory that is not the table's
                    frame = pl.DataFrame(pl.from_arrow(rows))
                yield frame
                release(content, 0, len(content))

    return Blocks(schema, height, read)


def _batches(data: pa.Buffer, called: str, *, whole: bool) -> Iterator[pa.RecordBatch]:
    with _damaged(called):
        opened = (pa.ipc.open_file if whole else pa.ipc.open_stream)(data)
    with opened:
        for number in range(opened.num_record_batches) if whole else itertools.count():
            with _damaged(called):
                try:
                    batch = opened.get_batch(number) if whole else opened.read_next_batch()
                except StopIteration:
                    return
            yield batch


@contextlib.contextmanager
def _damaged(called: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, IndexError,
            struct.error) as error:  # fmt: skip
        raise Invalid(
            f"{called} is an Arrow file, but damaged or cut off: {str(error).partition(chr(10))[0]}.",
            code="table-damaged",
            hint="Copy it again, or write it again.",
        ) from error


def _in_footer(data: pa.Buffer) -> Iterator[Any]:
    """The messages of a file, where its footer says that they are."""
    length = struct.unpack_from("<i", data, data.size - _TAIL)[0]
    if not 0 < length <= data.size - _TAIL:
        raise ValueError("its footer is longer than the file")
    footer = _Table.root(data.slice(data.size - _TAIL - length, length).to_pybytes())
    for blocks in (2, 3):  # dictionaries, record batches
        for offset, head, body in footer.structs(blocks, "<qi4xq"):
            if min(offset, head, body) < 0 or offset + head + body > data.size:
                raise ValueError("its footer points beyond its end")
            yield pa.ipc.read_message(data.slice(offset))


def _said(content: Content, messages: Iterable[Any]) -> _Said:
    size = cells = rows = 0
    for message in messages:
        said = _Table.root(message.metadata.to_pybytes())
        kind = said.number(1, "B")
        if kind not in (_DICTIONARY, _BATCH):
            continue
        batch = said.table(2)
        batch = batch.table(1) if kind == _DICTIONARY and batch is not None else batch
        if batch is None:
            raise ValueError("a message has no batch")
        rows += batch.number(0, "q") if kind == _BATCH else 0
        cells += batch.number(0, "q") * max(1, batch.length(1))
        packed = batch.table(3) is not None
        for offset, length in batch.structs(2, "<qq"):
            if offset < 0 or length < 0 or offset + length > message.body.size:
                raise ValueError("a buffer lies beyond its message")
            # A packed buffer begins with its size unpacked, or -1 where it is as it was.
            told = struct.unpack_from("<q", message.body, offset)[0] if packed and length >= 8 else -1
            size += length if told < 0 else told
        release(content, 0, len(content))
    return _Said(size, cells, rows)


class _Table:
    """A table of a FlatBuffers message: fields by number, each found through the table of offsets before it."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self._place = place
        self._fields = place - struct.unpack_from("<i", data, place)[0]

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _at(self, field: int) -> int | None:
        if self._fields < 0:
            raise ValueError("a message points before its beginning")
        if 4 + 2 * field >= struct.unpack_from("<H", self._data, self._fields)[0]:
            return None
        offset = struct.unpack_from("<H", self._data, self._fields + 4 + 2 * field)[0]
        return self._place + offset if offset else None

    def number(self, field: int, form: str) -> int:
        place = self._at(field)
        return 0 if place is None else int(struct.unpack_from(f"<{form}", self._data, place)[0])

    def table(self, field: int) -> _Table | None:
        place = self._at(field)
        return None if place is None else _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])

    def length(self, field: int) -> int:
        place = self._at(field)
        if place is None:
            return 0
        return int(struct.unpack_from("<I", self._data, place + struct.unpack_from("<I", self._data, place)[0])[0])

    def structs(self, field: int, form: str) -> Iterator[tuple[int, ...]]:
        place = self._at(field)
        if place is None:
            return iter(())
        start = place + struct.unpack_from("<I", self._data, place)[0] + 4
        return struct.iter_unpack(form, self._data[start : start + struct.calcsize(form) * self.length(field)])

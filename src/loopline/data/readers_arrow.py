"""Arrow IPC, a file or a stream: how much its messages unpack to is read from them first, then pyarrow reads and checks them.

The messages and the footer are those of the Arrow columnar format, "Serialization and Interprocess Communication".
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa

from loopline.data.readers_packed import LARGEST, bound
from loopline.data.readers_types import check_names
from loopline.errors import Invalid

_FILE = b"ARROW1"
_TAIL = 4 + len(_FILE)  # behind the footer: its length, and the mark again
_DICTIONARY, _BATCH = 2, 3


def read_arrow(content: bytes | mmap.mmap, called: str) -> pl.DataFrame:
    """The frame of an Arrow IPC file or stream. Raises `Invalid` for one that is damaged, cut off or a bomb."""
    data = pa.py_buffer(bytes(content))
    whole = content[: len(_FILE)] == _FILE
    try:
        size, cells = _sizes(_in_footer(data) if whole else pa.ipc.MessageReader.open_stream(data))
        if size > bound(len(content)) or 8 * cells > LARGEST:
            raise Invalid(
                f"{called} unpacks to {max(size, 8 * cells) >> 20:,} MiB, from {len(content):,} bytes.",
                code="table-large",
                hint="Give it in parts, or as Parquet.",
            )
        with (pa.ipc.open_file if whole else pa.ipc.open_stream)(data) as opened:
            check_names(opened.schema.names, called)
            table = opened.read_all()
        table.validate(full=True)  # offsets that point elsewhere would read memory that is not the table's
        frame = pl.from_arrow(table)
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, IndexError,
            struct.error) as error:  # fmt: skip
        raise Invalid(
            f"{called} is an Arrow file, but damaged or cut off: {str(error).partition(chr(10))[0]}.",
            code="table-damaged",
            hint="Copy it again, or write it again.",
        ) from error
    assert isinstance(frame, pl.DataFrame)
    return frame


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


def _sizes(messages: Iterable[Any]) -> tuple[int, int]:
    """How many bytes the buffers of all messages are, unpacked, and how many values they are said to hold."""
    size = cells = 0
    for message in messages:
        said = _Table.root(message.metadata.to_pybytes())
        kind = said.number(1, "B")
        if kind not in (_DICTIONARY, _BATCH):
            continue
        batch = said.table(2)
        batch = batch.table(1) if kind == _DICTIONARY and batch is not None else batch
        if batch is None:
            raise ValueError("a message has no batch")
        cells += batch.number(0, "q") * max(1, batch.length(1))
        packed = batch.table(3) is not None
        for offset, length in batch.structs(2, "<qq"):
            if offset < 0 or length < 0 or offset + length > message.body.size:
                raise ValueError("a buffer lies beyond its message")
            # A packed buffer begins with its size unpacked, or -1 where it is as it was.
            told = struct.unpack_from("<q", message.body, offset)[0] if packed and length >= 8 else -1
            size += length if told < 0 else told
    return size, cells


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

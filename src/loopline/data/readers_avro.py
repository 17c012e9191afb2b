"""Avro: its blocks walked first (sizes, marks, counts), then read by polars, some at a time, and held against their counts.

The container format is that of the Avro specification 1.11, "Object Container Files".
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from loopline.data.readers_packed import LARGEST, Content, bound, release
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks

_MARK = 16
_MOST_ENTRIES = 10_000
_PIECE = 16 << 20  # bytes, unpacked, that are read at once; a block of the file that is larger is


class _Walked(NamedTuple):
    """The header of a file, and where blocks begin and end that are read at once, with the rows that they count."""

    header: bytes
    pieces: list[tuple[int, int, int]]


def read_avro(content: Content, called: str) -> Blocks:
    """The rows of an Avro file. Raises `Invalid` for one that is damaged, cut off or a bomb, with the offset of the block."""
    header, pieces = _walked(content, called)

    def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
        for start, end, rows in pieces:
            with _unread(called):
                frame = pl.read_avro(io.BytesIO(header + content[start:end]), columns=list(names)).select(names)
            release(content, start, end)
            if frame.height != rows:
                raise Invalid(
                    f"{called} is an Avro file that says it has {rows:,} rows from offset {start:,} on, and {frame.height:,} were "
                    "found.",
                    code="table-damaged",
                    hint="Copy it again, or write it again.",
                )
            yield frame

    with _unread(called):
        first, end, _ = pieces[0] if pieces else (0, 0, 0)
        schema = pl.read_avro(io.BytesIO(header + content[first:end]), n_rows=1).schema
    return Blocks(schema, sum(rows for _, _, rows in pieces), read)


@contextlib.contextmanager
def _unread(called: str) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise Invalid(
            f"{called} is an Avro file whose rows cannot be read: {str(error).partition(chr(10))[0]}.",
            code="table-damaged",
            hint="A row is a record of plain values (a union is of null and one type); write others as NDJSON or Parquet.",
        ) from error


def _walked(data: Content, called: str) -> _Walked:
    """What the blocks of the file say of themselves."""
    place, size = 4, len(data)
    try:
        header, place = _header(data, place)
        codec = header.get(b"avro.codec", b"null").decode("ascii", "replace")
        mark, place = data[place : place + _MARK], place + _MARK
        head, pieces = data[:place], list[tuple[int, int, int]]()
        rows = unpacked = 0
        first, held, before = place, 0, 0  # of the piece that is not full yet
        while place < size:
            began = place
            count, place = _long(data, place)
            length, place = _long(data, place)
            end = place + length
            if count < 0 or length < 0 or end + _MARK > size:
                raise _damaged(called, f"the block at offset {began:,} reaches beyond its end")
            if data[end : end + _MARK] != mark:
                raise _damaged(called, f"the block at offset {began:,} does not end with the file's sync marker")
            unpacked += _size(data[place:end], codec, bound(size) - unpacked + 1)
            rows += count
            # A value takes a byte at the least, but for one that is always null.
            if unpacked > bound(size) or count > max(unpacked, 1 << 20) or 8 * rows > LARGEST:
                raise Invalid(
                    f"{called} unpacks to more than {bound(size) >> 20:,} MiB, from {size:,} bytes.",
                    code="table-large",
                    hint="Give it in parts, or as Parquet.",
                )
            place = end + _MARK
            if unpacked - held >= _PIECE or place == size:
                pieces.append((first, place, rows - before))
                release(data, first, place)
                first, held, before = place, unpacked, rows
    except (IndexError, zlib.error) as error:
        raise _damaged(called, f"it breaks off or is broken around offset {place:,}") from error
    return _Walked(head, pieces)


def _header(data: Content, place: int) -> tuple[dict[bytes, bytes], int]:
    found: dict[bytes, bytes] = {}
    while True:
        count, place = _long(data, place)
        if count == 0:
            return found, place
        if count < 0:  # then the block's size follows
            count, (_, place) = -count, _long(data, place)
        if count > _MOST_ENTRIES:
            raise IndexError
        for _ in range(count):
            key, place = _bytes(data, place)
            found[key], place = _bytes(data, place)


def _bytes(data: Content, place: int) -> tuple[bytes, int]:
    size, place = _long(data, place)
    if size < 0 or place + size > len(data):
        raise IndexError
    return data[place : place + size], place + size


def _long(data: Content, place: int) -> tuple[int, int]:
    """A number in zig-zag form, seven bits a byte."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), place
    raise IndexError


def _size(block: bytes, codec: str, most: int) -> int:
    """How many bytes a block unpacks to; at most `most` are unpacked for it."""
    if codec == "deflate":
        return len(zlib.decompressobj(-15).decompress(block, most))
    if codec == "snappy":  # says it first, seven bits a byte
        value = 0
        for shift in range(0, 35, 7):
            value |= (block[shift // 7] & 0x7F) << shift
            if block[shift // 7] < 0x80:
                break
        return value
    return len(block)


def _damaged(called: str, what: str) -> Invalid:
    return Invalid(
        f"{called} is an Avro file, but damaged: {what}.",
        code="table-damaged",
        hint="Copy it again, or write it again.",
    )

"""Avro: its blocks walked first (their sizes, marks and counts), then read by polars and held against what they counted.

The container format is that of the Avro specification 1.11, "Object Container Files".
"""

from __future__ import annotations

import io
import mmap
import zlib

import polars as pl

from loopline.data.readers_packed import LARGEST, bound
from loopline.errors import Invalid

_MARK = 16
_MOST_ENTRIES = 10_000


def read_avro(content: bytes | mmap.mmap, called: str) -> pl.DataFrame:
    """The frame of an Avro file. Raises `Invalid` for one that is damaged, cut off or a bomb, with the offset of the block."""
    data = bytes(content)
    rows = _walked(data, called)
    try:
        frame = pl.read_avro(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise Invalid(
            f"{called} is an Avro file whose rows cannot be read: {str(error).partition(chr(10))[0]}.",
            code="table-damaged",
            hint="A row is a record of plain values (a union is of null and one type); write others as NDJSON or Parquet.",
        ) from error
    if frame.height != rows:
        raise Invalid(
            f"{called} is an Avro file that says it has {rows:,} rows, and {frame.height:,} were found.",
            code="table-damaged",
            hint="Copy it again, or write it again.",
        )
    return frame


def _walked(data: bytes, called: str) -> int:
    """How many rows the blocks of the file count."""
    place = 4
    try:
        header, place = _header(data, place)
        codec = header.get(b"avro.codec", b"null").decode("ascii", "replace")
        mark, place = data[place : place + _MARK], place + _MARK
        rows = unpacked = 0
        while place < len(data):
            began = place
            count, place = _long(data, place)
            size, place = _long(data, place)
            end = place + size
            if count < 0 or size < 0 or end + _MARK > len(data):
                raise _damaged(called, f"the block at offset {began:,} reaches beyond its end")
            if data[end : end + _MARK] != mark:
                raise _damaged(called, f"the block at offset {began:,} does not end with the file's sync marker")
            unpacked += _size(data[place:end], codec, bound(len(data)) - unpacked + 1)
            rows += count
            # A value takes a byte at the least, but for one that is always null.
            if unpacked > bound(len(data)) or count > max(unpacked, 1 << 20) or 8 * rows > LARGEST:
                raise Invalid(
                    f"{called} unpacks to more than {bound(len(data)) >> 20:,} MiB, from {len(data):,} bytes.",
                    code="table-large",
                    hint="Give it in parts, or as Parquet.",
                )
            place = end + _MARK
    except (IndexError, zlib.error) as error:
        raise _damaged(called, f"it breaks off or is broken around offset {place:,}") from error
    return rows


def _header(data: bytes, place: int) -> tuple[dict[bytes, bytes], int]:
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


def _bytes(data: bytes, place: int) -> tuple[bytes, int]:
    size, place = _long(data, place)
    if size < 0 or place + size > len(data):
        raise IndexError
    return data[place : place + size], place + size


def _long(data: bytes, place: int) -> tuple[int, int]:
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

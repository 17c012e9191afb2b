"""The frames of event files (TFRecord): length (u64), its crc, the bytes, their crc; all little-endian.

The crc is CRC-32C (Castagnoli; RFC 3720, B.4), rotated and shifted as TensorFlow's tfrecord does, so that a frame that holds frames
is not mistaken for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

LARGEST = 256 << 20
"""Bytes of a record: more is taken for damage."""

_LENGTH, _CRC = Struct("<Q"), Struct("<I")
_SHIFT = 0xA282EAD8


def _table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The crc as it stands in a frame."""
    crc = crc32c(data)
    return (crc >> 15 | crc << 17) + _SHIFT & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """The frame of a record."""
    length = _LENGTH.pack(len(data))
    return length + _CRC.pack(masked(length)) + data + _CRC.pack(masked(data))


class Damage(NamedTuple):
    """From which byte on a file cannot be read, and why."""

    at: int
    why: str


def read(path: Path) -> Iterator[bytes | Damage]:
    """The records of a file; where it is damaged or cut off, a `Damage` ends it: nothing behind it can be told apart."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at < size:
            head = file.read(_LENGTH.size + _CRC.size)
            if len(head) < _LENGTH.size + _CRC.size:
                yield Damage(at, "it is cut off")
                return
            if masked(head[: _LENGTH.size]) != _CRC.unpack_from(head, _LENGTH.size)[0]:
                yield Damage(at, "there is no record")
                return
            length = _LENGTH.unpack_from(head)[0]
            if length > LARGEST:
                yield Damage(at, f"the record says that it has {length:,} bytes")
                return
            if at + len(head) + length + _CRC.size > size:
                yield Damage(at, "it is cut off")
                return
            data, crc = file.read(length), file.read(_CRC.size)
            if len(crc) < _CRC.size or masked(data) != _CRC.unpack(crc)[0]:
                yield Damage(at, "the record is not what was written")
                return
            yield data
            at += len(head) + length + _CRC.size

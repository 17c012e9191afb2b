"""How the journal of a training process is written, on its disk and on its way to the server. Standard library only.

A segment is the line `MAGIC` and then frames: length of the payload (u32), crc32 of kind and payload (u32), kind (u8), payload;
all little-endian. A payload begins with the run it is about (its length u8, UTF-8). Then, by kind:

    points   one or more of: key (its length u16, UTF-8), step (i64), time in milliseconds since 1970 UTC (i64), value (f64)
    others   one JSON object, UTF-8, without NaN and infinities

A batch is frames, one after the other, behind one byte: 0, the frames as they are; 1, deflated (zlib, RFC 1950).
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple, NoReturn

from loopline.errors import Invalid

MAGIC = b"loopline journal 1\n"

KINDS = ("points", "run", "params", "tags", "note", "link", "console", "artifact", "finish")
"""What a frame can hold; its number is its place here, counted from 1, and never changes."""

HEAD = Struct("<IIB")
POINT = Struct("<qqd")
KEY_LENGTH = Struct("<H")
POINTS = 1

LARGEST = 4 << 20
"""Bytes that a frame, its head included, and the frames of a batch can have."""

ENTRIES = 1_000
"""Frames that are no points a batch can have: taking one holds up all other writers of the server meanwhile."""

LARGEST_CONTENT = LARGEST + 1
"""Bytes that a batch can have on its way: more is refused unread."""

SEEDS = tuple(zlib.crc32(bytes([number])) for number in range(len(KINDS) + 1))
"""The crc of each kind, from which that of its payload goes on."""

_HEADS = re.compile(rb"(?=..[\x00-\x40]\x00.{4}[\x01-" + re.escape(bytes([len(KINDS)])) + rb"])", re.DOTALL)
_RAW, _DEFLATED = 0, 1


class Entry(NamedTuple):
    """What a batch says of a run, metric points apart: a kind of `KINDS`, the run's id and the fields as they were written."""

    kind: str
    run: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Points:
    """All metric points that a batch holds of one run, as columns of the same length, in the order they were written.

    `index` holds each point's place in `keys`; times are in milliseconds since 1970 UTC; values keep NaN and infinities.
    """

    run: str
    keys: list[str]
    index: array[int]
    steps: array[int]
    times: array[int]
    values: array[float]


class Span(NamedTuple):
    """A stretch of a segment, from `start` to `end`: a whole frame of the kind of this number, or damage (0)."""

    kind: int
    start: int
    end: int


def run_prefix(run: str) -> bytes:
    """How the payload of a frame about this run begins. Raises ValueError where it is longer than 255 bytes or no text."""
    name = run.encode()
    return bytes([len(name)]) + name


def frame(kind: int, payload: bytes) -> bytes:
    """One frame of a segment."""
    return HEAD.pack(len(payload), zlib.crc32(payload, SEEDS[kind]), kind) + payload


def spans(data: bytes, at: int) -> Iterator[Span]:
    """The frames of a segment from an offset on, and the damage between and after them.

    A frame counts when its crc is right. Behind one whose crc is wrong the next that is right is looked for byte by byte, so a
    damaged length loses no more than its own frame.
    """
    view = memoryview(data)
    while at < len(data):
        end = _end(view, at)
        if end:
            yield Span(data[at + 8], at, end)
        else:
            candidates = (found.start() for found in _HEADS.finditer(data, at + 1))
            end = next((place for place in candidates if _end(view, place)), len(data))
            yield Span(0, at, end)
        at = end


def pack(frames: bytes) -> bytes:
    """Frames as a batch travels, deflated where that is shorter."""
    deflated = zlib.compress(frames, 1)
    return bytes([_DEFLATED]) + deflated if len(deflated) < len(frames) else bytes([_RAW]) + frames


def decode(content: bytes) -> list[Entry | Points]:
    """What a batch holds: its entries in their order, and all points of a run as one record where its first point stood.

    The content may come from anybody: its size, its frames and their texts are checked. The names within are not (runs, keys,
    paths, fields): that is for who takes the batch. Raises `Invalid` (code "bad-batch").
    """
    frames = _inflated(content)
    view = memoryview(frames)
    found: list[Entry | Points] = []
    series: dict[bytes, _Series] = {}
    known: dict[bytes, tuple[_Series, int]] = {}
    at = 0
    while at < len(frames):
        end = _end(view, at)
        if not end:
            _refuse(f"at byte {at} it has no whole frame")
        kind, payload = frames[at + 8], frames[at + HEAD.size : end]
        at = end
        if kind == POINTS and (
            one := known.get(payload[: -POINT.size])
        ):  # one point of a series that was seen: the usual
            one[0].index.append(one[1])
            one[0].points.append(payload[-POINT.size :])
            continue
        try:
            if kind == POINTS:
                name, rest = _run(payload)
                if name not in series:
                    series[name] = _Series(name.decode())
                    found.append(series[name].columns)
                if (key := series[name].add(payload, rest)) is not None:
                    known[payload[: -POINT.size]] = series[name], key
            else:
                name, rest = _run(payload)
                found.append(Entry(KINDS[kind - 1], name.decode(), _fields(payload[rest:].decode())))
        except (ValueError, RecursionError, IndexError) as e:
            _refuse(f"the frame before byte {at} holds no {KINDS[kind - 1]}: {e}")
    for one_series in series.values():
        one_series.fill()
    return found


class _Series:
    """The points of one run while they are gathered."""

    def __init__(self, run: str) -> None:
        self.index = array("I")
        self.points: list[bytes] = []
        self.columns = Points(run, [], self.index, array("q"), array("q"), array("d"))
        self._places: dict[bytes, int] = {}

    def add(self, payload: bytes, at: int) -> int | None:
        """Takes the points of a payload from an offset on; gives the key's place where it is one point alone."""
        first = at
        while True:
            if at + KEY_LENGTH.size > len(payload):
                raise ValueError("it ends within a point")
            start = at + KEY_LENGTH.size
            at = start + KEY_LENGTH.unpack_from(payload, at)[0]
            key, point = payload[start:at], payload[at : at + POINT.size]
            if len(point) != POINT.size:
                raise ValueError("it ends within a point")
            place = self._places.get(key)
            if place is None:
                self.columns.keys.append(key.decode())
                place = self._places[key] = len(self._places)
            self.index.append(place)
            self.points.append(point)
            at += POINT.size
            if at == len(payload):
                return place if start == first + KEY_LENGTH.size else None

    def fill(self) -> None:
        """Makes columns of the points."""
        joined = b"".join(self.points)
        numbers, values = array("q", joined), array("d", joined)
        if sys.byteorder == "big":
            numbers.byteswap()
            values.byteswap()
        self.columns.steps.extend(numbers[0::3])
        self.columns.times.extend(numbers[1::3])
        self.columns.values.extend(values[2::3])


def _end(view: memoryview, at: int) -> int:
    """Where the frame at this offset ends; 0 where there is none that is whole."""
    if at + HEAD.size > len(view):
        return 0
    length, crc, kind = HEAD.unpack_from(view, at)
    end: int = at + HEAD.size + length
    if end > len(view) or length + HEAD.size > LARGEST or not 0 < kind <= len(KINDS):
        return 0
    return end if zlib.crc32(view[at + HEAD.size : end], SEEDS[kind]) == crc else 0


def _run(payload: bytes) -> tuple[bytes, int]:
    """The run that a payload is about, and where the rest begins."""
    end = 1 + payload[0]
    if end > len(payload):
        raise ValueError("it ends within the run's name")
    return payload[1:end], end


def _fields(text: str) -> dict[str, Any]:
    found = json.loads(text, parse_constant=_no_number)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    if "\\ud" in text.lower():
        json.dumps(found, ensure_ascii=False).encode()  # half a character, which no text can hold, is an error
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _inflated(content: bytes) -> bytes:
    """The frames of a batch, never more than `LARGEST` bytes however small the content is."""
    if not 0 < len(content) <= LARGEST_CONTENT:
        _refuse(f"it has {len(content)} bytes, and 1 to {LARGEST_CONTENT} are taken")
    if content[0] == _RAW:
        return content[1:]
    if content[0] != _DEFLATED:
        _refuse(f"it begins with the unknown mark {content[0]}")
    inflate = zlib.decompressobj()
    try:
        frames = inflate.decompress(memoryview(content)[1:], LARGEST + 1)
    except zlib.error as e:
        _refuse(str(e))
    if len(frames) > LARGEST:
        _refuse(f"it inflates to more than {LARGEST} bytes")
    if not inflate.eof or inflate.unused_data:
        _refuse("its deflated part is cut off, or goes on behind its end")
    return frames


def _refuse(why: str) -> NoReturn:
    raise Invalid(
        f"A batch of a journal cannot be taken: {why}.",
        code="bad-batch",
        hint="`loopline sync` sends what is whole of the journal; it and the server may be of different versions.",
    )

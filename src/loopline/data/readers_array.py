"""A JSON array of rows as one row a line, some megabytes at a time: what an item is, is said by the parser itself.

A piece of the text is cut behind an item where it seems to end. If what is before the cut is an array, once it stands in brackets,
it ended there: the text up to it can be read in one way only. Where rows hold lists of objects, and it only seemed so, brackets are
counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.data.readers_packed import Content, release
from loopline.errors import Invalid

_PIECE = 4 << 20
_LONGEST = 64 << 20
_TRIES = 3
_SEAM = re.compile(rb"\}\s*(,)\s*\{")
_PLACE = re.compile(r"\(byte (\d+)\)")
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


def lines_of(content: Content, start: int, called: str) -> Iterator[bytes]:
    """The items of the array that begins at `start`, each in a line of its own.

    Raises `Invalid` for what is no JSON, and for an item that is larger than any row may be.
    """
    begin, size, first = content.find(b"[", start) + 1, _PIECE, True
    while True:
        end = min(begin + size, len(content))
        piece = content[begin:end]
        if end == len(content):
            yield _lines(_items(b"[" + piece, begin - 1, called, some=not first))
            return
        cut, items = _cut(piece, begin, called)
        if items is None:
            if size >= _LONGEST:
                raise Invalid(
                    f"{called} has an item of more than {_LONGEST >> 20} MiB, which begins at offset {begin}.",
                    code="json-broken",
                    hint="A row is an object of plain values. Is a bracket or a quote left open there?",
                )
            size = min(2 * size, _LONGEST)
            continue
        yield _lines(items)
        release(content, begin, begin + cut)
        begin, size, first = begin + cut + 1, _PIECE, False


def _cut(piece: bytes, begin: int, called: str) -> tuple[int, list[msgspec.Raw] | None]:
    """The place of a comma behind an item of the array, and the items before it; None where the piece holds no such place."""
    for place in _seams(piece):
        try:
            return place, _ITEMS.decode(b"[" + piece[:place] + b"]")
        except msgspec.DecodeError:
            continue
    last = _last_comma(piece)
    return (0, None) if last is None else (last, _items(b"[" + piece[:last] + b"]", begin - 1, called, some=True))


def _seams(piece: bytes) -> Iterator[int]:
    """The last commas between what look like two objects, the last one first."""
    end = len(piece)
    for _ in range(_TRIES):
        # A seam is short, and is looked for from behind in stretches of a few rows.
        stretch = 1 << 12
        while True:
            found = [one.start(1) for one in _SEAM.finditer(piece, max(0, end - stretch), end)]
            if found or stretch >= end:
                break
            stretch *= 4
        if not found:
            return
        yield found[-1]
        end = found[-1]


def _last_comma(piece: bytes) -> int | None:
    """The place of the last comma that stands in no text and in no bracket that was opened in the piece."""
    raw = np.frombuffer(piece, np.uint8)
    quotes = np.flatnonzero(raw == ord('"'))
    if b"\\" in piece:
        quotes = quotes[_unescaped(raw, quotes)]
    edges = np.flatnonzero((raw == ord(",")) | ((raw | 0x20) == ord("{")) | ((raw | 0x20) == ord("}")))
    edges = edges[np.searchsorted(quotes, edges) % 2 == 0]  # of brackets, [ and { differ by that bit, and so do ] and }
    kinds = raw[edges]
    steps = ((kinds | 0x20) == ord("{")).astype(np.int64) - ((kinds | 0x20) == ord("}"))
    level = np.flatnonzero((kinds == ord(",")) & (np.cumsum(steps) == 0))
    return int(edges[level[-1]]) if len(level) else None


def _unescaped(raw: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether an even number of backslashes stands before each quote."""
    others = np.concatenate(([-1], np.flatnonzero(raw != ord("\\"))))
    plain: npt.NDArray[np.bool_] = (quotes - others[np.searchsorted(others, quotes) - 1]) % 2 == 1
    return plain


def _items(text: bytes, offset: int, called: str, *, some: bool) -> list[msgspec.Raw]:
    """The items of an array, its first bracket at `offset` of the whole; `some`: there has to be one."""
    try:
        found = _ITEMS.decode(text)
    except msgspec.DecodeError as error:
        said = _PLACE.sub(lambda place: f"(byte {int(place[1]) + offset})", str(error))
        raise Invalid(f"{called} is not JSON: {said}.", code="json-broken", hint="Was it cut off?") from error
    if some and not found:
        raise Invalid(
            f"{called} is not JSON: a comma without an item behind it (byte {offset}).",
            code="json-broken",
            hint="Take it out.",
        )
    return found


def _lines(items: list[msgspec.Raw]) -> bytes:
    lines = b"\n".join([*items, b""])
    if lines.count(b"\n") > len(items) or b"\r" in lines:  # no text holds one: it would be spelled \n
        lines = b"".join(bytes(item).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" for item in items)
    return lines

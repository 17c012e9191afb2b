"""How a text is encoded: UTF-8 with or without its mark, UTF-16, Windows-1252; read as one of them, or refused with the place.

What is no UTF-8 says nowhere what it is. It is taken as Windows-1252 (which holds Latin-1's letters) only where it looks like
words of the West, and that is told; where parts of it are UTF-8 all the same, two texts were joined, and none of it is guessed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loopline.data.readers_packed import Content, aside, release
from loopline.errors import Invalid

_BLOCK = 4 << 20
_RECORDS = 8 << 20
_RUN = 1 << 16
_LONGEST = 160 << 20  # of a record that lines break in: a field, its quotes doubled, and more
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]+")
_UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def to_utf8(content: Content, called: str, scratch: Path | None = None) -> tuple[Content, str, tuple[str, ...]]:
    """The text in UTF-8 (the very bytes, where it is so already), its encoding and what is to be told of it.

    What is put into UTF-8 is so a block at a time, into a file in `scratch`.

    Raises `Invalid` for binary data, for a text of several encodings and for one that cannot be told, with the place.
    """
    head = bytes(content[:1024])
    if head.startswith(codecs.BOM_UTF8):
        _check(content, called)
        return content, "utf-8-sig", ()
    if (wide := _UTF16.get(head[:2]) or _wide(head)) is not None:
        return aside(_from_utf16(content, wide, called), scratch), wide, ()
    if (nul := head.find(b"\0")) >= 0:
        raise Invalid(
            f"{called} is not a text: it holds binary data (a NUL at offset {nul}).",
            code="table-format",
            hint="Take the NULs out (tr -d '\\000' < FILE), or give CSV, NDJSON or Parquet.",
        )
    offset = _first_wrong(content)
    if offset is None:
        return content, "utf-8", ()
    _check_western(content, called, offset)
    told = (
        f"the text is not UTF-8 (line {_line(content, offset)}, byte 0x{content[offset]:02x} at offset {offset}) and was read as "
        "Windows-1252; convert it yourself where it is another encoding"
    )
    utf8 = (block.decode("windows-1252").encode() for _, block in _pieces(content))
    return aside(utf8, scratch), "windows-1252", (told,)


def blocks(content: Content, start: int) -> Iterator[tuple[int, bytes]]:
    """The text in blocks of whole lines, each with its offset."""
    for begin, end in spans(content, start):
        yield begin, content[begin:end]
        release(content, begin, end)


def spans(content: Content, start: int) -> Iterator[tuple[int, int]]:
    """Where each of the blocks of whole lines begins and ends."""
    size = len(content)
    while start < size:
        end = min(start + _BLOCK, size)
        if end < size:
            cut = content.rfind(b"\n", start, end) + 1 or content.find(b"\n", end) + 1
            end = cut or size
        yield start, end
        start = end


def records(content: Content, start: int, header: bytes = b"") -> Iterator[bytes]:
    """The text in larger blocks of whole records, each behind a `header`: a line break between quotes ends none.

    But where they are open for longer than any field may be.
    """
    size = len(content)
    with memoryview(content) as whole:
        while start < size:
            end = min(start + _RECORDS, size)
            if end < size:
                end = content.rfind(b"\n", start, end) + 1 or end
            within = _quotes(whole[start:end]) % 2
            while end < size and (content[end - 1 : end] != b"\n" or (within and end - start < _LONGEST)):
                stop = content.find(b"\n", end) + 1 or size
                within ^= _quotes(whole[end:stop]) % 2
                end = stop
            yield b"".join((header, whole[start:end]))
            release(content, start, end)
            start = end


def _quotes(text: memoryview) -> int:
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord('"')))


def _first_wrong(content: Content) -> int | None:
    """The offset of the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with memoryview(content) as whole:
        for start in range(0, len(content), _BLOCK):
            piece, pending = whole[start : start + _BLOCK], len(decoder.getstate()[0])
            plain = not pending and np.frombuffer(piece, np.uint8).max() < 128
            try:
                if not plain:
                    decoder.decode(bytes(piece), final=start + len(piece) == len(content))
            except UnicodeDecodeError as error:
                return start - pending + error.start
            release(content, start, start + len(piece))
    return None


def _check(content: Content, called: str) -> None:
    if (offset := _first_wrong(content)) is not None:
        raise _mixed(content, called, offset)


def _check_western(content: Content, called: str, offset: int) -> None:
    runs = alone = 0
    undefined, other = False, None
    for begin, block in _pieces(content):
        raw = np.frombuffer(block, np.uint8)
        high = raw > 127
        # Runs of such bytes, a plain one behind each: all that is looked for lies within them.
        kept = np.flatnonzero(high | np.concatenate(([False], high[:-1])))
        strange = raw[kept].tobytes()
        found = _HIGH.findall(_MULTIBYTE.sub(b" ", strange))
        runs += len(found)
        alone += sum(len(run) == 1 for run in found)
        undefined = undefined or _UNDEFINED.search(strange) is not None
        if other is None and (first := _MULTIBYTE.search(strange)) is not None:
            other = begin + int(kept[first.start()])
    # Letters with accents stand among plain ones; in Cyrillic, Greek or Chinese one such byte follows the other.
    if 2 * alone < runs or undefined:
        raise Invalid(
            f"{called} is not UTF-8 (the byte 0x{content[offset]:02x} at offset {offset}), and its encoding cannot be told.",
            code="not-utf8",
            hint="Convert it from what it is, for example: iconv -f SHIFT_JIS -t UTF-8 FILE > FILE.utf8.csv",
            offset=offset,
        )
    if other is not None:
        raise _mixed(content, called, offset, other)


def _mixed(content: Content, called: str, offset: int, other: int | None = None) -> Invalid:
    line = _line(content, offset)
    begun = "its first bytes say" if other is None else f"line {_line(content, other)} is"
    return Invalid(
        f"{called} is not UTF-8 throughout: the byte at offset {offset} (0x{content[offset]:02x}, line {line}) has no meaning "
        f"there, while {begun} UTF-8.",
        code="not-utf8",
        hint=f"Two texts were joined: convert the one around line {line} (iconv -f WINDOWS-1252 -t UTF-8), and join them again.",
        offset=offset,
        line=line,
    )


def _line(content: Content, offset: int) -> int:
    """The number of the line, from 1, that a byte stands in."""
    return 1 + sum(content[begin : min(begin + _BLOCK, offset)].count(b"\n") for begin in range(0, offset, _BLOCK))


def _pieces(content: Content) -> Iterator[tuple[int, bytes]]:
    """The bytes in pieces of one size, each with its offset; none ends within a run of bytes that are not ASCII, as words have."""
    start, size = 0, len(content)
    while start < size:
        end = min(start + _BLOCK, size)
        while end < size and content[end - 1] > 127 and end - start < _BLOCK + _RUN:
            end += 1
        yield start, content[start:end]
        release(content, start, end)
        start = end


def _wide(head: bytes) -> str | None:
    """UTF-16 without its mark: most characters of a table are plain ones, and so every second byte is NUL."""
    for encoding, nul, other in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if len(nul) > 1 and b"\0" not in other and nul.count(0) * 2 > len(nul):
            return encoding
    return None


def _from_utf16(content: Content, encoding: str, called: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    for start in range(0, len(content), _BLOCK):
        piece, pending = content[start : start + _BLOCK], len(decoder.getstate()[0])
        try:
            text = decoder.decode(piece, final=start + len(piece) == len(content))
        except UnicodeDecodeError as error:
            offset = start - pending + error.start
            raise Invalid(
                f"{called} is UTF-16, but damaged or cut off (at offset {offset}).",
                code="not-utf8",
                hint="Copy it again, or write it as UTF-8.",
                offset=offset,
            ) from error
        yield (text if start else text.removeprefix("\ufeff")).encode()
        release(content, start, start + len(piece))

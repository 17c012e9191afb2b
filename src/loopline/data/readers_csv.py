"""CSV: the separator found, every line looked at, then read by polars as text, a block of lines at a time, and typed over all rows.

A block is read once: what was typed is kept, and only where a later block tells another type is the column read again.

Fields of a well-formed file are only counted, at memory speed. A file with blank lines or with quotes in odd places goes
through Python's own csv module, which either names the line that is wrong or puts it into plain form, on the disk.
"""

from __future__ import annotations

import contextlib
import csv
import io
import mmap
import re
import secrets
import tempfile
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.readers_encoding import blocks, records
from loopline.data.readers_packed import Content, mapped
from loopline.data.readers_types import check_names, typed
from loopline.data.spooled import Spool
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks

SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_BOM = b"\xef\xbb\xbf"
_SAYS = re.compile(rb"sep=[,;|\t]\r?\n", re.IGNORECASE)
_SAMPLE = 256 << 10
_LONGEST_FIELD = 64 << 20
_QUOTED = 1 << 14  # fields between quotes that are looked into at once


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How the lines of a CSV file are written."""

    separator: str
    space_after: bool = False


def read_csv(
    content: Content, called: str, missing: Sequence[str], as_text: Collection[str] = (), scratch: Path | None = None
) -> tuple[Blocks, Dialect, tuple[str, ...]]:
    """The rows, dialect and warnings of a CSV text in UTF-8; what has to be put into plain form is in a file in `scratch`,
    and so is, of a large one, what was typed.

    The columns of `as_text` are left as they are spelled. Raises Invalid for ragged lines (with the line's number), a header
    alone, names that are empty or come twice.
    """
    start = len(_BOM) if content[:3] == _BOM else 0
    if said := _SAYS.match(content[start : start + 16]):  # Excel's own first line: sep=;
        start += said.end()
    written, spaced = _sniffed(content, start)
    header, body = _header(content, start, written, called)
    names = [n.strip() for n in header]
    _check_names(names, called)

    def found(texts: Blocks) -> tuple[Blocks, tuple[str, ...]]:
        return typed(texts, missing, decimal_comma=written != ",", as_text=as_text, kept=Spool(scratch))

    read = None
    if len(names) > 1 and not _bare_returns(content, start):
        with contextlib.suppress(_Uneven):
            read = found(_texts(content, body, written, names, called, spaced=spaced, plain=False))
    if read is None:
        plain = _rewritten(content, start, written, len(names), called, scratch)
        read = found(_texts(plain, 0, ",", names, called, spaced=spaced, plain=True))
    rows, warnings = read
    if not rows.height:
        raise Invalid(
            f"{called} has a header of {len(names)} columns but no rows.",
            code="table-empty",
            hint="Look at where it was written.",
        )
    if all(_is_number(n) for n in names):
        warnings = (*warnings, "the first line was taken as the header, but holds only numbers")
    dialect = Dialect(separator=written, space_after=spaced)
    return rows, dialect, warnings


class _Uneven(Exception):
    """Lines that are put into plain form first, or refused."""


def _texts(
    content: Content, body: int, separator: str, names: list[str], called: str, *, spaced: bool, plain: bool
) -> Blocks:
    """The rows as texts. Of lines that may not be `plain`, raises `_Uneven` where they are not, once all columns are read."""
    schema = pl.Schema(dict.fromkeys(names, pl.String()))
    # With a first line of our own: polars takes rows that begin like a packed file ("x" and U+0001) for one.
    header = separator.join(map(str, range(len(names)))).encode() + b"\n"

    def read(chosen: Sequence[str]) -> Iterator[pl.DataFrame]:
        kept = {str(place): name for place, name in enumerate(names) if name in chosen}
        looking = not plain and len(kept) == len(names)
        for lines in records(content, body, header):
            height = _height(memoryview(lines)[len(header) :], ord(separator), len(names)) if looking else None
            try:
                frame = pl.read_csv(lines, separator=separator, infer_schema=False, columns=list(kept))
            except pl.exceptions.PolarsError as error:
                if looking:
                    raise _Uneven from error
                raise Invalid(
                    f"{called} cannot be read as CSV: {str(error).partition(chr(10))[0]}.",
                    code="csv-broken",
                    hint="Look at its quotes and separators.",
                ) from error
            if height not in (None, frame.height):
                raise _Uneven
            frame = frame.select(pl.col(place).alias(name) for place, name in kept.items()).select(chosen)
            yield frame.with_columns(pl.all().str.strip_chars_start(" ")) if spaced else frame

    return Blocks(schema, 0, read)  # how many they are is known once they are typed


def _height(lines: memoryview, separator: int, width: int) -> int:
    """How many lines they are, if they have as many fields as lines of `width`; a line that has too many is polars' to refuse.

    Raises `_Uneven` where they have not, and for a quote that is not at the edge of a field.
    """
    raw = np.frombuffer(lines, np.uint8)
    breaks = int(np.count_nonzero(raw == 10)) + int(raw[-1] != 10)
    cuts = int(np.count_nonzero(raw == separator))
    quotes = np.flatnonzero(raw == 34)
    if len(quotes) % 2:
        raise _Uneven
    if len(quotes):
        opening, closing = quotes[::2], quotes[1::2]
        before = np.where(opening == 0, 10, raw[opening - 1])
        behind = raw[np.minimum(closing + 1, len(raw) - 1)]
        for beside, edges in ((before, (10, 34, separator)), (behind, (10, 13, 34, separator))):
            if not np.isin(beside, edges).all():
                raise _Uneven
        for start in range(0, len(opening), _QUOTED):
            within = _within(raw, opening[start : start + _QUOTED] + 1, closing[start : start + _QUOTED])
            breaks -= int(np.count_nonzero(within == 10))
            cuts -= int(np.count_nonzero(within == separator))
    if cuts != breaks * (width - 1):
        raise _Uneven
    return breaks


def _within(
    raw: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """The bytes of some pieces, one piece after the other."""
    lengths = ends - starts
    places = np.arange(int(lengths.sum())) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    found: npt.NDArray[np.uint8] = raw[places]
    return found


def _sniffed(content: Content, start: int) -> tuple[str, bool]:
    """The separator that cuts all of the first lines into the same number of fields, and whether a space follows it."""
    sample = content[start : start + _SAMPLE]
    text = sample.decode("utf-8", errors="replace")
    whole = len(sample) < _SAMPLE
    best, best_score = ",", (-1.0, 0)
    for separator in SEPARATORS:
        records = _records(text, separator)
        records = records if whole or len(records) < 3 else records[:-1]
        if not records or len(records[0]) < 2:
            continue
        width = len(records[0])
        score = (sum(len(r) == width for r in records) / len(records), width)
        if (round(score[0], 1), score[1]) > (round(best_score[0], 1), best_score[1]):
            best, best_score = separator, score
    fields = [f for r in _records(text, best)[1:200] for f in r[1:]]
    return best, bool(fields) and all(f.startswith(" ") for f in fields)


def _records(text: str, separator: str) -> list[list[str]]:
    records = []
    try:
        for record in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if record:
                records.append(record)  # noqa: PERF401 - what was read before an error counts
    except csv.Error:
        pass
    return records


def _header(content: Content, start: int, separator: str, called: str) -> tuple[list[str], int]:
    """The names of the first record, and the offset where the next one begins."""
    end = start
    while True:  # a quoted name may hold a line break
        cut = content.find(b"\n", end)
        end = cut + 1 if cut >= 0 else len(content)
        line = content[start:end]
        if line.count(b'"') % 2 == 0 or end == len(content):
            break
    records = [r for r in csv.reader(io.StringIO(line.decode(), newline=""), delimiter=separator) if r]
    if records:
        return records[0], end
    if not content[start:].strip():
        raise Invalid(f"{called} is blank.", code="table-empty", hint="Look at where it was written.")
    return _header(content, end, separator, called)


def _check_names(names: list[str], called: str) -> None:
    empty = [i for i, n in enumerate(names, 1) if not n]
    if empty:
        raise Invalid(
            f"Column {empty[0]} of {called} has no name in the first line.",
            code="table-names",
            hint="Name it there; a table written with its row index has such a first column (pandas: index=False).",
        )
    check_names(names, called)


def _bare_returns(content: Content, start: int) -> bool:
    """Whether the first lines end in a lone carriage return, as old spreadsheets write them, or begin blank."""
    sample = content[start : start + _SAMPLE]
    return (b"\r" in sample and b"\n" not in sample) or sample[:1] in (b"\r", b"\n")


def _rewritten(
    content: Content, start: int, separator: str, width: int, called: str, scratch: Path | None
) -> mmap.mmap | bytes:
    """The same records, but for the first, in plain form; Invalid with the number of the first line that does not fit."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="", dir=scratch) as out:
        _write_plain(content, start, separator, width, called, out)
        out.flush()
        return mapped(out.fileno())  # which holds the file


def _write_plain(content: Content, start: int, separator: str, width: int, called: str, out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    limit = csv.field_size_limit(_LONGEST_FIELD)
    end = secrets.token_hex(16)  # a line behind the last one: where a quote is open still, it goes into a field
    reader = csv.reader(chain(_lines(content, start), [end]), delimiter=separator, strict=False)
    line, wrong, first, header = 1, 0, ("", 0, 0), True
    try:
        for record in reader:
            began, line = line, reader.line_num + 1
            if record == [end] or (wrong and record and record[-1].endswith(end)):
                break
            if record and record[-1].endswith(end):
                raise Invalid(
                    f"{called}: a quote that is opened in line {began} is never closed.",
                    code="csv-broken",
                    hint="Mend that line; where the file was cut off, copy it again.",
                )
            if not record or (len(record) == 1 and width > 1 and not record[0].strip()):
                continue  # a blank line
            if len(record) != width:
                wrong += 1
                first = first if wrong > 1 else (f"line {began}", len(record), line - began)
                continue
            if not header:
                writer.writerow(record)
            header = False
    except csv.Error as error:
        raise Invalid(f"{called} breaks off at line {line}: {error}.", code="csv-broken", hint="Mend it.") from error
    finally:
        csv.field_size_limit(limit)
    if wrong:
        more = f" (and {wrong - 1} more lines)" if wrong > 1 else ""
        spans = f", which runs over {first[2]} lines because of an open quote," if first[2] > 1 else ""
        raise Invalid(
            f"{called}: {first[0]}{spans} has {first[1]} field{'s' if first[1] != 1 else ''}, the header has {width}{more}.",
            code="ragged-lines",
            hint=f"Mend that line; a value that holds a {_NAMES[separator]} or a quote must stand in double quotes.",
            line=int(first[0].removeprefix("line ")),
            lines=wrong,
        )


def _lines(content: Content, start: int) -> Iterator[str]:
    for _, block in blocks(content, start):
        yield from io.StringIO(block.decode("utf-8"), newline="")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

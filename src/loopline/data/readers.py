"""A table read from a file: CSV, NDJSON, JSON, Parquet, Arrow IPC, Avro or Excel, each also packed, with the facts of how.

What the file is, is seen in its bytes; its name only decides between kinds of text. Whatever cannot be taken is refused
before anything is written, with the file's name, the place and the way out.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path

import msgspec
import polars as pl
from msgspec.structs import replace

from loopline.data.readers_arrow import read_arrow
from loopline.data.readers_avro import read_avro
from loopline.data.readers_csv import Dialect, read_csv
from loopline.data.readers_encoding import to_utf8
from loopline.data.readers_excel import read_excel
from loopline.data.readers_json import read_json
from loopline.data.readers_label import LabelFacts, check_label, infer_task
from loopline.data.readers_packed import Content, is_workbook, mapped, packed_by, unpacked
from loopline.data.readers_parquet import read_parquet
from loopline.data.readers_types import MISSING, check_names, dated, plain
from loopline.errors import Conflict, Invalid, NotFound
from loopline.hashing import digest_file
from loopline.quality.blocks import Blocks

__all__ = ["MISSING", "LabelFacts", "ReadTable", "TableFacts", "check_file", "check_label", "infer_task", "read_table"]

_TEXT = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".ndjson": "json",
    ".jsonl": "json",
    ".json": "json",
}
_BINARY = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),  # an IPC stream
    (b"Obj\x01", "avro"),
    (b"PK\x03\x04", "excel"),
    (b"\xd0\xcf\x11\xe0", "excel"),
)
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")
_PAGE = "Look at where it came from: often that is a sign-in. Fetch the table itself, as CSV, NDJSON or Parquet."
_FOREIGN = (
    (b"FEA1", "an old Feather file", "Write it as Parquet: pyarrow.feather.read_table(FILE), then pyarrow.parquet."),
    (b"ORC", "an ORC file", "Write it as Parquet: pyarrow.orc.read_table(file)."),
    (
        b"SQLite format 3\0",
        "an SQLite database",
        "Write one table as CSV: sqlite3 -header -csv FILE 'SELECT * FROM t'.",
    ),
    (b"%PDF", "a PDF", "Give the table behind it, as CSV or Parquet."),
    (b"<!doctype html", "a page of HTML", _PAGE),
    (b"<html", "a page of HTML", _PAGE),
    (b"<?xml", "an XML file", "Write its records as CSV, NDJSON or Parquet."),
)
_TAR = (b"ustar", 257)  # its mark, and where it stands


class TableFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a table was read; JSON values only, and no value of any row."""

    format: str
    source: str
    rows: int
    columns: int
    bytes: int = 0
    digest: str = ""
    compression: str = ""
    encoding: str = ""
    dialect: Dialect | None = None
    missing: tuple[str, ...] = ()
    all_null: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    synthetic: bool = False


class ReadTable(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a table, and the facts of how it was read."""

    rows: Blocks
    facts: TableFacts

    @property
    def frame(self) -> pl.DataFrame:
        """All rows at once, in memory."""
        return self.rows.frame()

    @property
    def format(self) -> str:
        """csv, ndjson, json, parquet, arrow, avro or excel, or "synthetic"."""
        return self.facts.format


def read_table(
    path: Path | str,
    *,
    name: str | None = None,
    digest: str | None = None,
    missing: Iterable[str] = MISSING,
    as_text: Collection[str] = (),
    scratch: Path | None = None,
) -> ReadTable:
    """The table in a file, with types seen over all of its rows (never guessed from the first ones).

    `name` is what messages call the file (its own path by default), `digest` the digest of its bytes if known already, `as_text`
    columns that are texts wherever they go, and so stay as a text format spells them, `scratch` a folder for what is unpacked. In
    text formats the texts of `missing` are
    missing values, codes with leading zeros and integers beyond 64 bits stay text, ISO dates and times become dates and times,
    true and false become booleans. The others keep their types, but for categories, which become text, decimals, which become
    floats, and texts that are all ISO dates, which become dates; records are spread over dotted column names.

    Raises NotFound for a missing file and Invalid for everything that is no table: a folder, an empty file, a header
    without rows, ragged lines, names that are empty or come twice, a text of several encodings, a file cut off, a bomb, an archive
    of more than one file, other formats.
    """
    file = Path(path)
    called = name or str(path)
    check_file(file, called)
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as handle:
        data, before = mapped(handle.fileno()), os.fstat(handle.fileno())
    with ThreadPoolExecutor(1) as thread:  # both take long, and neither waits for the other
        computed = thread.submit(lambda: digest or digest_file(file))
        read = _unpacked(data, file, called, tuple(missing), frozenset(as_text), scratch)

    def whole(names: Sequence[str]) -> Iterator[pl.DataFrame]:
        yield from rows.only(names)
        after = file.stat() if file.exists() else before  # a download is gone from its folder by then
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise Conflict(
                f"{called} changed while it was read.", code="table-changed", hint="Read it again when it is written."
            )

    rows, (plainer, said) = read.rows, plain(read.rows.empty)
    if plainer.schema != rows.schema:
        rows = rows.mapped(lambda block: plain(block)[0])
        check_names(rows.columns, called)
    if not rows.columns:
        raise Invalid(f"{called} has no column that a table can hold.", code="table-empty", hint="; ".join(said))
    empty = tuple(c for c, nulls in rows.nulls.items() if nulls == rows.height)
    facts = replace(
        read.facts,
        source=called,
        rows=rows.height,
        columns=len(rows.columns),
        bytes=before.st_size,
        digest=computed.result(),
        all_null=empty,
        left_out=tuple(c for c, kind in read.rows.schema.items() if c not in rows.schema and kind != pl.Struct),
        warnings=(*read.facts.warnings, *said, *(f"column {c!r} has no value in any row" for c in empty)),
    )
    return ReadTable(rows=Blocks(rows.schema, rows.height, whole, rows.nulls), facts=facts)


def check_file(file: Path, called: str) -> None:
    """Raises NotFound where there is no such file, Invalid for a folder, for what cannot be read and for an empty one."""
    if file.is_dir():
        inside = sorted(
            f.name
            for f in file.iterdir()
            if f.is_file() and f.suffix.lower() in (*_TEXT, *_PACKED, ".parquet", ".xlsx")
        )
        raise Invalid(
            f"{called} is a folder, not a file.",
            code="table-folder",
            hint=f"Name one of its files: {', '.join(inside[:5])}."
            if inside
            else "Name a CSV, Parquet or NDJSON file.",
        )
    if not file.exists():
        there = [f.name for f in file.parent.iterdir() if f.is_file()] if file.parent.is_dir() else []
        near = get_close_matches(file.name, there, n=1, cutoff=0.6)
        hint = f"Did you mean {str(file.with_name(near[0]))!r}?" if near else f"Looked in {file.absolute().parent}."
        if not file.parent.is_dir():
            hint = f"There is no folder {file.absolute().parent} either."
        raise NotFound(f"There is no file {called}.", code="no-file", hint=hint)
    if not file.is_file():
        raise Invalid(
            f"{called} is not a regular file.", code="table-unreadable", hint="Write the stream to a file first."
        )
    try:
        with file.open("rb") as handle:
            first = handle.read(1)
    except OSError as error:
        raise Invalid(
            f"{called} cannot be read: {error.strerror}.", code="table-unreadable", hint="Look at its permissions."
        ) from error
    if not first:
        raise Invalid(f"{called} is empty (0 bytes).", code="table-empty", hint="Look at where it was written.")


def _suffix(name: str) -> str:
    """What a name says of the file's kind: its last ending, but for that of packing."""
    return next((s for s in map(str.lower, reversed(Path(name).suffixes)) if s not in _PACKED), "")


def _unpacked(
    data: Content,
    file: Path,
    called: str,
    missing: tuple[str, ...],
    as_text: Collection[str],
    scratch: Path | None,
) -> ReadTable:
    content, compression = data, packed_by(data[:8])
    if compression == "zip" and is_workbook(data):
        compression = ""
    kind = called
    if compression:
        content, inside = unpacked(data, compression, called, scratch)
        if packed_by(content[:8]) and not is_workbook(content):
            raise Invalid(f"{called} is packed twice.", code="table-archive", hint="Unpack it once.")
        kind = inside or called
    read = _read(content, _suffix(kind) or _suffix(file.name), called, missing, as_text, scratch)
    return replace(read, facts=replace(read.facts, compression=compression))


def _read(
    content: Content,
    suffix: str,
    called: str,
    missing: tuple[str, ...],
    as_text: Collection[str],
    scratch: Path | None,
) -> ReadTable:
    head = bytes(content[:64])
    facts = TableFacts(format="", source=called, rows=0, columns=0)
    kind = next((kind for magic, kind in _BINARY if head.startswith(magic)), "")
    if kind or suffix in (".parquet", ".pq"):
        rows, said = _binary(kind or "parquet", content, called, missing, scratch)
        _check_rows(rows, called)
        rows, warnings = dated(rows)
        return ReadTable(rows=rows, facts=replace(facts, format=kind or "parquet", warnings=(*said, *warnings)))
    mark, place = _TAR
    if content[place : place + len(mark)] == mark:
        raise Invalid(
            f"{called} is an archive of tar, and a table is one file.",
            code="table-archive",
            hint="Unpack it, and give each table by itself, or the folder they are in.",
        )
    begun = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, what, way in _FOREIGN:
        if head.startswith(magic) or (magic.startswith(b"<") and begun.lower().startswith(magic)):
            raise Invalid(f"{called} is {what}, not a table that is read here.", code="table-format", hint=way)
    text, encoding, told = to_utf8(content, called, scratch)
    facts = replace(facts, missing=missing, encoding=encoding)
    first = bytes(text[:64]).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if (_TEXT.get(suffix) or ("json" if first in (b"{", b"[") else "csv")) == "json":
        rows, form, warnings = read_json(text, called, missing, as_text, scratch)
        return ReadTable(rows=rows, facts=replace(facts, format=form, warnings=(*told, *warnings)))
    rows, dialect, warnings = read_csv(text, called, missing, as_text, scratch)
    return ReadTable(rows=rows, facts=replace(facts, format="csv", dialect=dialect, warnings=(*told, *warnings)))


def _binary(
    kind: str, content: Content, called: str, missing: tuple[str, ...], scratch: Path | None
) -> tuple[Blocks, tuple[str, ...]]:
    match kind:
        case "parquet":
            return read_parquet(content, called), ()
        case "arrow":
            return read_arrow(content, called), ()
        case "avro":
            return read_avro(content, called), ()
    return read_excel(content, called, missing, scratch)


def _check_rows(rows: Blocks, called: str) -> None:
    unnamed = [i for i, c in enumerate(rows.columns, 1) if not c.strip()]
    if unnamed:
        raise Invalid(f"Column {unnamed[0]} of {called} has no name.", code="table-names", hint="Give it one.")
    check_names(rows.columns, called)
    if not rows.columns:
        raise Invalid(f"{called} has no columns.", code="table-empty", hint="Look at where it was written.")
    if not rows.height:
        raise Invalid(f"{called} has columns but no rows.", code="table-empty", hint="Look at where it was written.")

"""A table read from a file: CSV, NDJSON, JSON, Parquet, Arrow IPC, Avro or Excel, each also packed, with the facts of how.

What the file is, is seen in its bytes; its name only decides between kinds of text. Whatever cannot be taken is refused
before anything is written, with the file's name, the place and the way out.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterable
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
from loopline.data.readers_packed import Content, is_workbook, packed_by, unpacked
from loopline.data.readers_parquet import read_parquet
from loopline.data.readers_types import MISSING, check_names, dated, plain
from loopline.errors import Conflict, Invalid, NotFound
from loopline.hashing import digest_bytes

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
_FOREIGN = (
    (b"FEA1", "an old Feather file", "Write it as Parquet: pyarrow.feather.read_table(FILE), then pyarrow.parquet."),
    (b"ORC", "an ORC file", "Write it as Parquet: pyarrow.orc.read_table(file)."),
    (
        b"SQLite format 3\0",
        "an SQLite database",
        "Write one table as CSV: sqlite3 -header -csv FILE 'SELECT * FROM t'.",
    ),
    (b"%PDF", "a PDF", "Give the table behind it, as CSV or Parquet."),
)


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
    """A frame and the facts of how it was read."""

    frame: pl.DataFrame
    facts: TableFacts

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
) -> ReadTable:
    """The table in a file, with types seen over all of its rows (never guessed from the first ones).

    `name` is what messages call the file (its own path by default), `digest` the digest of its bytes if known already, `as_text`
    columns that are texts wherever they go, and so stay as a text format spells them. In text formats the texts of `missing` are
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
    before = file.stat()
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        size, computed = len(data), digest or digest_bytes(memoryview(data))
        content: Content = data
        compression = packed_by(data[:8])
        if compression == "zip" and is_workbook(data):
            compression = ""
        kind = called
        if compression:
            content, inside = unpacked(data, compression, called)
            if packed_by(content[:8]) and not is_workbook(content):
                raise Invalid(f"{called} is packed twice.", code="table-archive", hint="Unpack it once.")
            kind = inside or called
        suffix = _suffix(kind) or _suffix(file.name)
        read = _read(None if compression else file, content, suffix, called, tuple(missing), frozenset(as_text))
        del content
    after = file.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Conflict(
            f"{called} changed while it was read.", code="table-changed", hint="Read it again when it is written."
        )
    frame, said = plain(read.frame)
    if not frame.width:
        raise Invalid(f"{called} has no column that a table can hold.", code="table-empty", hint="; ".join(said))
    kept = set(frame.columns)
    empty = tuple(c for c in frame.columns if frame[c].null_count() == frame.height)
    facts = replace(
        read.facts,
        source=called,
        rows=frame.height,
        columns=frame.width,
        bytes=size,
        digest=computed,
        compression=compression,
        all_null=empty,
        left_out=tuple(c for c, kind in read.frame.schema.items() if c not in kept and kind != pl.Struct),
        warnings=(*read.facts.warnings, *said, *(f"column {c!r} has no value in any row" for c in empty)),
    )
    return ReadTable(frame=frame, facts=facts)


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


def _read(
    file: Path | None,
    content: Content,
    suffix: str,
    called: str,
    missing: tuple[str, ...],
    as_text: Collection[str],
) -> ReadTable:
    head = bytes(content[:64])
    facts = TableFacts(format="", source=called, rows=0, columns=0)
    kind = next((kind for magic, kind in _BINARY if head.startswith(magic)), "")
    if kind or suffix in (".parquet", ".pq"):
        frame, said = _binary(kind or "parquet", content, file, called, missing)
        _check_frame(frame, called)
        frame, warnings = dated(frame)
        return ReadTable(frame=frame, facts=replace(facts, format=kind or "parquet", warnings=(*said, *warnings)))
    for magic, what, way in _FOREIGN:
        if head.startswith(magic):
            raise Invalid(f"{called} is {what}, not a table that is read here.", code="table-format", hint=way)
    text, encoding, told = to_utf8(content, called)
    facts = replace(facts, missing=missing, encoding=encoding)
    first = bytes(text[:64]).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if (_TEXT.get(suffix) or ("json" if first in (b"{", b"[") else "csv")) == "json":
        frame, form, warnings = read_json(text, called, missing, as_text)
        return ReadTable(frame=frame, facts=replace(facts, format=form, warnings=(*told, *warnings)))
    on_disk = file if text is content else None
    frame, dialect, warnings = read_csv(text, on_disk, called, missing, as_text)
    return ReadTable(frame=frame, facts=replace(facts, format="csv", dialect=dialect, warnings=(*told, *warnings)))


def _binary(
    kind: str, content: Content, file: Path | None, called: str, missing: tuple[str, ...]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    match kind:
        case "parquet":
            return read_parquet(content, file, called), ()
        case "arrow":
            return read_arrow(content, called), ()
        case "avro":
            return read_avro(content, called), ()
    return read_excel(content, called, missing)


def _check_frame(frame: pl.DataFrame, called: str) -> None:
    unnamed = [i for i, c in enumerate(frame.columns, 1) if not c.strip()]
    if unnamed:
        raise Invalid(f"Column {unnamed[0]} of {called} has no name.", code="table-names", hint="Give it one.")
    check_names(frame.columns, called)
    if not frame.width:
        raise Invalid(f"{called} has no columns.", code="table-empty", hint="Look at where it was written.")
    if not frame.height:
        raise Invalid(f"{called} has columns but no rows.", code="table-empty", hint="Look at where it was written.")

"""A table read from a file: CSV, Parquet, NDJSON or JSON, each also gzipped, with the facts of how it was read.

What the file is, is seen in its bytes; its name only decides between kinds of text. Whatever cannot be taken is refused
before anything is written, with the file's name, the place and the way out.
"""

from __future__ import annotations

import gzip
import io
import mmap
import zlib
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from loopline.data.readers_csv import Dialect, read_csv
from loopline.data.readers_json import read_json
from loopline.data.readers_label import LabelFacts, check_label, infer_task
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
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "Unpack it, or save the sheet as CSV (UTF-8)."),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save the sheet as CSV (UTF-8)."),
    (b"ARROW1", "an Arrow file", "Write it as Parquet: polars.read_ipc(file).write_parquet(...)."),
    (b"Obj\x01", "an Avro file", "Write it as Parquet: polars.read_avro(file).write_parquet(...)."),
    (b"ORC", "an ORC file", "Write it as Parquet: pyarrow.orc.read_table(file)."),
    (
        b"SQLite format 3\0",
        "an SQLite database",
        "Write one table as CSV: sqlite3 -header -csv FILE 'SELECT * FROM t'.",
    ),
    (b"%PDF", "a PDF", "Give the table behind it, as CSV or Parquet."),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "Unpack it first: unzstd FILE."),
    (b"BZh", "compressed by bzip2", "Unpack it first: bunzip2 FILE."),
    (b"\xfd7zXZ", "compressed by xz", "Unpack it first: unxz FILE."),
)
_LARGEST_UNPACKED = 16 << 30
_SAFE = 128 << 20  # bytes that are unpacked in any case
_MOST_TIMES = 200  # its size; tables are packed 5 to 50 times, bombs a thousand


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
        """csv, parquet, ndjson or json, or "synthetic"."""
        return self.facts.format


def read_table(
    path: Path | str, *, name: str | None = None, digest: str | None = None, missing: Iterable[str] = MISSING
) -> ReadTable:
    """The table in a file, with types seen over all of its rows (never guessed from the first ones).

    `name` is what messages call the file (its own path by default), `digest` the digest of its bytes if known already.
    In text formats the texts of `missing` are missing values, codes with leading zeros and integers beyond 64 bits stay
    text, ISO dates and times become dates and times, true and false become booleans. Parquet keeps its types, but for
    categories, which become text, decimals, which become floats, and texts that are all ISO dates, which become dates; records
    are spread over dotted column names.

    Raises NotFound for a missing file and Invalid for everything that is no table: a folder, an empty file, a header
    without rows, ragged lines, names that are empty or come twice, text that is not UTF-8, a file cut off, other formats.
    """
    file = Path(path)
    called = name or str(path)
    check_file(file, called)
    before = file.stat()
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        size, computed = len(data), digest or digest_bytes(memoryview(data))
        compression = "gzip" if data[:2] == b"\x1f\x8b" else ""
        content: bytes | mmap.mmap = _unpacked(data, called) if compression else data
        read = _read(file, content, called, compression, tuple(missing))
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
    facts = msgspec.structs.replace(
        read.facts,
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
            f.name for f in file.iterdir() if f.is_file() and f.suffix.lower() in (*_TEXT, ".parquet", ".gz")
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


def _unpacked(data: mmap.mmap, called: str) -> bytes:
    most = min(_LARGEST_UNPACKED, max(_SAFE, _MOST_TIMES * len(data)))
    try:
        with gzip.GzipFile(fileobj=data) as packed:
            content = packed.read(most + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise Invalid(
            f"{called} is gzip, but damaged or cut off.",
            code="table-damaged",
            hint="Copy it again (gzip -t FILE tests it).",
        ) from error
    if len(content) > most:
        raise Invalid(
            f"{called} unpacks to more than {most >> 20:,} MiB, from {len(data):,} bytes.",
            code="table-large",
            hint="Unpack it yourself if you trust it (gunzip FILE), or give it as Parquet.",
        )
    if not content:
        raise Invalid(f"{called} is empty once unpacked.", code="table-empty", hint="Look at where it was written.")
    return content


def _read(file: Path, content: bytes | mmap.mmap, called: str, compression: str, missing: tuple[str, ...]) -> ReadTable:
    suffixes = [s.lower() for s in Path(called).suffixes if s.lower() != ".gz"] or [s.lower() for s in file.suffixes]
    suffix = next((s for s in reversed(suffixes) if s != ".gz"), "")
    head = content[:64]
    if head.startswith(b"PAR1") or suffix in (".parquet", ".pq"):
        return _parquet(file, content, called, compression)
    for magic, what, way in _FOREIGN:
        if head.startswith(magic):
            raise Invalid(f"{called} is {what}, not a table in text or Parquet.", code="table-format", hint=way)
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    kind = _TEXT.get(suffix) or ("json" if first in (b"{", b"[") else "csv")
    if kind == "json":
        frame, form, encoding, warnings = read_json(content, called, missing)
        facts = TableFacts(format=form, source=called, rows=0, columns=0, encoding=encoding, warnings=warnings)
    else:
        on_disk = None if compression else file
        frame, dialect, encoding, warnings = read_csv(content, on_disk, called, missing)
        facts = TableFacts(
            format="csv", source=called, rows=0, columns=0, encoding=encoding, dialect=dialect, warnings=warnings
        )
    return ReadTable(frame=frame, facts=msgspec.structs.replace(facts, missing=missing))


def _parquet(file: Path, content: bytes | mmap.mmap, called: str, compression: str) -> ReadTable:
    size = len(content)
    if content[:4] != b"PAR1":
        raise Invalid(
            f"{called} is named like a Parquet file but does not begin like one.",
            code="table-format",
            hint="Rename it to what it is, or write it as Parquet again.",
        )
    if size < 12 or content[size - 4 : size] != b"PAR1":
        raise Invalid(
            f"{called} is a Parquet file that was cut off: it ends after {size} bytes without its footer.",
            code="table-damaged",
            hint="Copy it again, or wait until it is written.",
        )
    unpacked = bytes(content) if compression else None
    try:
        with pq.ParquetFile(file if unpacked is None else io.BytesIO(unpacked)) as opened:
            names = _footer(opened.metadata, size)
            cells = opened.metadata.num_rows * len(names)
        twice = [n for n, count in Counter(names).items() if count > 1]
        if twice:
            raise Invalid(
                f"{called} has the column name {twice[0]!r} {names.count(twice[0])} times.",
                code="table-names",
                hint="Give each column a name of its own.",
            )
        if 8 * cells > _LARGEST_UNPACKED:
            raise Invalid(
                f"{called} holds {cells:,} cells, more than fit in {_LARGEST_UNPACKED >> 30} GiB.",
                code="table-large",
                hint="Give it in parts.",
            )
        frame = pl.read_parquet(file if unpacked is None else unpacked, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError, ValueError) as error:
        raise Invalid(
            f"{called} is a Parquet file, but damaged: {str(error).partition(chr(10))[0]}.",
            code="table-damaged",
            hint="Copy it again, or write it again.",
        ) from error
    unnamed = [i for i, c in enumerate(frame.columns, 1) if not c.strip()]
    if unnamed:
        raise Invalid(f"Column {unnamed[0]} of {called} has no name.", code="table-names", hint="Give it one.")
    check_names(frame.columns, called)
    if not frame.width:
        raise Invalid(f"{called} has no columns.", code="table-empty", hint="Look at where it was written.")
    if not frame.height:
        raise Invalid(f"{called} has columns but no rows.", code="table-empty", hint="Look at where it was written.")
    frame, warnings = dated(frame)
    facts = TableFacts(format="parquet", source=called, rows=0, columns=0, warnings=warnings)
    return ReadTable(frame=frame, facts=facts)


def _footer(metadata: Any, size: int) -> list[str]:
    """The column names in a footer; ValueError when it points beyond the file or its counts differ (polars would panic)."""
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            starts = [o for o in (chunk.dictionary_page_offset, chunk.data_page_offset) if o is not None]
            if (
                min(starts) < 0
                or max(starts) >= size
                or chunk.total_compressed_size < 0
                or min(starts) + chunk.total_compressed_size > size
            ):
                raise ValueError("its footer points beyond its end")
            flat = metadata.schema.column(column).max_repetition_level == 0
            if flat and chunk.num_values != metadata.row_group(group).num_rows:
                raise ValueError("its footer counts rows in two ways")
    if metadata.num_rows != sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)):
        raise ValueError("its footer counts rows in two ways")
    return list(metadata.schema.to_arrow_schema().names)

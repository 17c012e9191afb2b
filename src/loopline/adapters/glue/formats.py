"""Files of a catalog's table as rows: which reader a table's serde means, and what of a file its types cannot take."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from loopline.adapters.glue.types import holds, of_text
from loopline.errors import Invalid
from loopline.ports.source import Refusal

_SAFE, _MOST_TIMES = 128 << 20, 200  # bytes that are unpacked in any case; how many times its size a file may unpack to
_ABSENT = r"\N"  # a missing value in Hive's text files


class Taken(NamedTuple):
    """The rows of a file that are as the catalog says, and those that are not."""

    rows: pa.Table
    refused: tuple[Refusal, ...]


def serde(library: str) -> str:
    """The format that a serde's library reads: parquet, csv, text or json; else nothing."""
    word = library.rpartition(".")[2].lower()
    known = {"parquethiveserde": "parquet", "opencsvserde": "csv", "lazysimpleserde": "text", "jsonserde": "json"}
    return known.get(word, "")


def read(
    file: Path, name: str, form: str, schema: pa.Schema, serde: Mapping[str, str], table: Mapping[str, str]
) -> Taken:
    """The rows of a file, by the columns of the catalog. `serde` and `table` are the parameters that are said with them.

    Raises `Invalid` (code "source-schema") where a Parquet file's columns are not those of the catalog, (code "source-damaged")
    where it is not of its format, (code "table-large") where it unpacks to more than is safe.
    """
    try:
        if form == "parquet":
            return Taken(_parquet(pq.read_table(file), name, schema), ())
        content = _content(file, name)
        return _json(content, name, schema) if form == "json" else _text(content, name, form, schema, serde, table)
    except (pa.ArrowException, EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as e:
        raise Invalid(
            f"{name} is damaged, or not in the format that the catalog says ({form}): {str(e).partition(chr(10))[0][:200]}.",
            code="source-damaged",
            hint="Mend the file, or the table's entry in the catalog.",
        ) from e


def _content(file: Path, name: str) -> bytes:
    with file.open("rb") as opened:
        packed = opened.read(2) == b"\x1f\x8b"
        opened.seek(0)
        if not packed:
            return opened.read()
        most = max(_SAFE, _MOST_TIMES * file.stat().st_size)
        with gzip.GzipFile(fileobj=opened) as unpacked:
            found = unpacked.read(most + 1)
    if len(found) > most:
        raise Invalid(
            f"{name} unpacks to more than {most >> 20:,} MiB.",
            code="table-large",
            hint="Give it unpacked, or in parts.",
        )
    return found


def _parquet(found: pa.Table, name: str, schema: pa.Schema) -> pa.Table:
    there = {column.lower(): column for column in found.schema.names}  # Hive knows small letters only
    if more := [column for column in there if column not in schema.names]:
        raise _disagrees(name, f"column {more[0]!r}, which the catalog does not tell of")
    columns = []
    for field in schema:
        if field.name not in there:
            columns.append(pa.nulls(found.num_rows, field.type))
            continue
        column = found.column(there[field.name])
        if not holds(field.type, column.type):
            raise _disagrees(name, f"{field.name!r} as {column.type}, where the catalog says {field.type}")
        columns.append(pc.cast(column, field.type))
    return pa.table(columns, schema=schema)


def _disagrees(name: str, what: str) -> Invalid:
    return Invalid(
        f"{name} has {what}.", code="source-schema", hint="Mend the file, or the table's entry in the catalog."
    )


def _text(
    content: bytes, name: str, form: str, schema: pa.Schema, serde: Mapping[str, str], table: Mapping[str, str]
) -> Taken:
    """Lines of texts. Those of OpenCSVSerde may be quoted; those of LazySimpleSerDe never are."""
    quoted = form == "csv"
    delimiter = serde.get("separatorChar", ",") if quoted else serde.get("field.delim", "\x01")
    headers = int(serde.get("skip.header.line.count") or table.get("skip.header.line.count") or 0)
    refused: list[Refusal] = []
    rows: list[pa.csv.InvalidRow] = []

    def other(row: pa.csv.InvalidRow) -> str:
        rows.append(row)
        return "skip"

    if len(content.splitlines()) <= headers:
        return Taken(schema.empty_table(), ())
    parsed = pa.csv.read_csv(
        io.BytesIO(content),
        read_options=pa.csv.ReadOptions(
            column_names=schema.names, skip_rows=headers, encoding=serde.get("serialization.encoding", "utf8"),
            use_threads=False,  # rows that are refused are numbered
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=delimiter,
            quote_char=serde.get("quoteChar", '"') if quoted else False,
            escape_char=serde.get("escapeChar", "\\") if quoted else serde.get("escape.delim") or False,
            newlines_in_values=quoted,
            invalid_row_handler=other,
        ),
        convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(schema.names, pa.string())),
    )  # fmt: skip
    refused += [
        Refusal(
            f"{name}, line {row.number + headers}" if row.number is not None else name,
            f"{row.actual_columns} values, where the catalog has {row.expected_columns} columns",
            row.text.encode(),
        )
        for row in rows
    ]
    texts = pl.DataFrame(pl.from_arrow(parsed))
    absent = [serde.get("serialization.null.format", _ABSENT)] if not quoted else []  # CSV knows no missing texts
    values, wrong = [], pl.repeat("", texts.height, eager=True)
    for field in schema:
        column = texts[field.name]
        given = column.set(column.is_in(absent if pa.types.is_string(field.type) else [*absent, ""]), None)
        read = of_text(given, field.type)
        values.append(read.alias(field.name))
        wrong = wrong.set(read.is_null() & given.is_not_null() & (wrong == ""), f"{field.name!r} is no {field.type}")
    for reason, row in zip(wrong, texts.iter_rows(), strict=True) if (wrong != "").any() else ():
        if reason:
            refused.append(Refusal(name, f"{reason}, as the catalog says", _line(row, delimiter, quoted)))
    return Taken(_as(pl.DataFrame(values).filter(wrong == ""), schema), tuple(refused))


def _line(row: Sequence[str], delimiter: str, quoted: bool) -> bytes:
    if not quoted:
        return delimiter.join(row).encode()
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(row)
    return line.getvalue().encode()


def _json(content: bytes, name: str, schema: pa.Schema) -> Taken:
    """An object a line; keys in any letters, as the serde has it."""
    exact = any(pa.types.is_decimal(field.type) for field in schema)
    decoder = msgspec.json.Decoder(float_hook=Decimal if exact else None)
    kept: list[dict[str, Any]] = []
    refused = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = {key.lower(): value for key, value in decoder.decode(line).items()}
            if more := row.keys() - set(schema.names):
                raise ValueError(f"{min(more)!r} is told of by no column of the catalog")
            kept.append({field.name: _value(row.get(field.name), field) for field in schema})
        except (msgspec.DecodeError, UnicodeDecodeError, AttributeError):
            refused.append(Refusal(f"{name}, line {number}", "it is no JSON object", line))
        except ValueError as e:
            refused.append(Refusal(f"{name}, line {number}", str(e), line))
    return Taken(pa.Table.from_pylist(kept, schema=schema), tuple(refused))


def _value(value: Any, field: pa.Field) -> Any:
    """A value as the catalog's type has it. Raises ValueError where it is none of it."""
    kind: pa.DataType = field.type
    read: Any = None
    if value is None:
        return None
    if pa.types.is_boolean(kind):
        read = value if isinstance(value, bool) else None
    elif isinstance(value, bool):
        read = None
    elif pa.types.is_floating(kind):
        read = float(value) if isinstance(value, int | float | Decimal) else None
    elif pa.types.is_integer(kind):
        fits = isinstance(value, int) and -(1 << kind.bit_width - 1) <= value < 1 << kind.bit_width - 1
        read = value if fits else None
    elif pa.types.is_nested(kind):
        with contextlib.suppress(pa.ArrowException, TypeError, ValueError):
            read = pa.scalar(value, kind).as_py()
    elif isinstance(value, str) or pa.types.is_decimal(kind):
        read = of_text(pl.Series([str(value)]), kind)[0]
    if read is None:
        raise ValueError(f"{field.name!r} is no {kind}, as the catalog says")
    return read


def _as(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)

"""Rows as other protocols bring them: by position, by column, as a CSV or Parquet file. All of them become raw rows by name."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from loopline.features.records import Field
from loopline.serving.bodies import said
from loopline.serving.contract import Contract, Rows
from loopline.serving.problems import bad_input, too_large

_UNPACKED = 256 << 20
"""Bytes that a Parquet file may have unpacked."""
_INDEX = "__index_level_"
"""How pandas names the columns that are no columns."""
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
     "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
"""Cells of a CSV file that pandas reads as missing."""
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    "1": True,
    "0": False,
}


def check(contract: Contract, rows: list[Any], row_limit: int) -> Rows:
    """The checked rows of raw ones, with what the log shall keep of them. Raises `Problem`."""
    check_count(len(rows), row_limit)
    checked = contract.check(rows)
    if checked.sent is None:
        checked.sent = json.dumps(rows, ensure_ascii=False).encode()
    return checked


def check_count(count: int, row_limit: int) -> None:
    """Raises the 400 of no rows, or the 413 of too many."""
    if not count:
        bad_input("The request has 0 rows.", "no-rows", "Send at least one row.")
    if count > row_limit:
        raise too_large(
            f"The request has {count} rows, and at most {row_limit} are answered at once.",
            "too-many-rows",
            "Send them in several requests.",
            limit=row_limit,
        )


def by_position(values: Sequence[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of lists, which stand for the columns in this order; a single column may come as plain values."""
    found = []
    for n, row in enumerate(values):
        cells = row if isinstance(row, list) else [row]
        if len(cells) != len(names):
            bad_input(
                f"Row {n} has {len(cells)} values, and the columns are {len(names)}: {', '.join(names)[:200]}.",
                "wrong-shape",
                "Send one value for each column, in this order; or send the columns' names, too.",
                row=n,
                expected=len(names),
                got=len(cells),
            )
        found.append(dict(zip(names, cells, strict=True)))
    return found


def by_column(columns: dict[str, Any], what: str) -> list[dict[str, Any]]:
    """Rows of an object of column -> list of values, all of one length."""
    length = -1
    flat = {}
    for name, values in columns.items():
        if not isinstance(values, list):
            bad_input(
                f"{what}: the column {name!r} is not a list.",
                "not-columns",
                f'Send {{"{what}": {{"column": [value, ...], ...}}}}.',
                field=name,
                expected="a list",
                got=said(values),
            )
        if length not in (-1, len(values)):
            bad_input(
                f"{what}: the column {name!r} has {len(values)} values, and others have {length}.",
                "ragged-columns",
                field=name,
                expected=length,
                got=len(values),
            )
        length = len(values)
        # A column of shape [N, 1] is one of N values.
        flat[name] = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in values]
    return [dict(zip(flat, cells, strict=True)) for cells in zip(*flat.values(), strict=True)]


def from_csv(body: bytes, fields: Sequence[Field], row_limit: int) -> list[dict[str, Any]]:
    """Rows of a CSV text with a line of names, or, where its first line names no column, without one. Raises `Problem`."""
    kinds = {f.name: f.kind for f in fields}
    names: list[str] | None = None
    found: list[dict[str, Any]] = []
    for line in _lines(body):
        if names is None:
            if kinds.keys() & set(line):
                names = line
                if len(set(names)) != len(names):
                    twin = next(n for n in names if names.count(n) > 1)
                    bad_input(f"The column {twin!r} is given twice.", "duplicate-key", field=twin)
                continue
            names = list(kinds)
        if not line:
            continue  # as pandas has it
        if len(line) != len(names):
            bad_input(
                f"Row {len(found)} has {len(line)} cells, and the columns are {len(names)}: {', '.join(names)[:200]}.",
                "wrong-shape",
                "Send a first line with the columns' names, and a cell for each of them in every other line.",
                row=len(found),
                expected=len(names),
                got=len(line),
            )
        found.append({name: _cell(text, kinds.get(name, "")) for name, text in zip(names, line, strict=True)})
        if len(found) > row_limit:
            break
    return found


def _lines(body: bytes) -> Iterator[list[str]]:
    try:
        yield from csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
    except (csv.Error, UnicodeDecodeError) as e:
        bad_input(f"The body is not CSV: {e}.", "not-csv", "Send UTF-8, cells with commas or quotes in double quotes.")


def _cell(text: str, kind: str) -> Any:
    """A cell as a JSON value; what does not fit its column stays a text, which the contract refuses by name."""
    if text in MISSING:
        return None
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
    return _BOOLEANS.get(text, text) if kind == "boolean" else text


def from_parquet(body: bytes, row_limit: int) -> list[dict[str, Any]]:
    """Rows of a Parquet file, without what pandas keeps as its index. Raises `Problem`.

    PyArrow is imported by the first one that comes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        about = file.metadata
        check_count(about.num_rows, row_limit)
        if sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups)) > _UNPACKED:
            raise too_large(
                f"The Parquet file has more than {_UNPACKED >> 20} MiB unpacked.",
                "body-too-large",
                "Send the rows in several requests.",
                limit=_UNPACKED,
            )
        names = [name for name in file.schema_arrow.names if not name.startswith(_INDEX)]
        table = file.read(columns=names, use_threads=False)
        return [{name: _value(value) for name, value in row.items()} for row in table.to_pylist()]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as e:
        reason = str(e).partition("\n")[0][:200]
        bad_input(
            f"The body is not a Parquet file that can be read: {reason}.", "not-parquet", "Send it as pandas writes it."
        )


def _value(value: Any) -> Any:
    """A cell of a table as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time() and value.tzinfo is None
        return value.date().isoformat() if midnight else value.isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {name: _value(one) for name, one in value.items()}
    return value if value is None or isinstance(value, bool | int | str | list) else str(value)

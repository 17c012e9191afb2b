"""Messages of Kafka that are CSV records, or Avro by a schema that is known beforehand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from loopline.errors import Invalid, MissingExtra
from loopline.ports.messages import Beside, text_of

_LONGEST_FIELD = 16 << 20


class CsvRecords:
    """Messages that are one CSV record each, as a CSV file with these columns."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._path = folder / "messages.csv"
        self._columns = tuple(columns)
        self._records: list[list[Any]] = []
        self._header: list[str] = []

    @property
    def width(self) -> int:
        """Columns so far."""
        return len(self._columns)

    def add(self, content: bytes, beside: Beside) -> None:
        """Takes a record. Raises `ValueError` where it is not one, or has other fields."""
        limit = csv.field_size_limit(_LONGEST_FIELD)
        try:
            records = list(csv.reader(io.StringIO(text_of(content), newline=""), strict=True))
        except csv.Error as e:
            raise ValueError(f"it is no CSV: {e}") from e
        finally:
            csv.field_size_limit(limit)
        if len(records) != 1 or len(records[0]) != len(self._columns):
            fields = " and ".join(str(len(record)) for record in records[:3]) or "no"
            raise ValueError(f"it has {fields} fields, and the columns are {len(self._columns)}")
        self._header = [*self._columns, *beside]
        self._records.append([*records[0], *beside.values()])

    def rows(self) -> Path:
        """The file; it is there until the next one is asked for."""
        with self._path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writerow(self._header)
            writer.writerows(self._records)
        self._records = []
        return self._path


class AvroRecords:
    """Messages that are one Avro datum each, of a record schema (no registry, no header), as a table of its types."""

    def __init__(self, schema: Path) -> None:
        try:
            import fastavro
        except ImportError as e:
            raise MissingExtra("Messages in Avro need fastavro.", extra="kafka") from e
        try:
            self._schema = fastavro.parse_schema(json.loads(schema.read_bytes()))
            if not isinstance(self._schema, dict) or self._schema.get("type") != "record":
                raise ValueError("it is not the schema of a record")
            self._types = [pa.field(one["name"], _type(one["type"])) for one in self._schema["fields"]]
        except (OSError, ValueError, KeyError, TypeError, fastavro.schema.SchemaParseException) as e:
            raise Invalid(
                f"{schema} is no schema that messages can be read with: {e}.",
                code="bad-option",
                hint="Give the file of an Avro schema (JSON): a record of plain fields.",
            ) from e
        self._read = fastavro.schemaless_reader
        self._rows: list[dict[str, Any]] = []
        self._beside: Beside = {}

    @property
    def width(self) -> int:
        """Columns so far."""
        return len(self._types)

    def add(self, content: bytes, beside: Beside) -> None:
        """Takes a datum. Raises `ValueError` where the bytes are not one of this schema, and nothing else."""
        stream = io.BytesIO(content)
        try:
            row: Any = self._read(stream, self._schema, None)
        except Exception as e:  # whatever bytes lead its reader to
            raise ValueError(f"it is not Avro of this schema: {e!r}") from e
        if stream.tell() != len(content):
            raise ValueError(f"it is not Avro of this schema: {len(content) - stream.tell()} bytes are left")
        self._beside = beside
        self._rows.append({**row, **beside})

    def rows(self) -> pa.Table:
        """The data as a table."""
        kept, self._rows = self._rows, []
        beside = pa.Table.from_pylist([{name: row[name] for name in self._beside} for row in kept])
        table = pa.Table.from_pylist(kept, schema=pa.schema(self._types))
        for name in self._beside:
            table = table.append_column(name, beside[name])
        return table


_PLAIN = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
    "date": pa.date32(),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "uuid": pa.string(),
}


def _type(avro: Any) -> pa.DataType:
    """The type of a column. Raises `ValueError` where there is none for it."""
    if isinstance(avro, list):
        present = [one for one in avro if one != "null"]
        if len(present) == 1:
            return _type(present[0])
    elif isinstance(avro, dict):
        kind = avro["type"]
        if avro.get("logicalType") == "decimal":
            return pa.decimal128(avro["precision"], avro.get("scale", 0))
        if (logical := avro.get("logicalType")) in _PLAIN:
            return _PLAIN[logical]
        if kind == "record":
            return pa.struct([pa.field(one["name"], _type(one["type"])) for one in avro["fields"]])
        if kind == "array":
            return pa.list_(_type(avro["items"]))
        if kind in _PLAIN:
            return _PLAIN[kind]
    elif avro in _PLAIN:
        return _PLAIN[avro]
    raise ValueError(f"no column holds {json.dumps(avro)[:100]}")

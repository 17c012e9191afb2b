"""Avro files as fastavro and polars write them, and files that deceive."""

from __future__ import annotations

import io
import zlib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from loopline.data.readers import ReadTable, read_table
from loopline.errors import Invalid

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "visit",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "ward", "type": ["null", "string"]},
        {"name": "dose", "type": "double"},
        {"name": "back", "type": "boolean"},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "sex", "type": {"type": "enum", "name": "sex", "symbols": ["f", "m"]}},
    ],
}
ROWS = [
    {
        "id": n,
        "ward": None if n % 3 else f"w{n}",
        "dose": n / 4,
        "back": n % 2 == 0,
        "day": date(2026, 1, 1 + n % 28),
        "at": datetime(2026, 1, 1, 3, n % 60, tzinfo=UTC),
        "sex": "fm"[n % 2],
    }
    for n in range(5000)
]


def written(codec: str = "null", schema: Any = SCHEMA, rows: Any = ROWS, block: int = 16_000) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, schema, rows, codec=codec, sync_interval=block, sync_marker=bytes(range(1, 17)))
    return out.getvalue()


def _read(folder: Path, content: bytes) -> ReadTable:
    (folder / "t.avro").write_bytes(content)
    return read_table(folder / "t.avro")


def _refused(folder: Path, content: bytes) -> Invalid:
    with pytest.raises(Invalid) as caught:
        _read(folder, content)
    assert "t.avro" in caught.value.message
    return caught.value


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_what_fastavro_writes_is_read_whole(tmp_path: Path, codec: str) -> None:
    read = _read(tmp_path, written(codec))
    assert read.format == "avro"
    assert read.frame.height == 5000
    for n in (0, 1, 4999):
        row = read.frame.row(n, named=True)
        assert {**row, "at": row["at"].replace(tzinfo=UTC)} == ROWS[n]


def test_what_polars_writes_with_snappy_is_read_whole(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": range(10_000), "b": [f"x{n}" for n in range(10_000)]})
    out = io.BytesIO()
    frame.write_avro(out, compression="snappy")
    assert _read(tmp_path, out.getvalue()).frame.equals(frame)


def test_a_bad_sync_marker_is_named_with_its_block(tmp_path: Path) -> None:
    whole = written()
    marks = [n for n in range(len(whole)) if whole.startswith(bytes(range(1, 17)), n)]
    assert len(marks) > 4
    for mark in (marks[2], marks[-1]):
        bent = whole[:mark] + bytes([whole[mark] ^ 0xFF]) + whole[mark + 1 :]
        told = _refused(tmp_path, bent)
        assert (told.code, "does not end with the file's sync marker" in told.message) == ("table-damaged", True)
    assert "(1" not in _refused(tmp_path, whole[: marks[0] - 3]).message


def test_every_cut_is_refused_or_ends_between_blocks(tmp_path: Path) -> None:
    whole = written(rows=ROWS[:60], block=200)
    found = set()
    for end in range(5, len(whole)):
        try:
            found.add(_read(tmp_path, whole[:end]).frame.height)
        except Invalid as refused:
            assert refused.code in ("table-damaged", "table-empty")  # noqa: PT017
    assert found == {n for n in found if n < 60}  # whole blocks, as the format cannot tell them from a shorter file


def test_blocks_that_lie_about_their_rows_or_bytes(tmp_path: Path) -> None:
    whole = written(rows=ROWS[:10])
    mark = bytes(range(1, 17))
    head = whole[: whole.index(mark) + 16]

    def block(count: int, content: bytes, size: int | None = None) -> bytes:
        return head + _long(count) + _long(len(content) if size is None else size) + content + mark

    assert "reaches beyond its end" in _refused(tmp_path, block(1, b"x", 1 << 40)).message
    assert _refused(tmp_path, block(1 << 60, b"x")).code == "table-large"
    assert _refused(tmp_path, block(50, b"\0" * 20)).code == "table-damaged"
    assert "reaches beyond its end" in _refused(tmp_path, block(-5, b"x")).message
    packed = written("deflate", rows=ROWS[:10])
    head = packed[: packed.index(mark) + 16]
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = bomb.compress(bytes(200 << 20)) + bomb.flush()
    assert _refused(tmp_path, block(10, content)).code == "table-large"
    nothing = {"type": "record", "name": "n", "fields": [{"name": "a", "type": "null"}]}
    nil = written(schema=nothing, rows=[{"a": None}])
    head = nil[: nil.index(mark) + 16]
    assert _refused(tmp_path, block(1 << 40, b"")).code == "table-large"


def test_what_no_table_holds_is_refused_with_the_way_out(tmp_path: Path) -> None:
    either = {"type": "record", "name": "n", "fields": [{"name": "a", "type": ["string", "long"]}]}
    assert "a union is of null and one type" in _refused(tmp_path, written(schema=either, rows=[{"a": 1}])).hint
    assert _refused(tmp_path, written(rows=[])).code == "table-empty"


def _long(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])

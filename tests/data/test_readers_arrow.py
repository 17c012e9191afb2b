"""Arrow IPC, files and streams, whole and deceiving."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from loopline.data.readers import ReadTable, read_table
from loopline.errors import Invalid

FRAME = pl.DataFrame(
    {
        "id": range(3000),
        "ward": [None if n % 3 else f"w{n % 7}" for n in range(3000)],
        "day": [date(2026, 1, 1 + n % 28) for n in range(3000)],
    }
)


def written(kind: str, table: pa.Table, codec: str | None = None) -> bytes:
    out = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with make(out, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1000)
    return out.getvalue()


def _read(folder: Path, content: bytes, name: str = "t.arrow") -> ReadTable:
    (folder / name).write_bytes(content)
    return read_table(folder / name)


def _refused(folder: Path, content: bytes) -> Invalid:
    with pytest.raises(Invalid) as caught:
        _read(folder, content)
    assert "t.arrow" in caught.value.message
    return caught.value


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("codec", [None, "zstd", "lz4"])
def test_files_and_streams_are_read_whole(tmp_path: Path, kind: str, codec: str | None) -> None:
    table = FRAME.to_arrow(compat_level=pl.CompatLevel.oldest())
    coded = table.set_column(1, "ward", table["ward"].dictionary_encode())
    for one in (table, coded):
        read = _read(tmp_path, written(kind, one, codec), "odd.dat")
        assert (read.format, read.frame.equals(FRAME)) == ("arrow", True)
    out = io.BytesIO()
    FRAME.write_ipc(out, compression=codec or "uncompressed")
    assert _read(tmp_path, out.getvalue()).frame.equals(FRAME)


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_bomb_is_told_by_its_messages(tmp_path: Path, kind: str) -> None:
    zeros = pa.table({"a": pa.array([0]).take(pa.array([0] * 30_000_000, pa.int8()))})
    out = io.BytesIO()
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with make(out, zeros.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(zeros)
    told = _refused(tmp_path, out.getvalue())
    assert (told.code, "unpacks to" in told.message) == ("table-large", True)


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_no_damage_gives_another_table_or_a_stranger(tmp_path: Path, kind: str) -> None:
    whole = written(kind, FRAME.head(20).to_arrow(compat_level=pl.CompatLevel.oldest()))
    for at in range(8, len(whole), 3):
        for value in (0x00, 0x7F, 0xFF):
            try:
                assert _read(tmp_path, whole[:at] + bytes([value]) + whole[at + 1 :]).frame.height <= 20
            except Invalid as refused:
                assert refused.hint  # noqa: PT017
    for end in range(8, len(whole) - 8, 7):
        try:
            assert _read(tmp_path, whole[:end]).frame.equals(FRAME.head(20))
        except Invalid as refused:
            assert refused.code in ("table-damaged", "table-empty")  # noqa: PT017


def test_offsets_that_point_elsewhere_are_refused(tmp_path: Path) -> None:
    whole = written("stream", pa.table({"a": ["x" * 50, "y" * 50]}))
    at = whole.rindex((50).to_bytes(4, "little") + (100).to_bytes(4, "little"))
    bent = whole[: at + 4] + (1 << 20).to_bytes(4, "little") + whole[at + 8 :]
    assert _refused(tmp_path, bent).code == "table-damaged"


def test_a_name_twice(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="'a' 2 times"):
        _read(tmp_path, written("file", pa.table([[1], [2]], names=["a", "a"])))

"""Packed tables: the same rows come out of each packing, and bombs, locked, damaged and deceiving ones are refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from loopline.data import readers_packed
from loopline.data.readers import read_table
from loopline.errors import Invalid

TABLE = "a,b\n" + "".join(f"{n},x{n}\n" for n in range(3000))


def zstd(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as packed:
        packed.write(content)
    return bytes(out.getvalue())


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


PACKINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (".gz", gzip.compress),
    "zstd": (".zst", zstd),
    "bzip2": (".bz2", bz2.compress),
    "xz": (".xz", lzma.compress),
    "zip": (".zip", lambda content: zipped(("visits.csv", content))),
}


def refused(folder: Path, content: bytes, name: str) -> Invalid:
    (folder / name).write_bytes(content)
    with pytest.raises(Invalid) as caught:
        read_table(folder / name)
    assert name in caught.value.message
    assert [f.name for f in folder.iterdir()] == [name]
    return caught.value


@pytest.mark.parametrize("how", PACKINGS)
def test_the_same_rows_come_out_of_each_packing(tmp_path: Path, how: str) -> None:
    ending, pack = PACKINGS[how]
    file = tmp_path / f"t.csv{ending}"
    file.write_bytes(pack(TABLE.encode()))
    read = read_table(file)
    assert read.frame.rows() == [(n, f"x{n}") for n in range(3000)]
    assert (read.facts.compression, read.format, read.facts.source) == (how, "csv", str(file))
    parquet = io.BytesIO()
    read.frame.write_parquet(parquet)
    (tmp_path / "nameless").write_bytes(pack(parquet.getvalue()))
    assert read_table(tmp_path / "nameless").frame.equals(read.frame)


@pytest.mark.parametrize("how", ["gzip", "zstd", "bzip2", "xz"])
def test_parts_that_were_packed_one_after_the_other_are_one_table(tmp_path: Path, how: str) -> None:
    pack = PACKINGS[how][1]
    half = len(TABLE) // 2
    (tmp_path / "t.csv").write_bytes(pack(TABLE[:half].encode()) + pack(TABLE[half:].encode()))
    assert read_table(tmp_path / "t.csv").frame.height == 3000


@pytest.mark.parametrize("how", PACKINGS)
def test_what_was_cut_off_or_damaged_is_refused(tmp_path: Path, how: str) -> None:
    ending, pack = PACKINGS[how]
    whole = pack(TABLE.encode())
    for content in (whole[: len(whole) // 2], whole[:-3], whole[:20]):
        assert refused(tmp_path, content, f"t.csv{ending}").code == "table-damaged"
    assert refused(tmp_path, pack(b""), f"t.csv{ending}").code == "table-empty"
    assert refused(tmp_path, pack(gzip.compress(b"a\n1\n")), f"t.csv{ending}").message.endswith("packed twice.")


@pytest.mark.parametrize("how", PACKINGS)
def test_a_bomb_is_not_unpacked(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ending, pack = PACKINGS[how]
    monkeypatch.setattr(readers_packed, "_SAFE", 1 << 20)
    told = refused(tmp_path, pack(b"a,b\n" + b"0,0\n" * (1 << 20)), f"t.csv{ending}")  # 4 MiB from some kB
    assert (told.code, "more than 1 MiB" in told.message) == ("table-large", True)


def test_an_xz_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    content = bytearray(lzma.compress(TABLE.encode(), filters=filters))
    at = content.index(b"\x21\x01", 12) + 2  # the filter LZMA2, one byte of properties: the size of its dictionary
    content[at] = 40  # 4 GiB
    size = (content[12] + 1) * 4
    content[12 + size - 4 : 12 + size] = struct.pack("<I", __import__("zlib").crc32(content[12 : 12 + size - 4]))
    assert refused(tmp_path, bytes(content), "t.csv.xz").code == "table-damaged"


@pytest.mark.parametrize(
    "name", ["../t.csv", "/etc/t.csv", "a/../../t.csv", "..\\t.csv", "C:\\t.csv", "\\\\host\\share\\t.csv", "a\nb.csv"]
)
def test_a_member_that_would_lie_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    told = refused(tmp_path, zipped((name, b"a\n1\n")), "t.zip")
    assert (told.code, "outside" in told.message) == ("table-archive", True)
    assert not (tmp_path.parent / "t.csv").exists()


def test_an_archive_holds_one_plain_file(tmp_path: Path) -> None:
    two = refused(tmp_path, zipped(("one.csv", b"a\n1\n"), ("two.csv", b"a\n2\n")), "t.zip")
    assert "holds 2 files ('one.csv', 'two.csv')" in two.message
    assert "holds 0 files" in refused(tmp_path, zipped(("folder/", b"")), "t.zip").message
    link = zipfile.ZipInfo("t.csv")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert "holds a link" in refused(tmp_path, zipped((link, b"/etc/passwd")), "t.zip").message
    locked = bytearray(zipped(("t.csv", b"a\n1\n")))
    locked[6] |= 1
    locked[locked.index(b"PK\1\2") + 8] |= 1
    assert "password" in refused(tmp_path, bytes(locked), "t.zip").message
    many = zipped(*((f"{n}" * 30, b"") for n in range(20_000)))
    assert "very many files" in refused(tmp_path, many, "t.zip").message
    mac = zipped(("folder/", b""), ("folder/t.csv", b"a\n1\n"), ("__MACOSX/._t.csv", b"x"), ("folder/.DS_Store", b"x"))
    (tmp_path / "t.zip").write_bytes(mac)
    assert read_table(tmp_path / "t.zip").frame.equals(pl.DataFrame({"a": [1]}))

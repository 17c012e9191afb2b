"""Packed files: gzip, Zstandard, bzip2, xz, and ZIP with one file inside; unpacked within bounds, into memory.

What is packed is seen in its bytes. Nothing is ever written under a name that stands in an archive.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mmap
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pyarrow as pa

from loopline.errors import Invalid

Content = bytes | mmap.mmap

LARGEST = 16 << 30
"""Bytes of a table, unpacked, that are taken at all."""

_SAFE = 128 << 20  # bytes that are unpacked in any case
_MOST_TIMES = 200  # its size; tables are packed 5 to 50 times, bombs a thousand
_PIECE = 1 << 20
_XZ_MEMORY = 256 << 20  # xz -9 asks for 65 MiB, a made-up header for 4 GiB
_DIRECTORY = 1 << 20  # bytes of a ZIP's list of members: each costs memory before one of them is read
_SYSTEM = ("__MACOSX/", ".DS_Store")

_HOW = {"gzip": "gunzip", "zstd": "unzstd", "bzip2": "bunzip2", "xz": "unxz", "zip": "unzip"}


def bound(size: int) -> int:
    """How many bytes may come out of so many packed ones."""
    return min(LARGEST, max(_SAFE, _MOST_TIMES * size))


def packed_by(head: bytes) -> str:
    """ "gzip", "zstd", "bzip2", "xz" or "zip" by the first bytes of a file; "" of any other."""
    for name, magic in (
        ("gzip", b"\x1f\x8b"),
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("bzip2", b"BZh"),
        ("xz", b"\xfd7zXZ\0"),
        ("zip", b"PK\x03\x04"),
    ):
        if head.startswith(magic):
            return name
    return ""


def is_workbook(content: Content) -> bool:
    """Whether a ZIP is an Excel workbook or another office document, and no archive of somebody's files."""
    # These are the first members by the rules of either family, and lie within the first entries at the least.
    return any(content.find(sign, 0, 64 << 10) >= 0 for sign in (b"[Content_Types].xml", b"mimetypeapplication/"))


def unpacked(content: Content, how: str, called: str) -> tuple[bytes, str]:
    """The bytes of a packed file, and the name of the member of a ZIP (else "").

    Raises `Invalid` for one that is damaged or cut off, for a bomb, and for a ZIP that holds anything but one plain file.
    """
    inside = ""
    try:
        if how == "zip":
            data, inside = _zip(content, called)
        else:
            data = _UNPACK[how](content, bound(len(content)) + 1)
    except (
        EOFError,
        OSError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        pa.ArrowException,
        struct.error,
    ) as error:
        raise Invalid(
            f"{called} is packed ({how}), but damaged or cut off.",
            code="table-damaged",
            hint="Copy it again, or pack it again.",
        ) from error
    if len(data) > bound(len(content)):
        raise Invalid(
            f"{called} unpacks to more than {bound(len(content)) >> 20:,} MiB, from {len(content):,} bytes.",
            code="table-large",
            hint=f"Unpack it yourself if you trust it ({_HOW[how]} FILE), or give it as Parquet.",
        )
    if not data:
        raise Invalid(f"{called} is empty once unpacked.", code="table-empty", hint="Look at where it was written.")
    return data, inside


def _gzip(content: Content, most: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
        return packed.read(most)


def _zstd(content: Content, most: int) -> bytes:
    out = bytearray()
    with pa.CompressedInputStream(pa.py_buffer(bytes(content)), "zstd") as packed:  # it would hold a mapped file open
        while len(out) < most and (piece := packed.read(_PIECE)):
            out += piece
    return bytes(out)


def _streams(content: Content, most: int, start: Callable[[], Any]) -> bytes:
    """One packed stream after the other, as tools that work in parallel write them."""
    out, rest = bytearray(), bytes(content)
    while rest and len(out) < most:
        opened = start()
        out += opened.decompress(rest, most - len(out))
        if not opened.eof:
            if len(out) < most:
                raise EOFError
            break
        rest = opened.unused_data.lstrip(b"\0")  # xz fills up with NULs
    return bytes(out)


_UNPACK: dict[str, Callable[[Content, int], bytes]] = {
    "gzip": _gzip,
    "zstd": _zstd,
    "bzip2": lambda content, most: _streams(content, most, bz2.BZ2Decompressor),
    "xz": lambda content, most: _streams(
        content, most, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    ),
}


def _zip(content: Content, called: str) -> tuple[bytes, str]:
    _check_directory(content, called)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and not any(s in m.filename for s in _SYSTEM)]
        for member in members:
            _check_member(member, called)
        if len(members) != 1:
            names = ", ".join(repr(m.filename[:60]) for m in members[:5])
            raise Invalid(
                f"{called} holds {len(members)} files{f' ({names})' if names else ''}, and a table is one.",
                code="table-archive",
                hint="Unpack it, and give each table by itself.",
            )
        try:
            with archive.open(members[0]) as packed:
                return packed.read(bound(len(content)) + 1), members[0].filename
        except (NotImplementedError, RuntimeError) as error:
            raise Invalid(
                f"{called} is packed in a way that is not read here: {error}.",
                code="table-archive",
                hint="Unpack it first: unzip FILE.",
            ) from error


def _check_member(member: zipfile.ZipInfo, called: str) -> None:
    name = member.orig_filename
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or not name.isprintable():
        raise Invalid(
            f"{called} holds a file that would lie outside of where it is unpacked: {name[:100]!r}.",
            code="table-archive",
            hint="Who packs by such names means no good; ask for the table itself.",
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise Invalid(
            f"{called} holds a link ({name[:100]!r}), and no table.",
            code="table-archive",
            hint="Pack the file itself: zip FILE.zip TABLE.csv",
        )
    if member.flag_bits & 1:
        raise Invalid(f"{called} is locked by a password.", code="table-archive", hint="Unpack it first: unzip FILE.")


def _check_directory(content: Content, called: str) -> None:
    """Refuses a list of members that is itself a bomb: it is read whole, and each member costs memory."""
    tail = bytes(content[max(0, len(content) - (66 << 10)) :])
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        raise zipfile.BadZipFile
    sizes = [struct.unpack_from("<I", tail, end + 12)[0]]
    if (large := tail.rfind(b"PK\6\6")) >= 0:
        sizes = [struct.unpack_from("<Q", tail, large + 40)[0]]
    if max(sizes) > _DIRECTORY:
        raise Invalid(
            f"{called} is a ZIP of very many files, and a table is one.",
            code="table-archive",
            hint="Unpack it, and give each table by itself.",
        )

"""Packed files: gzip, Zstandard, bzip2, xz, and ZIP with one file inside; unpacked within bounds, to a file without a name.

What is packed is seen in its bytes. Nothing is ever written under a name that stands in an archive.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mmap
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import pyarrow as pa

from loopline.errors import Invalid
from loopline.ports.files import disk_errors

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


def mapped(descriptor: int) -> Content:
    """The content of an open file, which is there as long as this is held."""
    if not os.fstat(descriptor).st_size:
        return b""
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)


def release(content: Content, start: int, end: int) -> None:
    """Lets go of the memory of a part of a mapped file that was read; it can be read again."""
    if isinstance(content, mmap.mmap) and hasattr(content, "madvise"):
        start -= start % mmap.PAGESIZE
        content.madvise(mmap.MADV_DONTNEED, start, end - start)


def aside(pieces: Iterable[bytes], scratch: Path | None) -> Content:
    """The bytes of all pieces, which lie in a file without a name in `scratch`. Raises `Unavailable` (code "disk-full")."""
    folder = scratch or Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as out:
        for piece in pieces:
            with disk_errors(folder):
                out.write(piece)
        with disk_errors(folder):
            out.flush()
        return mapped(out.fileno())  # which holds the file


class Reading(io.RawIOBase):
    """A content as a file to read, of which nothing stays in memory."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        start, end = self._at, min(self._at + len(buffer), len(self._content))
        buffer[: max(0, end - start)] = self._content[start:end]
        self._at = max(start, end)
        release(self._content, start, end)
        return max(0, end - start)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        return self._at


def unpacked(content: Content, how: str, called: str, scratch: Path | None = None) -> tuple[Content, str]:
    """The bytes of a packed file, which lie in `scratch`, and the name of the member of a ZIP (else "").

    Raises `Invalid` for one that is damaged or cut off, for a bomb, and for a ZIP that holds anything but one plain file;
    `Unavailable` (code "disk-full") where there is no space.
    """
    inside, most, folder = "", bound(len(content)), scratch or Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as out:
        try:
            file = io.BufferedReader(Reading(content), _PIECE)
            if how == "zip":
                pieces, inside = _zip(file, content, called)
            else:
                pieces = _UNPACK[how](file)
            for piece in pieces:
                with disk_errors(folder):
                    out.write(piece)
                if out.tell() > most:
                    break
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
        if out.tell() > most:
            raise Invalid(
                f"{called} unpacks to more than {most >> 20:,} MiB, from {len(content):,} bytes.",
                code="table-large",
                hint=f"Unpack it yourself if you trust it ({_HOW[how]} FILE), or give it as Parquet.",
            )
        if not out.tell():
            raise Invalid(f"{called} is empty once unpacked.", code="table-empty", hint="Look at where it was written.")
        out.flush()
        return mapped(out.fileno()), inside


def _pieces(packed: Any) -> Iterator[bytes]:
    with packed:
        while piece := packed.read(_PIECE):
            yield piece


def _streams(file: IO[bytes], start: Callable[[], Any]) -> Iterator[bytes]:
    """One packed stream after the other, as tools that work in parallel write them."""
    opened, rest, begun = None, b"", False
    while rest := rest or file.read(_PIECE):
        if opened is None:
            rest = rest.lstrip(b"\0") if begun else rest  # xz fills up with NULs
            if not rest:
                continue
            opened, begun = start(), True
        yield opened.decompress(rest, _PIECE)
        while not opened.eof and not opened.needs_input:
            yield opened.decompress(b"", _PIECE)
        rest = opened.unused_data
        if opened.eof:
            opened = None
    if opened is not None:
        raise EOFError


_UNPACK: dict[str, Callable[[Any], Iterator[bytes]]] = {
    "gzip": lambda file: _pieces(gzip.GzipFile(fileobj=file)),
    "zstd": lambda file: _pieces(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")),
    "bzip2": lambda file: _streams(file, bz2.BZ2Decompressor),
    "xz": lambda file: _streams(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)),
}


def _zip(file: IO[bytes], content: Content, called: str) -> tuple[Iterator[bytes], str]:
    _check_directory(content, called)
    with zipfile.ZipFile(file) as archive:
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
            return _pieces(archive.open(members[0])), members[0].filename
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

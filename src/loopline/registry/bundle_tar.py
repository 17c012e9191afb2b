"""Bundles as tar files: packed the same way every time, unpacked without trust.

Nothing of a tar is believed. Only plain files and folders are taken; links, devices, sparse files, absolute paths, "..", names
that two systems read differently, two files of one name (letters' case and Unicode forms apart), and anything over the limits
are refused with the member's name, before a byte of it is written. The folder unpacked into is a new private one, so nothing
in it can be swapped for a link meanwhile.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from loopline.errors import Invalid
from loopline.failpoints import failpoint
from loopline.ports.files import disk_errors

MOST_FILES = 1000
MOST_BYTES = 1 << 30
_MOST_MEMBERS = 4 * MOST_FILES
_LONGEST = 255
_PIECE = 1 << 20
_PLAIN = re.compile(r"[A-Za-z0-9_+=@,()\-][A-Za-z0-9_.+=@,()\- ]*")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


def pack(folder: Path) -> bytes:
    """The tar of a folder's files: sorted names, no times, no owners; the same bytes for the same files.

    Raises `Invalid` on anything in it that is neither a file nor a folder.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Invalid(f"{path} is neither a file nor a folder, so it cannot be in a bundle.", code="bad-bundle")
        if path.is_file():
            found.append((path.relative_to(folder).as_posix(), path.read_bytes()))
    return pack_files(found)


def pack_files(files: Iterable[tuple[str, bytes]]) -> bytes:
    """The tar of some files by name; see `pack`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def unpack(chunks: Iterable[bytes], into: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, int]:
    """Writes the files of a tar into a new folder; gives their sizes by name. Raises `Invalid` on the first thing amiss."""
    into.mkdir(mode=0o700)
    sizes: dict[str, int] = {}
    places: dict[str, str] = {}
    stream = _Stream(chunks)
    try:
        # A plain tar only, as a stream: no compression (a small file could become a big one), nothing read twice.
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=64 * 1024, errors="strict") as tar:
            for count, member in enumerate(tar):
                if count >= _MOST_MEMBERS:
                    raise _refused(member.name, f"is one of more than {_MOST_MEMBERS} members")
                _check_kind(member)
                name = member.name.rstrip("/") if member.isdir() else member.name
                if member.isdir() and name in ("", "."):
                    continue
                name = _checked_name(name.removeprefix("./"), member.name)
                if member.isdir():
                    continue
                _claim(name, places)
                if len(sizes) >= MOST_FILES:
                    raise _refused(name, f"is one of more than {MOST_FILES} files")
                if member.size > most_bytes - sum(sizes.values()):
                    raise _refused(name, f"makes the bundle larger than {most_bytes} bytes")
                source = tar.extractfile(member)
                assert source is not None  # a plain file always has one
                sizes[name] = _write(into / name, source, member.size)
    except (tarfile.TarError, UnicodeError, ValueError, EOFError, OverflowError, RecursionError) as e:
        raise Invalid(
            f"The bundle is not a whole tar file: {e}.",
            code="bad-bundle",
            hint="Pack the folder again and send it anew.",
        ) from e
    if not sizes:
        raise Invalid("The bundle has no files.", code="bad-bundle", hint="Pack the bundle's folder.")
    return sizes


class _Stream:
    """Chunks as a file that can only be read on."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        out, self._rest = self._rest[:size], self._rest[size:]
        return out


def _check_kind(member: tarfile.TarInfo) -> None:
    if member.issym() or member.islnk():
        raise _refused(member.name, f"is a link (to {member.linkname!r})")
    if member.issparse():
        raise _refused(member.name, "is a sparse file")
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        raise _refused(member.name, "is neither a file nor a folder")


def _checked_name(name: str, printed: str) -> str:
    parts = name.split("/")
    for part in parts:
        if part in ("", ".", ".."):
            raise _refused(printed, "is an absolute path, or one with '..' or empty parts")
        if not _PLAIN.fullmatch(part) or part.endswith((".", " ")) or _RESERVED.fullmatch(part):
            raise _refused(printed, "has a name that not every system reads alike")
    if len(name) > _LONGEST:
        raise _refused(printed, f"has a name of more than {_LONGEST} characters")
    return name


def _claim(name: str, places: dict[str, str]) -> None:
    """Refuses a second file at one place, and a file where another one needs a folder."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    if folded in places:
        raise _refused(name, f"is there twice (as {places[folded]!r})")
    parts = folded.split("/")
    for end in range(1, len(parts)):
        if "/".join(parts[:end]) in places:
            raise _refused(name, "lies below a file")
    if any(place.startswith(folded + "/") for place in places):
        raise _refused(name, "is a file and a folder at once")
    places[folded] = name


def _write(path: Path, source: IO[bytes], size: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    written = 0
    with disk_errors(path), open(os.open(path, flags, 0o600), "wb") as file:
        failpoint("registry.unpack.write")
        while piece := source.read(_PIECE):
            file.write(piece)
            written += len(piece)
    if written != size:
        raise _refused(path.name, f"is cut off: {written} of {size} bytes")
    return written


def _refused(name: str, why: str) -> Invalid:
    return Invalid(
        f"The bundle cannot be taken: {name[:120]!r} {why}.",
        code="bad-bundle",
        hint="Pack the folder with loopline.registry.bundle_tar.pack.",
    )

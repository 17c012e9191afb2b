"""Blobs in a folder: one file each, named by its digest, spread over 256 folders."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from loopline.errors import Conflict, NotFound
from loopline.failpoints import failpoint
from loopline.hashing import digest_chunks
from loopline.ports.blobs import Blob, check_digest, missing
from loopline.ports.files import TEMPORARY, disk_errors, removed_on_error, sync_folder

_CHUNK = 1 << 20
_READ_ONLY = 0o444


class LocalBlobs:
    """A `BlobStore` in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, chunks: Iterable[bytes]) -> Blob:
        state, size = blake3(), 0
        temporary = self.folder / f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}"
        with disk_errors(self.folder), removed_on_error(temporary):
            failpoint("store.put.create")
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _READ_ONLY), "wb", buffering=0) as file:
                for chunk in chunks:
                    failpoint("store.put.write")
                    state.update(chunk)
                    size += len(chunk)
                    rest = memoryview(chunk)
                    while rest:  # an unbuffered write may take a part only
                        rest = rest[file.write(rest) or 0 :]
                failpoint("store.put.before_sync")
                os.fsync(file.fileno())
            return self._settle(temporary, f"blake3:{state.hexdigest()}", size)

    def take(self, file: Path, digest: str) -> Blob:
        check_digest(digest)
        with disk_errors(self.folder):
            with file.open("rb") as written:
                size = os.fstat(written.fileno()).st_size
                if (known := self._again(digest, size)) is not None:
                    file.unlink()
                    return known
                failpoint("store.take.before_sync")
                os.fsync(written.fileno())
            try:
                return self._settle(file, digest, size)
            except OSError as e:
                if e.errno != errno.EXDEV:
                    raise
        with file.open("rb") as written:  # the store is on another disk
            blob = self.put(iter(lambda: written.read(_CHUNK), b""))
        file.unlink()
        return blob

    def take_all(self, files: Mapping[str, Path]) -> None:
        with disk_errors(self.folder):
            written: dict[str, list[tuple[Path, str]]] = {}
            disk = self.folder.stat().st_dev
            for digest, file in files.items():
                found = os.stat(file)
                if found.st_dev != disk:
                    self.take(file, digest)
                elif self._again(digest, found.st_size) is not None:
                    file.unlink()
                else:
                    name = check_digest(digest)
                    written.setdefault(name[:2], []).append((file, name[2:]))
            if not written:
                return
            _sync_all(self.folder, [file for some in written.values() for file, _ in some])
            folders = {self.folder / first: some for first, some in written.items()}
            for folder in folders:
                self._make(folder)
            with self._locked(fcntl.LOCK_SH):
                for folder, some in folders.items():
                    for file, name in some:
                        failpoint("store.take_all.before_rename")
                        os.utime(file)
                        os.replace(file, f"{folder}/{name}")
            _sync_all(self.folder, folders)

    def _again(self, digest: str, size: int) -> Blob | None:
        """The blob as it is there already, young again; None where it is not there or not whole.

        To read it is faster than to wait until the disk has the same bytes once more.
        """
        if (found := self._stat(digest)) is None or found.st_size != size:
            return None
        path = self._path(digest)
        try:
            if digest_chunks(self.chunks(digest)) != digest:
                return None
            with self._locked(fcntl.LOCK_SH):
                os.utime(path)
                return Blob(digest, size, _milliseconds(path.stat()))
        except (FileNotFoundError, NotFound):
            return None

    def _settle(self, written: Path, digest: str, size: int) -> Blob:
        """Makes a file that is written and synced the blob of this digest."""
        path = self._path(digest)
        self._make(path.parent)
        failpoint("store.put.before_rename")
        with self._locked(fcntl.LOCK_SH):
            # Also where the blob is there already: the same bytes, young again, and a damaged one is mended by it.
            os.utime(written)  # its bytes may have come over a long time
            os.replace(written, path)
        sync_folder(path.parent)
        failpoint("store.put.after_rename")
        return Blob(digest, size, _milliseconds(path.stat()))

    def _make(self, folder: Path) -> None:
        """Sees to it that one of the 256 folders is there."""
        if not os.path.lexists(folder):
            folder.mkdir(exist_ok=True)
            sync_folder(self.folder)
        if folder.is_symlink():
            raise Conflict(
                f"{folder} is a link, and the store follows none.",
                code="store-link",
                hint="Put a folder in its place, and look at who could write there.",
            )

    def read(self, digest: str, start: int = 0, stop: int | None = None) -> bytes:
        with self._open(digest) as file:
            file.seek(start)
            return file.read() if stop is None else file.read(max(0, stop - start))

    def chunks(self, digest: str) -> Iterator[bytes]:
        file = self._open(digest)

        def pieces() -> Iterator[bytes]:
            with file:
                yield from iter(lambda: file.read(_CHUNK), b"")

        return pieces()

    def stat(self, digest: str) -> Blob:
        found = self._stat(digest)
        if found is None:
            raise missing(digest)
        return Blob(digest, found.st_size, _milliseconds(found))

    def exists(self, digest: str) -> bool:
        return self._stat(digest) is not None

    def delete(self, digest: str, before: int | None = None) -> bool:
        path = self._path(digest)
        try:
            with self._locked(fcntl.LOCK_EX):
                if before is not None and _milliseconds(path.stat()) >= before:
                    return False
                failpoint("store.delete.before_unlink")
                path.unlink()
        except FileNotFoundError:
            return False
        return True

    def list(self) -> Iterator[Blob]:
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if len(path.name) == 62:
                try:
                    found = path.stat()
                except FileNotFoundError:  # swept meanwhile
                    continue
                yield Blob(f"blake3:{path.parent.name}{path.name}", found.st_size, _milliseconds(found))

    def path(self, digest: str) -> Path:
        if self._stat(digest) is None:
            raise missing(digest)
        return self._path(digest)

    def tidy(self, older_than: float = 3600.0) -> int:
        count = 0
        for path in self.folder.glob(f"{TEMPORARY}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()
                    count += 1
        return count

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Blobs are put by as many as like (`LOCK_SH`); who removes one by its age (`LOCK_EX`) does so while nobody puts any."""
        number = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(number, how)
            yield
        finally:
            os.close(number)

    def _path(self, digest: str) -> Path:
        return placed(self.folder, digest)

    def _stat(self, digest: str) -> os.stat_result | None:
        """Of the blob's file; None where there is none, or a link: whoever put that there may mean any file by it."""
        name = check_digest(digest)
        folder = f"{self.folder}/{name[:2]}"  # of a version's many files each is looked at: a text is ten times as fast
        try:
            found = os.lstat(f"{folder}/{name[2:]}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found if stat.S_ISREG(found.st_mode) and not os.path.islink(folder) else None

    def _open(self, digest: str) -> BinaryIO:
        if self._stat(digest) is None:
            raise missing(digest)
        try:
            return open(os.open(self._path(digest), os.O_RDONLY | os.O_NOFOLLOW), "rb")
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ELOOP):  # gone, or made a link, since
                raise missing(digest) from None
            raise


def placed(folder: Path, digest: str) -> Path:
    """Where a folder of blobs has the one of a digest, or would have it."""
    name = check_digest(digest)
    return Path(folder, name[:2], name[2:])


def _sync_all(folder: Path, places: Iterable[Path]) -> None:
    """Makes files, or the names in folders, durable on a folder's disk: all at once where the system can, which is far faster."""
    at_once = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    failpoint("store.take_all.before_sync")
    for place in (folder,) if at_once is not None else places:
        descriptor = os.open(place, os.O_RDONLY)
        try:
            if at_once is None:
                os.fsync(descriptor)
            elif at_once(descriptor):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(folder))
        finally:
            os.close(descriptor)


def _milliseconds(found: os.stat_result) -> int:
    return found.st_mtime_ns // 1_000_000

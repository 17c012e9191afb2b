"""Files that are whole or not there: written aside, synced, renamed, and the folder synced."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from loopline.errors import Unavailable
from loopline.failpoints import failpoint

TEMPORARY = ".writing-"
"""How the name of a file begins that is not whole yet; one that is left over may be removed."""


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes a file so that a reader, and the disk after a power cut, has the old bytes or the new ones, all of them.

    Makes the folder where it is missing. Raises `Unavailable` (code "disk-full") when the bytes cannot be kept; nothing is
    left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")
    with disk_errors(path), removed_on_error(temporary):
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            failpoint("files.write.write")
            file.write(data)
            file.flush()
            failpoint("files.write.before_sync")
            os.fsync(file.fileno())
        failpoint("files.write.before_rename")
        os.replace(temporary, path)
        sync_folder(path.parent)
        failpoint("files.write.after_rename")


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        failpoint("files.sync_folder.before_sync")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def removed_on_error(path: Path) -> Iterator[None]:
    """Removes the file when the body fails."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns "no space left" and failing disks into `Unavailable` with the way out."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(
                f"There is no space left to write {path}.",
                code="disk-full",
                hint="Free some space and run it again; nothing half-done is left.",
            ) from e
        if e.errno == errno.EIO:
            raise Unavailable(
                f"The disk failed while {path} was written.",
                code="disk-failing",
                hint="Look at the disk's health; nothing half-done is left.",
            ) from e
        raise

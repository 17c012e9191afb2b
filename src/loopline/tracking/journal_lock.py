"""Who has a journal: its writer while that lives, then whoever sends what is left. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Holds a journal whose process is dead, so that nobody else sends it; False where a process has it."""
    descriptor = held(folder, 0)
    try:
        yield descriptor >= 0
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def held(folder: Path, flags: int) -> int:
    """The descriptor of a journal's lock, held until it is closed; -1 where another has it, or has removed it meanwhile.

    `flags`: `os.O_CREAT` makes it where it is missing.
    """
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return -1

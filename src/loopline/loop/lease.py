"""The controller's lease: one controller on a workspace at a time, and where it can be reached.

A lock on a file, held by the open process and let go by the system when it ends, however it ends; beside it a note of who
holds it, for the error that a second one gets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from loopline.errors import Conflict

_NAME = "controller.lock"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lease: its process, what it does, and its address where it serves."""

    pid: int
    purpose: str
    url: str = ""


def holder(workspace: Path) -> Holder | None:
    """Who holds the lease now, or None."""
    path = workspace / _NAME
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(path.read_bytes(), type=Holder)
            return Holder(pid=0, purpose="starting")
    return None


@contextlib.contextmanager
def held(workspace: Path, purpose: str, url: str = "") -> Iterator[None]:
    """Holds the lease for the length of the block. Raises `Conflict` where another process holds it."""
    workspace.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(workspace / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = holder(workspace)
            who = f"process {other.pid} ({other.purpose})" if other and other.pid else "another process"
            raise Conflict(
                f"The workspace {workspace} is held by {who}: one controller at a time.",
                code="controller-running",
                hint="Use the one that runs"
                + (f", at {other.url}" if other and other.url else "")
                + ", end it, or take another workspace.",
            ) from None
        note = msgspec.json.encode(Holder(pid=os.getpid(), purpose=purpose, url=url))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note, 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lets one process at a time into the block, the others after it; the file is nothing but the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

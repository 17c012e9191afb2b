"""What was known of a folder when it was last added or checked out, so that what has not changed is not read again.

It is kept beside the workspace, not in the folder. A lost or damaged one costs a reading, nothing else.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import xxhash

from loopline.data.files.scan import Found, scan, stamp, unreadable
from loopline.data.manifest import File, Manifest
from loopline.errors import Conflict, NotFound
from loopline.ports.files import write_whole

_SECOND = 1_000_000_000


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A folder as it was: the version that it held, and by what its files are known again (`scan.stamp`).

    `time` (nanoseconds) is from before they were looked at.
    """

    ref: str
    manifest: Manifest
    stamps: dict[str, tuple[int, int, int]]
    time: int

    def unchanged(self) -> dict[str, tuple[tuple[int, int, int], File]]:
        """The files whose stamp can be trusted, by path.

        One that was changed in the second in which it was looked at may have been changed again since, with the same time.
        """
        looked = self.time // _SECOND
        known = {file.path: file for file in self.manifest.files}
        return {
            path: (mark, known[path])
            for path, mark in self.stamps.items()
            if mark[1] // _SECOND < looked and path in known
        }


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a folder differs from the version that it was last made to, or added as."""

    ref: str
    folder: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    same: int

    @property
    def clean(self) -> bool:
        """Whether nothing differs."""
        return not (self.added or self.removed or self.changed)


def now() -> int:
    """The time of files: nanoseconds since 1970-01-01 UTC."""
    return time.time_ns()


def read_state(states: Path, folder: Path) -> State | None:
    """What is known of a folder; None where nothing is, or what is cannot be read."""
    try:
        return msgspec.msgpack.decode(_place(states, folder).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None


def write_state(states: Path, folder: Path, state: State) -> None:
    """Keeps what is known of a folder."""
    write_whole(_place(states, folder), msgspec.msgpack.encode(state))


def status(states: Path, folder: Path) -> Status:
    """How a folder differs from its version: no file is read whose size, time and inode are as they were.

    Raises `NotFound` for a folder that was neither added nor checked out.
    """
    folder = folder.resolve()
    known = read_state(states, folder)
    if known is None:
        raise NotFound(
            f"Nothing is known of {folder}: it was neither added nor checked out here.",
            code="no-folder-state",
            hint="loopline data add NAME FOLDER --files, or loopline data checkout REF FOLDER.",
        )
    begun, found = now(), _there(folder)
    trusted = known.unchanged()
    changed, stamps = changes(known, folder, found, trusted)
    distrusted = len(trusted) < len(stamps) and begun // _SECOND > known.time // _SECOND
    if distrusted or stamps != known.stamps:
        write_state(states, folder, msgspec.structs.replace(known, stamps=stamps, time=begun))
    kept = known.manifest
    old = {
        **{f.path: "" for f in kept.files},
        **{link.path: link.target for link in kept.links},
        **dict.fromkeys(kept.folders),
    }
    new = {
        **dict.fromkeys(found.files, ""),
        **{p: link.target for p, link in found.links.items()},
        **dict.fromkeys((*found.folders, *(path.encode("utf-8", "backslashreplace").decode() for path in found.odd))),
    }
    both = old.keys() & new.keys()
    changed |= {path for path in both if old[path] != new[path]}
    return Status(
        ref=known.ref,
        folder=str(folder),
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(changed)),
        same=len(both) - len(changed),
    )


def changes(
    known: State, folder: Path, found: Found, trusted: dict[str, tuple[tuple[int, int, int], File]]
) -> tuple[set[str], dict[str, tuple[int, int, int]]]:
    """The files of a version that differ now, and the stamps of those that do not; `trusted` is `known.unchanged()`."""
    changed: set[str] = set()
    stamps: dict[str, tuple[int, int, int]] = {}
    for file in known.manifest.files:
        there = found.files.get(file.path)
        if there is None:
            continue
        mark, executable = stamp(there), bool(there.st_mode & 0o100)
        same = file.path in trusted and trusted[file.path][0] == mark
        if executable != file.executable or not (same or is_file(folder / file.path, file, there)):
            changed.add(file.path)
        else:
            stamps[file.path] = mark
    return changed, stamps


def is_file(path: Path, file: File, there: os.stat_result) -> bool:
    """Whether what is at a place has the bytes of a file of a version; it is read only where the size is the same."""
    return there.st_size == file.size and digest_now(path) == file.digest


def digest_now(path: Path) -> str:
    """The digest of a file as it is. Raises `Conflict` (code "file-changing") where it changes meanwhile."""
    from loopline.hashing import digest_file

    try:
        before = path.lstat()
        found = digest_file(path)
        after = path.lstat()
    except OSError as e:
        raise unreadable(path, e) from e
    check_still(path, before, after)
    return found


def check_still(path: Path | str, before: os.stat_result, after: os.stat_result) -> None:
    """Raises `Conflict` where a file was changed while it was read."""
    if stamp(before) != stamp(after):
        raise Conflict(
            f"{path} was changed while it was read.",
            code="file-changing",
            hint="Do it again when nobody writes to the folder.",
        )


def _there(folder: Path) -> Found:
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", code="no-folder", hint="loopline data checkout REF FOLDER")
    return scan(folder)


def _place(states: Path, folder: Path) -> Path:
    return states / xxhash.xxh3_128_hexdigest(os.fsencode(folder.resolve()))

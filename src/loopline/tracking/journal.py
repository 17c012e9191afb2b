"""The journal of a training process: what it logs is in a file before the call returns. Standard library only.

A journal is a folder `<workspace>/journals/<sender>/`, for its owner alone:

    lock            held by flock while the process that writes it lives; who sends a dead one's journal holds it, too
    target.json     the project and the server that it is for
    00000001.log    segments, in the form of `journal_format.py`; each begins when the one before has 8 MB
    00000001.sent   how the segment was cut into batches (see `outbox.py`)
    artifacts/      files put aside until they are uploaded, by digest
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import threading
import warnings
import weakref
from collections.abc import Iterable
from pathlib import Path
from struct import error as StructError
from time import time_ns
from typing import Any, NamedTuple
from zlib import crc32

from loopline.errors import Invalid, NotFound, Unavailable
from loopline.failpoints import failpoint
from loopline.ports.files import TEMPORARY, disk_errors, removed_on_error, sync_folder, write_whole
from loopline.tracking.entries import NUMBERS, entry_text
from loopline.tracking.ids import ulid
from loopline.tracking.journal_format import (
    ENTRIES,
    HEAD,
    KEY_LENGTH,
    MAGIC,
    POINT,
    POINTS,
    SEEDS,
    frame,
    run_prefix,
)
from loopline.tracking.journal_lock import held
from loopline.tracking.paths import check_key

QUOTA = 2 << 30
"""Bytes that all journals of a workspace may have together, where nothing else is set."""

RESERVE = 1 << 20
"""Bytes of these, or a 32nd of fewer, that are kept free to say how runs ended."""

SEGMENT = 8 << 20
_WARNED = 0.8
_MARK = 2 << 20  # bytes after which the end of a frame is noted, for batches; entries have their own bound
_FRAME = 256 << 10  # bytes of points, from which the next frame begins
_KNOWN_KEYS = 10_000


class Target(NamedTuple):
    """Whom a journal is for: a project of the server at a URL ("": the workspace that the journal is in)."""

    project: str = "default"
    server: str = ""


HERE = Target()


class Position(NamedTuple):
    """How far a journal is written: the number of its last segment, and that one's bytes."""

    segment: int
    size: int


class Journal:
    """One writer, for all threads of this process and every run that they log to.

    A call that returned is safe from the end of the process, whichever way it ends: it is one write(2). It is safe from the
    end of the machine once `sync` went through, which the sender calls at most once a second, and `close`. A call that raises
    has written nothing. A fork begins a journal of its own with the first thing that it logs.
    """

    def __init__(self, folder: Path, quota: int, target: Target) -> None:
        self.target = target
        self.sender = ""
        self.folder = folder
        self._journals = folder
        self._quota = quota
        self._segment_bytes = min(SEGMENT, quota // 16)
        self._segment, self._size, self._stop, self._synced = 0, 0, -1, 1
        self._fd = self._lock_fd = -1
        self._warned = self._making_room = False
        self._marks: list[Position] = []
        self._entries = 0  # since the last mark
        self._kept: collections.Counter[str] = collections.Counter()
        self._known: dict[tuple[str, str], tuple[int, bytes, int]] = {}
        self._closed = False
        self._lock = threading.RLock()  # reentrant: a signal's handler may log in the midst of a call
        self._begin()
        _living.add(self)

    @classmethod
    def open(cls, folder: Path, *, quota: int = QUOTA, target: Target = HERE) -> Journal:
        """A new journal in the folder of a workspace's journals, with a new sender."""
        return cls(folder, quota, target)

    def point(self, run: str, key: str, value: float, step: int, time: int) -> None:
        """Logs one value of a metric; `time` in milliseconds since 1970 UTC.

        Raises `Invalid` on what is no point, `Unavailable` (codes "journal-full", "disk-full") where there is no room.
        """
        length, prefix, crc = self._known.get((run, key)) or self._learn(run, key)
        point = _packed(key, value, step, time)
        self._append(HEAD.pack(length, crc32(point, crc), POINTS) + prefix + point)

    def points(self, run: str, points: Iterable[tuple[str, float, int, int]]) -> None:
        """Logs some points (key, value, step, time), all or, where one of them is none, nothing. Raises as `point` does."""
        begin = run_prefix(run)
        frames, some, size = [], [], 0
        for key, value, step, time in points:
            name = (self._known.get((run, key)) or self._learn(run, key))[1]
            some.append(name[len(begin) :] + _packed(key, value, step, time))
            size += len(some[-1])
            if size > _FRAME:
                frames.append(frame(POINTS, begin + b"".join(some)))
                some, size = [], 0
        if some:
            frames.append(frame(POINTS, begin + b"".join(some)))
        if frames:
            self._append(b"".join(frames))

    def record(self, kind: str, run: str, /, **fields: Any) -> None:
        """Logs something other than points of a run: a kind of `journal_format.KINDS` with its fields.

        Raises `Invalid` on what the server would not take (see `entries.py`), and as `point` does.
        """
        text = entry_text(kind, fields)
        self._append(frame(NUMBERS[kind], run_prefix(run) + text), entry=True, last=kind == "finish")

    def keep_file(self, path: Path) -> tuple[str, int]:
        """Puts a copy of a file aside until it is uploaded; gives its digest (`blake3:<hex>`) and size in bytes.

        Log an "artifact" with both, and the path that it has in the run, right afterwards. Raises `NotFound` where there is no
        such file.
        """
        from blake3 import blake3

        if not path.is_file():
            raise NotFound(
                f"There is no file {path}.", code="no-file", hint="Look at the path; a folder is kept by its files."
            )
        with self._lock:
            self._own()
            self._check_quota(path.stat().st_size)
        aside = self.folder / "artifacts"
        aside.mkdir(mode=0o700, exist_ok=True)
        temporary = aside / f"{TEMPORARY}{os.urandom(8).hex()}"
        state, size = blake3(), 0
        with disk_errors(temporary), removed_on_error(temporary):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with path.open("rb") as source, open(descriptor, "wb") as file:
                for chunk in iter(lambda: source.read(1 << 20), b""):
                    failpoint("tracking.keep_file.write")
                    state.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                file.flush()
                failpoint("tracking.keep_file.before_sync")
                os.fsync(file.fileno())
            digest = f"blake3:{state.hexdigest()}"
            with self._lock:  # so that an upload that ends now does not take the file away
                self._kept[digest] += 1
                failpoint("tracking.keep_file.before_rename")
                os.replace(temporary, aside / state.hexdigest())
        return digest, size

    def let_go(self, digest: str) -> None:
        """Says that a file put aside was uploaded once; it is removed with the last artifact that needs it."""
        with self._lock:
            self._kept[digest] -= 1
            if self._kept[digest] <= 0:
                del self._kept[digest]
                (self.folder / "artifacts" / digest.partition(":")[2]).unlink(missing_ok=True)

    @property
    def is_open(self) -> bool:
        """Whether this process has a journal here that it writes to: not after `close`, nor in a fork that logged nothing."""
        return self._fd >= 0

    def written(self) -> list[Position]:
        """How far this process has written, and before that, where batches can end; none where not open."""
        with self._lock:
            return [*self._marks, self._end()] if self._fd >= 0 else []

    def sync(self) -> None:
        """Brings what was written so far to the disk itself."""
        with self._lock:
            upto, folder = self._segment, self.folder
        for number in range(self._synced, upto + 1):
            with contextlib.suppress(FileNotFoundError):  # sent and removed
                descriptor = os.open(segment_path(folder, number), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    failpoint("tracking.journal.before_sync")
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        if upto > self._synced:
            sync_folder(folder)
        self._synced = upto

    def close(self) -> None:
        """Ends the writing. What is not sent stays for `loopline sync`."""
        with self._lock:
            if self._fd >= 0 and self.folder.exists():  # its sender removes what the server has
                self.sync()
            self._closed = True
            self._let_loose()

    # What follows runs with the lock held.

    def _append(self, data: bytes, *, entry: bool = False, last: bool = False) -> None:
        with self._lock:
            if self._size + len(data) > self._stop:
                self._make_room(len(data), last)
            self._write(data)
            self._entries += entry
            if self._entries == ENTRIES:
                self._mark()

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            failpoint("tracking.journal.write")
            written = os.write(self._fd, data)
            if written < len(data):  # the disk is full, which the next write says
                written += os.write(self._fd, data[written:])
        except OSError:
            if written:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            with disk_errors(self.folder):
                raise
        self._size += written

    def _make_room(self, size: int, last: bool) -> None:
        """Sees to it that so many bytes can be written; `last`: of the reserve, too."""
        if self._making_room:  # a signal's handler logs in the midst of this: it takes the segment that is there
            return
        self._making_room = True
        try:
            self._own()
            left = self._check_quota(size, last=last)
            self._mark()
            if self._size + size > self._segment_bytes and self._size > len(MAGIC):
                self._next_segment()
            self._stop = min(self._segment_bytes, self._size + min(left, _MARK))
        finally:
            self._making_room = False

    def _mark(self) -> None:
        self._marks.append(self._end())
        self._entries = 0

    def _end(self) -> Position:
        return Position(self._segment, os.fstat(self._fd).st_size)

    def _own(self) -> None:
        """Sees to it that there is a journal of this process."""
        if self._closed:
            raise Invalid(f"The journal {self.folder} is closed.", code="journal-closed", hint="Start a run anew.")
        if self._fd < 0:
            self._begin()

    def _check_quota(self, size: int, *, last: bool = False) -> int:
        """The bytes after which to look again, where so many are allowed."""
        most = self._quota - min(RESERVE, self._quota // 32)
        used, near = _bytes_in(self._journals) + len(MAGIC), int(self._quota * _WARNED)  # of a next segment
        if used + size > (self._quota if last else most):
            raise Unavailable(
                f"The journals in {self._journals} are full: {used:,} of {self._quota:,} bytes wait to be sent.",
                code="journal-full",
                hint="Is the server up? `loopline sync` sends them; LOOPLINE_JOURNAL_QUOTA sets the bytes they may have.",
            )
        if used + size > near and not self._warned:
            self._warned = True
            warnings.warn(
                f"The journals in {self._journals} have {used:,} of the {self._quota:,} bytes they may have; at the last of "
                "them logging fails. Is the server up? `loopline sync` sends them.",
                RuntimeWarning,
                stacklevel=5,
            )
        return (most if self._warned else near) - used

    def _begin(self) -> None:
        """Makes the folder of a new sender and its first segment."""
        with disk_errors(self._journals):
            self._journals.mkdir(parents=True, exist_ok=True, mode=0o700)
            while self._lock_fd < 0:
                self.sender = ulid(time_ns() // 1_000_000)
                self.folder = self._journals / self.sender
                self.folder.mkdir(mode=0o700)
                self._lock_fd = held(self.folder, os.O_CREAT)  # none where a sync took the empty folder for a leftover
            write_whole(self.folder / "target.json", json.dumps(self.target._asdict()).encode(), mode=0o600)
            self._next_segment()
            sync_folder(self._journals)

    def _next_segment(self) -> None:
        path = segment_path(self.folder, self._segment + 1)
        with disk_errors(path), removed_on_error(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                failpoint("tracking.journal.begin")
                os.write(descriptor, MAGIC)
                if self._fd < 0:
                    self._fd = os.dup(descriptor)
                else:  # the number stays, so that a call that a signal interrupted finds a file behind it
                    os.dup2(descriptor, self._fd, inheritable=False)
            finally:
                os.close(descriptor)
        self._segment += 1
        self._size = len(MAGIC)

    def _let_loose(self) -> None:
        for descriptor in (self._fd, self._lock_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._fd = self._lock_fd = self._stop = -1

    def _leave(self) -> None:
        """In a fork: the journal is the parent's, and so is its lock."""
        self._let_loose()
        self._lock = threading.RLock()  # the old one may be held by a thread that is not here
        self._segment, self._synced = 0, 1
        self._making_room = False
        self._marks.clear()
        self._entries = 0
        self._kept.clear()
        self.sender = ""

    def _learn(self, run: str, key: str) -> tuple[int, bytes, int]:
        """The length of a point's payload, how it begins, and the crc up to there."""
        if not isinstance(key, str):
            raise Invalid(f"{key!r} cannot be the key of a metric.", code="bad-key", hint="Give a text such as 'loss'.")
        name = check_key(key, "key of a metric").encode()
        prefix = run_prefix(run) + KEY_LENGTH.pack(len(name)) + name
        if len(self._known) >= _KNOWN_KEYS:
            self._known.clear()
        self._known[run, key] = known = (len(prefix) + POINT.size, prefix, crc32(prefix, SEEDS[POINTS]))
        return known


_living: weakref.WeakSet[Journal] = weakref.WeakSet()


def _forked() -> None:
    for journal in _living:
        journal._leave()


os.register_at_fork(after_in_child=_forked)


def segment_path(folder: Path, number: int) -> Path:
    """The file of a journal's segment."""
    return folder / f"{number:08d}.log"


def _bytes_in(folder: Path) -> int:
    """The bytes of all files below a folder; one that is removed meanwhile counts or does not."""
    total = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                total += _bytes_in(Path(entry.path))
            else:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _packed(key: str, value: float, step: int, time: int) -> bytes:
    try:
        if time < 0:
            raise ValueError("the time is negative")
        return POINT.pack(step, time, value)
    except (StructError, TypeError, ValueError, OverflowError) as e:
        raise Invalid(
            f"{key!r} has the value {value!r}, step {step!r} and time {time!r}: {e}.",
            code="bad-point",
            hint="A value is a float, a step a 64-bit integer, a time milliseconds since 1970 UTC.",
        ) from e

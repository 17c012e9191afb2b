"""A journal on its way: cut into numbered batches that stay what they are, until the server has taken them. Standard library only.

How a segment is cut stands in a file beside it, one record a batch: number (u64), first byte and end in the segment (u64), crc32
of these (u32), little-endian. A record is on the disk before its batch is sent for the first time: a number has the same
content ever after, so the server can tell a repetition by its number alone. A segment goes when all of it was taken and a later
one was cut, which keeps the last number known.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from loopline.errors import Conflict, Invalid
from loopline.failpoints import failpoint
from loopline.ports.files import TEMPORARY, disk_errors, sync_folder
from loopline.tracking.journal import Position, Target, segment_path
from loopline.tracking.journal_format import ENTRIES, KINDS, MAGIC, POINTS, Entry, Span, decode, spans

BATCH = 2 << 20
"""Bytes of frames from which the next batch begins; a frame that is larger is a batch alone."""

_CUT = Struct("<QQQ")
_CRC = Struct("<I")
_ARTIFACT = KINDS.index("artifact") + 1
_NAME = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SEGMENT = re.compile(r"[0-9]{8,}\.log", re.ASCII)
_CUTS = re.compile(r"[0-9]{8,}\.sent", re.ASCII)
_OWN = re.compile(rf"[0-9]{{8,}}\.(log|sent)|target\.json|{re.escape(TEMPORARY)}[0-9a-f-]+", re.ASCII)
_OWN_ARTIFACT = re.compile(rf"[0-9a-f]{{64}}|{re.escape(TEMPORARY)}[0-9a-f]+", re.ASCII)


def is_journal(folder: Path) -> bool:
    """Whether a folder is a journal: named by a ULID, with the lock that a journal makes, which is an empty file."""
    if not _NAME.fullmatch(folder.name):
        return False
    try:
        lock = os.lstat(folder / "lock")
    except OSError:
        return False
    return stat.S_ISREG(lock.st_mode) and not lock.st_size


class Batch(NamedTuple):
    """One stretch of a segment, and the number under which it is sent."""

    number: int
    segment: int
    start: int
    end: int


class Damage(NamedTuple):
    """Bytes of a segment that are no frame. `tail`: the last of the journal, as a process leaves them that is ended in a write."""

    segment: int
    start: int
    end: int
    tail: bool


class Outbox:
    """The batches of one journal. Only who holds its lock may have it: its writer's sender (`living`), or a sync of a dead one."""

    def __init__(self, folder: Path, *, living: bool = False) -> None:
        self.folder = folder
        self.living = living
        self.sender = folder.name
        self.damages: dict[tuple[int, int], Damage] = {}
        self._batches: dict[int, Batch] = {}
        for path in sorted(folder.glob("*.sent")):
            for batch in _read_cuts(path) if _CUTS.fullmatch(path.name) else ():
                self._batches[batch.number] = batch
        self.settled = min(self._present(), default=self.last + 1) - 1
        """All batches up to this one were taken, and their artifacts uploaded, as far as this process knows."""

    @property
    def target(self) -> Target:
        """Whom the journal is for. Raises `Invalid` where that cannot be read."""
        try:
            found = json.loads((self.folder / "target.json").read_bytes())
            return Target(str(found["project"]), str(found["server"]))
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise Invalid(
                f"{self.folder / 'target.json'} cannot be read: {e}.",
                code="bad-journal",
                hint='It holds {"project": "...", "server": "..."}; write it anew.',
            ) from e

    @property
    def last(self) -> int:
        """The number of the last batch that was cut; 0: none was."""
        return max(self._batches, default=0)

    @property
    def first(self) -> int:
        """The number of the first batch that is here, or will be."""
        return min(self._present(), default=self.last + 1)

    def check(self, taken: int) -> None:
        """Raises `Conflict` (code "journal-gap") where the server, with the batches up to this one, cannot get the next."""
        first = self.first
        if taken < first - 1:
            raise Conflict(
                f"The server has the journal {self.sender} up to batch {taken}; batches {taken + 1} to {first - 1} are not here "
                "any more.",
                code="journal-gap",
                hint="It had taken them once: was it set back to an older backup? What the journal holds is kept; "
                "`loopline sync --skip-gap` sends it without them.",
            )
        if taken > self.last:
            raise Conflict(
                f"The server has the journal {self.sender} up to batch {taken}, and here it goes only up to {self.last}.",
                code="journal-gap",
                hint="Was the folder of the journal set back to an older copy? What it holds is kept.",
            )

    def batch(self, number: int) -> Batch | None:
        """The batch of this number, where it was cut and is here."""
        return self._present().get(number)

    def cut(self, written: Sequence[Position] = ()) -> Batch | None:
        """The next batch, which is on the disk as such when this returns; None: there is nothing to send.

        `written`: how far the journal is written and where frames end before that, as its living writer says.
        """
        segment, start = self._position()
        for place in [n for n in self._segments() if n >= segment]:
            at = start if place == segment else len(MAGIC)
            ends = [end.size for end in written if end.segment == place and end.size > at]
            near = [end for end in ends if end - at <= BATCH]
            # Where the writer lives its frames are not read: that would hold up the threads that log.
            found = (at, near[0]) if near else self._scanned(place, at, min(ends, default=None), living=bool(written))
            if found:
                batch = Batch(self.last + 1, place, *found)
                self._keep(batch)
                return batch
            if written and place == written[-1].segment:
                break
        return None

    def _scanned(self, segment: int, at: int, end: int | None, *, living: bool) -> tuple[int, int] | None:
        """Where the next batch begins and ends, by its frames; between damages, so that they are in none."""
        if living and end is None:
            return None
        found: tuple[int, int] | None = None
        entries = 0
        for span in self._spans(segment, at, self._read(segment, at, end)):
            entries += span.kind != POINTS
            if found and (at + span.start != found[1] or at + span.end - found[0] > BATCH or entries > ENTRIES):
                break
            found = (found[0] if found else at + span.start, at + span.end)
        return found

    def frames(self, batch: Batch) -> bytes:
        """The whole frames of a batch."""
        data = self._read(batch.segment, batch.start, batch.end)
        if self.living:
            return data
        return b"".join(data[s.start : s.end] for s in self._spans(batch.segment, batch.start, data, within=True))

    def artifacts(self, batch: Batch) -> list[Entry]:
        """The artifacts that a batch names; where the writer lives, none without a file put aside."""
        aside = self.folder / "artifacts"
        if self.living and not (aside.exists() and any(aside.iterdir())):
            return []
        data = self._read(batch.segment, batch.start, batch.end)
        found = self._spans(batch.segment, batch.start, data, within=True)
        named = b"".join(data[s.start : s.end] for s in found if s.kind == _ARTIFACT)
        return [entry for entry in decode(b"\0" + named) if isinstance(entry, Entry)]

    def settle(self, number: int) -> None:
        """Notes that the batches up to this one need nothing more, and removes the segments that hold no other."""
        self.settled = number
        needed = [b.segment for b in self._present().values() if b.number >= min(number + 1, self.last)]
        for segment in self._segments():
            if segment < min(needed, default=0):
                failpoint("tracking.outbox.before_unlink")
                segment_path(self.folder, segment).unlink()
                failpoint("tracking.outbox.after_unlink")
                _cuts_path(self.folder, segment).unlink(missing_ok=True)
                self._batches = {n: b for n, b in self._batches.items() if b.segment != segment}

    @property
    def empty(self) -> bool:
        """Whether it has no segment: a journal that was about to begin, or to be removed."""
        return not self._segments()

    def waiting(self) -> int:
        """The bytes that are not settled yet; damage does not count."""
        kept = sum(b.end - b.start for b in self._present().values() if b.number > self.settled)
        segment, start = self._position()
        for number in self._segments():
            if number >= segment:
                at = start if number == segment else len(MAGIC)
                data = self._read(number, at)
                kept += sum(s.end - s.start for s in self._spans(number, at, data))
        return kept

    def remove(self) -> list[str]:
        """Removes the journal; the lock last, for without it nobody takes the folder for a journal.

        Only what a journal writes is removed. Gives the names of what else is there, which stays, and the folder with it.
        """
        failpoint("tracking.outbox.before_remove")
        for segment in self._segments():
            segment_path(self.folder, segment).unlink()
            failpoint("tracking.outbox.within_remove")
        aside = self.folder / "artifacts"
        if aside.is_dir() and not aside.is_symlink():
            _remove_files(aside, _OWN_ARTIFACT)
            with contextlib.suppress(OSError):  # something else is in it
                aside.rmdir()
        _remove_files(self.folder, _OWN)
        (self.folder / "lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []

    def _keep(self, batch: Batch) -> None:
        record = _CUT.pack(batch.number, batch.start, batch.end)
        path = _cuts_path(self.folder, batch.segment)
        kept = sum(b.segment == batch.segment for b in self._batches.values()) * (_CUT.size + _CRC.size)
        with disk_errors(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with contextlib.closing(os.fdopen(descriptor, "wb", buffering=0)) as file:
                file.truncate(kept)  # what a crash or a full disk cut off
                file.seek(kept)
                failpoint("tracking.outbox.before_write")
                file.write(record + _CRC.pack(zlib.crc32(record)))
                failpoint("tracking.outbox.before_sync")
                os.fsync(file.fileno())
            if not kept:
                sync_folder(self.folder)
            failpoint("tracking.outbox.after_sync")
        self._batches[batch.number] = batch

    def _present(self) -> dict[int, Batch]:
        here = set(self._segments())
        return {number: batch for number, batch in self._batches.items() if batch.segment in here}

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.log") if _SEGMENT.fullmatch(path.name))

    def _position(self) -> tuple[int, int]:
        """Where the next batch begins: a segment, and a byte in it."""
        last = self._batches.get(self.last)
        return (last.segment, last.end) if last else (1, len(MAGIC))

    def _read(self, segment: int, start: int, end: int | None = None) -> bytes:
        with segment_path(self.folder, segment).open("rb") as file:
            if (begin := file.read(len(MAGIC))) != MAGIC[: len(begin)]:
                raise Invalid(
                    f"{file.name} is no segment of a journal that this version knows.",
                    code="bad-journal",
                    hint="Another version of Loopline may have written it: `loopline sync` of that one sends it.",
                )
            file.seek(start)
            return file.read() if end is None else file.read(max(0, end - start))

    def _spans(self, segment: int, at: int, data: bytes, *, within: bool = False) -> Iterable[Span]:
        """The whole frames; what lies between them is noted."""
        for span in spans(data, 0):
            if span.kind:
                yield span
            else:
                tail = not within and span.end == len(data) and segment == max(self._segments())
                self.damages[segment, at + span.start] = Damage(segment, at + span.start, at + span.end, tail)


def _remove_files(folder: Path, names: re.Pattern[str]) -> None:
    """Removes the files of a folder whose whole names are such."""
    for path in folder.iterdir():
        if names.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            path.unlink()


def _cuts_path(folder: Path, segment: int) -> Path:
    return folder / f"{segment:08d}.sent"


def _read_cuts(path: Path) -> Iterable[Batch]:
    """The batches of one segment, as far as their records are whole."""
    data, size = path.read_bytes(), _CUT.size + _CRC.size
    for at in range(0, len(data) - size + 1, size):
        record = data[at : at + _CUT.size]
        if _CRC.unpack_from(data, at + _CUT.size)[0] != zlib.crc32(record):
            return
        number, start, end = _CUT.unpack(record)
        yield Batch(number, int(path.stem), start, end)

"""What a server refuses of a journal for good, put aside so that all behind it can be sent."""

from __future__ import annotations

import contextlib
import os

from loopline.errors import Invalid
from loopline.ports.blobs import check_digest
from loopline.ports.files import sync_folder, write_whole
from loopline.tracking.entries import entry_text
from loopline.tracking.journal_format import Entry, Points, decode, spans
from loopline.tracking.journal_format import pack as packed
from loopline.tracking.outbox import Batch, Outbox
from loopline.tracking.paths import check_key

FOLDER = "refused"
"""The folder in a journal that holds, by the number of its batch, what was refused; it stays when the journal goes."""


def put_aside(outbox: Outbox, batch: Batch, *, whole: bool) -> bytes:
    """Puts aside what no server takes of a batch, or all of it; gives the frames that are left to send.

    It is on the disk when this returns, in the form of a batch.
    """
    frames = outbox.frames(batch)
    good: list[bytes] = []
    bad: list[bytes] = []
    for span in spans(frames, 0):
        one = frames[span.start : span.end]
        (bad if whole or not _can_be(one) else good).append(one)
    if bad:
        write_whole(outbox.folder / FOLDER / str(batch.number), packed(b"".join(bad)), mode=0o600)
    return b"".join(good)


def put_file_aside(outbox: Outbox, digest: str) -> None:
    """Puts the file of an artifact aside, by its digest, where it is still there."""
    place = outbox.folder / FOLDER
    place.mkdir(mode=0o700, exist_ok=True)
    name = check_digest(digest)
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        os.link(outbox.folder / "artifacts" / name, place / name)
    sync_folder(place)


def can_be(one: Entry | Points) -> bool:
    """Whether a record is one that can be logged."""
    try:
        if isinstance(one, Entry):
            entry_text(one.kind, one.fields)
            return True
        for key in one.keys:
            check_key(key, "key of a metric")
    except Invalid:
        return False
    return min(one.times, default=0) >= 0


def _can_be(frame: bytes) -> bool:
    try:
        return all(map(can_be, decode(b"\0" + frame)))
    except Invalid:
        return False

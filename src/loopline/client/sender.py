"""Journals on their way to a server: in the background while their process lives, by `sync` when it is dead."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from loopline.client.refused import FOLDER, can_be, put_aside, put_file_aside
from loopline.errors import Invalid, LooplineError, NotFound, Unavailable
from loopline.operations import Body
from loopline.ports.blobs import check_digest
from loopline.tracking.journal import Journal, Position, Target
from loopline.tracking.journal_format import Entry, decode, pack
from loopline.tracking.journal_lock import claimed
from loopline.tracking.outbox import Batch, Outbox, is_journal

if TYPE_CHECKING:  # a script's start does not wait for the verbs: they come with the session, in the sender's thread
    from loopline.catalog import Session

log = logging.getLogger("loopline.sender")

_LONGEST_PAUSE = 60.0
_SYNC_SECONDS = 1.0
_AWAY = ("server-away", "server-silent", "untrusted-certificate")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one journal: `sent`, all of it; `in use`, its process lives and sends it; `elsewhere`, it is for a server
    that was not asked for; `kept`, `note` says why.

    `batches` and `bytes` were sent now, `waiting` bytes are still to be sent. `damages` names what could not be read, `lost` the
    artifacts whose bytes are gone, `refused` what the server refused and was set aside, `skipped` the batches that are in neither
    place and were given up.
    """

    sender: str
    state: Literal["sent", "in use", "elsewhere", "kept"]
    project: str = ""
    server: str = ""
    batches: int = 0
    bytes: int = 0
    waiting: int = 0
    damages: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    skipped: str = ""
    code: str = ""
    note: str = ""


def sync(
    folder: Path, open_session: Callable[[Target], Session | None], *, set_aside: bool = False, skip_gap: bool = False
) -> list[Report]:
    """Sends the journals of dead processes in this folder, the oldest first, and removes those that were taken.

    `open_session` gives the session for whom a journal is for, None to leave it alone; sessions stay open. Journals that their
    process, or another sync, has in hand are left to it. What goes wrong with one is in its report, and the next is sent.
    `set_aside`: what a server refuses as invalid is put into the folder `refused` of its journal, and all else is sent.
    `skip_gap`: batches that are neither here nor at the server any more are given up, and all behind them is sent.
    """
    reports: list[Report] = []
    away: dict[Target, LooplineError] = {}
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not is_journal(place):
            continue
        with claimed(place) as ours:
            found = (
                _sync_one(place, open_session, away, set_aside, skip_gap)
                if ours
                else Report(sender=place.name, state="in use")
            )
        if found is not None:
            reports.append(found)
    return reports


def _sync_one(
    place: Path,
    open_session: Callable[[Target], Session | None],
    away: dict[Target, LooplineError],
    set_aside: bool,
    skip_gap: bool,
) -> Report | None:
    outbox = Outbox(place)
    if outbox.empty:
        left = outbox.remove()
        return Report(sender=outbox.sender, state="sent", note=_stays(place, left)) if left else None
    found = Report(sender=outbox.sender, state="kept")
    shipping: _Shipping | None = None
    try:
        target = outbox.target
        found = msgspec.structs.replace(found, project=target.project, server=target.server)
        session = _opened(target, open_session, away)
        if session is None:
            return msgspec.structs.replace(found, state="elsewhere", waiting=outbox.waiting())
        shipping = _Shipping(outbox, session, set_aside=set_aside, skip_gap=skip_gap)
        shipping.send()
        session.runs.close(outbox.sender)
    except LooplineError as e:
        if e.code in _AWAY:
            away[target] = e
        found = msgspec.structs.replace(found, waiting=_waiting(outbox), code=e.code, note=str(e))
    except OSError as e:
        found = msgspec.structs.replace(found, code="journal-unreadable", note=f"{e.filename or place}: {e.strerror}.")
    else:
        found = msgspec.structs.replace(found, state="sent")
    if shipping is not None:
        found = msgspec.structs.replace(
            found,
            batches=shipping.batches,
            bytes=shipping.bytes,
            lost=tuple(shipping.lost),
            refused=tuple(shipping.refused),
            skipped=shipping.skipped,
        )
    found = msgspec.structs.replace(found, damages=_told(outbox))
    if found.state == "sent" and (left := outbox.remove()):
        found = msgspec.structs.replace(found, note=_stays(place, left))
    return found


def _stays(place: Path, left: list[str]) -> str:
    return f"What is no part of the journal stays in {place}: {', '.join(left[:5])}{' ...' if left[5:] else ''}."


def _opened(
    target: Target, open_session: Callable[[Target], Session | None], away: dict[Target, LooplineError]
) -> Session | None:
    if target in away:
        raise away[target]
    return open_session(target)


def _waiting(outbox: Outbox) -> int:
    try:
        return outbox.waiting()
    except LooplineError:  # a segment that cannot be read, which is what the report is about
        return 0


def _told(outbox: Outbox) -> tuple[str, ...]:
    return tuple(
        f"segment {d.segment}, bytes {d.start} to {d.end}: "
        + ("the process was ended while it wrote this" if d.tail else "damaged")
        for d in sorted(outbox.damages.values())
    )


class _Shipping:
    """Sends the batches of a journal in their order, and the artifacts of each when the server has it."""

    def __init__(
        self,
        outbox: Outbox,
        session: Session,
        journal: Journal | None = None,
        *,
        set_aside: bool = False,
        skip_gap: bool = False,
    ) -> None:
        self.outbox = outbox
        self.session = session
        self.batches = self.bytes = 0
        self.stopping = False
        self.lost: list[str] = []
        self.refused: list[str] = []
        self.skipped = ""
        self._set_aside = set_aside
        self._skip_gap = skip_gap
        self._journal = journal
        self._taken: int | None = None

    def ask(self) -> None:
        """Asks anew, before the next batch, how far the server has the journal: an answer may be lost."""
        self._taken = None

    def send(self, written: Sequence[Position] = ()) -> bool:
        """Sends all there is, up to where a living writer has written; False where it was told to stop before."""
        outbox, runs = self.outbox, self.session.runs
        if self._taken is None:
            taken = runs.received(outbox.sender).number
            if self._skip_gap and taken < outbox.first - 1:
                self.skipped = f"batches {taken + 1} to {outbox.first - 1}"
                taken = runs.skip_batches(outbox.sender, outbox.first - 1).number
            outbox.check(taken)
            self._taken = taken
        self._settle()
        while (batch := outbox.batch(self._taken + 1) or outbox.cut(written)) is not None:
            if self.stopping:
                return False
            try:
                self._taken = self._sent(batch, outbox.frames(batch))
            except Invalid as e:
                self._taken = self._sent_in_part(batch, e)
            outbox.check(self._taken)
            self.batches += 1
            self.bytes += batch.end - batch.start
            self._settle()
        return True

    def _sent(self, batch: Batch, frames: bytes) -> int:
        if self.skipped:
            self._begin_lost(frames)
        return self.session.runs.send(self.outbox.sender, batch.number, Body(pack(frames))).number

    def _begin_lost(self, frames: bytes) -> None:
        """Begins the runs whose beginning was in the batches that are lost, so that what is left of them has a place."""
        begun: set[str] = set()
        for one in decode(pack(frames)):
            if isinstance(one, Entry) and one.kind == "run":
                begun.add(one.run)
            elif one.run not in begun:
                begun.add(one.run)
                tags = {"journal.skipped": self.skipped}
                self.session.runs.create(name=f"beginning lost ({one.run[-6:]})", id=one.run, tags=tags)

    def _sent_in_part(self, batch: Batch, why: Invalid) -> int:
        """Sends a batch that was refused without what cannot be taken, else without anything: what is behind it can come then."""
        if not self._set_aside:
            raise Invalid(
                f"The server refuses batch {batch.number} of the journal {self.outbox.sender}: {why.message}",
                code="batch-refused",
                hint="`loopline sync --set-aside` puts aside what cannot be taken, and sends all else.",
            ) from why
        try:
            taken = self._sent(batch, put_aside(self.outbox, batch, whole=False))
        except Invalid:
            taken = self._sent(batch, put_aside(self.outbox, batch, whole=True))
        self.refused.append(f"{why.message} It is in {self.outbox.folder / FOLDER / str(batch.number)}.")
        return taken

    def _settle(self) -> None:
        """Uploads what the batches that were taken name, and lets go of them."""
        assert self._taken is not None
        for number in range(self.outbox.settled + 1, self._taken + 1):
            batch = self.outbox.batch(number)
            for entry in self.outbox.artifacts(batch) if batch else ():
                try:
                    if can_be(entry):
                        self._upload(entry)
                except (Invalid, NotFound) as e:
                    if e.code == "run-purged":  # as of what else its journal brings, nobody wants it
                        continue
                    if not self._set_aside:
                        raise
                    put_file_aside(self.outbox, entry.fields["digest"])
                    self.refused.append(f"{entry.run}/{entry.fields['path']}: {e.message}")
            self.outbox.settle(number)

    def _upload(self, entry: Entry) -> None:
        path, digest = entry.fields["path"], entry.fields["digest"]
        aside = self.outbox.folder / "artifacts" / check_digest(digest)
        if aside.exists():
            self.session.runs.put_artifact(entry.run, path, Body(aside, name=path.rpartition("/")[2]))
            if self._journal is not None:
                self._journal.let_go(digest)
        elif not any(a.path == path and a.digest == digest for a in self.session.runs.artifacts(entry.run)):
            self.lost.append(f"{entry.run}/{path}")


class Sender:
    """Sends what a living process writes to its journal; whoever logs never waits for it and never hears of a server away.

    `open_session` is called at the first need, in the thread that sends. Without `start` everything is sent by `flush`, in the
    thread that calls it: that is for a platform in the same process, which is not to be loaded while a model trains.
    `wake`: seconds between two looks at the journal.
    """

    def __init__(self, journal: Journal, open_session: Callable[[], Session], wake: float = 0.5) -> None:
        self.journal = journal
        self._open_session = open_session
        self._wake = wake
        self._fresh()

    def _fresh(self) -> None:
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._session: Session | None = None
        self._shipping: _Shipping | None = None
        self._failure: Exception | None = None
        self._told: set[str] = set()
        self._turning = threading.Lock()
        self._sent: Position | None = None
        self._on_disk: Position | None = None
        self._synced = 0.0
        self._stopping = False
        self._changed = threading.Condition()
        self._asked = self._done = 0  # flushes that were asked for, and the last of them whose turn is over

    def start(self) -> Sender:
        """Begins to send in the background."""
        self._thread = threading.Thread(target=self._turns, name="loopline-sender", daemon=True)
        self._thread.start()
        return self

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until all that was logged before is taken by the server; False where it is not: it stays in the journal.

        It is not where `timeout` (seconds) has passed, the server is away, or it refused what was sent. After a fork this is
        about the journal of the child.
        """
        if self._process != os.getpid():
            self._fresh()
        if self._thread is None:
            return self._turn()
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= asked or self._stopping, timeout)
            return self._done >= asked and self._failure is None

    def stop(self, *, close: bool = False) -> None:
        """Ends the sending and closes the journal; removes it where the server has all of it.

        `close`: where it has, the runs that do not say how they ended are ended there first, as by `sync`.
        """
        if self._process != os.getpid():
            self._fresh()
        if self._thread is not None:
            with self._changed:
                self._stopping = True
                if self._shipping is not None:
                    self._shipping.stopping = True
                self._changed.notify_all()
            self._thread.join()
            self._thread = None
        try:
            if self.journal.is_open and self._all_taken():
                if close and self._session is not None:
                    self._session.runs.close(self.journal.sender)
                Outbox(self.journal.folder).remove()
        finally:
            self.journal.close()
            if self._session is not None:
                self._session.close()

    def _all_taken(self) -> bool:
        try:
            outbox = self._shipping.outbox if self._shipping else Outbox(self.journal.folder)
            return outbox.settled == outbox.last and outbox.cut() is None
        except (LooplineError, OSError):
            return False

    def _turns(self) -> None:
        pause = self._wake
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._asked > self._done, pause)
                if self._stopping:
                    return
                asked = self._asked
            well = self._turn()
            with self._changed:
                self._done = asked
                self._changed.notify_all()
            pause = self._wake if well else min(_LONGEST_PAUSE, max(1.0, 2 * pause))

    def _turn(self) -> bool:
        """Sends all there is; whether the server has it. Whatever goes wrong is told once and tried again later."""
        with self._turning:
            try:
                done = self._send()
            except Unavailable as e:
                self._fail(e)
                return False
            except Exception as e:  # a training is not to end because of its sender
                self._fail(e)
                if str(e) not in self._told:
                    self._told.add(str(e))
                    log.warning(
                        "What is logged stays in %s: %s `loopline sync` sends it later.", self.journal.folder, e
                    )
                return False
            self._failure = None
            return done

    def _fail(self, error: Exception) -> None:
        self._failure = error
        if self._shipping is not None:
            self._shipping.ask()

    def _send(self) -> bool:
        marks = self.journal.written()
        if not marks:
            return True
        written = marks[-1]
        if written != self._on_disk and time.monotonic() - self._synced > _SYNC_SECONDS:
            self.journal.sync()
            self._on_disk, self._synced = written, time.monotonic()
        if written == self._sent:
            return True
        if self._session is None:
            self._session = self._open_session()
        if self._shipping is None:
            self._shipping = _Shipping(Outbox(self.journal.folder, living=True), self._session, self.journal)
        done = self._shipping.send(marks)
        self._sent = written if done else None
        return done

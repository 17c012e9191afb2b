"""Taking the numbered batches of journals: each once, in order, whole or not at all.

The row of the sender says up to which number its batches are taken; it changes in the transaction of the batch. So a batch that
is sent again after a lost answer changes nothing, and one that would leave a gap is seen.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa

from loopline.access import authority
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, Unavailable
from loopline.failpoints import failpoint
from loopline.hashing import digest_bytes, digest_json
from loopline.operations import Body
from loopline.tracking import groups, points, reading
from loopline.tracking import params as values
from loopline.tracking.ids import ID, LATEST
from loopline.tracking.journal_format import ENTRIES, LARGEST_CONTENT, Entry, Points, decode
from loopline.tracking.paths import LONGEST_TEXT, check_group, check_key, check_path
from loopline.tracking.records import Ending, Received, RunKind, RunStatus
from loopline.tracking.tables import run_senders, runs
from loopline.tracking.writing import Writing

Moment = Annotated[int, msgspec.Meta(ge=0, le=LATEST)]
Text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]


class Held(NamedTuple):
    """A run that a batch speaks of: its number, and its status before the batch."""

    number: int
    status: RunStatus


class Fields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an entry of a journal can say of its run, by kind."""


class RunFields(Fields):
    """How a run begins."""

    name: str
    created: Moment
    group: str | None = None
    kind: RunKind = "run"
    parent: str | None = None
    params: dict[str, Any] = {}
    tags: dict[str, str] = {}
    inputs: list[str] = []
    environment: dict[str, Any] = {}


class _Params(Fields):
    params: dict[str, Any]
    reason: str = ""


class _Tags(Fields):
    tags: dict[str, str | None]


class _Note(Fields):
    text: Text


class _Link(Fields):
    inputs: list[str] = []
    outputs: list[str] = []


class _Console(Fields):
    text: Text
    time: Moment


class _Artifact(Fields):
    path: str
    digest: str
    size: int


class _Finish(Fields):
    status: Ending
    ended: Moment
    message: str = ""
    outputs: list[str] = []


_SHAPES: dict[str, type[Fields]] = {
    "run": RunFields,
    "params": _Params,
    "tags": _Tags,
    "note": _Note,
    "link": _Link,
    "console": _Console,
    "artifact": _Artifact,
    "finish": _Finish,
}


def received(tx: Tx, sender: str) -> Received:
    """How far the journal of a sender has been taken (0: no batch yet). Raises `Invalid` on a sender that cannot be."""
    if not ID.fullmatch(sender):
        raise Invalid(
            f"{sender!r} is no sender of a journal.", code="bad-sender", hint="It is a ULID of 26 characters."
        )
    row = tx.first(sa.select(run_senders).where(run_senders.c.sender == sender))
    if row is None:
        return Received(sender=sender, number=0)
    if row.project != tx.project:
        raise NotFound(
            f"There is no journal {sender} in project {tx.project!r}.", code="no-journal", hint="Name its project."
        )
    if row.principal != tx.principal:  # only who began it, or an admin, goes on with a journal
        authority.authorise(tx, authority.caller(tx), "administer", tx.project)
    return Received(sender=sender, number=row.taken)


def receive(writing: Writing, sender: str, number: int, content: Body) -> Received:
    """Takes a batch, unless it is taken already. Raises `Conflict` where one before it is missing, `Invalid` on bad content."""
    tx = writing.tx
    if not 0 < number < 2**63:
        raise Invalid(f"No batch has the number {number}.", code="bad-batch", hint="They count from 1.")
    batch = _read(content)
    digest = digest_bytes(batch)
    taken = received(tx, sender)
    if number <= taken.number:
        return _again(tx, taken, number, digest)
    held = decode(batch)
    entries = sum(isinstance(one, Entry) for one in held)
    if entries > ENTRIES:
        raise Invalid(
            f"The batch {number} of journal {sender} has {entries:,} entries beside points, and at most {ENTRIES:,} are taken.",
            code="bad-batch",
            hint="Cut the journal into smaller batches, as `loopline sync` does.",
        )
    shaped = [checked(one) for one in held]
    tx.write()
    journal = _hold(tx, sender)
    taken = received(tx, sender)
    if number <= taken.number:
        return _again(tx, taken, number, digest)
    if number != taken.number + 1:
        raise Conflict(
            f"Batch {number} of journal {sender} cannot be taken: the last that was is {taken.number}.",
            code="journal-gap",
            hint=f"Send batch {taken.number + 1} first; `loopline sync` does.",
        )
    numbers: dict[str, Held | None] = {}
    for one, fields in zip(held, shaped, strict=True):
        if one.run not in numbers:
            if isinstance(fields, RunFields):
                numbers[one.run] = begun(writing, one.run, fields, journal)
                continue
            numbers[one.run] = _held(tx, one.run)
        if (run := numbers[one.run]) is not None:  # what comes of a run that was removed for good is dropped
            take(writing, run, one, fields)
    writing.write_points()
    tx.execute(
        sa.update(run_senders).where(run_senders.c.sender == sender).values(taken=number, digest=digest, at=tx.now)
    )
    tx.note(outputs=[tx.ref("run", run) for run in numbers], digests={"batch": digest})
    tx.count += entries
    failpoint("tracking.receive.before_acknowledged")
    return Received(sender=sender, number=number)


def skip(tx: Tx, sender: str, number: int) -> Received:
    """Goes on behind a batch that is lost, and all before it that are not here."""
    if not 0 < number < 2**63:
        raise Invalid(f"No batch has the number {number}.", code="bad-batch", hint="They count from 1.")
    if number <= received(tx, sender).number:
        return received(tx, sender)
    tx.write()
    _hold(tx, sender)
    taken = received(tx, sender)
    if number <= taken.number:
        tx.recorded = False
        return taken
    tx.execute(sa.update(run_senders).where(run_senders.c.sender == sender).values(taken=number, digest="", at=tx.now))
    tx.note(digests={"skipped": digest_json([sender, taken.number + 1, number])})
    tx.count += number - taken.number
    return Received(sender=sender, number=number)


def _again(tx: Tx, taken: Received, number: int, digest: str) -> Received:
    """What is said of a batch that is taken already: the same, unless another one was taken under its number."""
    query = sa.select(run_senders.c.digest).where(run_senders.c.sender == taken.sender, run_senders.c.taken == number)
    known = tx.scalar(query)
    if known not in (None, digest):
        raise Conflict(
            f"Batch {number} of journal {taken.sender} was taken with another content.",
            code="journal-forked",
            hint="Was its folder copied while a program wrote to it? What is only here is in this copy.",
        )
    return taken


def close(writing: Writing, sender: str) -> Received:
    """Ends the runs of a journal of which no more will come and that do not say how they ended: their program was killed."""
    tx = writing.tx
    tx.write()
    taken = received(tx, sender)
    left = (
        sa.select(runs)
        .join(run_senders, runs.c.sender == run_senders.c.number)
        .where(run_senders.c.sender == sender, runs.c.status == "running")
    )
    for row in tx.rows(left):
        writing.end(row.number, "killed", "its program ended before it did", tx.now)
        tx.note(outputs=[tx.ref("run", row.id)])
    writing.write_points()
    return taken


def _read(content: Body) -> bytes:
    found = b""
    for chunk in content.chunks():
        found += chunk
        if len(found) > LARGEST_CONTENT:
            break  # `decode` refuses it by its size
    return found


def _hold(tx: Tx, sender: str) -> int:
    """The number of a sender, which is added where it is new; from here to the commit nobody else takes any of its journal."""
    row = {"sender": sender, "project": tx.project, "principal": tx.principal, "taken": 0, "digest": "", "at": tx.now}
    tx.upsert(run_senders, ("sender",), row)
    query = sa.select(run_senders.c.number).where(run_senders.c.sender == sender)
    number: int = tx.scalar(query if tx.database.sqlite else query.with_for_update())  # SQLite has one writer at a time
    return number


def checked(one: Entry | Points) -> Fields | None:
    """The fields of an entry in their shape; of points, that they can be. Raises `Invalid`."""
    if not ID.fullmatch(one.run):
        raise Invalid(f"{one.run!r} is no id of a run.", code="bad-batch", hint="It is a ULID of 26 characters.")
    if isinstance(one, Entry):
        try:
            fields = msgspec.convert(one.fields, _SHAPES[one.kind])
        except msgspec.ValidationError as e:
            raise Invalid(f"A batch says of run {one.run} what cannot be: {one.kind}: {e}.", code="bad-batch") from e
        if isinstance(fields, _Artifact):
            check_path(fields.path)
        if isinstance(fields, RunFields) and fields.group is not None:
            check_group(fields.group)
        return fields
    for key in one.keys:
        check_key(key, "key of a metric")
    if len(one.times) and min(one.times) < 0:
        raise Invalid(
            f"A point of run {one.run} has the time {min(one.times)}.",
            code="bad-point",
            hint="A time is in milliseconds since 1970 UTC.",
        )
    return None


def begun(writing: Writing, run: str, fields: RunFields, journal: int | None) -> Held | None:
    """A run that a journal begins; one that is there already is the same run (its journal was copied)."""
    tx = writing.tx
    known = tx.first(sa.select(runs).where(runs.c.project == tx.project, runs.c.id == run))
    if known is not None:
        return Held(known.number, known.status)
    if reading.purged(tx, run):
        return None
    parent = fields.parent if fields.parent is not None and _held(tx, fields.parent) is not None else None
    number, _ = writing.begin(
        run,
        fields.name,
        fields.kind,
        parent,
        fields.params,
        fields.tags,
        fields.inputs,
        fields.environment,
        fields.created,
        groups.entered(tx, fields.group),
        journal,
    )
    return Held(number, "running")


def _held(tx: Tx, run: str) -> Held | None:
    """A run, deleted or not; None: it was removed for good.

    It may be in a journal that is not here yet, such as its parent's: then it is waited for.
    """
    try:
        row = reading.row_of(tx, run)
        return Held(row.number, row.status)
    except NotFound as e:
        if e.code == "run-purged":
            return None
        raise Unavailable(
            f"The run {run} is not here yet, and a journal speaks of it.",
            code="run-awaited",
            hint="Its own journal has to come first: `loopline sync` where it was logged.",
        ) from e


def take(writing: Writing, row: Held, one: Entry | Points, fields: Any) -> None:
    """Writes what an entry says of a run, or points of it; `fields` are those that `checked` gave."""
    tx = writing.tx
    if isinstance(one, Points):
        numbers = writing.words.numbers(tx, one.keys)
        keys = np.array([numbers[key] for key in one.keys], np.int64)[np.frombuffer(one.index, np.uint32)]
        writing.add_points(row.number, points.columns(keys, one.steps, one.times, one.values), exact=True)
        return
    match fields:
        case _Params():
            # Its program saw no clash; another one may have set the param meanwhile. Nothing is lost, and the history tells.
            reason = fields.reason or "set again by another program"
            values.correct(tx, writing.words, row.number, fields.params, reason)
        case _Tags():
            values.set_tags(tx, writing.words, row.number, fields.tags)
        case _Note():
            writing.set_note(row.number, fields.text)
        case _Link():
            writing.add_refs(row.number, 0, fields.inputs)
            writing.add_refs(row.number, 1, fields.outputs)
        case _Console():
            writing.add_console(row.number, fields.text, fields.time)
        case _Finish():
            if row.status in ("running", "killed"):  # it was taken for dead, and was not
                writing.end(row.number, fields.status, fields.message, fields.ended)
            writing.add_refs(row.number, 1, fields.outputs)

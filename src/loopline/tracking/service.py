"""The verbs of runs, within one transaction."""

from __future__ import annotations

import builtins
import mimetypes
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from loopline.database import Database, Tx
from loopline.errors import Conflict, Invalid, NotFound
from loopline.failpoints import failpoint
from loopline.hashing import digest_json
from loopline.operations import Body, Bytes
from loopline.ports.blobs import BlobStore
from loopline.refs import parse
from loopline.store.service import Store
from loopline.tracking import params as values
from loopline.tracking import reading
from loopline.tracking.ids import ulid
from loopline.tracking.paths import check_key, check_path
from loopline.tracking.records import (
    Artifact,
    Correction,
    Ending,
    Logged,
    Point,
    Received,
    Run,
    RunKind,
    RunPage,
    RunStatus,
)
from loopline.tracking.searches import Searches
from loopline.tracking.tables import environments, run_artifacts, run_console, run_refs, runs
from loopline.tracking.verbs import RunsVerbs
from loopline.tracking.words import Words

_LARGEST_BATCH = 100_000
_LARGEST_PAGE = 1000
_MOST = 2**63


class RunsService(Searches, RunsVerbs):
    """Runs. `metrics`: the database of metric points, where it is not the transaction's own (SQLite: `metrics.db`)."""

    def __init__(self, tx: Tx, blobs: BlobStore, words: Words, metrics: Database | None = None) -> None:
        self.tx = tx
        self.blobs = blobs
        self.words = words
        self.metrics = metrics
        self._points: builtins.list[tuple[int, int, Any]] = []  # run, batch and columns, to be written
        self._ended: dict[int, int] = {}  # runs whose points are folded, with how many batches they have

    def create(
        self,
        name: str,
        kind: RunKind = "run",
        parent: str | None = None,
        params: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        inputs: tuple[str, ...] = (),
        environment: dict[str, Any] | None = None,
    ) -> Run:
        self.tx.write()  # the id carries the time of the write transaction
        run = ulid(self.tx.now)
        self.begin(run, name, kind, parent, params or {}, tags or {}, inputs, environment or {}, self.tx.now)
        return self.show(run)

    def begin(
        self,
        run: str,
        name: str,
        kind: RunKind,
        parent: str | None,
        params: dict[str, Any],
        tags: dict[str, str],
        inputs: Sequence[str],
        environment: dict[str, Any],
        created: int,
    ) -> int:
        """Adds a run under an id that is given, with what is known of it; gives its number."""
        check_key(name, "name of a run")
        above = reading.row_of(self.tx, parent).number if parent is not None else None
        row = {
            "id": run,
            "project": self.tx.project,
            "name": name,
            "kind": kind,
            "status": "running",
            "created": created,
            "creator": self.tx.principal,
            "message": "",
            "note": "",
            "parent": above,
            "environment": self._environment(environment),
            "batches": 0,
        }
        added = self.tx.execute(_INSERT, row)
        assert added.inserted_primary_key is not None
        number: int = added.inserted_primary_key[0]
        values.set_params(self.tx, self.words, number, params, run, new=True)
        values.set_tags(self.tx, self.words, number, tags)
        self.tx.note(inputs=self.add_refs(number, 0, inputs), outputs=[self._ref(run)])
        return number

    def log(self, run: str, metrics: list[Point]) -> Logged:
        from loopline.tracking import points

        row = reading.row_of(self.tx, run)
        if not 0 < len(metrics) <= _LARGEST_BATCH:
            raise Invalid(
                f"A batch of {len(metrics)} points cannot be logged.",
                code="bad-batch",
                hint=f"Send 1 to {_LARGEST_BATCH} points at once.",
            )
        for key in {point.key for point in metrics}:
            check_key(key, "key of a metric")
        for point in metrics:
            check_point(point.key, point.step, point.time)
        self.tx.write()
        numbers = self.words.numbers(self.tx, {point.key for point in metrics})
        columns = points.columns(
            [numbers[point.key] for point in metrics],
            [point.step for point in metrics],
            [point.time or self.tx.now for point in metrics],
            [point.number for point in metrics],
        )
        digest = points.digest(row.id, columns, numbers)
        self.add_points(row.number, columns)
        self.write_points()
        self.tx.note(outputs=[self._ref(row.id)], digests={"points": digest})
        return Logged(run=row.id, count=len(metrics), digest=digest)

    def add_points(self, number: int, columns: Any) -> None:
        """Adds points to a run; `write_points` writes them. What metrics say in short is up to date at once."""
        from loopline.tracking import series

        # The number locks the run's row, so that two batches of one run come one after the other.
        batch: int = self.tx.execute(_NEXT_BATCH, {"of": number}).scalar_one()
        series.update(self.tx, number, columns, first=batch == 1)
        self._points.append((number, batch, columns))
        self.tx.count += len(columns)

    def write_points(self) -> None:
        """Writes the points that were added, the last thing before the transaction's end.

        Where they have a file of their own they are committed there first: until the transaction itself is, with the numbers of
        their batches, nobody reads them, and after a crash in between other points take their place.
        """
        if not self._points and not self._ended:
            return
        from loopline.tracking import points

        def write(tx: Tx) -> None:
            for number, batch, columns in self._points:
                points.append(tx, number, batch, columns)
            for number, batches in self._ended.items():
                own = sum(1 for added, _, _ in self._points if added == number)
                points.fold(tx, number, batches - own)  # never what is not acknowledged yet

        if self.metrics is None:
            write(self.tx)
        else:
            with self.metrics.begin(principal=self.tx.principal, project=self.tx.project) as tx:
                write(tx)
            failpoint("tracking.points.written")
        self._points, self._ended = [], {}

    def send(self, sender: str, number: int, content: Body) -> Received:
        from loopline.tracking.receiving import receive

        return receive(self, sender, number, content)

    def received(self, sender: str) -> Received:
        from loopline.tracking.receiving import received

        return received(self.tx, sender)

    def params(self, run: str, params: dict[str, Any]) -> Run:
        row = reading.row_of(self.tx, run)
        values.set_params(self.tx, self.words, row.number, params, row.id)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def correct(self, run: str, params: dict[str, Any], reason: str) -> Run:
        if not reason.strip():
            raise Invalid("A correction needs its reason.", code="bad-value", hint="Say why the params were wrong.")
        self.tx.write()
        row = self._held(run)
        values.correct(self.tx, self.words, row.number, params, reason)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def corrections(self, run: str) -> tuple[Correction, ...]:
        return values.corrections(self.tx, self.words, reading.row_of(self.tx, run).number)

    def tag(self, run: str, tags: dict[str, str]) -> Run:
        row = reading.row_of(self.tx, run)
        values.set_tags(self.tx, self.words, row.number, tags)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def note(self, run: str, text: str) -> Run:
        row = reading.row_of(self.tx, run)
        self.set_note(row.number, text)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def set_note(self, number: int, text: str) -> None:
        """Sets what people say of a run."""
        self.tx.execute(runs.update().where(runs.c.number == number).values(note=values.short(text, "The note")))

    def link(self, run: str, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()) -> Run:
        self.tx.write()
        row = self._held(run)
        read = self.add_refs(row.number, 0, inputs)
        made = self.add_refs(row.number, 1, outputs)
        self.tx.note(inputs=read, outputs=[self._ref(row.id), *made])
        return self.show(row.id)

    def finish(self, run: str, status: Ending = "finished", outputs: tuple[str, ...] = (), message: str = "") -> Run:
        self.tx.write()
        row = self._held(run)
        known = self.show(row.id)
        made = [str(parse(ref, project=self.tx.project)) for ref in outputs]
        if row.status != "running":
            if row.status == status and row.message == message and set(made) <= set(known.outputs):
                return known  # the same again, after a lost answer
            raise Conflict(
                f"The run {row.id} has ended already: it is {row.status}.",
                code="run-ended",
                hint="A run ends once; create another one for another execution.",
            )
        self.end(row.number, status, message, self.tx.now)
        self.write_points()
        self.add_refs(row.number, 1, made)
        self.tx.note(inputs=known.inputs, outputs=[self._ref(row.id), *made])
        return self.show(row.id)

    def end(self, number: int, status: Ending, message: str, ended: int) -> None:
        """Writes down how a run ended."""
        kept = message[: values.LONGEST_TEXT]
        batches: int = self.tx.execute(_END, {"of": number, "as": status, "at": ended, "why": kept}).scalar_one()
        if batches > 1:
            self._ended[number] = batches

    def show(self, run: str) -> Run:
        return reading.records(self.tx, self.words, [reading.row_of(self.tx, run)])[0]

    def list(
        self,
        name: str | None = None,
        kind: RunKind | None = None,
        status: RunStatus | None = None,
        parent: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> RunPage:
        _check_limit(limit)
        query = sa.select(runs).where(runs.c.project == self.tx.project)
        for column, value in ((runs.c.name, name), (runs.c.kind, kind), (runs.c.status, status)):
            if value is not None:
                query = query.where(column == value)
        if parent is not None:
            query = query.where(runs.c.parent == reading.row_of(self.tx, parent).number)
        if after is not None:
            query = query.where(runs.c.id < after)
        rows = self.tx.rows(query.order_by(runs.c.id.desc()).limit(limit + 1))
        shown = rows[:limit]
        found = reading.records(self.tx, self.words, shown)
        return RunPage(runs=tuple(found), after=shown[-1].id if len(rows) > limit else None)

    def history(self, run: str, key: str, points: int | None = None) -> tuple[Point, ...]:
        if points is not None and points < 1:
            raise Invalid(f"A plot of {points} points cannot be made.", code="bad-limit", hint="Ask for one at least.")
        from loopline.tracking.points import fewer, read

        row = reading.row_of(self.tx, run)  # first: it says which batches count
        number = self.words.known(self.tx, key)
        if number is None:
            return ()
        if self.metrics is None:
            found = read(self.tx.rows, row.number, number, row.batches)
        else:
            with self.metrics.snapshot() as connection:
                found = read(connection.execute, row.number, number, row.batches)
        if points is not None:
            found = fewer(found, points)
        columns = zip(found.steps.tolist(), found.times.tolist(), found.values.tolist(), strict=True)
        return tuple(Point(key=key, value=value, step=step, time=time) for step, time, value in columns)

    def console(self, run: str) -> Bytes:
        row = reading.row_of(self.tx, run)
        query = sa.select(run_console.c.text).where(run_console.c.run == row.number).order_by(run_console.c.id)
        text = "".join(piece.text for piece in self.tx.rows(query))
        return Bytes(media="text/plain; charset=utf-8", data=text.encode(), name="console.log")

    def add_console(self, number: int, text: str, at: int) -> None:
        """Keeps a piece of what a run printed."""
        self.tx.execute(run_console.insert().values(run=number, at=at, text=text))

    def put_artifact(self, run: str, path: str, content: Body) -> Artifact:
        check_path(path)
        row = reading.row_of(self.tx, run)
        blob = self.blobs.put(content.chunks())
        self.tx.write()
        place = (run_artifacts.c.run == row.number) & (run_artifacts.c.path == path)
        former = self.tx.scalar(sa.select(run_artifacts.c.digest).where(place))
        if former != blob.digest:
            self.tx.execute(run_artifacts.delete().where(place))
            if former is not None:
                self._release(row, former)
            self.tx.execute(
                run_artifacts.insert().values(
                    run=row.number, path=path, digest=blob.digest, size=blob.size, created=self.tx.now
                )
            )
            Store(self.tx, self.blobs).retain(blob.digest, self._ref(row.id))
        self.tx.note(outputs=[self._ref(row.id)], digests={"artifact": blob.digest})
        return self._artifact(row, path)

    def artifacts(self, run: str) -> tuple[Artifact, ...]:
        row = reading.row_of(self.tx, run)
        found = self.tx.rows(
            sa.select(run_artifacts).where(run_artifacts.c.run == row.number).order_by(run_artifacts.c.path)
        )
        return tuple(_kept(row, file) for file in found)

    def artifact(self, run: str, path: str) -> Bytes:
        found = self._artifact(reading.row_of(self.tx, run), check_path(path))
        media = mimetypes.guess_type(path)[0] or "application/octet-stream"
        name = path.rsplit("/", 1)[-1]
        file = self.blobs.path(found.digest)
        if file is not None:  # handed out from the disk, whatever its size
            return Bytes(media=media, path=str(file), name=name)
        return Bytes(media=media, data=self.blobs.read(found.digest), name=name)

    def _artifact(self, run: Any, path: str) -> Artifact:
        row = self.tx.first(
            sa.select(run_artifacts).where(run_artifacts.c.run == run.number, run_artifacts.c.path == path)
        )
        if row is None:
            raise NotFound(
                f"The run {run.id} has no artifact {path!r}.",
                code="no-artifact",
                hint=f"`loopline runs artifacts {run.id}` lists them.",
            )
        return _kept(run, row)

    def add_refs(self, number: int, side: int, refs: Sequence[str]) -> Sequence[str]:
        """Adds what a run read (side 0) or made (side 1), each once; gives the refs as printed in full."""
        found = list(dict.fromkeys(str(parse(ref, project=self.tx.project)) for ref in refs))
        if not found:
            return found
        mine = (run_refs.c.run == number) & (run_refs.c.side == side)
        known = [row.ref for row in self.tx.rows(sa.select(run_refs.c.ref).where(mine).order_by(run_refs.c.place))]
        new = [ref for ref in found if ref not in known]
        if new:
            rows = [
                {"run": number, "side": side, "place": place, "ref": ref} for place, ref in enumerate(new, len(known))
            ]
            self.tx.execute(run_refs.insert(), rows)
        return found

    def _environment(self, given: dict[str, Any]) -> int | None:
        """The number of an environment, which is added where it is new."""
        if not given:
            return None
        body = values.plain_json(given, "environment")
        digest = digest_json(body)
        query = sa.select(environments.c.id).where(environments.c.digest == digest)
        known: int | None = self.tx.scalar(query)
        if known is None:
            self.tx.execute(self.tx.upsert(environments, ("digest",)), {"digest": digest, "body": body})
            known = self.tx.scalar(query)
        return known

    def _held(self, run: str) -> Any:
        """The row of a run, which nobody else changes until the transaction ends."""
        row = reading.row_of(self.tx, run)
        if not self.tx.database.sqlite:  # SQLite has one writer at a time
            self.tx.rows(sa.select(runs.c.number).where(runs.c.number == row.number).with_for_update())
            row = reading.row_of(self.tx, run)
        return row

    def _ref(self, run: str) -> str:
        return self.tx.ref("run", run)

    def _release(self, run: Any, digest: str) -> None:
        """Gives a blob back, unless the run has the same bytes under another path."""
        same = (run_artifacts.c.run == run.number) & (run_artifacts.c.digest == digest)
        if self.tx.first(sa.select(run_artifacts.c.path).where(same)) is None:
            Store(self.tx, self.blobs).release(digest, self._ref(run.id))


_INSERT = runs.insert()

_END = (
    runs.update()
    .where(runs.c.number == sa.bindparam("of"))
    .values(status=sa.bindparam("as"), ended=sa.bindparam("at"), message=sa.bindparam("why"))
    .returning(runs.c.batches)
)

_NEXT_BATCH = (
    runs.update()
    .where(runs.c.number == sa.bindparam("of"))
    .values(batches=runs.c.batches + 1)
    .returning(runs.c.batches)
)


def check_point(key: str, step: int, time: int) -> None:
    """Raises `Invalid` where a step or time is out of range."""
    if not -_MOST <= step < _MOST or not 0 <= time < _MOST:
        raise Invalid(
            f"A point of {key!r} has step {step} and time {time}.",
            code="bad-point",
            hint="A step is a 64-bit integer, a time milliseconds since 1970 UTC.",
        )


def _check_limit(limit: int) -> None:
    if not 0 < limit <= _LARGEST_PAGE:
        raise Invalid(f"A page of {limit} runs cannot be given.", code="bad-limit", hint=f"1 to {_LARGEST_PAGE}.")


def _kept(run: Any, row: Any) -> Artifact:
    return Artifact(run=run.id, path=row.path, digest=row.digest, size=row.size, created=row.created)

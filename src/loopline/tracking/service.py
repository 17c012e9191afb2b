"""The verbs of runs, within one transaction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from loopline.access import authority
from loopline.database import Database, Tx
from loopline.errors import Conflict, Invalid
from loopline.operations import Body, Bytes, check_limit
from loopline.ports.blobs import BlobStore
from loopline.ports.drawing import Drawing
from loopline.tracking import external, groups, reading
from loopline.tracking import params as values
from loopline.tracking.bundle.service import Bundles
from loopline.tracking.bundle.statement import Bundling
from loopline.tracking.comparison.service import Comparisons
from loopline.tracking.deletion import Deletions
from loopline.tracking.ids import LATEST, check_id, ulid
from loopline.tracking.paths import check_key, check_title
from loopline.tracking.records import (
    Correction,
    Ending,
    ExternalDataset,
    ExternalUse,
    Lifecycle,
    Logged,
    Measure,
    Point,
    Received,
    Run,
    RunKind,
    RunPage,
    RunStatus,
)
from loopline.tracking.search.pages import within
from loopline.tracking.searches import LARGEST_PAGE, Searches
from loopline.tracking.tables import run_console, runs
from loopline.tracking.uploads import Uploads
from loopline.tracking.verbs import RunsVerbs
from loopline.tracking.words import Words
from loopline.tracking.writing import Writing

_LARGEST_BATCH = 100_000
_MOST = 2**63


class RunsService(Searches, Uploads, Bundles, Comparisons, Deletions, RunsVerbs):
    """Runs. `uploads`: the folder for files that come in parts; `metrics`: the database of metric points, where it is not the
    transaction's own (SQLite: `metrics.db`); `draw`: how plots are drawn; `bundling`: what run bundles need from above."""

    def __init__(
        self,
        tx: Tx,
        blobs: BlobStore,
        words: Words,
        uploads: Path,
        metrics: Database | None = None,
        draw: Drawing | None = None,
        bundling: Callable[[], Bundling] | None = None,
    ) -> None:
        self.tx = tx
        self.blobs = blobs
        self.words = words
        self.metrics = metrics
        self.draw = draw
        self.bundling = bundling
        self.uploads = uploads
        self.writing = Writing(tx, words, metrics)

    def group_name(self, number: int) -> str:
        """The name of a group."""
        return groups.group_of(self.tx, number).name

    def create(
        self,
        name: str,
        kind: RunKind = "run",
        parent: str | None = None,
        params: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        inputs: tuple[str, ...] = (),
        environment: dict[str, Any] | None = None,
        group: int | None = None,
        id: str | None = None,
        created: int | None = None,
    ) -> Run:
        if created is not None:
            _check_moment(created)
        self.tx.write()  # the id carries the time of the write transaction
        if id is not None:
            groups.hold_group(self.tx, 0)  # of two programs with one id the second finds the first one's run
            if (known := reading.known(self.tx, check_id(id))) is not None:
                self.tx.recorded = False
                return reading.records(self.tx, self.words, [known])[0]
            reading.check_purged(self.tx, id)
        if group is None:
            group = groups.entered(self.tx, None)
        else:
            groups.check_live(self.tx, group)
        run = id or ulid(self.tx.now)
        began = self.tx.now if created is None else created
        given = (params or {}, tags or {}, inputs, environment or {})
        return self.writing.begin(run, name, kind, parent, *given, began, group)[1]

    def log(
        self,
        run: str,
        metrics: list[Point] | None = None,
        params: dict[str, Any] | None = None,
        tags: dict[str, str | None] | None = None,
        name: str | None = None,
    ) -> Logged:
        row = reading.live(self.tx, run)
        if not (metrics or params or tags or name is not None) or len(metrics or ()) > _LARGEST_BATCH:
            raise Invalid(
                f"A batch of {len(metrics or ())} points cannot be logged.",
                code="bad-batch",
                hint=f"Send 1 to {_LARGEST_BATCH} points at once.",
            )
        if name is not None:
            check_title(name, "name of a run")
            self.tx.write()
            row = self.writing.change(reading.held_live(self.tx, run), name, None, None)
        values.set_params(self.tx, self.words, row.number, params or {}, row.id)
        values.set_tags(self.tx, self.words, row.number, tags or {})
        self.tx.note(outputs=[self._ref(row.id)])
        digest = self._points(row, metrics) if metrics else ""
        return Logged(run=row.id, count=len(metrics or ()), digest=digest)

    def _points(self, row: Any, metrics: list[Point]) -> str:
        """Adds points to a run; gives the digest of the batch."""
        from loopline.tracking import points

        for key in {point.key for point in metrics}:
            check_key(key, "key of a metric")
        for point in metrics:
            _check_point(point)
        self.tx.write()
        numbers = self.words.numbers(self.tx, {point.key for point in metrics})
        columns = points.columns(
            [numbers[point.key] for point in metrics],
            [point.step for point in metrics],
            [self.tx.now if point.time == -1 else point.time for point in metrics],
            [point.number for point in metrics],
        )
        digest = points.digest(row.id, columns, numbers)
        self.writing.add_points(row.number, columns, exact=False)
        self.writing.write_points()
        self.tx.note(digests={"points": digest})
        return digest

    def measure(self, run: str, by: str, measures: list[Measure]) -> Logged:
        from loopline.tracking.measures import add, check_model

        for measure in measures:
            _check_point(measure)
        self.tx.write()
        model, measuring = reading.live(self.tx, run), reading.live(self.tx, by)
        check_model(model.id, model.kind)
        digest = add(self.tx, self.words, model.number, measuring.number, measures)
        self.tx.note(inputs=[self._ref(measuring.id)], outputs=[self._ref(model.id)], digests={"measures": digest})
        return Logged(run=model.id, count=len(measures), digest=digest)

    def measures(self, models: tuple[str, ...]) -> tuple[Measure, ...]:
        from loopline.tracking.measures import of_models

        check_limit(len(models), "models", LARGEST_PAGE)
        return of_models(self.tx, self.words, models)

    def send(self, sender: str, number: int, content: Body) -> Received:
        from loopline.tracking.receiving import receive

        return receive(self.writing, sender, number, content)

    def close(self, sender: str) -> Received:
        from loopline.tracking.receiving import close

        return close(self.writing, sender)

    def skip_batches(self, sender: str, number: int) -> Received:
        from loopline.tracking.receiving import skip

        return skip(self.tx, sender, number)

    def received(self, sender: str) -> Received:
        from loopline.tracking.receiving import received

        return received(self.tx, sender)

    def params(self, run: str, params: dict[str, Any]) -> Run:
        row = reading.live(self.tx, run)
        values.set_params(self.tx, self.words, row.number, params, row.id)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def correct(self, run: str, params: dict[str, Any], reason: str) -> Run:
        if not reason.strip():
            raise Invalid("A correction needs its reason.", code="bad-value", hint="Say why the params were wrong.")
        row = reading.held_live(self.tx, run)
        values.correct(self.tx, self.words, row.number, params, reason)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def corrections(self, run: str) -> tuple[Correction, ...]:
        return values.corrections(self.tx, self.words, reading.row_of(self.tx, run).number)

    def tag(self, run: str, tags: dict[str, str | None]) -> Run:
        row = reading.live(self.tx, run)
        values.set_tags(self.tx, self.words, row.number, tags)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def use(self, run: str, datasets: list[ExternalDataset]) -> Run:
        self.tx.write()
        row = reading.held_live(self.tx, run)
        said = external.use(self.tx, row.number, datasets)
        self.tx.note(outputs=[self._ref(row.id)], digests=said)
        return self.show(row.id)

    def used(self, groups: tuple[int, ...] = (), limit: int = 1000) -> tuple[ExternalUse, ...]:
        check_limit(limit, "datasets")
        return external.used(self.tx, groups, limit)

    def change(
        self, run: str, name: str | None = None, status: RunStatus | None = None, ended: int | None = None
    ) -> Run:
        if name is not None:
            check_title(name, "name of a run")
        if ended is not None:
            _check_moment(ended)
        self.tx.write()
        row = self.writing.change(reading.held_live(self.tx, run), name, status, ended)
        self.writing.write_points()
        self.tx.note(outputs=[self._ref(row.id)])
        return reading.records(self.tx, self.words, [row])[0]

    def note(self, run: str, text: str) -> Run:
        row = reading.live(self.tx, run)
        self.writing.set_note(row.number, text)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def link(self, run: str, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()) -> Run:
        row = reading.held_live(self.tx, run)
        read = self.writing.add_refs(row.number, 0, inputs)
        made = self.writing.add_refs(row.number, 1, outputs)
        self.tx.note(inputs=read, outputs=[self._ref(row.id), *made])
        return self.show(row.id)

    def finish(self, run: str, status: Ending = "finished", outputs: tuple[str, ...] = (), message: str = "") -> Run:
        row = reading.held_live(self.tx, run)
        known = self.show(row.id)
        made = authority.readable(self.tx, outputs)
        if row.status != "running":
            if row.status == status and row.message == message and set(made) <= set(known.outputs):
                return known  # the same again, after a lost answer
            raise Conflict(
                f"The run {row.id} has ended already: it is {row.status}.",
                code="run-ended",
                hint="A run ends once; create another one for another execution.",
            )
        self.writing.end(row.number, status, message, self.tx.now)
        self.writing.write_points()
        self.writing.add_refs(row.number, 1, made)
        self.tx.note(inputs=known.inputs, outputs=[self._ref(row.id), *made])
        return self.show(row.id)

    def show(self, run: str) -> Run:
        return reading.records(self.tx, self.words, [reading.row_of(self.tx, run)])[0]

    def last(self, runs: tuple[str, ...]) -> dict[str, tuple[Point, ...]]:
        check_limit(len(runs), "runs", LARGEST_PAGE)
        return reading.last_points(self.tx, self.words, reading.rows_named(self.tx, runs))

    def list(
        self,
        name: str | None = None,
        kind: RunKind | None = None,
        status: RunStatus | None = None,
        parent: str | None = None,
        limit: int = 100,
        after: str | None = None,
        groups: tuple[int, ...] = (),
        lifecycle: Lifecycle = "live",
    ) -> RunPage:
        check_limit(limit, "runs", LARGEST_PAGE)
        query = sa.select(runs).where(runs.c.project == self.tx.project, within(self.tx, groups, lifecycle))
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
        from loopline.tracking import series
        from loopline.tracking.points import fewer, read

        row = reading.row_of(self.tx, run)  # first: it says which batches count
        number = self.words.known(self.tx, key)
        if number is None:
            return ()
        if row.batches == series.ALONE and len(alone := series.told(self.tx, row.number, key=number)):
            found = alone
        elif self.metrics is None:
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

    def _ref(self, run: str) -> str:
        return self.tx.ref("run", run)


def _check_moment(time: int) -> None:
    if not 0 <= time <= LATEST:
        raise Invalid(f"{time} is no time of a run.", code="bad-value", hint="It is in milliseconds since 1970 UTC.")


def _check_point(point: Point) -> None:
    if not -_MOST <= point.step < _MOST or not -1 <= point.time < _MOST:
        raise Invalid(
            f"A point of {point.key!r} has step {point.step} and time {point.time}.",
            code="bad-point",
            hint="A step is a 64-bit integer, a time milliseconds since 1970 UTC.",
        )

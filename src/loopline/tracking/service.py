"""The verbs of runs, within one transaction."""

from __future__ import annotations

import builtins
import math
import mimetypes
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from loopline.access import authority
from loopline.database import Database, Tx
from loopline.errors import Conflict, Invalid, NotFound
from loopline.failpoints import failpoint
from loopline.hashing import canonical_json
from loopline.operations import Body, Bytes, check_limit
from loopline.ports.blobs import BlobStore
from loopline.refs import parse
from loopline.store.service import Store
from loopline.tracking import points
from loopline.tracking.ids import ulid
from loopline.tracking.paths import check_key, check_path
from loopline.tracking.records import Artifact, Ending, Logged, Point, Real, Run, RunKind, RunPage, RunStatus, real
from loopline.tracking.tables import run_artifacts, run_metrics, run_params, run_tags, runs
from loopline.tracking.verbs import RunsVerbs

_LONGEST_TEXT = 64_000
_LARGEST_BATCH = 100_000
_LARGEST_PAGE = 1000
_MOST_KEYS = 10_000
_MOST = 2**63


class RunsService(RunsVerbs):
    """Runs. `metrics`: the database of metric points, where it is not the transaction's own (SQLite: `metrics.db`)."""

    def __init__(self, tx: Tx, blobs: BlobStore, metrics: Database | None = None) -> None:
        self.tx = tx
        self.blobs = blobs
        self.metrics = metrics

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
        check_key(name, "name of a run")
        self.tx.write()  # the id carries the time of the write transaction
        above = self._row(parent).id if parent is not None else None
        run = ulid(self.tx.now)
        read = authority.readable(self.tx, inputs)
        self.tx.execute(
            runs.insert().values(
                id=run,
                project=self.tx.project,
                name=name,
                kind=kind,
                status="running",
                created=self.tx.now,
                creator=self.tx.principal,
                message="",
                parent=above,
                inputs=read,
                outputs=[],
                environment=_plain(environment or {}, "environment"),
            )
        )
        self._set_params(run, params or {})
        self._set_tags(run, tags or {})
        self.tx.note(inputs=read, outputs=[self._ref(run)])
        return self.show(run)

    def log(self, run: str, metrics: list[Point]) -> Logged:
        row = self._row(run)
        if not 0 < len(metrics) <= _LARGEST_BATCH:
            raise Invalid(
                f"A batch of {len(metrics)} points cannot be logged.",
                code="bad-batch",
                hint=f"Send 1 to {_LARGEST_BATCH} points at once.",
            )
        batch = [_checked(point, self.tx.now) for point in metrics]
        digest = points.digest(batch)
        if self.metrics is None:
            points.append(self.tx, row.id, batch, digest)
        else:
            # Points first, then the ledger's entry: what is answered is in both. After a crash in between, the batch that is
            # sent again is found by its digest.
            with self.metrics.begin(principal=self.tx.principal, project=self.tx.project) as tx:
                points.append(tx, row.id, batch, digest)
            failpoint("tracking.log.after_points")
        self._set_latest(row.id, batch)
        self.tx.note(outputs=[self._ref(row.id)], digests={"points": digest})
        self.tx.count += len(batch)
        return Logged(run=row.id, count=len(batch), digest=digest)

    def params(self, run: str, params: dict[str, Any]) -> Run:
        row = self._row(run)
        self._set_params(row.id, params)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def tag(self, run: str, tags: dict[str, str]) -> Run:
        row = self._row(run)
        self._set_tags(row.id, tags)
        self.tx.note(outputs=[self._ref(row.id)])
        return self.show(row.id)

    def finish(self, run: str, status: Ending = "finished", outputs: tuple[str, ...] = (), message: str = "") -> Run:
        self.tx.write()
        row = self._row(run)
        made = authority.readable(self.tx, outputs)
        if row.status != "running":
            if (row.status, row.outputs, row.message) == (status, made, message):
                return self.show(row.id)  # the same again, after a lost answer
            raise Conflict(
                f"The run {row.id} has ended already: it is {row.status}.",
                code="run-ended",
                hint="A run ends once; create another one for another execution.",
            )
        self.tx.execute(
            runs.update()
            .where(runs.c.id == row.id)
            .values(status=status, ended=self.tx.now, outputs=made, message=message[:_LONGEST_TEXT])
        )
        self.tx.note(inputs=row.inputs, outputs=[self._ref(row.id), *made])
        return self.show(row.id)

    def show(self, run: str) -> Run:
        return self._records([self._row(run)])[0]

    def list(
        self,
        name: str | None = None,
        kind: RunKind | None = None,
        status: RunStatus | None = None,
        parent: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> RunPage:
        check_limit(limit, "runs", _LARGEST_PAGE)
        query = sa.select(runs).where(runs.c.project == self.tx.project)
        for column, value in ((runs.c.name, name), (runs.c.kind, kind), (runs.c.status, status)):
            if value is not None:
                query = query.where(column == value)
        if parent is not None:
            query = query.where(runs.c.parent == self._row(parent).id)
        if after is not None:
            query = query.where(runs.c.id < after)
        rows = self.tx.rows(query.order_by(runs.c.id.desc()).limit(limit + 1))
        shown = rows[:limit]
        return RunPage(runs=tuple(self._records(shown)), after=shown[-1].id if len(rows) > limit else None)

    def history(self, run: str, key: str) -> tuple[Point, ...]:
        query = points.rows_of(self._row(run).id, key)
        if self.metrics is None:
            return points.history(self.tx.rows(query), key)
        with self.metrics.snapshot() as connection:
            return points.history(connection.execute(query), key)

    def put_artifact(self, run: str, path: str, content: Body) -> Artifact:
        check_path(path)
        row = self._row(run)
        blob = self.blobs.put(content.chunks())
        self.tx.write()
        place = (run_artifacts.c.run == row.id) & (run_artifacts.c.path == path)
        former = self.tx.scalar(sa.select(run_artifacts.c.digest).where(place))
        if former != blob.digest:
            self.tx.execute(run_artifacts.delete().where(place))
            if former is not None:
                self._release(row.id, former)
            self.tx.execute(
                run_artifacts.insert().values(
                    run=row.id, path=path, digest=blob.digest, size=blob.size, created=self.tx.now
                )
            )
            Store(self.tx, self.blobs).retain(blob.digest, self._ref(row.id))
        self.tx.note(outputs=[self._ref(row.id)], digests={"artifact": blob.digest})
        return self._artifact(row.id, path)

    def artifacts(self, run: str) -> tuple[Artifact, ...]:
        found = self.tx.rows(
            sa.select(run_artifacts).where(run_artifacts.c.run == self._row(run).id).order_by(run_artifacts.c.path)
        )
        return tuple(Artifact(**row._mapping) for row in found)

    def artifact(self, run: str, path: str) -> Bytes:
        found = self._artifact(self._row(run).id, check_path(path))
        media = mimetypes.guess_type(path)[0] or "application/octet-stream"
        name = path.rsplit("/", 1)[-1]
        file = self.blobs.path(found.digest)
        if file is not None:  # handed out from the disk, whatever its size
            return Bytes(media=media, path=str(file), name=name)
        return Bytes(media=media, data=self.blobs.read(found.digest), name=name)

    def _artifact(self, run: str, path: str) -> Artifact:
        row = self.tx.first(sa.select(run_artifacts).where(run_artifacts.c.run == run, run_artifacts.c.path == path))
        if row is None:
            raise NotFound(
                f"The run {run} has no artifact {path!r}.",
                code="no-artifact",
                hint=f"`loopline runs artifacts {run}` lists them.",
            )
        return Artifact(**row._mapping)

    def _row(self, run: str) -> Any:
        ref = parse(run, "run", self.tx.project)
        row = self.tx.first(sa.select(runs).where(runs.c.id == ref.name, runs.c.project == self.tx.project))
        if row is None or ref.project != self.tx.project:
            raise NotFound(
                f"There is no run {run!r} in project {self.tx.project!r}.",
                code="no-run",
                hint="`loopline runs list` shows the runs.",
            )
        return row

    def _ref(self, run: str) -> str:
        return self.tx.ref("run", run)

    def _release(self, run: str, digest: str) -> None:
        """Gives a blob back, unless the run has the same bytes under another path."""
        same = (run_artifacts.c.run == run) & (run_artifacts.c.digest == digest)
        if self.tx.first(sa.select(run_artifacts.c.path).where(same)) is None:
            Store(self.tx, self.blobs).release(digest, self._ref(run))

    def _insert(self, table: sa.Table) -> Any:
        return (sqlite if self.tx.database.sqlite else postgresql).insert(table)

    def _set_params(self, run: str, params: Mapping[str, Any]) -> None:
        _check_count(params, "params")
        given = {check_key(key, "key of a param"): _text(value, key) for key, value in params.items()}
        if not given:
            return
        # Written first and compared then, so that two programs setting one param at once cannot both win.
        rows = [{"run": run, "key": key, "value": value} for key, value in given.items()]
        self.tx.execute(self._insert(run_params).on_conflict_do_nothing(), rows)
        kept = {
            row.key: row.value
            for row in self.tx.rows(sa.select(run_params.c.key, run_params.c.value).where(run_params.c.run == run))
        }
        for key, value in given.items():
            if kept[key] != value:
                raise Conflict(
                    f"The param {key!r} of run {run} is set to {kept[key]} and cannot become {value}.",
                    code="param-set",
                    hint="A param has one value for good; use a tag for what changes.",
                )

    def _set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        _check_count(tags, "tags")
        for key, value in tags.items():
            check_key(key, "key of a tag")
            self.tx.execute(run_tags.delete().where(run_tags.c.run == run, run_tags.c.key == key))
            if value:
                self.tx.execute(run_tags.insert().values(run=run, key=key, value=_short(value, f"The tag {key!r}")))

    def _set_latest(self, run: str, batch: builtins.list[Point]) -> None:
        latest: dict[str, Point] = {}
        for point in batch:
            known = latest.get(point.key)
            if known is None or (point.step, point.time) >= (known.step, known.time):
                latest[point.key] = point
        insert = self._insert(run_metrics)
        new = insert.excluded
        self.tx.execute(
            insert.on_conflict_do_update(
                index_elements=["run", "key"],
                set_={"value": new.value, "step": new.step, "time": new.time},
                where=(new.step > run_metrics.c.step)
                | ((new.step == run_metrics.c.step) & (new.time >= run_metrics.c.time)),
            ),
            [
                {
                    "run": run,
                    "key": key,
                    "value": None if math.isnan(point.number) else point.number,
                    "step": point.step,
                    "time": point.time,
                }
                for key, point in sorted(latest.items())
            ],
        )

    def _records(self, rows: Any) -> builtins.list[Run]:
        ids = [row.id for row in rows]
        params = self._values(run_params, ids, msgspec.json.decode)
        tags = self._values(run_tags, ids, str)
        metrics = self._values(run_metrics, ids, _read_number)
        return [
            Run(
                id=row.id,
                ref=self._ref(row.id),
                name=row.name,
                kind=row.kind,
                status=row.status,
                created=row.created,
                creator=row.creator,
                ended=row.ended,
                message=row.message,
                parent=row.parent,
                params=params.get(row.id, {}),
                tags=tags.get(row.id, {}),
                metrics=metrics.get(row.id, {}),
                inputs=tuple(row.inputs),
                outputs=tuple(row.outputs),
                environment=row.environment,
            )
            for row in rows
        ]

    def _values(self, table: sa.Table, ids: builtins.list[str], read: Any) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        query = sa.select(table.c.run, table.c.key, table.c.value).where(table.c.run.in_(ids)).order_by(table.c.key)
        for row in self.tx.rows(query):
            found.setdefault(row.run, {})[row.key] = read(row.value)
        return found


def _read_number(value: float | None) -> Real:
    return "NaN" if value is None else real(value)


def _checked(point: Point, now: int) -> Point:
    check_key(point.key, "key of a metric")
    if not -_MOST <= point.step < _MOST or not 0 <= point.time < _MOST:
        raise Invalid(
            f"A point of {point.key!r} has step {point.step} and time {point.time}.",
            code="bad-point",
            hint="A step is a 64-bit integer, a time milliseconds since 1970 UTC.",
        )
    return point if point.time else msgspec.structs.replace(point, time=now)


def _plain(value: Any, what: str) -> Any:
    """The value as JSON can carry it; NaN and infinities by their names. Raises `Invalid`."""
    if isinstance(value, float) and not math.isfinite(value):
        return real(value)
    if isinstance(value, dict):
        return {str(key): _plain(item, what) for key, item in value.items()}
    if isinstance(value, builtins.list | tuple):
        return [_plain(item, what) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise Invalid(
        f"{what} holds a {type(value).__name__}, which JSON cannot carry.",
        code="bad-value",
        hint="Give text, numbers, booleans, lists or mappings of these.",
    )


def _text(value: Any, key: str) -> str:
    try:
        text = canonical_json(_plain(value, f"The param {key!r}")).decode()
    except ValueError as e:
        raise Invalid(f"The param {key!r} cannot be kept: {e}.", code="bad-value", hint="Write it as a text.") from e
    return _short(text, f"The param {key!r}")


def _check_count(given: Mapping[str, Any], what: str) -> None:
    if len(given) > _MOST_KEYS:
        raise Invalid(
            f"{len(given):,} {what} in one call are too many.",
            code="bad-batch",
            hint=f"Send at most {_MOST_KEYS:,} at once; keep long lists as an artifact.",
        )


def _short(text: str, what: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise Invalid(
            f"{what} has {len(text)} characters.",
            code="too-long",
            hint=f"At most {_LONGEST_TEXT}; keep the rest as an artifact.",
        )
    return text

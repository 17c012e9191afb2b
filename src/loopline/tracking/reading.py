"""Runs as records, out of their tables: some statements for a page of them, however many they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, NotFound
from loopline.refs import parse
from loopline.tracking import external, params
from loopline.tracking.records import Point, Real, Run, real
from loopline.tracking.tables import environments, run_params, run_purged, run_refs, run_series, run_tags, runs
from loopline.tracking.words import Words


def known(tx: Tx, run: str) -> Any | None:
    """The row of the run with this id in the transaction's project, or None."""
    return tx.first(sa.select(runs).where(runs.c.id == run, runs.c.project == tx.project))


def row_at(tx: Tx, number: int) -> Any:
    """The row of the run of this number, which is there."""
    return tx.first(sa.select(runs).where(runs.c.number == number))


def row_of(tx: Tx, run: str) -> Any:
    """The row of a run, named by its id or its ref, of the transaction's project. Raises `NotFound`."""
    ref = parse(run, "run", tx.project)
    row = known(tx, ref.name)
    if row is None or ref.project != tx.project:
        if ref.project == tx.project:
            check_purged(tx, ref.name)
        raise NotFound(
            f"There is no run {run!r} in project {tx.project!r}.",
            code="no-run",
            hint="`loopline runs ls` shows the runs.",
        )
    return row


def purged(tx: Tx, run: str) -> int | None:
    """When a run of this id was removed for good; None: it was not."""
    at: int | None = tx.scalar(
        sa.select(run_purged.c.at).where(run_purged.c.id == run, run_purged.c.project == tx.project)
    )
    return at


def check_purged(tx: Tx, run: str) -> None:
    """Raises `NotFound` where a run of this id was removed for good."""
    if purged(tx, run) is not None:
        raise NotFound(
            f"The run {run} was deleted and removed for good.",
            code="run-purged",
            hint="`loopline ledger entries` still tells what was done with it.",
        )


def held(tx: Tx, run: str) -> Any:
    """The row of a run, which nobody else changes until the transaction ends. Raises `NotFound`."""
    tx.write()
    row = row_of(tx, run)
    if not tx.database.sqlite:  # SQLite has one writer at a time
        tx.rows(sa.select(runs.c.number).where(runs.c.number == row.number).with_for_update())
        row = row_of(tx, run)
    return row


def live(tx: Tx, run: str) -> Any:
    """The row of a run that can be written to. Raises `NotFound`, and `Conflict` where it is deleted."""
    row = row_of(tx, run)
    if row.deleted is not None:
        raise Conflict(
            f"The run {row.id} is deleted and takes no more.",
            code="run-deleted",
            hint=f"`loopline runs restore {row.id}` makes it live again.",
        )
    return row


def rows_named(tx: Tx, ids: Sequence[str]) -> list[Any]:
    """The rows of runs by their ids, in that order. Raises `NotFound`."""
    here = sa.select(runs).where(runs.c.project == tx.project)
    found = {row.id: row for row in tx.rows_among(here, runs.c.id, ids)}
    return [found[run] if run in found else row_of(tx, run) for run in ids]


def held_live(tx: Tx, run: str) -> Any:
    """The row of a run that can be written to, which nobody else changes until the transaction ends."""
    return live(tx, held(tx, run).id)


def rows_of(tx: Tx, numbers: Sequence[int]) -> list[Any]:
    """The rows of runs by their numbers, in that order."""
    found = {row.number: row for row in tx.rows_among(sa.select(runs), runs.c.number, numbers)}
    return [found[number] for number in numbers if number in found]


def records(tx: Tx, words: Words, rows: Sequence[Any]) -> list[Run]:
    """The runs of these rows, with their params, tags and last values."""
    numbers = [row.number for row in rows]
    set_ = _values(tx, words, numbers, run_params, ("value", "number"), params.read)
    tags = _values(tx, words, numbers, run_tags, ("value",), str)
    logged = [row.number for row in rows if row.batches]
    last = _values(tx, words, logged, run_series, ("last",), _number)
    refs = _refs(tx, numbers)
    elsewhere = external.of_runs(tx, [row.number for row in rows if row.external])
    bodies = _by_key(tx, environments.c.id, environments.c.body, {row.environment for row in rows})
    parents = _by_key(tx, runs.c.number, runs.c.id, {row.parent for row in rows})
    return [
        Run(
            id=row.id,
            ref=tx.ref("run", row.id),
            name=row.name,
            kind=row.kind,
            status=row.status,
            created=row.created,
            creator=row.creator,
            ended=row.ended,
            message=row.message,
            note=row.note,
            group=row.group,
            deleted=row.deleted,
            parent=parents.get(row.parent),
            params=set_.get(row.number, {}),
            tags=tags.get(row.number, {}),
            metrics=last.get(row.number, {}),
            inputs=tuple(refs.get((row.number, 0), ())),
            outputs=tuple(refs.get((row.number, 1), ())),
            environment=bodies.get(row.environment, {}),
            external=tuple(elsewhere.get(row.number, ())),
        )
        for row in rows
    ]


def last_points(tx: Tx, words: Words, rows: Sequence[Any]) -> dict[str, tuple[Point, ...]]:
    """The last point of each metric of the runs of these rows, by the runs' ids."""

    def point(last: float | None, step: int, time: int) -> tuple[Real, int, int]:
        return _number(last), step, time

    found = _values(tx, words, [row.number for row in rows], run_series, ("last", "step", "time"), point)
    return {
        row.id: tuple(
            Point(key=key, value=value, step=step, time=time)
            for key, (value, step, time) in found.get(row.number, {}).items()
        )
        for row in rows
    }


def _values(
    tx: Tx, words: Words, numbers: Sequence[int], table: sa.Table, columns: Sequence[str], read: Callable[..., Any]
) -> dict[int, dict[str, Any]]:
    """By run and key, in the order of the keys, what `read` makes of the columns."""
    query = sa.select(table.c.run, table.c.key, *(table.c[name] for name in columns))
    rows: list[Any] = tx.rows_among(query, table.c.run, numbers)
    spelled = words.spelled(tx, {row[1] for row in rows})
    places = {key: place for place, key in enumerate(sorted(spelled, key=spelled.__getitem__))}
    found: dict[int, dict[str, Any]] = {}
    for run, key, *values in sorted(rows, key=lambda row: places[row[1]]):
        found.setdefault(run, {})[spelled[key]] = read(*values)
    return found


def _refs(tx: Tx, numbers: Sequence[int]) -> dict[tuple[int, int], list[str]]:
    found: dict[tuple[int, int], list[str]] = {}
    query = sa.select(run_refs).order_by(run_refs.c.run, run_refs.c.place)
    for row in tx.rows_among(query, run_refs.c.run, numbers):
        found.setdefault((row.run, row.side), []).append(row.ref)
    return found


def _by_key(tx: Tx, key: sa.Column[int], value: sa.Column[Any], wanted: set[int | None]) -> dict[int | None, Any]:
    rows: list[Any] = tx.rows_among(sa.select(key, value), key, wanted - {None})
    return {row[0]: row[1] for row in rows}


def _number(value: float | None) -> Real:
    return "NaN" if value is None else real(value)

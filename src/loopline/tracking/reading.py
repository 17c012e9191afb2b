"""Runs as records, out of their tables: some statements for a page of them, however many they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, NotFound
from loopline.prepared import Prepared
from loopline.refs import parse
from loopline.tracking import external, params
from loopline.tracking.records import Point, Real, Run, real
from loopline.tracking.tables import environments, run_params, run_purged, run_refs, run_series, run_tags, runs
from loopline.tracking.words import Words


def known(tx: Tx, run: str) -> Any | None:
    """The row of the run with this id in the transaction's project, or None."""
    return tx.first(_BY_ID, {"run": run, "project": tx.project})


def row_at(tx: Tx, number: int) -> Any:
    """The row of the run of this number, which is there."""
    return tx.first(_BY_NUMBER, {"of": number})


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
    return _checked_live(row_of(tx, run))


def _checked_live(row: Any) -> Any:
    if row.deleted is not None:
        raise Conflict(
            f"The run {row.id} is deleted and takes no more.",
            code="run-deleted",
            hint=f"`loopline runs restore {row.id}` makes it live again.",
        )
    return row


def rows_named(tx: Tx, ids: Sequence[str]) -> list[Any]:
    """The rows of runs by their ids, in that order. Raises `NotFound`."""
    found = {row.id: row for row in tx.rows_among(_HERE, runs.c.id, ids, {"project": tx.project})}
    return [found[run] if run in found else row_of(tx, run) for run in ids]


def held_live(tx: Tx, run: str) -> Any:
    """The row of a run that can be written to, which nobody else changes until the transaction ends."""
    return _checked_live(held(tx, run))


def inputs_of(tx: Tx, run: str) -> list[str]:
    """The refs that a run of the project and the runs around it read; of a run that is not there none."""
    found: list[str] = []
    row = known(tx, run)
    while row is not None:
        mine = (run_refs.c.run == row.number) & (run_refs.c.side == 0)
        found += [one.ref for one in tx.rows(sa.select(run_refs.c.ref).where(mine).order_by(run_refs.c.place))]
        row = row_at(tx, row.parent) if row.parent is not None else None
    return found


def rows_of(tx: Tx, numbers: Sequence[int]) -> list[Any]:
    """The rows of runs by their numbers, in that order."""
    found = {row.number: row for row in tx.rows_among(_ALL, runs.c.number, numbers)}
    return [found[number] for number in numbers if number in found]


def records(tx: Tx, words: Words, rows: Sequence[Any]) -> list[Run]:
    """The runs of these rows, with their params, tags and last values."""
    set_, tags, last, refs = _contents(tx, words, [row.number for row in rows])
    elsewhere = external.of_runs(tx, [row.number for row in rows if row.external])
    bodies = _by_key(tx, _ENVIRONMENTS, environments.c.id, {row.environment for row in rows})
    parents = _by_key(tx, _PARENTS, runs.c.number, {row.parent for row in rows})
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
    found: list[Any] = tx.rows_among(_LAST, run_series.c.run, [row.number for row in rows])
    spelled = words.spelled(tx, {row.key for row in found})
    points: dict[int, list[Point]] = {}
    for run, key, last, step, time in found:
        points.setdefault(run, []).append(Point(key=spelled[key], value=_number(last), step=step, time=time))
    return {row.id: tuple(sorted(points.get(row.number, ()), key=lambda point: point.key)) for row in rows}


def _contents(tx: Tx, words: Words, numbers: Sequence[int]) -> tuple[_Values, _Values, _Values, dict[Any, list[str]]]:
    """The params, tags and last values by run and key, in the order of the keys, and the refs by run and side, in their order."""
    rows: list[Any] = tx.rows_among(_CONTENTS, _content.c.run, numbers)
    spelled = words.spelled(tx, {row[2] for row in rows if row[0] <= _SERIES})
    found: dict[int, dict[int, dict[str, Any]]] = {_PARAM: {}, _TAG: {}, _SERIES: {}}
    order = {key: place for place, key in enumerate(sorted(spelled, key=spelled.__getitem__))}
    refs: dict[Any, list[str]] = {}
    for what, run, key, text, number in sorted(rows, key=lambda row: order[row[2]] if row[0] <= _SERIES else row[2]):
        if what == _PARAM:
            value = params.read(text, number)
        elif what == _TAG:
            value = text
        elif what == _SERIES:
            value = _number(number)
        else:
            refs.setdefault((run, what - _REF), []).append(text)
            continue
        found[what].setdefault(run, {})[spelled[key]] = value
    return found[_PARAM], found[_TAG], found[_SERIES], refs


def _by_key(tx: Tx, pairs: sa.Select[Any], key: sa.Column[int], wanted: set[int | None]) -> dict[int | None, Any]:
    rows: list[Any] = tx.rows_among(pairs, key, wanted - {None})
    return {row[0]: row[1] for row in rows}


def _number(value: float | None) -> Real:
    return "NaN" if value is None else real(value)


_Values = dict[int, dict[str, Any]]

_PARAM, _TAG, _SERIES, _REF = range(4)
_NO_TEXT, _NO_NUMBER = sa.cast(sa.null(), sa.Text), sa.cast(sa.null(), sa.Float)

_content = sa.union_all(
    sa.select(
        sa.literal_column(str(_PARAM), sa.Integer).label("what"),
        run_params.c.run,
        run_params.c.key,
        run_params.c.value.label("text"),
        run_params.c.number,
    ),
    sa.select(sa.literal_column(str(_TAG)), run_tags.c.run, run_tags.c.key, run_tags.c.value, _NO_NUMBER),
    sa.select(sa.literal_column(str(_SERIES)), run_series.c.run, run_series.c.key, _NO_TEXT, run_series.c.last),
    sa.select(
        sa.literal_column(str(_REF)) + run_refs.c.side, run_refs.c.run, run_refs.c.place, run_refs.c.ref, _NO_NUMBER
    ),
).subquery()
_CONTENTS = sa.select(_content)
"""All that runs hold in one query: what it is, of which run, under which key (or place), and its value."""

_ALL = sa.select(runs)
_BY_ID = Prepared(_ALL.where(runs.c.id == sa.bindparam("run"), runs.c.project == sa.bindparam("project")))
_BY_NUMBER = Prepared(_ALL.where(runs.c.number == sa.bindparam("of")))
_HERE = _ALL.where(runs.c.project == sa.bindparam("project"))
_LAST = sa.select(run_series.c.run, run_series.c.key, run_series.c.last, run_series.c.step, run_series.c.time)
_ENVIRONMENTS = sa.select(environments.c.id, environments.c.body)
_PARENTS = sa.select(runs.c.number, runs.c.id)

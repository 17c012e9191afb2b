"""Removing deleted runs for good: what is in the way, and every row and point that goes.

Rows and points may be in two files. The rows go first, in one transaction, which leaves the run's number in `run_purged`; points
of a number that stands there are removed after it, now or by the next purge, whoever dies in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from loopline.database import Database, Tx, metadata
from loopline.failpoints import failpoint
from loopline.ports.blobs import BlobStore
from loopline.store.service import Store
from loopline.tracking.records import Needed, TagRetention
from loopline.tracking.search.columns import same_text
from loopline.tracking.shared import remove_unused
from loopline.tracking.tables import (
    folded_points,
    hot_points,
    run_external,
    run_groups,
    run_purged,
    run_tags,
    runs,
    words,
)

_RUN = re.compile(r"(?<![\w-])run:(?:[\w.-]+/)?\w+")
_SHARED: tuple[sa.Column[Any], ...] = (runs.c.environment, run_external.c.dataset)
"""What refers to rows that many runs share: they go with the last run."""


class Selected(NamedTuple):
    """Rows of runs that can go, those that something names, and whether there are more of them."""

    rows: list[Any]
    needed: list[Needed]
    more: bool = False


def select(tx: Tx, rows: Sequence[Any]) -> Selected:
    """Tells runs that can go from those that a row of another room names."""
    named = _named(tx, {tx.ref("run", row.id): row.id for row in rows})
    free = [row for row in rows if row.id not in named]
    return Selected(free, [Needed(run=row.id, by=named[row.id]) for row in rows if row.id in named])


def keeps(tx: Tx, rule: TagRetention) -> sa.ColumnElement[bool]:
    """Whether a deleted run is to be kept yet, for a tag that it has."""
    c = run_tags.c
    key = sa.select(words.c.id).where(words.c.word == rule.key).scalar_subquery()
    has = sa.exists().where(c.run == runs.c.number, c.key == key)
    if rule.value is not None:
        has = has.where(same_text(c.value, [rule.value]))
    return has if rule.kept is None else sa.and_(has, runs.c.deleted > tx.now - rule.kept)


def older(tx: Tx, before: int, rules: Sequence[TagRetention], most: int) -> Selected:
    """The runs of the project that were deleted before a time and no tag keeps, the oldest first: at most so many that can go."""
    tx.write()
    found = Selected([], [])
    mine = sa.and_(runs.c.project == tx.project, runs.c.deleted <= before, *(~keeps(tx, rule) for rule in rules))
    query = sa.select(runs).where(mine).order_by(runs.c.number).limit(most)
    if not tx.database.sqlite:  # SQLite has one writer at a time
        query = query.with_for_update()
    last = 0
    while rows := tx.rows(query.where(runs.c.number > last)):
        last = rows[-1].number
        part = select(tx, rows)
        found.needed.extend(part.needed)
        room = most - len(found.rows)
        found.rows.extend(part.rows[:room])
        if len(part.rows) > room:
            return found._replace(more=True)
    return found


def those(tx: Tx, rows: list[Any], groups: Sequence[int], most: int) -> Selected:
    """These runs, and those of some groups: at most so many of them."""
    known = [row.number for row in rows]
    mine = (runs.c.project == tx.project) & runs.c.group.in_(groups) & runs.c.number.not_in(known)
    more = tx.rows(sa.select(runs).where(mine).order_by(runs.c.number).limit(most + 1))
    return select(tx, [*rows, *more[:most]])._replace(more=len(more) > most)


def emptied(tx: Tx, which: sa.ColumnElement[bool], going: Sequence[Any]) -> list[int]:
    """The numbers of those groups of the project that have no runs but the ones that go; number 0, which counts them, stays."""
    left = sa.select(runs.c.number).where(runs.c.project == tx.project, runs.c.group == run_groups.c.number)
    left = left.where(runs.c.number.not_in([row.number for row in going]))
    query = sa.select(run_groups.c.number).where(
        run_groups.c.project == tx.project, run_groups.c.number > 0, which, ~left.exists()
    )
    return [row.number for row in tx.rows(query.order_by(run_groups.c.number))]


def remove(tx: Tx, blobs: BlobStore, rows: Sequence[Any]) -> None:
    """Removes every row of these runs; one that many runs share goes with the last of them."""
    numbers = [row.number for row in rows]
    if not numbers:
        return
    store = Store(tx, blobs)
    for row in rows:
        store.release_all(tx.ref("run", row.id))
    gone = [{"id": row.id, "project": tx.project, "number": row.number, "at": tx.now} for row in rows]
    tx.execute(run_purged.insert(), gone)
    shared = {column: {row[0] for row in tx.rows(_held_by(column, numbers))} - {None} for column in _SHARED}
    for column in _of_runs():
        if column.table is runs:  # children stay
            tx.execute(runs.update().where(column.in_(numbers)).values({column.name: None}))
        else:
            tx.execute(sa.delete(column.table).where(column.in_(numbers)))
    tx.execute(runs.delete().where(runs.c.number.in_(numbers)))
    for column, wanted in shared.items():
        remove_unused(tx, column, wanted)


def _held_by(column: sa.Column[Any], numbers: Sequence[int]) -> sa.Select[Any]:
    run = column.table.c.number if column.table is runs else column.table.c.run
    return sa.select(column).where(run.in_(numbers)).distinct()


def after_commit(database: Database, metrics: Database | None) -> None:
    """Removes the points of the runs whose rows are gone."""
    failpoint("tracking.purge.rows_removed")
    with database.begin() as tx:
        remove_points(tx, metrics)


def remove_points(tx: Tx, metrics: Database | None) -> None:
    """Removes the points of every run whose rows are gone and whose points may be left."""
    left = [row.number for row in tx.rows(sa.select(run_purged.c.number).where(run_purged.c.number.is_not(None)))]
    if not left:
        return
    if metrics is None:
        _delete_points(tx, left)
    else:
        with metrics.begin() as other:
            _delete_points(other, left)
        failpoint("tracking.purge.points_removed")
    tx.execute(run_purged.update().where(run_purged.c.number.in_(left)).values(number=None))


def _delete_points(tx: Tx, numbers: Sequence[int]) -> None:
    for table in (hot_points, folded_points):
        tx.execute(table.delete().where(table.c.run.in_(numbers)))


def _of_runs() -> Iterator[sa.Column[Any]]:
    """Every column, of whatever table, that holds the number of a run."""
    for table in reversed(metadata.sorted_tables):
        yield from (column for column in table.c if any(key.column is runs.c.number for key in column.foreign_keys))


def _named(tx: Tx, wanted: dict[str, str]) -> dict[str, str]:
    """Of runs, given as ids by their refs, those that a row of another room names, and what that is."""
    found: dict[str, str] = {}
    for _, by, held in naming(tx, "run"):
        for ref in _RUN.findall(held):
            if ref in wanted:
                found.setdefault(wanted[ref], by)
    return found


def naming(tx: Tx, kind: str) -> Iterator[tuple[str, str, str]]:
    """What of any room and project may name things of a kind: its project, what it is, and the text that names them.

    A column says by `info={"names": ...}` that it holds refs, and of what (`database.names`).
    """
    for table in metadata.sorted_tables:
        for column in table.c:
            if "names" not in column.info:
                continue
            by, *parts = column.info["names"]
            text = sa.cast(column, sa.Text)
            query = sa.select(text, table.c.project, *(table.c[part] for part in parts))
            for row in tx.rows(query.where(text.like(f"%{kind}:%"))):
                held, project, *key = tuple[Any, ...](row)
                yield project, tx.ref(by, *key) if project == tx.project else "something of another project", held

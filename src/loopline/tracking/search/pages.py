"""Runs in an order, a page at a time, by key-set: a page goes on behind the last run of the one before, and nothing is counted off.

An order is taken apart into stretches, one query each: the runs whose first key has a value, those where it is NaN, those that do
not have it. Within a stretch an index can give the runs in order, and most pages are full before the next is asked for.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Invalid
from loopline.tracking.records import Lifecycle
from loopline.tracking.search.columns import Bool, Columns, attribute, begins, metric, of_groups, param_text
from loopline.tracking.search.grammar import parse, parse_order
from loopline.tracking.search.sql import AT_ONCE, KEYED, Compiler
from loopline.tracking.search.tree import And, Field, In, Match, Order, OrderBy, Tree
from loopline.tracking.tables import runs

NEWEST = (OrderBy(Field("attributes", "id"), descending=True),)

_LONGEST_TOKEN = 16_384
_LOOK, _AT_LEAST, _ROUNDS = (
    10,
    1_000,
    4,
)  # runs a wanted row, and in all, whose texts patterns see before all texts are read
_LATEST = 2**47  # of the year 6429: a calendar has it


class Stretch(NamedTuple):
    """Runs that stand together in an order, and by which column they do; None: they are alike."""

    holds: Bool
    value: sa.ColumnElement[Any] | None = None
    kind: type = int


class Key(NamedTuple):
    """One key of an order: the row it is in (None: that of the run), and its stretches, the runs without it apart."""

    by: OrderBy
    row: sa.FromClause | None
    there: Bool
    stretches: tuple[Stretch, ...]


class Column(NamedTuple):
    """A column that is sorted by."""

    value: sa.ColumnElement[Any]
    descending: bool
    kind: type


Place = tuple[int, list[Any]]
"""Where a row stands: in which stretch, and the values that it is sorted by, its number last."""


class Token(msgspec.Struct, array_like=True):
    """Where a page ended: of which search, when its first page was asked for, in which stretch, and the last row's values."""

    search: bytes
    now: int
    stretch: int
    values: list[int | float | str]


def within(tx: Tx, groups: Sequence[int], lifecycle: Lifecycle) -> Bool:
    """Whether a run is of one of these groups (of any, where none is given), and in its life where it is to be."""
    conditions: list[Bool] = [of_groups(groups, tx.database.sqlite)] if groups else []
    if lifecycle != "all":
        conditions.append(runs.c.deleted.is_(None) if lifecycle == "live" else runs.c.deleted.is_not(None))
    return sa.and_(sa.true(), *conditions)


def find(
    tx: Tx,
    filter: str,
    order: Sequence[str],
    limit: int,
    after: str | None,
    now: int,
    groups: Sequence[int] = (),
    lifecycle: Lifecycle = "live",
) -> tuple[list[int], str | None]:
    """The numbers of the runs of a page, in order, and what to give for the next page (None: there is none).

    Dates in words count from `now` (milliseconds since 1970 UTC), on every page from that of the first one.
    Raises `Invalid` with code "bad-filter", "costly-filter" or "bad-page".
    """
    search = _digest(tx.project, filter, order, groups, lifecycle)
    token = None if after is None else read(after, search)
    now = token.now if token else now
    numbers, ended = select(tx, parse(filter, now), parse_order(order), limit, token, within(tx, groups, lifecycle))
    if ended is None:
        return numbers, None
    stretch, values = ended
    return numbers, printed(Token(search, now, stretch, values))


def select(
    tx: Tx, tree: Tree, order: Sequence[OrderBy], limit: int, token: Token | None, among: Bool
) -> tuple[list[int], tuple[int, list[Any]] | None]:
    """The numbers of the runs that a tree and `among` hold for, and where the page ended if there is more."""
    compiler = Compiler(tx, tree, order)
    keys = [_key(compiler, by) for by in (order or NEWEST)]
    if token is not None and not 0 <= token.stretch <= len(keys[0].stretches):
        raise _bad_page()
    place = None if token is None else (token.stretch, token.values)
    found = _first(compiler, tree, keys, limit + 1, place, among)
    if found is None:
        found = _rows(compiler, tree, keys, limit + 1, place, among)
    numbers = [values[-1] for _, values in found[:limit]]
    return numbers, found[limit - 1] if len(found) > limit else None


def _first(
    compiler: Compiler, tree: Tree, keys: list[Key], most: int, place: Place | None, among: Bool
) -> list[Place] | None:
    """The rows that a filter with patterns finds first, where they are near: the patterns see the texts of few runs then.

    None where the filter has no pattern that all of it depends on, or what fits is too rare to be met one by one.
    """
    parts = tree.parts if isinstance(tree, And) else (tree,)
    patterns = [part for part in parts if isinstance(part, Match)]
    others = And(tuple(part for part in parts if not isinstance(part, Match)))
    found: list[Place] = []
    size = min(max(most * _LOOK, _AT_LEAST), AT_ONCE)
    for _ in range(_ROUNDS if patterns else 0):
        rows = _rows(compiler, others, keys, size, place, among)
        numbers = [values[-1] for _, values in rows]
        fit = set.intersection(*(compiler.fit(pattern, numbers) for pattern in patterns))
        found += [row for row in rows if row[1][-1] in fit]
        if len(found) >= most or len(rows) < size:
            return found[:most]
        place = rows[-1]
    return None


def _rows(compiler: Compiler, tree: Tree, keys: list[Key], most: int, place: Place | None, among: Bool) -> list[Place]:
    """So many rows of those that a tree and `among` hold for, in order, behind a place."""
    few = compiler.few(tree)
    found: list[Place] = []
    if few is not None and not few:
        return found
    for stretch in range(place[0] if place else 0, len(keys[0].stretches) + 1):
        query, columns = _query(compiler, tree, keys, stretch)
        query = query.where(among)
        if few is not None:
            query = query.where(compiler.among(runs.c.number, few))
        if place is not None and stretch == place[0]:
            query = query.where(behind(columns, checked(place[1], columns)))
        found += [(stretch, list(row)) for row in compiler.tx.rows(query.limit(most - len(found)))]
        if len(found) == most or (few is not None and len(found) == len(few)):
            break
    return found


def _key(compiler: Compiler, by: OrderBy) -> Key:
    """Where the values of an order's key are, and how they stand: numbers before texts, NaN behind both."""
    field = by.field
    if field.group == "attributes":
        column = attribute(field.key)
        number = field.key in ("created", "ended", "deleted", "duration", "parent")
        # An id is of digits and capitals, which every database orders alike, and its index is as the database orders.
        value = (
            column
            if number or field.key == "id"
            else compiler.binary(begins(column) if field.key in ("message", "note") else column)
        )
        return Key(by, None, column.is_not(None), (Stretch(column.is_not(None), value, int if number else str),))
    row = KEYED[field.group].alias()
    c = row.c
    there = sa.and_(c.run == runs.c.number, c.key == compiler.key(field))
    if field.group == "metrics":
        value = metric(field, c)
        return Key(by, row, there, (Stretch(value.is_not(None), value, float), Stretch(value.is_(None))))
    if field.group == "tags":
        return Key(by, row, there, (Stretch(c.value.is_not(None), compiler.binary(begins(c.value)), str),))
    if field.part == "text":
        spelled = sa.func.coalesce(param_text(c), sa.cast(c.number, sa.Text))
        return Key(by, row, there, (Stretch(c.run.is_not(None), compiler.binary(begins(spelled)), str),))
    text = compiler.binary(begins(param_text(c)))
    return Key(
        by, row, there, (Stretch(c.number.is_not(None), c.number, float), Stretch(c.number.is_(None), text, str))
    )


def _query(compiler: Compiler, tree: Tree, keys: list[Key], stretch: int) -> tuple[sa.Select[Any], list[Column]]:
    """The runs of one stretch of the first key, in the order of all keys, with the values that they are sorted by."""
    first, others = keys[0], keys[1:]
    source: sa.FromClause = runs
    columns: list[Column] = []
    number: sa.ColumnElement[int] = runs.c.number
    asked = compiler.condition(tree)
    if stretch < len(first.stretches):
        part = first.stretches[stretch]
        if first.row is not None:
            source = first.row.join(runs, first.there)
            number = first.row.c.run
            asked = _filter(compiler, tree, first.by.field, first.row.c)
        where = part.holds
        if part.value is not None:
            columns.append(Column(part.value, first.by.descending, part.kind))
    elif first.row is None:
        where = sa.not_(first.there)
    else:
        where = sa.not_(sa.exists().where(first.there))
    for key in others:
        if key.row is not None:
            source = source.outerjoin(key.row, key.there)
        columns += _columns(key)
    columns.append(Column(number, True, int))
    query = sa.select(*(column.value.label(f"c{i}") for i, column in enumerate(columns))).select_from(source)
    query = query.where(runs.c.project == compiler.tx.project, where, asked)
    return query.order_by(*(c.value.desc() if c.descending else c.value.asc() for c in columns)), columns


def _filter(compiler: Compiler, tree: Tree, field: Field, row: Columns) -> Bool:
    """The filter; what it asks of the first key itself is asked of the row that is read already."""
    parts = tree.parts if isinstance(tree, And) else (tree,)
    conditions = (
        compiler.test(part, row)
        if isinstance(part, In | Order) and (part.field.group, part.field.key) == (field.group, field.key)
        else compiler.condition(part)
        for part in parts
    )
    return sa.and_(sa.true(), *conditions)


def _columns(key: Key) -> list[Column]:
    """The columns of a key that is not the first: its stretches by rank, then each one's values."""
    there = sa.true() if key.row is None else key.row.c.run.is_not(None)
    holds = [sa.and_(there, stretch.holds) for stretch in key.stretches]
    rank = sa.case(
        *((hold, sa.literal_column(str(i))) for i, hold in enumerate(holds)), else_=sa.literal_column(str(len(holds)))
    )
    found = [Column(rank, False, int)]
    for hold, stretch in zip(holds, key.stretches, strict=True):
        if stretch.value is not None:
            neutral: sa.ColumnElement[Any] = sa.literal_column({int: "0", float: "0.0", str: "''"}[stretch.kind])
            found.append(Column(sa.case((hold, stretch.value), else_=neutral), key.by.descending, stretch.kind))
    return found


def behind(columns: list[Column], values: list[Any]) -> Bool:
    """Whether a row comes after one with these values."""
    found: Bool = sa.false()
    for column, value in reversed(list(zip(columns, values, strict=True))):
        beyond = column.value < value if column.descending else column.value > value
        found = sa.or_(beyond, sa.and_(column.value == value, found))
    first, value = columns[0], values[0]
    # The same once more, as a range that an index can begin at.
    return sa.and_(first.value <= value if first.descending else first.value >= value, found)


def _digest(project: str, filter: str, order: Sequence[str], groups: Sequence[int], lifecycle: Lifecycle) -> bytes:
    asked = [project, filter, list(order), list(groups), lifecycle]
    return hashlib.sha256(msgspec.json.encode(asked)).digest()[:8]


def printed(token: Token) -> str:
    """The token as callers get it."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode().rstrip("=")


def read(after: str, search: bytes) -> Token:
    """The token that a page gave, where it is of this very search. Raises `Invalid`."""
    try:
        if len(after) > _LONGEST_TOKEN:
            raise ValueError("longer than any token")
        raw = base64.b64decode(after.encode("ascii") + b"=" * (-len(after) % 4), altchars=b"-_", validate=True)
        token = msgspec.msgpack.decode(raw, type=Token)
    except (ValueError, msgspec.MsgspecError) as e:
        raise _bad_page() from e
    if token.search != search:
        raise Invalid(
            "The page token is of another search.",
            code="bad-page",
            hint="Give the filter and the order that the first page was asked for with, or leave the token out.",
        )
    if not 0 <= token.now <= _LATEST:
        raise _bad_page()
    return token


def checked(values: list[Any], columns: list[Column]) -> list[Any]:
    """The values of a token, where they can be those of the columns. Raises `Invalid`."""
    if [type(value) for value in values] != [column.kind for column in columns]:
        raise _bad_page()
    for value in values:
        if (isinstance(value, int) and not -(2**63) <= value < 2**63) or (isinstance(value, str) and "\x00" in value):
            raise _bad_page()
    return values


def _bad_page() -> Invalid:
    return Invalid(
        "The page token is damaged.", code="bad-page", hint="Give it as the page before gave it, or leave it out."
    )

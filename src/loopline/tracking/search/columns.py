"""What the columns of a run say: the expressions that filters and orders are made of."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from loopline.hashing import canonical_json
from loopline.tracking.records import DEFAULT_GROUP
from loopline.tracking.search.tree import Field, In, Like, Op, Order, Span, Value
from loopline.tracking.tables import INDEXED, external_datasets, run_external, run_groups, runs

Bool = sa.ColumnElement[bool]
Columns = Any
"""The columns of a table or of an alias of it."""

# Literals and not parameters: SQLite takes an index over an expression only for the very same expression.
_ONE: sa.ColumnElement[int] = sa.literal_column("1")
_INDEXED: sa.ColumnElement[int] = sa.literal_column(str(INDEXED))
_MOST_GROUPS = 2**31  # as many as their column can number
_FEW_GROUPS = 500  # so many are parameters of their own, by which an index gives the runs in order
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)


def attribute(key: str) -> sa.ColumnElement[Any]:
    """The column of an attribute; NULL where the run has none. Times and durations are in milliseconds."""
    if key in ("message", "note"):
        return sa.func.nullif(runs.c[key], "")
    if key == "duration":
        return runs.c.ended - runs.c.created
    if key == "group":
        named = sa.select(run_groups.c.name).where(
            run_groups.c.project == runs.c.project, run_groups.c.number == runs.c.group
        )
        return sa.func.coalesce(named.scalar_subquery(), DEFAULT_GROUP)
    return runs.c[key]


def among(column: sa.ColumnElement[int], numbers: Iterable[int], sqlite: bool) -> Bool:
    """Whether a number is one of any number of numbers: they travel as one parameter."""
    if sqlite:
        each = sa.func.json_each(json.dumps(sorted(numbers))).table_valued("value")
        return column.in_(sa.select(each.c.value))
    return column == sa.any_(sa.literal(sorted(numbers), postgresql.ARRAY(sa.Integer)))


def of_groups(groups: Sequence[int], sqlite: bool) -> Bool:
    """Whether a run is of one of these groups, however many and whatever numbers they are."""
    there = [number for number in groups if 0 <= number < _MOST_GROUPS]
    return runs.c.group.in_(there) if len(there) <= _FEW_GROUPS else among(runs.c.group, there, sqlite)


def elsewhere(key: str) -> sa.ColumnElement[str]:
    """What is said of data held elsewhere: its name, its digest, or what it was read for."""
    column: sa.ColumnElement[str] = run_external.c.context if key == "context" else external_datasets.c[key]
    return column


def metric(field: Field, c: Columns) -> sa.ColumnElement[float]:
    """The value of a metric in its row; NULL is NaN."""
    if field.part == "last":
        return c.last  # type: ignore[no-any-return]
    return sa.func.coalesce(c.low if field.part == "min" else c.high, c.last)


def of_metric(leaf: In | Order | Like, value: sa.ColumnElement[float]) -> Bool:
    """Whether a leaf holds for the value of a metric."""
    if isinstance(leaf, Order):
        return sa.and_(value.is_not(None), value.bool_op(leaf.op)(leaf.value))
    assert isinstance(leaf, In), "metrics are numbers"
    finite = [float(v) for v in leaf.values if isinstance(v, float) and not math.isnan(v)]
    nan = len(finite) < len(leaf.values)
    if not leaf.negated:
        return sa.or_(value.in_(finite), value.is_(None)) if nan else value.in_(finite)
    return sa.and_(value.is_not(None), value.not_in(finite)) if nan else sa.or_(value.is_(None), value.not_in(finite))


def begins(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The beginning of a text, as it is in an index."""
    return sa.func.substr(column, _ONE, _INDEXED)


def same_text(column: sa.ColumnElement[str], texts: Sequence[str]) -> Bool:
    """Whether a text is one of some, by the index over its beginning.

    The rest is compared apart: of `column = ?` SQLite would put the ? in place of the column everywhere, and find no index.
    """
    short = [text for text in texts if len(text) < INDEXED]
    rest = sa.func.substr(column, INDEXED + 1)
    long = [text for text in texts if len(text) >= INDEXED]
    found = [sa.and_(begins(column) == text[:INDEXED], rest == text[INDEXED:]) for text in long]
    return sa.or_(begins(column).in_(short), *found) if short or not long else sa.or_(*found)


def is_text(c: Columns) -> Bool:
    """Whether a param is a text; NULL where it is a number."""
    return sa.func.substr(c.value, 1, 1) == '"'


def param_text(c: Columns) -> sa.ColumnElement[str]:
    """The text of a param as JSON escapes it, or the JSON of another value that is no plain number."""
    return sa.case((is_text(c), sa.func.substr(c.value, 2, sa.func.length(c.value) - 2)), else_=c.value)


def escaped(text: str) -> str:
    """A text as it stands between the quotes of canonical JSON."""
    return canonical_json(text).decode()[1:-1]


def same_param(value: Value, c: Columns) -> Iterator[Bool]:
    """The ways in which a param is a value: as a number, as a text, or by its JSON."""
    if isinstance(value, float):
        if math.isfinite(value):
            yield c.number == value
        else:  # JSON has no such numbers: they are kept by name
            yield same_text(c.value, [canonical_json(_NAMES[str(value)]).decode()])
        return
    text = str(value)
    yield same_text(c.value, [canonical_json(text).decode(), *([] if text.startswith('"') else [text])])
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        yield sa.and_(c.value.is_(None), c.number == float(text))


_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def printed(value: str | None, number: float | None) -> str:
    """A param as patterns see it: a text as it is, anything else as its JSON."""
    if value is None:
        return canonical_json(number).decode()
    return str(msgspec.json.decode(value)) if value.startswith('"') else value


def within(column: sa.ColumnElement[int], span: Span) -> Bool:
    """Whether a time is in a stretch of time."""
    return column >= span.start if span.end is None else sa.and_(column >= span.start, column < span.end)


def beside(op: Op, column: sa.ColumnElement[int], span: Span) -> Bool:
    """Whether a time is before or after a stretch of time; of one that goes on, > is like >=: since it began."""
    if op == "<" or (op == "<=" and span.end is None):
        return column < span.start
    if op == "<=":
        return column < span.end
    return column >= (span.end if op == ">" and span.end is not None else span.start)

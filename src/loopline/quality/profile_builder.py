"""The profile of rows as they are served: plain dicts in, the same profile out as from a frame of these rows.

Imports neither polars nor pandas. Feed it off the request's path, in batches: the cost of a row falls with the batch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np

from loopline.errors import Invalid
from loopline.quality.profile_column import NUMERIC, ColumnProfile, level_column, number_column
from loopline.quality.profile_records import Profile

_BATCH: Final = 4096
_PLAIN: Final = frozenset((int, float, type(None)))
_TEXT: Final = frozenset((str, type(None)))
_EPOCH: Final = date(1970, 1, 1).toordinal()


class ProfileBuilder:
    """Collects rows against a frozen reference.

    By default all of the reference's columns but the label are read (labels come later); `columns` names others. A key that
    a row lacks is a null; a value that is not of the column's kind is counted as `mistyped`. Not safe for use from several
    threads at once.
    """

    def __init__(self, reference: Profile, *, columns: Iterable[str] | None = None) -> None:
        if not reference.frozen:
            raise Invalid("The reference is not frozen.", code="profile-not-frozen", hint="Call .freeze() on it.")
        names = [n for n in reference.columns if n != reference.label] if columns is None else list(columns)
        self._reference = reference.only(names)
        self._label = reference.label
        self._rows: list[dict[str, Any]] = []
        self._done: Profile | None = None

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Takes some rows in; they must not be changed afterwards."""
        self._rows.extend(rows)
        if len(self._rows) >= _BATCH:
            self._fold()

    def profile(self) -> Profile:
        """The profile of all rows so far."""
        self._fold()
        assert self._done is not None
        return self._done

    def take(self) -> Profile:
        """The profile of all rows so far, and an empty start for the next window."""
        done = self.profile()
        self._done = None
        return done

    def _fold(self) -> None:
        if not self._rows and self._done is not None:
            return
        rows, self._rows = self._rows, []
        part = Profile(
            rows=len(rows),
            columns={
                name: _column([row.get(name) for row in rows], like) for name, like in self._reference.columns.items()
            },
            label=self._label,
            frozen=True,
        )
        self._done = part if self._done is None else self._done.merge(part)


def _column(values: list[Any], like: ColumnProfile) -> ColumnProfile:
    if like.kind in NUMERIC:
        if like.kind == "date":
            values = [_days(value) for value in values]
        types = set(map(type, values))
        mistyped = 0
        if not types <= _PLAIN:
            kept = [value if type(value) in _PLAIN else _number(value) for value in values]
            mistyped = sum(1 for value in kept if value is _ODD)
            values = [value for value in kept if value is not _ODD]
        nulls = values.count(None)
        if nulls:
            values = [value for value in values if value is not None]
        return number_column(like.kind, _doubles(values), nulls=nulls, mistyped=mistyped, like=like)
    if like.kind in ("boolean", "category"):
        types, mistyped = set(map(type, values)), 0
        if like.kind == "boolean":
            nulls = values.count(None)
            counts = {"false": sum(1 for v in values if v is False), "true": sum(1 for v in values if v is True)}
            mistyped = len(values) - nulls - sum(counts.values())
            counts = {name: n for name, n in counts.items() if n}
            return level_column("boolean", counts, nulls=nulls, mistyped=mistyped, like=like)
        found = Counter(values) if types <= _TEXT else Counter(v for v in values if type(v) in _TEXT)
        nulls = found.pop(None, 0)
        mistyped = len(values) - nulls - sum(found.values())
        return level_column("category", found, nulls=nulls, mistyped=mistyped, like=like)
    nulls = values.count(None)
    return ColumnProfile(kind=like.kind, rows=len(values), nulls=nulls, mistyped=_odd_nulls(like, values, nulls))


def _odd_nulls(like: ColumnProfile, values: list[Any], nulls: int) -> int:
    return len(values) - nulls if like.kind == "null" else 0


_ODD: Final = object()


def _number(value: Any) -> Any:
    """A number as a frame would hold it; else the sign that it is none."""
    if isinstance(value, bool | str | bytes):
        return _ODD
    try:
        return float(value)
    except (TypeError, ValueError):
        return _ODD


def _doubles(values: list[Any]) -> Any:
    try:
        return np.array(values, np.float64)
    except OverflowError:  # an integer of more than 308 digits
        return np.array([_saturated(value) for value in values], np.float64)


def _saturated(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _days(value: Any) -> Any:
    """Days since 1970 of a date, a time or its ISO text; a time without a zone is UTC."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            if len(value) == 10:
                return float(date.fromisoformat(value).toordinal() - _EPOCH)
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
            return micros / 86_400_000_000
        if isinstance(value, date):
            return float(value.toordinal() - _EPOCH)
    except ValueError:
        pass
    return "not a date"


_MICROSECOND: Final = datetime.resolution

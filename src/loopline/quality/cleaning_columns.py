"""Columns as cleaning works on them, the same for a frame and for the rows of a request. numpy and the standard library alone.

Numbers, booleans (0 and 1) and dates (days since 1970-01-01 UTC) are float64 with NaN for missing; texts are codes into distinct
values with "" for missing, so that a step is done once for each distinct text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SPACE = " \t\r\n\f\v\u00a0\u3000\ufeff"  # named, because Python's and Rust's idea of white space differ


class Text:
    """A column of texts: row i holds `levels[codes[i]]`. Levels may repeat, and some may stand in no row."""

    __slots__ = ("codes", "levels")

    def __init__(self, codes: npt.NDArray[np.integer[Any]], levels: list[str]) -> None:
        self.codes = codes
        self.levels = levels

    @classmethod
    def of(cls, values: list[str]) -> Text:
        """A column of these values."""
        if len(values) == 1:
            return cls(np.zeros(1, dtype=np.int64), values)
        known: dict[str, int] = {}
        codes = [known.setdefault(value, len(known)) for value in values]
        return cls(np.array(codes, dtype=np.int64), list(known))

    def mapped(self, function: Callable[[str], str]) -> Text:
        """Each text through a function."""
        return Text(self.codes, [function(level) for level in self.levels])

    def read(self, function: Callable[[str], float]) -> Doubles:
        """The number that a function makes of each text."""
        values: Doubles = np.array([function(level) for level in self.levels], dtype=np.float64)[self.codes]
        return values

    def values(self) -> list[str]:
        """The text of each row."""
        return [self.levels[code] for code in self.codes.tolist()]


Column = Doubles | Text


def missing(column: Column) -> Mask:
    """Which rows have no value."""
    gone: Mask
    if isinstance(column, Text):
        gone = np.array([level == "" for level in column.levels], dtype=bool)[column.codes]
    else:
        gone = np.isnan(column)
    return gone


def texts(column: Column) -> Text:
    """The column as texts; a whole number without a point, so that a code reads as it is written."""
    if isinstance(column, Text):
        return column
    values, codes = np.unique(column, return_inverse=True)
    levels = ["" if v != v else str(int(v)) if v.is_integer() else repr(v) for v in values.tolist()]
    return Text(codes, levels)


def taken(column: Column, places: Places) -> Column:
    """The rows at these places; at -1 stands a missing value."""
    if not isinstance(column, Text):
        return np.where(places < 0, np.nan, column[places])
    return Text(np.where(places < 0, len(column.levels), column.codes[places]), [*column.levels, ""])


def changed(before: Column, after: Column) -> Mask:
    """Which rows hold another value than before; one that came to be of another kind counts where there was any."""
    if not isinstance(before, Text) and not isinstance(after, Text):
        differ: Mask = ~((before == after) | (np.isnan(before) & np.isnan(after)))
        return differ
    if not isinstance(before, Text) or not isinstance(after, Text):
        return ~missing(before)
    if before.codes is after.codes:
        codes: Any = before.codes
        differs = [b != a for b, a in zip(before.levels, after.levels, strict=True)]
    else:
        width = len(after.levels)
        pairs, codes = np.unique(before.codes.astype(np.int64) * width + after.codes, return_inverse=True)
        differs = [before.levels[pair // width] != after.levels[pair % width] for pair in pairs.tolist()]
    mask: Mask = np.array(differs, dtype=bool)[codes]
    return mask


class Rows:
    """Columns of one length by name. `requests` says which rows came together: none looks back into another's."""

    def __init__(self, columns: Mapping[str, Column], n: int, requests: Places | None = None) -> None:
        self.columns = dict(columns)
        self.n = n
        self.requests = np.zeros(n, dtype=np.int64) if requests is None else requests
        self._order: tuple[Column, Column | None, Order] | None = None

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def kept(self, mask: Mask) -> Rows:
        """The rows where the mask is true."""
        places = np.flatnonzero(mask)
        return Rows({n: taken(c, places) for n, c in self.columns.items()}, len(places), self.requests[places])

    def order(self, time: str, group: str | None) -> Order:
        """The rows in the order of a column, those of each group by themselves."""
        moments, groups = self[time], None if group is None else self[group]
        if self._order is None or self._order[0] is not moments or self._order[1] is not groups:
            assert not isinstance(moments, Text)
            self._order = (moments, groups, Order(moments, groups, self.requests))
        return self._order[2]


class Order:
    """For each row the ones before it, of the same request and group. Of equal moments the one that stands first is earlier;
    a row without a moment, or without a group where there are some, has none before it.

    `places` are the rows in their order, group by group; `start` says for each of these where its group begins among them.
    """

    def __init__(self, moments: Doubles, groups: Column | None, requests: Places) -> None:
        n = len(moments)
        codes = np.zeros(n, dtype=np.int64)
        alone = np.isnan(moments)
        if isinstance(groups, Text):
            places = {level: place for place, level in enumerate(groups.levels)}
            codes = np.array([places[level] for level in groups.levels], dtype=np.int64)[groups.codes]
        elif groups is not None:
            codes = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        if groups is not None:
            alone |= missing(groups)
        codes = np.where(alone, n + np.arange(n), codes)
        self.places = np.lexsort((moments, codes, requests))
        same = np.ones(n, dtype=bool)
        if n:
            same[0] = False
            for key in (codes, requests):
                ordered = key[self.places]
                same[1:] &= ordered[1:] == ordered[:-1]
        self.start = np.maximum.accumulate(np.where(same, 0, np.arange(n))) if n else np.zeros(0, dtype=np.int64)

    def back(self, rows: int) -> Places:
        """The place of the row so many before each, -1 where there is none."""
        place = np.arange(len(self.places)) - rows
        found = np.where(place >= self.start, self.places[np.maximum(place, 0)], -1)
        out = np.empty(len(found), dtype=np.int64)
        out[self.places] = found
        return out

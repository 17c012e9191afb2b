"""Fitted steps that look at the rows before a row: those of its group in the order of time, and never at a later one.

At serving these are the rows that came in the same request; `RowCleaning.history` says how many are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Literal

import numpy as np

from loopline.quality.cleaning_columns import Column, Doubles, Order, Rows, missing, taken
from loopline.quality.cleaning_step import Kind, RowStep, numbers

Take = Literal["mean", "std", "min", "max"]
_CELLS = 4_000_000  # of windows at a time


class OfHistory(RowStep, frozen=True, kw_only=True):
    """A step that looks at the rows before a row: those of its group, in the order of `time`."""

    time: str
    group: str | None

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column, self.time, *(() if self.group is None else (self.group,)))


class Carried(OfHistory, frozen=True, kw_only=True, tag="forward"):
    """A missing value becomes the last one before it, of at most so many rows before."""

    rows: int

    @property
    def reach(self) -> int:
        return self.rows

    def run(self, rows: Rows) -> dict[str, Column]:
        column, order = rows[self.column], rows.order(self.time, self.group)
        gone = missing(column)
        source = np.arange(rows.n)
        holes = gone.copy()
        for back in range(1, self.rows + 1):
            if not holes.any():
                break
            place = order.back(back)
            found = holes & (place >= 0)
            found[found] = ~gone[place[found]]
            source[found] = place[found]
            holes &= ~found
        return {self.column: taken(column, source)}


class Smoothed(OfHistory, frozen=True, kw_only=True, tag="smooth"):
    """A number becomes the median or mean of the last so many, itself among them; a missing one stays missing."""

    rows: int
    how: Literal["median", "mean"]

    @property
    def reach(self) -> int:
        return self.rows - 1

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: "number"}

    def run(self, rows: Rows) -> dict[str, Column]:
        values = numbers(rows, self.column)
        made = _median(rows, self) if self.how == "median" else _mean(rows, self)
        return {self.column: np.where(np.isfinite(values), made, np.nan)}


class Lagged(OfHistory, frozen=True, kw_only=True, tag="lag"):
    """Further columns hold the values of so many rows before."""

    rows: tuple[int, ...]
    kind: Kind

    @property
    def reach(self) -> int:
        return max(self.rows)

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {f"{self.column}.lag{back}": self.kind for back in self.rows}

    def run(self, rows: Rows) -> dict[str, Column]:
        order = rows.order(self.time, self.group)
        return {f"{self.column}.lag{back}": taken(rows[self.column], order.back(back)) for back in self.rows}


class Windowed(OfHistory, frozen=True, kw_only=True, tag="window"):
    """Further columns hold what the last so many values come to, the row's own among them."""

    rows: int
    take: tuple[Take, ...]

    @property
    def reach(self) -> int:
        return self.rows - 1

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {f"{self.column}.{take}{self.rows}": "number" for take in self.take}

    def run(self, rows: Rows) -> dict[str, Column]:
        return {f"{self.column}.{take}{self.rows}": _TAKES[take](rows, self) for take in self.take}


def _ordered(rows: Rows, step: Smoothed | Windowed) -> tuple[Order, Doubles]:
    """The order of the rows, and the values in that order; what is not finite is missing."""
    order, values = rows.order(step.time, step.group), numbers(rows, step.column)
    return order, np.where(np.isfinite(values), values, np.nan)[order.places]


def _last(order: Order, ordered: Doubles, rows: int) -> Iterator[Doubles]:
    """The values, then those so many places before, one by one: sums come out the same however many rows there are."""
    yield ordered
    places = np.arange(len(ordered))
    for back in range(1, rows):
        before = np.full(len(ordered), np.nan)
        before[back:] = ordered[:-back]
        before[places - back < order.start] = np.nan
        yield before


def _placed(order: Order, ordered: Doubles) -> Doubles:
    """Values in the order of the rows as they stand."""
    out = np.empty(len(ordered))
    out[order.places] = ordered
    return out


def _summed(last: Iterable[Doubles], n: int) -> tuple[Doubles, Doubles]:
    """Sums of the values that are there, and how many they are."""
    total, counts = np.zeros(n), np.zeros(n)
    for values in last:
        present = ~np.isnan(values)
        total += np.where(present, values, 0.0)
        counts += present
    return total, counts


def _mean_of(order: Order, ordered: Doubles, rows: int) -> Doubles:
    total, counts = _summed(_last(order, ordered, rows), len(ordered))
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _mean(rows: Rows, step: Smoothed | Windowed) -> Doubles:
    order, ordered = _ordered(rows, step)
    return _placed(order, _mean_of(order, ordered, step.rows))


def _deviation(rows: Rows, step: Windowed) -> Doubles:
    order, ordered = _ordered(rows, step)
    mean = _mean_of(order, ordered, step.rows)
    squares, counts = _summed(((one - mean) ** 2 for one in _last(order, ordered, step.rows)), len(ordered))
    return _placed(order, np.sqrt(np.where(counts > 1, squares / np.maximum(counts - 1, 1), np.nan)))


def _least(rows: Rows, step: Windowed) -> Doubles:
    order, ordered = _ordered(rows, step)
    return _placed(order, reduce(np.fmin, _last(order, ordered, step.rows)))


def _largest(rows: Rows, step: Windowed) -> Doubles:
    order, ordered = _ordered(rows, step)
    return _placed(order, reduce(np.fmax, _last(order, ordered, step.rows)))


_TAKES: dict[Take, Callable[[Rows, Windowed], Doubles]] = {
    "mean": _mean,
    "std": _deviation,
    "min": _least,
    "max": _largest,
}


def _median(rows: Rows, step: Smoothed) -> Doubles:
    """Medians, a stretch of the ordered rows at a time: all windows at once would be many times the table."""
    order, ordered = _ordered(rows, step)
    out = np.empty(rows.n)
    stretch = max(1, _CELLS // step.rows)
    for first in range(0, rows.n, stretch):
        at = np.arange(first, min(first + stretch, rows.n))
        places = at - np.arange(step.rows)[:, None]
        window = np.sort(
            np.where(places >= order.start[at], ordered[np.maximum(places, 0)], np.nan), axis=0
        )  # NaN comes last
        middle = np.maximum((~np.isnan(window)).sum(axis=0) - 1, 0)
        column = np.arange(len(at))
        out[order.places[at]] = (window[middle // 2, column] + window[(middle + 1) // 2, column]) / 2
    return out

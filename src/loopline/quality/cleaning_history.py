"""Fitted steps that look at the rows before a row: those of its group in the order of time, and never at a later one.

At serving these are the rows that came in the same request; `RowCleaning.history` says how many are wanted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from loopline.quality.cleaning_columns import Column, Doubles, Rows, missing, taken
from loopline.quality.cleaning_step import Kind, RowStep, numbers

Take = Literal["mean", "std", "min", "max"]


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
        last = _last(rows, self)
        present = ~np.isnan(last)
        if self.how == "mean":
            values = _mean(last, present)
        else:
            ordered = np.sort(last, axis=0)  # NaN comes last
            middle = np.maximum(present.sum(axis=0) - 1, 0)
            at = np.arange(rows.n)
            values = (ordered[middle // 2, at] + ordered[(middle + 1) // 2, at]) / 2
        return {self.column: np.where(present[0], values, np.nan)}


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
        last = _last(rows, self)
        present = ~np.isnan(last)
        mean = _mean(last, present)
        found: dict[str, Column] = {}
        for take in self.take:
            if take == "mean":
                values = mean
            elif take == "std":
                squares = _summed(np.where(present, (last - mean) ** 2, 0.0))
                counts = present.sum(axis=0)
                values = np.sqrt(np.where(counts > 1, squares / np.maximum(counts - 1, 1), np.nan))
            else:
                values = np.fmin.reduce(last) if take == "min" else np.fmax.reduce(last)
            found[f"{self.column}.{take}{self.rows}"] = values
        return found


def _last(rows: Rows, step: Smoothed | Windowed) -> Doubles:
    """The values of a row and of the ones before it: [rows of the step, n], the row itself first."""
    order, values = rows.order(step.time, step.group), numbers(rows, step.column)
    finite = np.where(np.isfinite(values), values, np.nan)
    before = [taken(finite, order.back(back)) for back in range(1, step.rows)]
    return np.stack([finite, *before])  # type: ignore[list-item]


def _summed(stacked: Doubles) -> Doubles:
    """Sums down a stack, one after another: the same bits however many rows there are."""
    total: Doubles = stacked[0].copy()
    for one in stacked[1:]:
        total += one
    return total


def _mean(stacked: Doubles, present: np.ndarray) -> Doubles:
    counts = present.sum(axis=0)
    return np.where(counts > 0, _summed(np.where(present, stacked, 0.0)) / np.maximum(counts, 1), np.nan)

"""What a comparison of two profiles says: column by column, and as a whole."""

from __future__ import annotations

from typing import Literal

import msgspec


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of the picture of a column: its label, and the share of rows in it in the reference and now."""

    label: str
    reference: float
    current: float


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How one column differs from the reference.

    `effect` runs from 0, the same, to 1, nothing in common: for numbers the largest distance between the cumulative
    shares, for categories the share of rows that would have to change level. `threshold` is about the effect from which
    this comparison would have called it drift (no less than the stated minimum). `p_value` is of the column alone,
    `q_value` after all columns are taken together. `score` is effect over threshold, and says which column is worst.
    """

    column: str
    kind: str
    aspect: Literal["values", "missing"]
    test: str
    p_value: float
    q_value: float
    effect: float
    threshold: float
    drifted: bool
    direction: Literal["up", "down", "none"]
    before: float | None = None
    after: float | None = None
    text: str
    bars: tuple[Bar, ...] = ()
    new_levels: dict[str, int] = {}

    @property
    def score(self) -> float:
        """Effect over threshold: above 1 it is drift, as far as the p-value agrees."""
        return self.effect / self.threshold if self.threshold > 0 else 0.0


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison of current rows with a reference: each column once, the worst first.

    `false_alarms` is the stated probability that a report on rows without drift names any column at all.
    `absent` are columns that the reference has and the current rows have not (the label apart).
    """

    reference_rows: int
    current_rows: int
    false_alarms: float
    minimum_effect: float
    label: str | None
    verdict: str
    columns: tuple[ColumnDrift, ...]
    absent: tuple[str, ...] = ()

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """The columns that drifted, the worst first."""
        return tuple(c for c in self.columns if c.drifted)

    @property
    def label_drift(self) -> ColumnDrift | None:
        """The label's own line; None while labels have not come."""
        return next((c for c in self.columns if c.column == self.label), None)

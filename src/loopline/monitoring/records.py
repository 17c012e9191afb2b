"""What monitoring finds: the drift of columns, reports, alerts, and the state of a watch."""

from __future__ import annotations

from typing import Literal

import msgspec

FEWEST_ROWS = 50
"""A look at fewer rows tells nothing."""


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


AlertStatus = Literal["open", "acknowledged", "silenced", "closed"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What a monitor found on record, with its life: one of a kind for an endpoint, until it is closed.

    `since` is when the change is thought to have begun. `found` counts the looks that found something, `last` is the newest.
    """

    ref: str
    id: str
    endpoint: str
    kind: Literal["drift", "quality"]
    status: AlertStatus
    summary: str
    columns: tuple[str, ...]
    since: int
    raised: int
    found: int
    last: int
    changed: int
    by: str
    comment: str


class MonitorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A standing check on an endpoint: what it holds the predictions against, and how its watch stands."""

    ref: str
    endpoint: str
    reference: str
    label: str
    task: str
    group: str | None
    time: str | None
    false_alarms: str
    """How many may be expected at most: "1/quarter"."""
    look: int
    rows: int
    looks: int
    last_look: int | None
    verdict: str
    declared: int


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at an endpoint found; `taken` is False where it was not yet due or too few rows had come."""

    endpoint: str
    taken: bool
    rows: int
    summary: str
    alert: str | None = None
    due: int | None = None
    """When the next look is due, where it was not yet."""


class QualityWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Quality on the labelled rows of one window or group; `metrics` maps a name to (value, low, high)."""

    name: str
    start: int
    end: int
    rows: int
    labelled: int
    metrics: dict[str, tuple[float, float, float]]


class QualityReport(msgspec.Struct, frozen=True, kw_only=True):
    """Quality of an endpoint on the labels that came: in all, over time, by variant, and by kind of group (new, returning)."""

    endpoint: str
    task: str
    rows: int
    labelled: int
    overall: QualityWindow | None
    windows: tuple[QualityWindow, ...]
    variants: tuple[QualityWindow, ...]
    groups: tuple[QualityWindow, ...]

"""What monitoring finds: alerts, looks, the quality of answers, and the state of a monitor."""

from __future__ import annotations

from typing import Literal

import msgspec

FEWEST_ROWS = 50
"""A look at fewer rows tells nothing."""

AlertStatus = Literal["open", "acknowledged", "silenced", "closed"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What a monitor found on record, with its life: one of a kind for an endpoint, until it is closed.

    `since` is when the change is thought to have begun. `found` counts the looks that found something, `last` is the newest. Of the
    kind "collecting" it is about a `dataset` that is not collected any more, and closes by itself once it is again.
    """

    ref: str
    id: str
    endpoint: str
    kind: Literal["drift", "quality", "probing", "collecting"]
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
    dataset: str = ""


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

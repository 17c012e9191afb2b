"""Records of the outcomes room: predictions as kept, labels as they come."""

from __future__ import annotations

from typing import Any

import msgspec

SEPARATOR = "~"
"""Between project and endpoint in the names that workers know; it can stand in neither."""

SHADOWED = ":shadow"
"""Stands behind a variant's name in traffic for what it scored without answering."""


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to one row, with its label where that came."""

    id: str
    endpoint: str
    model: str
    variant: str
    at: int
    shadow: bool
    output: dict[str, Any]
    """As answered: `label` with its `probability` and the `probabilities` of all classes, or `value`."""
    row: dict[str, Any]
    """The row as it was sent."""
    label: str | float | None = None
    label_at: int | None = None


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one prediction. `at`: when the event happened or became certain, in milliseconds; 0: on receipt."""

    prediction: str
    value: str | int | float | bool
    at: int = 0


class LabelsTaken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch of labels. A label whose prediction is not (yet) known waits; nothing is dropped."""

    taken: int
    joined: int
    waiting: int
    corrected: int


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What one collection of the prediction log brought."""

    segments: int
    predictions: int
    errors: int


class Compacted(msgspec.Struct, frozen=True, kw_only=True):
    """How many segments were put together, and how many rows they hold."""

    segments: int
    rows: int


class Expired(msgspec.Struct, frozen=True, kw_only=True):
    """How many answers were removed from the record, and how many labels with them."""

    answers: int
    labels: int


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint answered, by variant, since a time."""

    endpoint: str
    since: int
    variants: dict[str, VariantTraffic]


class VariantTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one variant; latencies in microseconds."""

    model: str
    """The version that answered last."""
    requests: int
    rows: int
    errors: int
    labelled: int
    latency_p50: float
    latency_p99: float
    distinct_outputs: int
    """Different answers among the rows (1: it answers the same to all)."""
    invalid_outputs: int
    """Answers that are no finite numbers."""

"""A fitted cleaning as it acts on rows: what a server does to a request, with the same values as training's frames got.

numpy and msgspec only; `quality.cleaning` fits the steps and does them to frames, by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from loopline.quality.cleaning_columns import Rows
from loopline.quality.cleaning_history import Carried, Lagged, OfHistory, Smoothed, Windowed
from loopline.quality.cleaning_numbers import DateParts, Fill, Flagged, Limit, Scaled
from loopline.quality.cleaning_step import Kind
from loopline.quality.cleaning_texts import (
    Hashed,
    OneHot,
    Ranked,
    ReadBoolean,
    ReadDate,
    ReadNumber,
    Recoded,
    Respell,
    ToMissing,
)

AnyRowStep = (
    ToMissing
    | Respell
    | Recoded
    | ReadNumber
    | ReadDate
    | ReadBoolean
    | Fill
    | Limit
    | Flagged
    | Scaled
    | Ranked
    | OneHot
    | DateParts
    | Hashed
    | Carried
    | Smoothed
    | Lagged
    | Windowed
)


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What a row wants beside itself: so many rows of its group before it, in the order of `time`, in the same request."""

    time: str
    group: str | None
    rows: int


class RowCleaning(msgspec.Struct, frozen=True, kw_only=True):
    """Fitted steps in their order, as they act on rows. `inputs` are the columns that they read of a raw row, and their kinds."""

    inputs: dict[str, Kind] = {}
    steps: tuple[AnyRowStep, ...] = ()

    @property
    def history(self) -> History | None:
        """The rows before a row that it depends on; None: it stands alone."""
        reach: dict[str, int] = {}
        found: OfHistory | None = None
        for step in self.steps:
            depth = step.reach + max(reach.get(name, 0) for name in step.reads)
            found = step if isinstance(step, OfHistory) else found
            reach.update(dict.fromkeys(step.makes, depth))
        return History(time=found.time, group=found.group, rows=max(reach.values())) if found else None

    def run(self, rows: Rows) -> None:
        """Does the steps to the columns, in place."""
        for step in self.steps:
            rows.columns.update(step.run(rows))

    def reads(self, outputs: Iterable[str]) -> RowCleaning:
        """What of it these columns depend on: the steps, and as its inputs every raw column that they are made from."""
        needed = set(outputs)
        kept: list[AnyRowStep] = []
        for step in reversed(self.steps):
            if needed.isdisjoint(step.makes):
                continue
            kept.append(step)
            needed -= step.makes.keys()
            needed |= {*step.reads}
        inputs = {name: kind for name, kind in self.inputs.items() if name in needed}
        return RowCleaning(inputs=inputs, steps=tuple(reversed(kept)))

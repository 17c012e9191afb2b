"""Labels that come later: when each is known, and those that are not yet as missing values, never as negatives.

A label belongs to an event, and can be said some time after it: whether a patient comes back within 30 days is known 30 days
after the discharge. What a table says before that is no answer. A label is known at a moment `as_of` where event + maturity
is no later than `as_of`, and no later than the moment at which its row was read: a file that was written before says nothing of
what came after, whenever it is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from loopline.data.records import LabelColumn, LabelsKnown
from loopline.durations import milliseconds
from loopline.errors import Invalid, did_you_mean
from loopline.quality.blocks import Blocks

READ = "_read"
"""A column, never kept, of the moment at which each row was read (milliseconds since 1970-01-01 UTC)."""

Stretches = Sequence[Sequence[int]]
"""When rows were read: [how many rows, milliseconds], ... in the order of the rows."""

_DAY = 86_400_000
_FAR = 2**53


class Readable(NamedTuple):
    """The rows of a version that can be learned from: not those that a split has sealed. `total` counts these, too."""

    ref: str
    total: int
    frame: pl.DataFrame
    """Labels as they were read, also those that were not known then."""
    labels: Sequence[LabelColumn]
    read: Stretches

    def shown(self, as_of: int | None = None) -> pl.DataFrame:
        """The rows with labels that are not known as missing."""
        return masked(with_read(self.frame, self.read), self.labels, as_of) if self.labels else self.frame


def check_labels(frame: pl.DataFrame, labels: Sequence[LabelColumn]) -> None:
    """Raises `Invalid` where a label or its time is not there, the time is no date, or the maturity no duration."""
    for label in labels:
        for name in (label.column, label.time):
            if name not in frame.columns:
                raise Invalid(
                    f"The table has no column {name!r}, which the label {label.column!r} needs.",
                    code="no-column",
                    hint=did_you_mean(name, frame.columns),
                )
        if frame.schema[label.time] not in (pl.Date, pl.Datetime):
            raise Invalid(
                f"The label {label.column!r} matures {label.matures} after {label.time!r}, which holds "
                f"{frame.schema[label.time]}, no dates.",
                code="label-time",
                hint="Name a column of dates (2024-01-31 or 2024-01-31T10:30:00) as the label's time.",
            )
        milliseconds(label.matures, f"the maturity of {label.column!r}")


def with_read(frame: pl.DataFrame, stretches: Stretches) -> pl.DataFrame:
    """The frame with the column `READ`."""
    counts, moments = np.array(stretches, np.int64).reshape(-1, 2).T
    return frame.with_columns(pl.Series(READ, np.repeat(moments, counts), dtype=pl.Int64))


def stretches_of(read: pl.Series) -> list[list[int]]:
    """The column `READ` as stretches again."""
    runs = read.rle().struct.unnest()
    return [[count, moment] for count, moment in runs.iter_rows()]


def up_to(as_of: int | None) -> pl.Expr:
    """The moment up to which each row's labels count: when it was read, or `as_of` where that is earlier."""
    if as_of is None:
        return pl.col(READ)
    if not abs(as_of) <= _FAR:
        raise Invalid(f"{as_of} is no moment.", code="bad-time", hint="Give milliseconds since 1970-01-01 UTC.")
    return pl.min_horizontal(READ, pl.lit(as_of, dtype=pl.Int64))


def immature(frame: pl.DataFrame, label: LabelColumn, as_of: int | None = None) -> pl.Series:
    """Which rows' label is not known: of a frame with the column `READ`. An event without a time is never known of.

    An event on a day, without a time of day, is over at the end of that day (UTC).
    """
    dtype = frame.schema[label.time]
    time = pl.col(label.time)
    over = time.dt.timestamp("ms") if dtype == pl.Datetime else time.cast(pl.Datetime("ms")).dt.timestamp("ms") + _DAY
    limit = up_to(as_of)
    late = over + milliseconds(label.matures, "a maturity") > limit
    return frame.select(late.fill_null(True).alias("_"))["_"]


def known(frame: pl.DataFrame, labels: Sequence[LabelColumn], column: str, as_of: int | None = None) -> pl.DataFrame:
    """The rows whose label in this column is known; all of them where it has no maturity."""
    for label in labels:
        if label.column == column:
            frame = frame.filter(~immature(frame, label, as_of))
    return frame


def masked(frame: pl.DataFrame, labels: Sequence[LabelColumn], as_of: int | None = None) -> pl.DataFrame:
    """The frame without `READ`, and with labels that are not known as missing."""
    gone = [
        pl.when(immature(frame, label, as_of)).then(None).otherwise(pl.col(label.column)).alias(label.column)
        for label in labels
    ]
    return frame.with_columns(gone).drop(READ)


def counted(frame: pl.DataFrame, label: LabelColumn, as_of: int | None = None) -> LabelsKnown:
    """How many labels of a frame with the column `READ` are known, not known yet, and missing all the same."""
    late = immature(frame, label, as_of)
    missing = int(frame[label.column].filter(~late).null_count())
    return LabelsKnown(
        column=label.column,
        time=label.time,
        matures=label.matures,
        as_of=as_of,
        rows=frame.height,
        known=frame.height - int(late.sum()) - missing,
        immature=int(late.sum()),
        missing=missing,
    )


def kept(rows: Blocks, stretches: Stretches, labels: Sequence[LabelColumn]) -> list[dict[str, Any]]:
    """The labels as a version keeps them, with how many were immature when the rows were read."""
    counts, start = [0] * len(labels), 0
    for block in rows.only(list(dict.fromkeys(one.time for one in labels))) if labels else ():
        dated = with_read(block, cut(stretches, start, block.height))
        counts = [n + int(immature(dated, one).sum()) for n, one in zip(counts, labels, strict=True)]
        start += block.height
    found = [msgspec.structs.replace(one, immature=n) for one, n in zip(labels, counts, strict=True)]
    built: list[dict[str, Any]] = msgspec.to_builtins(found)
    return built


def cut(stretches: Stretches, start: int, count: int) -> list[list[int]]:
    """The stretches of some of the rows: so many, from the one numbered `start`."""
    found, first = [], 0
    for rows, moment in stretches:
        here = min(first + rows, start + count) - max(first, start)
        if here > 0:
            found.append([here, moment])
        first += rows
    return found


def without(stretches: Stretches, mask: pl.Series) -> list[list[int]]:
    """The stretches of the rows at which a mask is not true."""
    found, first = [], 0
    for rows, moment in stretches:
        left = rows - int(mask.slice(first, rows).sum())
        found += [[left, moment]] if left else []
        first += rows
    return found

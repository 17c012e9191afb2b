"""Time in a split: what orders rows, where the sides begin, and how long before a side nothing is learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.split_records import Moment
from loopline.durations import milliseconds
from loopline.errors import Invalid


def times_of(frame: pl.DataFrame, time: str) -> pl.Expr:
    """The time column, once it is known to order every row."""
    dtype = frame.schema[time]
    if not (dtype.is_numeric() or dtype in (pl.Date, pl.Datetime)):
        raise Invalid(
            f"The time column {time!r} holds {dtype}, which does not order rows in time.",
            code="split-time",
            hint="Use ISO dates (2024-01-31 or 2024-01-31T10:30:00) or numbers that grow with time.",
        )
    gaps = frame[time].is_null() if not dtype.is_float() else frame[time].is_null() | frame[time].is_nan()
    if gaps.any():
        raise Invalid(
            f"The time column {time!r} is missing in {int(gaps.sum())} of {frame.height} rows "
            f"(first in row {int(gaps.arg_true()[0]) + 1}).",
            code="split-time",
            hint=f"Let the contract quarantine them: ll.column({time!r}).not_null().",
        )
    return pl.col(time)


def literal(frame: pl.DataFrame, time: str, moment: Moment) -> pl.Expr:
    """A moment as the time column has it. Raises `Invalid` where that holds another type."""
    dtype = frame.schema[time]
    if dtype.is_numeric() != (isinstance(moment, int | float) and not isinstance(moment, bool)):
        raise Invalid(
            f"The boundary {moment} is {type(moment).__name__}, but the column {time!r} holds {dtype}.",
            code="split-time",
            hint="Give the boundary in the column's own type.",
        )
    zone = getattr(dtype, "time_zone", None)
    if zone and isinstance(moment, datetime) and moment.tzinfo is None:
        return pl.lit(moment).dt.replace_time_zone(zone)
    return pl.lit(moment)


def cuts(times: pl.Series, parts: tuple[float, float]) -> list[int]:
    """Where validation and test begin: nearest to the fractions, never between rows of one moment, with room for each."""
    count = len(times)
    starts = np.flatnonzero((times != times.shift(1)).fill_null(value=True).to_numpy())  # each moment's first row
    cuts: list[int] = []
    for position, part in enumerate(parts):
        above = starts[starts > (cuts[-1] if cuts else 0)]
        room = above[: len(above) - (len(parts) - 1 - position)] if len(above) >= len(parts) - position else above
        cuts.append(int(room[np.argmin(np.abs(room - part * count))]) if len(room) else count)
    return cuts


def shown(moment: Any) -> int | float | str | None:
    """A moment as JSON has it."""
    return moment.isoformat() if isinstance(moment, date) else moment


def embargoed(frame: pl.DataFrame, time: str, starts: Sequence[pl.Expr], embargo: str) -> npt.NDArray[np.bool_]:
    """Which rows lie within the embargo before one of these moments: start - embargo <= time < start.

    `embargo` is a duration ("7d") where the time is a date, and a number in the time's own unit else. Raises `Invalid` where it
    is neither, or negative.
    """
    dtype = frame.schema[time]
    if dtype.is_numeric():
        span = _number(embargo)
        if not 0 <= span < math.inf:
            raise Invalid(
                f"The embargo {embargo!r} is no span of {time!r}, which holds {dtype}.",
                code="split-embargo",
                hint=f"Give it as a number, in the unit of {time!r}.",
            )
        moments = [one.cast(pl.Float64) for one in (pl.col(time), *starts)]
    else:
        span = 1000.0 * milliseconds(embargo, "an embargo")
        exact = dtype if isinstance(dtype, pl.Datetime) else pl.Datetime("us")  # a date is its first moment
        moments = [one.cast(exact).dt.timestamp("us") for one in (pl.col(time), *starts)]
    own, *begins = moments
    within = [(own < start) & (own >= start - span) for start in begins]
    return frame.select(pl.any_horizontal(within).alias("_"))["_"].to_numpy()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

"""A frame's columns as cleaning works on them, and back: a value that no step changed is the very value that was there."""

from __future__ import annotations

import numpy as np
import polars as pl

from loopline.errors import Invalid
from loopline.quality.cleaning_columns import Column, Places, Rows, Text, changed, taken
from loopline.quality.cleaning_step import DAY, Kind, RowStep

_TYPES: dict[Kind, pl.DataType] = {
    "number": pl.Float64(),
    "integer": pl.Int64(),
    "boolean": pl.Boolean(),
    "text": pl.String(),
    "date": pl.Date(),
    "moment": pl.Datetime("us"),
}


def kind(dtype: pl.DataType) -> Kind | None:
    """The kind of a column; None for one that holds no plain values."""
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric():
        return "number"
    if dtype == pl.Date:
        return "date"
    if isinstance(dtype, pl.Datetime):
        return "moment"
    return "text" if dtype in (pl.String, pl.Categorical, pl.Enum) else None


def lifted(series: pl.Series, wanted: Kind) -> Column:
    """A column as steps take it; one of no type at all is missing throughout."""
    if wanted == "text":
        values = series.cast(pl.String).fill_null("")
        levels = values.unique()
        return Text(values.cast(pl.Enum(levels)).to_physical().cast(pl.Int32).to_numpy(), levels.to_list())
    if series.dtype == pl.Date:
        series = series.to_physical()
    elif isinstance(series.dtype, pl.Datetime):
        series = series.dt.timestamp("us").cast(pl.Float64) / DAY
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def lowered(column: Column, dtype: pl.DataType, name: str) -> pl.Series:
    """A column of a frame, of this type. Raises `Invalid` where the type cannot hold the values."""
    if isinstance(column, Text):
        levels = pl.Series(name, [level or None for level in column.levels], dtype=pl.String)
        return levels.gather(column.codes).cast(dtype)
    values = pl.Series(name, column).fill_nan(None)
    try:
        if isinstance(dtype, pl.Datetime):
            moments = (values * DAY).round().cast(pl.Int64).cast(pl.Datetime("us"))
            return (moments.dt.replace_time_zone("UTC") if dtype.time_zone else moments).cast(dtype)
        if dtype == pl.Date:
            return values.floor().cast(pl.Int32).cast(pl.Date)
        return values.cast(dtype)
    except pl.exceptions.PolarsError as error:
        raise Invalid(
            f"A value that {name!r} is to get cannot be held by its type, {dtype}.",
            code="cleaning-type",
            hint="Give a value of the column's own kind and size.",
        ) from error


class FrameRows(Rows):
    """The rows of a frame, each column lifted when it is asked for. `places` are those of the frame that are still among them."""

    def __init__(self, frame: pl.DataFrame, kinds: dict[str, Kind], places: Places | None = None) -> None:
        self.places = np.arange(frame.height) if places is None else places
        super().__init__({}, len(self.places))
        self.frame = frame
        self.kinds = kinds
        self._lifted: dict[str, Column] = {}
        self._written: dict[str, Kind | None] = {}
        self._gone: set[str] = set()

    def __getitem__(self, name: str) -> Column:
        if name not in self.columns:
            if name not in self._lifted:
                self._lifted[name] = lifted(self.frame[name], self.kinds[name])
            whole = self._lifted[name]
            self.columns[name] = whole if self.n == self.frame.height else taken(whole, self.places)
        return self.columns[name]

    def write(self, step: RowStep) -> None:
        """Does a step."""
        for name, column in step.run(self).items():
            self.columns[name] = column
            self._written[name] = step.makes[name] or self._written.get(name)
        if step.drops:
            self.columns.pop(step.column)
            self._written.pop(step.column, None)
            self._gone.add(step.column)

    def without(self, gone: Places) -> None:
        """Leaves rows out, by their places among those that are left."""
        mask = np.ones(self.n, dtype=bool)
        mask[gone] = False
        left = self.kept(mask)
        self.columns, self.n, self.requests, self.places = left.columns, left.n, left.requests, self.places[mask]

    def to_frame(self) -> pl.DataFrame:
        """The rows as they are by now: columns in their order, then the new ones."""
        base = self.frame if self.n == self.frame.height else self.frame[self.places]
        columns = [self._column(base, name) for name in base.columns if name not in self._gone]
        new = [name for name in self._written if name not in base.columns]
        made = [lowered(self.columns[name], _TYPES[self._written[name] or "number"], name) for name in new]
        return pl.DataFrame([*columns, *made])

    def _column(self, base: pl.DataFrame, name: str) -> pl.Series:
        before = base[name]
        if name not in self._written:
            return before
        column, written = self.columns[name], self._written[name]
        was = self.kinds[name]
        dtype = before.dtype if written is None and before.dtype != pl.Null else _TYPES[written or was]
        if written not in (None, was, "number") or (written == "number" and was != "integer" and was != "number"):
            return lowered(column, dtype, name)
        raw = self._lifted[name]
        differs = changed(raw if self.n == self.frame.height else taken(raw, self.places), column)
        if not differs.any():
            return before.cast(dtype)
        places = np.flatnonzero(differs)
        return before.cast(dtype).scatter(places, lowered(taken(column, places), dtype, name))

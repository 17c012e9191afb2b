"""Fitted steps of numbers and dates, and what stands in place of a missing value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from loopline.quality.cleaning_columns import Column, Doubles, Rows, Text, missing, taken
from loopline.quality.cleaning_step import DAY, Kind, RowStep, Value, numbers

Part = Literal["year", "month", "day", "weekday", "hour"]


class OfNumber(RowStep, frozen=True, kw_only=True):
    """A step that makes a number of each number, by constants and that number alone."""

    @property
    def constants(self) -> tuple[float, ...]:
        """What `number` takes beside the numbers."""
        raise NotImplementedError

    @staticmethod
    def number(values: Doubles, *constants: Any) -> Doubles:
        """The numbers in place of these: each constant is one number, or an array that fits them."""
        raise NotImplementedError

    def run(self, rows: Rows) -> dict[str, Column]:
        return {self.column: self.number(numbers(rows, self.column), *self.constants)}


class Joined:
    """Adjacent steps of one sort on columns of numbers, done at once: a row alone costs by steps, not by values."""

    def __init__(self, steps: Sequence[OfNumber]) -> None:
        self._names = [step.column for step in steps]
        self._number = steps[0].number
        self._constants = [
            np.array(c, dtype=np.float64)[:, None] for c in zip(*(s.constants for s in steps), strict=True)
        ]

    def run(self, rows: Rows) -> dict[str, Column]:
        """The columns of all of them."""
        values = np.concatenate([numbers(rows, name) for name in self._names]).reshape(len(self._names), rows.n)
        return dict(zip(self._names, self._number(values, *self._constants), strict=True))


def joined(steps: Iterable[RowStep], kinds: Mapping[str, Kind]) -> list[RowStep | Joined]:
    """The same steps in the same order, adjacent ones of a sort as one where they are about numbers. `kinds` are the columns'."""
    kinds = dict(kinds)
    groups: list[list[RowStep]] = []
    for step in steps:
        last = groups[-1] if groups else []
        if last and _alike(last[-1], step, kinds) and all(step.column != other.column for other in last):
            last.append(step)
        else:
            groups.append([step])
        kinds |= {name: kind or kinds[name] for name, kind in step.makes.items()}
    return [Joined(group) if len(group) > 1 else group[0] for group in groups]  # type: ignore[arg-type]


def _alike(one: RowStep, other: RowStep, kinds: Mapping[str, Kind]) -> bool:
    return type(one) is type(other) and all(
        isinstance(step, OfNumber)
        and kinds[step.column] != "text"
        and (not isinstance(step, Fill) or step.group is None)
        for step in (one, other)
    )


class Fill(OfNumber, frozen=True, kw_only=True, tag="fill"):
    """A missing value becomes the one of its group, else this one. `how` is the word that it was declared by."""

    how: str
    filling: Value
    group: str | None = None
    keys: tuple[Value, ...] = ()
    fillings: tuple[Value, ...] = ()

    @property
    def word(self) -> str:
        return self.how

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,) if self.group is None else (self.column, self.group)

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: "number" if any(isinstance(v, float) for v in (self.filling, *self.fillings)) else None}

    @property
    def constants(self) -> tuple[float, ...]:
        return (float(self.filling),)

    @staticmethod
    def number(values: Doubles, *constants: Any) -> Doubles:
        filled: Doubles = np.where(np.isnan(values), constants[0], values)
        return filled

    def run(self, rows: Rows) -> dict[str, Column]:
        column = rows[self.column]
        if self.group is None and not isinstance(column, Text):
            return super().run(rows)
        holes = missing(column)
        if not holes.any():
            return {self.column: column}
        if self.group is None:
            return {self.column: _filled(column, holes, [self.filling] * int(holes.sum()))}
        groups = taken(rows[self.group], np.flatnonzero(holes))
        known = dict(zip(self.keys, self.fillings, strict=True))
        keys = groups.values() if isinstance(groups, Text) else groups.tolist()
        return {self.column: _filled(column, holes, [known.get(key, self.filling) for key in keys])}


def _filled(column: Column, holes: np.ndarray, values: Sequence[Value]) -> Column:
    if not isinstance(column, Text):
        out = column.copy()
        out[holes] = [float(v) for v in values]
        return out
    places = {text: len(column.levels) + n for n, text in enumerate(dict.fromkeys(map(str, values)))}
    codes = column.codes.astype(np.int64)
    codes[holes] = [places[str(v)] for v in values]
    return Text(codes, [*column.levels, *places])


class Limit(OfNumber, frozen=True, kw_only=True, tag="clip"):
    """A number outside the bounds becomes the nearest one."""

    low: int | float
    high: int | float

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: None if isinstance(self.low, int) and isinstance(self.high, int) else "number"}

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.low, self.high)

    @staticmethod
    def number(values: Doubles, *constants: Any) -> Doubles:
        within: Doubles = np.minimum(np.maximum(values, constants[0]), constants[1])
        return within


class Flagged(RowStep, frozen=True, kw_only=True, tag="flag"):
    """A further column says whether a number is outside the bounds; of a missing one it is missing."""

    low: int | float
    high: int | float

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {f"{self.column}.outlier": "boolean"}

    def run(self, rows: Rows) -> dict[str, Column]:
        values = numbers(rows, self.column)
        outside = (values < self.low) | (values > self.high)
        return {f"{self.column}.outlier": np.where(np.isnan(values), np.nan, outside)}


class Scaled(OfNumber, frozen=True, kw_only=True, tag="scale"):
    """A number less `center`, in units of `unit`."""

    center: float
    unit: float

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {self.column: "number"}

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.center, self.unit)

    @staticmethod
    def number(values: Doubles, *constants: Any) -> Doubles:
        scaled: Doubles = (values - constants[0]) / constants[1]
        return scaled


class DateParts(RowStep, frozen=True, kw_only=True, tag="date_parts"):
    """A date as parts of the calendar (UTC); weekday 0 is Monday."""

    parts: tuple[Part, ...]
    drops: ClassVar[bool] = True

    @property
    def makes(self) -> dict[str, Kind | None]:
        return {f"{self.column}.{part}": "integer" for part in self.parts}

    def run(self, rows: Rows) -> dict[str, Column]:
        days = numbers(rows, self.column)
        gone = ~np.isfinite(days) | (np.abs(days) > 100_000_000)
        moment = np.rint(np.where(gone, 0.0, days) * DAY).astype(np.int64).astype("datetime64[us]")
        day, month, year = (moment.astype(f"datetime64[{unit}]") for unit in "DMY")
        found = {
            "year": year.astype(np.int64) + 1970,
            "month": month.astype(np.int64) % 12 + 1,
            "day": (day - month.astype("datetime64[D]")).astype(np.int64) + 1,
            "weekday": (day.astype(np.int64) + 3) % 7,  # 1970-01-01 was a Thursday
            "hour": (moment - day).astype(np.int64) // 3_600_000_000,
        }
        return {f"{self.column}.{part}": np.where(gone, np.nan, found[part]) for part in self.parts}

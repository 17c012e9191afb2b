"""A column that is text at first sight, looked at once more: numbers with a few placeholders among them, or what is told of it."""

from __future__ import annotations

from collections import Counter

import polars as pl

from loopline.data.readers_spelled import (
    COMMA_NUMBER,
    MOMENT,
    NUMBER,
    Numbers,
    comma_numbers,
    read_comma,
    too_large,
    without,
)
from loopline.data.readers_texts import Texts
from loopline.quality.spelling import is_date, shape_of

PLACEHOLDERS = ("-", "--", ".", "none", "nil", "missing", "unknown")
"""Texts, in any case, that mean a missing value where at least half of a column's values are numbers and all others are such."""

_NEARLY = 0.95
_ENOUGH = 0.5
_WITH_COMMA = r"^[+-]?\d+([.,]\d{3})*,\d+$"
_LONG = r"^[+-]?[1-9]\d{18,}$"


class _Odd:
    """How many values of a column are out of the way, and the row of the first."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0

    def take(self, odd: pl.Series, behind: int) -> None:
        """Counts those of a piece that begins behind so many rows."""
        if (count := int(odd.fill_null(value=False).sum())) and not self.count:
            self.first = behind + int(odd.fill_null(value=False).arg_true()[0]) + 1
        self.count += count


class Again:
    """A column as `seen` once, of which all pieces are handed in again. `numbers` off: it is not to be read as numbers."""

    def __init__(self, name: str, seen: Texts, *, numbers: bool) -> None:
        self._name = name
        self._seen = seen
        self._given = numbers
        self._rows = 0
        likely = _share(seen.sample, COMMA_NUMBER if seen.comma else NUMBER) >= _ENOUGH / 2
        self._numbers = Numbers()
        self._hold = numbers and likely
        self._stands = Counter[str]()
        kinds = {"number": NUMBER, "date": MOMENT} if numbers else {"date": MOMENT}
        self._nearly = {kind: (p, _Odd()) for kind, p in kinds.items() if _share(seen.sample, p) >= _ENOUGH}
        self._large, self._long = _Odd(), _Odd()
        self._numeric = numbers and bool(seen.sample.str.strip_chars().str.contains(NUMBER).all())

    def take(self, piece: pl.Series) -> None:
        """Looks at the next values."""
        raw = without(piece, self._seen.missing)
        if self._hold:
            filled, stands = _filled(raw)
            self._stands.update(stands.to_list())
            self._hold = comma_numbers(filled) if self._seen.comma else self._numbers.take(filled) is not None
        for pattern, odd in self._nearly.values():
            odd.take(~raw.str.contains(pattern), self._rows)
        if self._numeric:
            self._large.take(too_large(raw, raw.cast(pl.Float64, strict=False)), self._rows)
            self._long.take(raw.str.contains(_LONG), self._rows)
        self._rows += len(raw)

    @property
    def is_number(self) -> bool:
        """Whether it is numbers after all."""
        stands = self._stands.total()
        return self._hold and stands > 0 and self._seen.values - stands >= _ENOUGH * self._seen.values

    @property
    def gaps(self) -> int:
        """How many of the values are missing once read."""
        return self._stands.total() + self._numbers.gaps if self.is_number else 0

    def read(self, piece: pl.Series) -> pl.Series:
        """Values in the type found."""
        raw = without(piece, self._seen.missing)
        if not self.is_number:
            return raw
        filled = _filled(raw)[0]
        return read_comma(filled) if self._seen.comma else self._numbers.read(filled)

    def warning(self) -> str:
        """What is told of the column; "" where nothing is."""
        if self.is_number:
            return said_missing(self._name, self._stands)
        values = self._seen.values
        for kind, (_, odd) in self._nearly.items():
            if odd.count and odd.count <= (1 - _NEARLY) * values:
                return said_text(self._name, kind, odd.count, values, odd.first)
        return self._otherwise()

    def _otherwise(self) -> str:
        """What is said of a text column whose values are numbers or dates in another spelling than is read."""
        sample = self._seen.sample.str.strip_chars()
        shapes = sample.to_frame("_").select(shape_of(pl.col("_"))).to_series()
        dates = [shape for shape in shapes.unique().sort() if is_date(shape)]
        stays = f"column {self._name!r} stays text: "
        if dates and shapes.is_in(dates).mean() >= _NEARLY:  # type: ignore[operator]
            return (
                f"{stays}it holds dates written as {', '.join(dates[:3])} (9 is a digit, a letters), "
                "which may be day or month first; write them as 2026-01-31"
            )
        if not self._given:
            return ""
        if _share(sample, _WITH_COMMA) >= _ENOUGH and sample.str.contains(r"^[\d.,+-]+$").all():
            return f"{stays}its numbers hold commas, of decimals or of thousands; write them with a point"
        for odd, what in ((self._large, "beyond a double"), (self._long, "of 19 digits or more")):
            if odd.count:
                return f"{stays}it holds numbers {what} ({odd.count}, the first in row {odd.first})"
        return ""


def _share(sample: pl.Series, pattern: str) -> float:
    return float(sample.str.contains(pattern).mean() or 0)  # type: ignore[arg-type]


def _filled(raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The texts without those that stand for a missing value, and these, in small letters."""
    low = raw.str.strip_chars().str.to_lowercase()
    stands = low.is_in(PLACEHOLDERS).fill_null(value=False)
    return raw.set(stands, None), low.filter(stands)


def holds_numbers(spelled: int, values: int) -> bool:
    """Whether many of the texts are spelled as numbers, but not all: in JSON, numbers and texts may have been mixed."""
    return _ENOUGH * values <= spelled < values


def said_missing(name: str, placeholders: Counter[str]) -> str:
    """The warning about a column of numbers in which these placeholders were read as missing."""
    kinds = ", ".join(map(repr, sorted(placeholders)))
    count = placeholders.total()
    return f"column {name!r}: {count:,} values ({kinds}) were read as missing, since all others are numbers"


def said_text(name: str, kind: str, count: int, values: int, row: int) -> str:
    """The warning about a column that stays text for a few of its values."""
    are = f"is no {kind}" if count == 1 else f"are no {kind}s"
    return (
        f"column {name!r} stays text: {count} of {values} values {are} "
        f"(first in row {row}); declare them missing, or of_type({kind!r}) in the contract"
    )

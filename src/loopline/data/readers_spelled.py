"""How values are spelled in text, and a piece of a column read as one kind of them: all of it, or it is not of that kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.readers_days import days, seconds

NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity))$"
TRUTH = r"^(true|false|True|False|TRUE|FALSE)$"
DAY = r"^\d{4}-\d{2}-\d{2}$"
TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?$"
ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$"
MOMENT = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?$"
COMMA_NUMBER = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$"
"""Patterns of texts without space around them."""

_Heads = npt.NDArray[np.uint64]

DATES = (DAY, TIME, ZONED, MOMENT)
_ZERO_LED = r"^[+-]?0\d"
_LONG = r"^\s*[+-]?\d{19,}\s*$"
_PLAIN_BOOLEANS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
_BOOLEANS = [word for pair in _PLAIN_BOOLEANS for word in pair]
_INTEGERS = 9e18


def without(series: pl.Series, missing: Sequence[str]) -> pl.Series:
    """Texts without those that mean a missing value."""
    likely = np.isin(_heads(series), _heads_of(tuple(missing)))  # seen faster than with all letters
    if not likely.any():
        return series
    gaps = series.is_in(missing).fill_null(value=False)
    return series.set(gaps, None) if gaps.any() else series


@lru_cache
def _heads_of(texts: tuple[str, ...]) -> _Heads:
    return _heads(pl.Series(texts, dtype=pl.String))


def _heads(texts: pl.Series) -> _Heads:
    """The length and the first four letters of each text as one number, as Arrow's views of texts begin; of a null anything."""
    views = texts.alias("").to_arrow(compat_level=pl.CompatLevel.newest())  # a NUL is no name to Arrow
    heads = np.frombuffer(views.buffers()[1], np.uint64)[2 * views.offset : 2 * (views.offset + len(views)) : 2]
    return np.ascontiguousarray(heads)


class Numbers:
    """Whether all pieces of a column are numbers, and which: integers, those with fractions, with space around or without.

    Identifiers are none: those led by zeros, and whole ones beyond 64 bits (a float would merge neighbours). Nor are digits for
    more than a double holds: to read them as infinite would be to invent a value.
    """

    def __init__(self) -> None:
        self.hold = True
        self._plain = True  # without space around
        self._whole = {True: True, False: True}  # integers: as they are, without the space around
        self._large = self._long = False
        self.gaps = 0
        """Values that are nothing once read: blanks, and texts for "not a number"."""

    def take(self, raw: pl.Series) -> pl.Series | None:
        """The piece in the type that all so far have; None once they are no numbers."""
        if not self.hold:
            return None
        text = raw
        plain = stripped = self._cast(raw)
        if plain is None:
            text = _stripped(raw)
            self.gaps += text.null_count() - raw.null_count()
            stripped = self._cast(text)
        if stripped is None:
            self.hold = False
            return None
        self._plain &= plain is not None
        for side, values in ((True, plain), (False, stripped)):
            self._whole[side] &= values is not None and values.dtype.is_integer()
        self._see(text, stripped)
        if not self.hold:
            return None
        if self.whole or stripped.dtype.is_float():
            return stripped if self.whole else _without_nan(stripped)
        return _floats(text)

    def _cast(self, text: pl.Series) -> pl.Series | None:
        for kind in (pl.Int64, pl.Float64) if any(self._whole.values()) else (pl.Float64,):
            found = text.cast(kind, strict=False)
            if found.null_count() == text.null_count():
                return found
        return None

    def _see(self, text: pl.Series, found: pl.Series) -> None:
        """Whether a piece tells that these are no numbers but identifiers."""
        longest = text.str.len_bytes().max()
        if isinstance(longest, int) and longest >= 19 and text.str.contains(_LONG).any():
            self._long = True
        most = max((abs(float(v)) for v in (found.min(), found.max()) if v is not None), default=0.0)  # type: ignore[arg-type]
        if found.dtype.is_float():
            if not most < math.inf and too_large(text, found).any():
                self.hold = False
            self.gaps += int(found.is_nan().sum())
        self._large = self._large or most > _INTEGERS
        if _zero_led(text) or (self._large and self._long and not self.whole):
            self.hold = False

    @property
    def whole(self) -> bool:
        """Whether all are integers of 64 bits."""
        return self._whole[self._plain]

    @property
    def how(self) -> tuple[bool, bool]:
        """What decides how a piece is read."""
        return self.whole, self._plain

    def read(self, raw: pl.Series) -> pl.Series:
        """A piece in the type found."""
        text = raw if self._plain else _stripped(raw)
        return text.cast(pl.Int64) if self.whole else _floats(text)


def _floats(text: pl.Series) -> pl.Series:
    return _without_nan(text.cast(pl.Float64))


def _without_nan(values: pl.Series) -> pl.Series:
    return values.fill_nan(None) if values.is_nan().any() else values


def _zero_led(text: pl.Series) -> bool:
    """Whether there is one that a zero leads: most are told by their first letters, faster than by a pattern."""
    letters = _heads(text).astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    first, second = letters[:, 4].copy(), letters[:, 5].copy()
    signed = np.flatnonzero((first == ord("+")) | (first == ord("-")))
    first[signed], second[signed] = second[signed], letters[signed, 6]
    return bool(((first == ord("0")) & (second - ord("0") < 10)).any()) and bool(text.str.contains(_ZERO_LED).any())


def _stripped(raw: pl.Series) -> pl.Series:
    text = raw.str.strip_chars()
    return text.set((text == "").fill_null(value=False), None)


def too_large(text: pl.Series, found: pl.Series) -> pl.Series:
    """Where digits stand for more than a double holds."""
    return (found.is_infinite() & ~text.str.contains("(?i)inf")).fill_null(value=False)


def comma_numbers(raw: pl.Series) -> bool:
    """Whether all are numbers with a comma for the fraction and points, if any, for thousands."""
    there = raw.drop_nulls()
    return bool(there.str.contains(COMMA_NUMBER).all()) and not there.str.contains(_ZERO_LED).any()


def read_comma(raw: pl.Series) -> pl.Series:
    """Such numbers."""
    points = raw.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return points.cast(pl.Float64)


def _whole(raw: pl.Series, found: pl.Series) -> bool:
    return found.null_count() == raw.null_count()


def _boolean(raw: pl.Series) -> pl.Series | None:
    for true, false in _PLAIN_BOOLEANS:  # all spelled alike, as nearly always
        found = raw == true
        if (found | (raw == false)).all():
            return found
    text = raw.str.strip_chars()
    if not text.drop_nulls().is_in(_BOOLEANS).all():
        return None
    return text.str.to_lowercase().eq("true").alias(raw.name)


def _date(raw: pl.Series) -> pl.Series | None:
    if (found := days(raw)) is not None:
        return found
    text = raw.str.strip_chars()
    if not text.drop_nulls().str.contains(DAY).all():
        return None
    found = text.str.to_date("%Y-%m-%d", strict=False)
    return found if _whole(raw, found) else None


def _time(raw: pl.Series) -> pl.Series | None:
    if (found := seconds(raw)) is not None:
        return found
    text = raw.str.strip_chars().str.replace("T", " ", literal=True)
    if not text.drop_nulls().str.contains(TIME).all():
        return None
    found = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    if not _whole(raw, found):
        found = found.fill_null(text.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False))
    return found if _whole(raw, found) else None


def _zoned(raw: pl.Series) -> pl.Series | None:
    text = raw.str.strip_chars().str.replace(" ", "T", literal=True)
    if not text.drop_nulls().str.contains(ZONED).all():
        return None
    text = text.str.replace(r"([+-]\d{2})(\d{2})$", "$1:$2").str.replace(r"(T\d{2}:\d{2})(Z|[+-])", "$1:00$2")
    found = text.str.to_datetime("%+", time_unit="us", strict=False)
    return found if _whole(raw, found) else None


def read_moment(raw: pl.Series) -> pl.Series | None:
    """Days and times mixed, with zones and without: what has no zone counts as UTC, as it does at serving."""
    text = raw.str.strip_chars().str.replace(" ", "T", literal=True)
    if not text.drop_nulls().str.contains(MOMENT).all():
        return None
    text = text.str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00:00").str.replace(
        r"(T\d{2}:\d{2})($|Z|[+-])", "$1:00$2"
    )
    text = text.str.replace(r"([+-]\d{2})(\d{2})$", "$1:$2").str.replace(r"(T[\d:.]+)$", "${1}Z")
    found = text.str.to_datetime("%+", time_unit="us", strict=False)
    return found if _whole(raw, found) else None


def zoned(raw: pl.Series) -> bool:
    """Whether any of some moments has a zone."""
    return bool(raw.str.strip_chars().str.contains(ZONED).any())


READERS = {TRUTH: _boolean, DAY: _date, TIME: _time, ZONED: _zoned, MOMENT: read_moment}
"""What reads a piece by its pattern; None where not all of it is so."""

"""Days and times of which all are spelled alike, read by the places of their digits: several times as fast as by a format."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

_Signs = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[np.int32]

_DAY = len("2026-01-31")
_SECOND = len("2026-01-31T10:20:30")
_FIRST = 719_468  # days from the March of year 0 to 1970
_LENGTHS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def days(raw: pl.Series) -> pl.Series | None:
    """The days of texts that are all spelled 2026-01-31, or null; None where one is not, or is no day of the calendar."""
    if (signs := _signs(raw, _DAY)) is None or (found := _days(signs)) is None:
        return None
    return _filled(raw, found, pl.Date())


def seconds(raw: pl.Series) -> pl.Series | None:
    """The times of texts that are all spelled 2026-01-31T10:20:30, or with a space, or null; None where one is not."""
    if (signs := _signs(raw, _SECOND)) is None or (day := _days(signs)) is None:
        return None
    if not ((signs[10] == ord("T")) | (signs[10] == ord(" "))).all() or (signs[[13, 16]] != ord(":")).any():
        return None
    parts = [_number(signs[at : at + 2]) for at in (11, 14, 17)]
    if any(part is None or (part >= most).any() for part, most in zip(parts, (24, 60, 60), strict=True)):
        return None
    hour, minute, second = parts
    found = (day.astype(np.int64) * 24 + hour) * 3600 + (minute * 60 + second)  # type: ignore[operator]
    return _filled(raw, found * 1_000_000, pl.Datetime("us"))


def _signs(raw: pl.Series, size: int) -> _Signs | None:
    """The bytes of texts that are there, a row for each place; None where they are not all of one length."""
    there = raw.drop_nulls() if raw.null_count() else raw
    lengths = there.str.len_bytes()
    if lengths.min() != size or lengths.max() != size:
        return None
    text = there.alias("").to_arrow(compat_level=pl.CompatLevel.oldest())  # a NUL is no name to Arrow
    _, offsets, data = text.buffers()
    start = int(np.frombuffer(offsets, np.int64)[text.offset])
    signs: _Signs = np.frombuffer(data, np.uint8)[start : start + len(text) * size].reshape(-1, size)
    turned: _Signs = np.ascontiguousarray(signs.T)
    return turned


def _number(signs: _Signs) -> _Numbers | None:
    """The numbers of the digits in some places; None where one is no digit."""
    digits = signs - ord("0")
    if (digits > 9).any():
        return None
    number: _Numbers = digits[0].astype(np.int32)
    for digit in digits[1:]:
        number = number * 10 + digit
    return number


def _days(signs: _Signs) -> _Numbers | None:
    """Days since 1970 of what begins with a day (the Gregorian calendar, counted from March on)."""
    year, month, day = _number(signs[:4]), _number(signs[5:7]), _number(signs[8:10])
    if year is None or month is None or day is None or (signs[[4, 7]] != ord("-")).any():
        return None
    if year.min() < 1 or month.min() < 1 or month.max() > 12 or day.min() < 1:
        return None
    late = np.flatnonzero(day > 28)
    if len(late):
        years, months = year[late], month[late]
        leap = (years % 4 == 0) & ((years % 100 != 0) | (years % 400 == 0))
        if (day[late] > _LENGTHS[months - 1] + (leap & (months == 2))).any():
            return None
    year = year - (month < 3)
    since_march = (month + 9) % 12
    found: _Numbers = (
        year * 365 + year // 4 - year // 100 + year // 400 + (153 * since_march + 2) // 5 + day - 1 - _FIRST
    )
    return found


def _filled(raw: pl.Series, found: npt.NDArray[Any], kind: pl.DataType) -> pl.Series:
    """The values found, with nulls where the texts have them."""
    if not raw.null_count():
        return pl.Series(raw.name, found).cast(kind)
    there = raw.is_not_null()
    whole = np.zeros(len(raw), found.dtype)
    whole[there.to_numpy()] = found
    return pl.Series(raw.name, whole).cast(kind).set(~there, None)

"""A first contract drafted from a frame: what `loopline init` writes for its owner to edit.

Facts seen in one table are guesses about the next: ranges are widened by their own width and, like sets of values, spellings,
types and that a value is always there, only warn. What the loop cannot do without (the label, the time and the group of a row)
is quarantined when missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import chain, groupby, zip_longest

import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.quality.contract import Contract, column, contract, schema, unique
from loopline.quality.contract_masks import kind_of
from loopline.quality.contract_rules import TYPES, AnyRule
from loopline.quality.spelling import LONGEST, shape_of

_MOST_VALUES = 20
_ENOUGH_ROWS = 30  # a set of values is only believed when each was seen about that often


def suggest(
    frame: pl.DataFrame,
    *,
    label: str | None = None,
    time: str | None = None,
    group: str | None = None,
    personal: Sequence[str] = (),
    at_most: int = 100,
) -> Contract:
    """A contract that the frame itself keeps without a quarantined row, of at most so many rules, the telling ones first.

    First what identifies a row (the leftmost column that is distinct in every row), then label, time and group, then the columns
    and their types, then ranges, sets of values, how texts are spelled and what is never missing, by turns. No value of a column
    of `personal` is in it. Raises Invalid when label, time or group is not a column.
    """
    for name in (label, time, group):
        if name is not None and name not in frame.columns:
            raise Invalid(
                f"The table has no column {name!r}.", code="no-column", hint=did_you_mean(name, frame.columns)
            )
    rules: list[AnyRule] = []
    identity = _identity(frame, {label})
    if identity:
        rules.append(unique(identity))
    rules += [
        column(name).not_null()
        for name in dict.fromkeys((label, time, group))
        if name is not None and not frame[name].null_count()
    ]
    sets: list[AnyRule] = []
    ranges: list[AnyRule] = []
    filled: list[AnyRule] = []
    for name in frame.columns:
        series = frame[name].drop_nulls()
        if name in (identity, time, group) or not len(series):
            continue
        if name != label and len(series) == frame.height and not (series.dtype.is_float() and series.is_nan().any()):
            filled.append(column(name).not_null(severity="warn"))
        if name in personal:
            continue
        if name == label and not series.dtype.is_float():
            values = _values(series, most=_MOST_VALUES)
            if values:  # an answer that training never saw cannot be learned from
                rules.append(column(name).one_of(*values))
        elif series.dtype in (pl.String, pl.Categorical, pl.Enum):
            values = _values(series, most=min(_MOST_VALUES, max(2, len(series) // _ENOUGH_ROWS)))
            if len(values) > 1:
                sets.append(column(name).one_of(*values, severity="warn"))
            elif pattern := _pattern(series):
                sets.append(column(name).matches(pattern, severity="warn"))
        elif series.dtype.is_numeric():
            bounds = _range(series)
            if bounds:
                ranges.append(column(name).between(*bounds, severity="warn"))
    rules.append(schema({name: _type(dtype) for name, dtype in frame.schema.items()}, severity="warn", name="columns"))
    turns = chain.from_iterable(zip_longest(ranges, sets, filled))
    known = [name for name in personal if name in frame.columns]
    return contract(*[*rules, *(r for r in turns if r is not None)][:at_most], personal=known)


def _identity(frame: pl.DataFrame, without: set[str | None]) -> str | None:
    """The leftmost column that is there and distinct in every row, and that is first or named like an identifier."""
    for position, (name, dtype) in enumerate(frame.schema.items()):
        if name in without or not (dtype.is_integer() or dtype == pl.String) or frame[name].null_count():
            continue
        named = position == 0 or re.search(r"(?i)(^|[_\W])(id|key|nbr|number|uuid|guid)$|[a-z]I[dD]$", name)
        if named and frame.height > 1 and frame[name].n_unique() == frame.height:
            return name
    return None


def _values(series: pl.Series, *, most: int) -> list[str | int | bool]:
    text = series.cast(pl.String) if series.dtype in (pl.Categorical, pl.Enum) else series
    found = text.unique()
    countable = found.dtype in (pl.String, pl.Boolean) or found.dtype.is_integer()
    return sorted(found.to_list()) if countable and len(found) <= most else []


def _type(dtype: pl.DataType) -> str:
    found = kind_of(dtype)
    return found if found in TYPES and dtype != pl.Null else "any"


def _pattern(series: pl.Series) -> str:
    """A pattern of digits and words, where all of many values are spelled by it; "" else."""
    text = series.cast(pl.String)
    shapes = text.to_frame("_").select(shape_of(pl.col("_"))).to_series().unique()
    shape = shapes[0]
    if len(series) < _ENOUGH_ROWS or len(shapes) > 1 or "9" not in shape or len(shape) >= LONGEST:
        return ""
    found = "".join(_spelled(sign, len([*run])) for sign, run in groupby(shape))
    matched = text.str.contains(rf"\A(?:{found})\z")  # a shape leaves out which digits and letters they are
    return found if matched.all() else ""


def _spelled(sign: str, times: int) -> str:
    """The pattern of a sign of a shape that stands so many times in a row."""
    word = {"9": r"\d", "a": r"[\p{L}\p{M}]+", " ": r"\s+", "-": "-"}.get(sign) or re.escape(sign)
    return word if times == 1 else f"{word}{{{times}}}"


def _range(series: pl.Series) -> tuple[int | float, int | float] | None:
    known = series.drop_nans() if series.dtype.is_float() else series
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())  # type: ignore[arg-type]
    if low == high:
        return None  # a constant says nothing about the next table
    width = high - low
    if not math.isfinite(width) or max(abs(low), abs(high)) + width > 2.0**52:
        return None
    bottom = 0.0 if low >= 0 else _rounded(low - width, math.floor)
    top = 0.0 if high <= 0 else _rounded(high + width, math.ceil)
    return (int(bottom), int(top)) if series.dtype.is_integer() else (bottom, top)


def _rounded(value: float, towards: Callable[[float], int]) -> float:
    """Two significant digits, outwards: a bound a person would write."""
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return float(f"{towards(value / step) * step:.12g}")

"""Rows sorted into groups by a column: its categories, or ranges of its numbers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

MOST_GROUPS = 20
"""Further categories, the rarest, are taken together as one group."""

DISTINCT_NUMBERS = 8
"""A numeric column of so few values is taken by value, of more by ranges."""

RANGES = 5
MISSING = "missing"


class Groups(NamedTuple):
    """The groups of a column in their natural order, and the positions of the rows in each."""

    column: str
    names: tuple[str, ...]
    members: tuple[NDArray[np.int64], ...]


def groups(column: pl.Series) -> Groups:
    """The groups of the rows by one column.

    Categories and booleans by value (the 19 most frequent, the others together); whole or broken numbers of more
    than 8 values by five ranges of like size with round ends; dates by year. Rows without a value are a group too.
    """
    dtype = column.dtype
    if dtype.is_temporal() and dtype not in (pl.Duration, pl.Time):
        labels, order = _by_text(column.dt.year())
    elif dtype.is_numeric() and column.n_unique() > DISTINCT_NUMBERS:
        labels, order = _by_range(column)
    else:
        labels, order = _by_text(column)
    codes = labels.replace_strict(order, list(range(len(order))), return_dtype=pl.Int64).to_numpy()
    members = tuple(np.flatnonzero(codes == i) for i in range(len(order)))
    return Groups(column.name, tuple(order), members)


def _by_text(column: pl.Series) -> tuple[pl.Series, list[str]]:
    values = column.drop_nulls()
    numeric = values.dtype.is_numeric()
    texts = column.cast(pl.String)
    counts = texts.drop_nulls().value_counts(sort=True)
    names: list[str] = counts[counts.columns[0]].to_list()
    frequent = set(names[: MOST_GROUPS - 1]) if len(names) > MOST_GROUPS else set(names)
    order = sorted(frequent, key=(lambda t: (float(t), t)) if numeric else str)
    rest = f"other ({len(names) - len(frequent)} values)"
    if len(names) > len(frequent):
        texts = texts.replace_strict(order, order, default=rest, return_dtype=pl.String)
        # A missing value is no other value.
        texts = pl.select(pl.when(column.is_null()).then(None).otherwise(texts)).to_series()
        order.append(rest)
    return _with_missing(texts, order)


def _by_range(column: pl.Series) -> tuple[pl.Series, list[str]]:
    values = column.cast(pl.Float64)
    values = values.set(~values.is_finite(), None)
    seen = values.drop_nulls().to_numpy()
    whole = column.dtype.is_integer()
    # Where one value fills most rows all quantiles fall on it: then the distinct values are cut.
    edges = _round_edges(seen, whole=whole) or _round_edges(np.unique(seen), whole=whole)
    names = _names(edges, whole=whole)
    place = np.searchsorted(np.asarray(edges), values.fill_null(0.0).to_numpy(), side="right")
    texts = pl.Series([names[i] for i in place], dtype=pl.String)
    texts = pl.select(pl.when(values.is_null()).then(None).otherwise(texts)).to_series()
    present = set(texts.drop_nulls().unique().to_list())
    return _with_missing(texts, [name for name in names if name in present])


def _with_missing(texts: pl.Series, order: list[str]) -> tuple[pl.Series, list[str]]:
    if not texts.null_count():
        return texts, order
    name = MISSING if MISSING not in order else f"{MISSING} (no value)"
    return texts.fill_null(name), [*order, name]


def _round_edges(values: NDArray[np.float64], *, whole: bool) -> list[float]:
    """Edges near the quantiles, on a grid of 1, 2 or 5 times a power of ten that is fine enough to keep them apart."""
    quantiles = np.quantile(values, np.linspace(0, 1, RANGES + 1)[1:-1])
    spread = float(np.quantile(values, 0.9) - np.quantile(values, 0.1)) or float(np.ptp(values))
    rough = spread / (2 * RANGES)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = power * next(m for m in (5, 2, 1) if m * power <= rough or m == 1)
    if whole:
        step = max(1.0, round(step))
    decimals = max(0, -math.floor(math.log10(step)))
    edges = sorted({round(float(round(q / step) * step), decimals) for q in quantiles})
    return [edge for edge in edges if values.min() < edge <= values.max()]


def _names(edges: list[float], *, whole: bool) -> list[str]:
    if not edges:
        return ["all"]
    shown = [f"{edge:,.10g}" for edge in edges]
    if whole:
        last = [f"{edge - 1:,.10g}" for edge in edges]
        middle = [a if a == b else f"{a} to {b}" for a, b in zip(shown[:-1], last[1:], strict=True)]
        return [f"{last[0]} or less", *middle, f"{shown[-1]} or more"]
    middle = [f"{a} to {b}" for a, b in pairwise(shown)]
    return [f"under {shown[0]}", *middle, f"{shown[-1]} or more"]

"""The findings of a full profile, computed from a frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.quality.profile_association import association, codes_of
from loopline.quality.profile_column import NUMERIC, ColumnProfile
from loopline.quality.profile_full import COLUMNS, Full, Pair
from loopline.quality.profile_parts import Association, Levels
from loopline.quality.profile_sketch import Integers
from loopline.quality.spelling import shape_of

_ROWS = 100_000  # as many rows, drawn at random, tell what goes together
_BINS = 16
_FEW = 30
BY_CHANCE = 0.001
"""The share of rows up to which chance may make rows alike."""

Hashes = NDArray[np.uint64]


def full_of(
    frame: pl.DataFrame, columns: Mapping[str, ColumnProfile], target: Integers | None, label: str | None
) -> Full:
    """The findings; `target` are the codes of the label, where there is one."""
    if not frame.height:
        return Full(rows=0)
    told = [n for n, c in columns.items() if c.kind not in ("null", "other") and (c.distinct is None or c.distinct > 1)]
    held = [n for n in told if not (columns[n].near_unique and columns[n].kind == "category")]
    sample = frame.select(held[:COLUMNS])
    sample = sample.sample(_ROWS, seed=0) if sample.height > _ROWS else sample
    missing: dict[str, Association] = {}
    order = None
    if target is not None and frame.height >= _FEW:
        for name in columns:
            gone = _gone(frame[name])
            if name != label and 0 < gone.sum() < frame.height and (found := association(gone, target)) is not None:
                missing[name] = found
        order = association(np.arange(frame.height, dtype=np.int64) * _BINS // frame.height, target)
    return Full(
        rows=frame.height,
        pairs=tuple(sorted(_pairs(sample, columns), key=lambda pair: (pair.one, pair.other))),
        twins=_twins(frame, told),
        near_duplicates=_near_duplicates(frame, [n for n in told if not columns[n].near_unique]),
        missing_tells=dict(sorted(missing.items())),
        order_tells=order,
        left_out=tuple(held[COLUMNS:]),
    )


def patterns_of(series: pl.Series) -> Levels:
    """How often texts of each shape are in a column."""
    shapes = series.drop_nulls().cast(pl.String).value_counts(name="#")
    counts = shapes.select(shape_of(pl.nth(0)).alias("shape"), "#").group_by("shape").sum()
    return Levels.of(dict(zip(counts["shape"].to_list(), counts["#"].to_list(), strict=True)))


def _gone(series: pl.Series) -> Integers:
    gone = series.is_null() | series.is_nan() if series.dtype.is_float() else series.is_null()
    return gone.fill_null(True).to_numpy().astype(np.int64)


def _pairs(frame: pl.DataFrame, columns: Mapping[str, ColumnProfile]) -> list[Pair]:
    numeric = [n for n in frame.columns if columns[n].kind in NUMERIC]
    found = _correlations(frame, numeric)
    codes = {n: codes_of(frame[n], columns[n], levels=_BINS if n in numeric else 64) for n in frame.columns}
    for one, other in combinations(frame.columns, 2):
        if one in numeric and other in numeric:
            continue
        value, rows = _cramer(codes[one], codes[other])
        if value is not None:
            found.append(Pair(one=one, other=other, measure="Cramér's V", value=value, rows=rows))
    return found


def _correlations(frame: pl.DataFrame, names: Sequence[str]) -> list[Pair]:
    """Spearman's correlations in the rows where both are there; the ranks are those among all rows of a column."""
    if len(names) < 2:
        return []
    floats = [pl.col(n).fill_nan(None) if frame.schema[n].is_float() else pl.col(n) for n in names]
    ranks = frame.select(e.to_physical().rank() for e in floats).cast(pl.Float64).to_numpy()
    there = ~np.isnan(ranks)
    r = np.where(there, ranks - (frame.height + 1) / 2, 0.0) / frame.height
    m = there.astype(np.float64)
    n, sums, squares = m.T @ m, r.T @ m, (r * r).T @ m
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = squares - sums * sums / n
        values = (r.T @ r - sums * sums.T / n) / np.sqrt(spread * spread.T)
    return [
        Pair(
            one=names[i],
            other=names[j],
            measure="rank correlation",
            value=float(np.clip(values[i, j], -1, 1)),
            rows=int(n[i, j]),
        )
        for i, j in combinations(range(len(names)), 2)
        if math.isfinite(values[i, j]) and n[i, j] > 1
    ]


def _cramer(a: Integers, b: Integers) -> tuple[float | None, int]:
    """Cramér's V less its bias, and in how many rows both are there (code 0 is missing)."""
    wide = int(b.max()) + 1
    table = np.bincount(a * wide + b, minlength=(int(a.max()) + 1) * wide).reshape(-1, wide)[1:, 1:]
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n, (rows, cells) = int(table.sum()), table.shape
    if n < 2 or min(rows, cells) < 2:
        return None, n
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    corrected = max(0.0, phi - (rows - 1) * (cells - 1) / (n - 1))
    most = min(rows - (rows - 1) ** 2 / (n - 1), cells - (cells - 1) ** 2 / (n - 1)) - 1
    return (min(1.0, math.sqrt(corrected / most)) if most > 0 else None), n


def _twins(frame: pl.DataFrame, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Columns of one type that are equal in every row; of several alike, each with the one before."""
    alike: dict[tuple[str, int, int], list[str]] = {}
    for name in names:
        ends = frame[name].slice(0, 1_000).hash(seed=0).to_numpy()
        alike.setdefault((str(frame.schema[name]), frame[name].null_count(), int(ends.sum())), []).append(name)
    return tuple(
        pair
        for group in alike.values()
        for pair in pairwise(group)
        if frame[pair[0]].equals(frame[pair[1]], check_names=False, null_equal=True)
    )


def _near_duplicates(frame: pl.DataFrame, names: Sequence[str]) -> int | None:
    """See `Full`. Rows are compared by sums of hashes, from which one column's is taken away at a time."""
    n = frame.height
    if len(names) < 3:
        return None
    total: Hashes = np.zeros(n, np.uint64)
    lone = []
    for k, name in enumerate(names):
        one = hashed(frame[name], k)
        total += one
        lone.append(collision(one))
    repeats = np.zeros(n, bool)
    asked = False
    for k, name in enumerate(names):  # hashed again rather than kept: a table can be long
        chance = sum(math.log(p) for i, p in enumerate(lone) if i != k)
        if math.log(n / 2) + chance < math.log(BY_CHANCE):
            asked = True
            repeats |= ~pl.Series(total - hashed(frame[name], k)).is_first_distinct().to_numpy()
    exact = n - frame.select(names).hash_rows(seed=0).n_unique()
    return max(0, int(repeats.sum()) - exact) if asked else None


def hashed(series: pl.Series, seed: int) -> Hashes:
    """A hash of each value; texts that differ in capitals and spaces alone have the same one."""
    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        series = series.cast(pl.String).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    hashes: Hashes = series.hash(seed=seed).to_numpy()
    return hashes


def collision(hashes: Hashes) -> float:
    """How probable it is that two rows have the same value, by their hashes."""
    counts = pl.Series(hashes).value_counts()["count"].cast(pl.Float64).to_numpy() / len(hashes)
    return float((counts * counts).sum())

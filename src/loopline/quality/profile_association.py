"""How much one column tells of the label, and the small codes that this and the design effect count."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from loopline.quality.profile_column import NUMERIC, ColumnProfile
from loopline.quality.profile_parts import Association
from loopline.quality.profile_sketch import Integers


def codes_of(series: pl.Series, column: ColumnProfile, levels: int) -> Integers:
    """A code for each row, from 0: missing, then at most `levels` quantile bins or most frequent levels and "others"."""
    if column.kind in NUMERIC:
        values = series.to_physical().cast(pl.Float64).to_numpy()
        clean = values[~np.isnan(values)]
        if not len(clean):
            return np.zeros(len(values), np.int64)
        distinct = column.distinct
        if distinct is not None and distinct <= levels:
            edges = np.unique(clean)
        else:
            step = max(1, len(clean) // 20_000)  # the bins need not be exact
            cuts = np.linspace(0, 1, levels + 1)[:-1]
            edges = np.unique(np.quantile(clean[::step], cuts, method="lower"))  # infinities have no middle
        codes = np.searchsorted(edges, values, side="right") + 1
        return np.where(np.isnan(values), 0, codes)
    if column.kind == "boolean":
        return series.cast(pl.Int8).fill_null(-1).to_numpy().astype(np.int64) + 1
    table = series.drop_nulls().value_counts(sort=True, name="#").head(levels).to_series(0)
    place = pl.Series(range(2, len(table) + 2), dtype=pl.Int64)
    found = series.replace_strict(table, place, default=1, return_dtype=pl.Int64)
    return np.where(series.is_null().to_numpy(), 0, found.to_numpy())


def association(codes: Integers, target: Integers) -> Association | None:
    """Theil's uncertainty coefficient of the label given a column's codes, less its bias (Miller and Madow 1955)."""
    n = len(target)
    labels = int(target.max()) + 1
    table = np.bincount(codes * labels + target, minlength=(int(codes.max()) + 1) * labels).reshape(-1, labels)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    entropy = _entropy(table.sum(axis=0), n)
    if entropy <= 0:
        return None
    mutual = _entropy(table.sum(axis=0), n) + _entropy(table.sum(axis=1), n) - _entropy(table.ravel(), n)
    # Of cells that could be filled but by chance are not, there are fewer where the dependence is strong.
    bias = (np.count_nonzero(table) - table.shape[0] - table.shape[1] + 1) / (2 * n)
    return Association(value=float(np.clip((mutual - max(bias, 0.0)) / entropy, 0.0, 1.0)), rows=n)


def _entropy(counts: Integers, n: int) -> float:
    share = counts[counts > 0] / n
    return -float((share * np.log(share)).sum()) if len(share) > 1 else 0.0 * math.log(1)

"""The design effect of a column: how much less a row tells when rows belong together.

Rows of one patient, or of one hour, are alike. A share p estimated from n such rows has the variance d p(1-p)/n with
d > 1; two-sample tests that take the rows as independent then alarm too often. Dividing the counts by d mends it to first
order (Rao and Scott 1984).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.quality.profile_association import codes_of
from loopline.quality.profile_column import NUMERIC, ColumnProfile
from loopline.quality.profile_sketch import Integers

_LEVELS = 64


def block_codes(rows: int, size: int) -> Integers:
    """The number of the block that each of `rows` rows lies in; a short last block joins the one before."""
    return np.minimum(np.arange(rows) // size, max(rows // size - 1, 0))


def design_effect(series: pl.Series, column: ColumnProfile, clusters: Integers) -> float:
    """The mean design effect over the shares that a comparison of this column looks at: at least 1.

    Numbers: over the shares below each inner quantile, as a Kolmogorov-Smirnov test looks at; categories: over the levels,
    each weighted by 1-p, as the chi-square test sums them. Missing values are one more share; the larger of both counts.
    """
    if column.kind in ("null", "other") or not len(clusters):
        return 1.0
    clusters = clusters - clusters.min()
    sizes = np.bincount(clusters)
    codes = codes_of(series, column, levels=16 if column.kind in NUMERIC else _LEVELS)
    found = [_of_share(codes == 0, clusters, sizes)[0]] if column.missing else []
    if column.kind in NUMERIC:
        cuts = [_of_share((codes > 0) & (codes <= c), clusters, sizes) for c in range(1, int(codes.max()))]
        inner = [d for d, p in cuts if 0.05 <= p <= 0.95]
        found.append(float(np.mean(inner)) if inner else max((d for d, _ in cuts), default=1.0))
    else:
        levels = [_of_share(codes == c, clusters, sizes) for c in range(1, int(codes.max()) + 1)]
        weights = [1 - p for _, p in levels if p > 0]
        if weights and sum(weights) > 0:
            found.append(float(np.average([d for d, p in levels if p > 0], weights=weights)))
    return max(1.0, *found) if found else 1.0


def _of_share(inside: npt.NDArray[np.bool_], clusters: Integers, sizes: Integers) -> tuple[float, float]:
    """The design effect of one share, and the share."""
    n = len(inside)
    share = float(inside.mean())
    if share in (0.0, 1.0) or len(sizes) < 2:
        return 1.0, share
    away = np.bincount(clusters[inside], minlength=len(sizes)) - share * sizes
    return float((away @ away) * len(sizes) / (len(sizes) - 1) / (n * share * (1 - share))), share

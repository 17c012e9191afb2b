"""The design effect of a column: how much less a row tells when rows belong together.

Rows of one patient, or of one hour, are alike. A share p estimated from n such rows has the variance d p(1-p)/n with
d > 1; two-sample tests that take the rows as independent then alarm too often. Dividing the counts by d mends it to first
order; over many levels with unlike effects, their spread is needed as well (Rao and Scott 1984).
"""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
from scipy import sparse, special

from loopline.quality.profile_association import codes_of
from loopline.quality.profile_column import NUMERIC, ColumnProfile
from loopline.quality.profile_parts import Design
from loopline.quality.profile_sketch import Floats, Integers

_CUTS = 16
_EXACT_SIZES = 8  # of clusters: up to here each is kept for itself
_STEP = 1.2
_RARE = 10  # levels of fewer rows are taken together, as the test will


class Clusters(msgspec.Struct, frozen=True):
    """Which cluster each row is in, from 0, and how many rows each cluster has."""

    codes: Integers
    sizes: Integers

    @classmethod
    def of_groups(cls, series: pl.Series) -> Clusters:
        """Rows of the same value belong together; each row without one stands alone."""
        codes = series.rank("dense").cast(pl.Int64).to_numpy().astype(np.float64)
        alone = np.isnan(codes)
        codes[alone] = np.nan_to_num(codes).max() + 1 + np.arange(int(alone.sum()))
        whole = codes.astype(np.int64) - 1
        return cls(whole, np.bincount(whole))

    @classmethod
    def of_blocks(cls, rows: int, size: int) -> Clusters:
        """So many neighbouring rows belong together; a short last block joins the one before."""
        codes = np.minimum(np.arange(rows) // size, max(rows // size - 1, 0))
        return cls(codes, np.bincount(codes))

    def rows_by_size(self) -> dict[int, int]:
        """How many rows are in clusters of each size; large sizes are rounded up to some forty a hundredfold."""
        steps = np.unique(np.ceil(_EXACT_SIZES * _STEP ** np.arange(200)))
        edges = np.concatenate((np.arange(1, _EXACT_SIZES), steps))
        place = np.searchsorted(edges, self.sizes)
        rows = np.bincount(place, weights=self.sizes)
        return {int(edges[i]): int(rows[i]) for i in np.flatnonzero(rows)}


def design_of(series: pl.Series, column: ColumnProfile, clusters: Clusters) -> Design:
    """The design effects that a comparison of this column has to allow for."""
    if column.kind in ("null", "other") or len(clusters.sizes) < 2:
        return Design()
    degrees = len(clusters.sizes) - 1
    bound = degrees / float(special.chdtri(degrees, 0.95))
    numeric = column.kind in NUMERIC
    codes = codes_of(series, column, levels=_CUTS if numeric else 4096)
    missing = max(1.0, _of_scores((codes == 0).astype(np.float64), clusters)) if column.missing else 1.0
    if numeric:
        return Design(values=bound * _of_numbers(codes, clusters), missing=bound * missing)
    values, spread, worst = _of_levels(_pooled(codes), clusters)
    return Design(values=bound * values, spread=spread, worst=bound * worst, missing=bound * missing)


def _of_scores(scores: Floats, clusters: Clusters) -> float:
    """The design effect of a mean."""
    away = scores - scores.mean()
    variance = float(away @ away)
    if variance <= 0:
        return 1.0
    sums = np.bincount(clusters.codes, weights=away)
    return float(sums @ sums) / variance * len(sums) / (len(sums) - 1)


def _of_numbers(codes: Integers, clusters: Clusters) -> float:
    """The larger of the effects on what the two tests of numbers look at: the mean rank, and shares below inner quantiles."""
    shares = np.bincount(codes) / len(codes)
    below = np.cumsum(shares)
    found = [1.0, _of_scores((below - shares / 2)[codes], clusters)]
    inner = [c for c in range(1, len(shares)) if 0.05 <= below[c] <= 0.95]
    cuts = [_of_scores((codes <= c).astype(np.float64), clusters) for c in inner[:: max(1, len(inner) // 6)]]
    if cuts:
        found.append(float(np.mean(cuts)))
    return max(found)


def _pooled(codes: Integers) -> Integers:
    """Codes from 0 without the empty ones; the rare ones share one."""
    counts = np.bincount(codes)
    kept = np.flatnonzero(counts >= _RARE)
    place = np.full(len(counts), len(kept), np.int64)
    place[kept] = np.arange(len(kept))
    return place[codes]


def _of_levels(codes: Integers, clusters: Clusters) -> tuple[float, float, float]:
    """The mean of the generalised design effects, one plus their squared coefficient of variation, the largest of a level."""
    n, k = len(codes), int(codes.max()) + 1
    p = np.bincount(codes, minlength=k) / n
    if np.count_nonzero(p) < 2:
        return 1.0, 1.0, 1.0
    table = sparse.csr_matrix((np.ones(n), (clusters.codes, codes)), shape=(len(clusters.sizes), k))
    sizes = clusters.sizes.astype(np.float64)
    together = (table.T @ table).toarray()
    with_sizes = table.T @ sizes
    covariance = together - np.outer(p, with_sizes) - np.outer(with_sizes, p) + np.outer(p, p) * float(sizes @ sizes)
    seen = p > 0
    root = np.sqrt(p[seen])
    effects = covariance[np.ix_(seen, seen)] / np.outer(root, root) / n * len(sizes) / (len(sizes) - 1)
    degrees = len(root) - 1
    mean = float(np.trace(effects)) / degrees
    squares = float((effects * effects).sum()) / degrees
    worst = max(1.0, float((np.diag(effects) / (1 - p[seen])).max()))
    if mean <= 1.0:  # rows that exclude each other: never taken as more than they are
        return 1.0, 1.0, worst
    return mean, max(1.0, squares / mean**2), worst

"""Did these two samples come from one distribution? Both sides are taken as noisy.

A test that takes the reference's shares as exact (a one-sample chi-square) finds twice the statistic it should when
both sides have the same number of rows, and alarms without cause; none here does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from loopline.errors import Invalid
from loopline.statistics.records import TwoSample

LEAST_EXPECTED = 5.0
"""The least expected rows in a cell for the chi-square approximation to hold (Cochran 1954)."""

Counts = Sequence[float] | NDArray[Any]


def as_counts(counts: Counts, name: str) -> NDArray[np.float64]:
    """The counts as a float vector; Invalid (`bad-counts`) on anything that cannot be a count."""
    try:
        array = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Invalid(f"{name} are not numbers.", code="bad-counts", hint="Give one count per bin or level.") from error
    if array.ndim != 1:
        raise Invalid(f"{name} have {array.ndim} dimensions, not one.", code="bad-counts", hint="Give a flat sequence.")
    if not np.all(np.isfinite(array)) or np.any(array < 0):
        raise Invalid(f"{name} hold a negative or infinite number.", code="bad-counts", hint="Counts are zero or more.")
    return array


def paired_counts(counts_a: Counts, counts_b: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sides as vectors over the same cells; Invalid (`bad-counts`) when their lengths differ."""
    a, b = as_counts(counts_a, "The counts of the first sample"), as_counts(counts_b, "The counts of the second sample")
    if len(a) != len(b):
        raise Invalid(
            f"The two samples are counted over different cells: {len(a)} and {len(b)}.",
            code="bad-counts",
            hint="Count both over the same edges or levels, with 0 where a side has none.",
        )
    return a, b


def ks_binned(counts_a: Counts, counts_b: Counts) -> TwoSample:
    """The two-sample Kolmogorov-Smirnov test on counts over the same ordered bins.

    The effect is the largest distance between the two cumulative shares, which is the statistic too. The p-value is
    Massart's bound (Massart 1990; for two samples Wei and Dudley 2012): it agrees with the exact tail wherever that is
    small, in microseconds where the exact one takes 15 ms. On bins it is an upper bound twice over (the distance is
    seen at the edges only), so false alarms stay at or below the level.
    An empty side is no evidence: p-value 1, effect 0. Raises Invalid (`bad-counts`).
    """
    a, b = paired_counts(counts_a, counts_b)
    n, m = float(a.sum()), float(b.sum())
    distance, p_value = 0.0, 1.0
    if n > 0 and m > 0 and len(a) > 1:
        distance = float(np.max(np.abs(np.cumsum(a) / n - np.cumsum(b) / m)))
        p_value = min(1.0, 2 * math.exp(-2 * distance * distance * n * m / (n + m)))
    return TwoSample(
        test="ks",
        statistic=distance,
        p_value=p_value,
        effect=distance,
        effect_name="ks",
        n=int(n),
        m=int(m),
        cells=len(a),
    )


def chi_square(counts_a: Counts, counts_b: Counts) -> TwoSample:
    """The chi-square test of homogeneity on the 2 x k table of counts, rare levels pooled.

    Levels are pooled, from the rarest up, until each cell expects at least 5 rows on either side; pooling looks at
    both sides' totals only, which say nothing about a difference, so the level is kept (Cochran 1954; Agresti 2013,
    3.2). The effect is the total variation between the shares of the pooled levels: the share of rows that would
    have to change level. An empty side, or one cell left after pooling, is no evidence: p-value 1, effect 0.
    Raises Invalid (`bad-counts`).
    """
    a, b = paired_counts(counts_a, counts_b)
    n, m = float(a.sum()), float(b.sum())
    statistic, p_value, effect, cells = 0.0, 1.0, 0.0, 0
    if n > 0 and m > 0:
        a, b = pool_rare(a, b)
        cells = len(a)
        if cells > 1:
            total = a + b
            # The sum over the 2 x k table, with the two rows of a column taken together.
            statistic = float(np.sum((a * np.sqrt(m / n) - b * np.sqrt(n / m)) ** 2 / total))
            p_value = float(special.chdtrc(cells - 1, statistic))
            effect = float(0.5 * np.abs(a / n - b / m).sum())
    return TwoSample(
        test="chi-square",
        statistic=statistic,
        p_value=p_value,
        effect=effect,
        effect_name="total_variation",
        n=int(n),
        m=int(m),
        cells=cells,
    )


def pool_rare(
    a: NDArray[np.float64], b: NDArray[np.float64], *, least: float = LEAST_EXPECTED
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sides' counts with rare levels pooled until every cell expects `least` rows on the smaller side.

    Neighbours in the order of frequency are pooled together, not all of them into one: a change inside a long tail
    stays visible. The last cell takes what is left over.
    """
    total = a + b
    share_of_smaller = min(a.sum(), b.sum()) / total.sum()
    need = least / share_of_smaller
    order = np.argsort(-total, kind="stable")
    order = order[total[order] > 0]
    sums = total[order]
    groups = np.empty(len(order), dtype=np.int64)
    group, filled = 0, 0.0
    for i, amount in enumerate(sums):
        groups[i] = group
        filled += amount
        if filled >= need:
            group, filled = group + 1, 0.0
    if filled > 0 and group > 0:
        groups[groups == group] = group - 1
    pooled_a, pooled_b = (np.bincount(groups, weights=side[order]).astype(np.float64) for side in (a, b))
    return pooled_a, pooled_b

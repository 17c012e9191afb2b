"""Areas under ROC and precision-recall curves with the pull of each row on them (influence).

The influence of a row is n times the change of the estimate as the row's weight grows: the variance of the estimate
is the mean of its squares over n. It gives standard errors of single areas, of their averages over classes, and of
paired differences (subtract the influences) without resampling. For the ROC area this is DeLong's estimate.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from loopline.errors import Invalid
from loopline.statistics.intervals import on_scale
from loopline.statistics.records import Interval

Floats = NDArray[np.float64]


class Area(NamedTuple):
    """An area and the influence of each row on it, in the order of the rows."""

    value: float
    influence: Floats

    @property
    def error(self) -> float:
        """The standard error of the area."""
        return spread(self.influence)


def spread(influence: Floats) -> float:
    """The standard error that an influence stands for."""
    return math.sqrt(float(influence @ influence)) / len(influence)


def both_classes(positive: NDArray[np.bool_]) -> None:
    """Raises Invalid (`one-class`) unless there are positive and negative rows."""
    if not positive.any() or positive.all():
        kind = "positive" if positive.all() else "negative"
        raise Invalid(
            f"All {len(positive)} rows are {kind}: an area under the curve needs both classes.",
            code="one-class",
            hint="Measure on a window that holds both.",
        )


def roc_area(positive: NDArray[np.bool_], score: Floats) -> Area:
    """The area under the ROC curve: the share of pairs in the right order, ties half.

    O(n log n) by ranks (DeLong, DeLong and Clarke-Pearson 1988; Sun and Xu 2014). Raises Invalid (`one-class`).
    """
    both_classes(positive)
    high, low = score[positive], score[~positive]
    n, n1, n0 = len(score), len(high), len(low)
    sorted_low, sorted_high = np.sort(low), np.sort(high)
    below = (np.searchsorted(sorted_low, high, "left") + np.searchsorted(sorted_low, high, "right")) / (2 * n0)
    above = 1 - (np.searchsorted(sorted_high, low, "left") + np.searchsorted(sorted_high, low, "right")) / (2 * n1)
    value = float(below.mean())
    influence = np.empty(n)
    # n1 - 1 in place of n1 is DeLong's unbiased variance within each class.
    influence[positive] = (below - value) * n / math.sqrt(n1 * max(n1 - 1, 1))
    influence[~positive] = (above - value) * n / math.sqrt(n0 * max(n0 - 1, 1))
    return Area(value, influence)


def precision_recall_area(positive: NDArray[np.bool_], score: Floats) -> Area:
    """The average precision: precision at each positive row's score, averaged over the positive rows.

    No interpolation (as scikit-learn's `average_precision_score`). The influence is the derivative of the weighted
    estimate by each row's weight, exact with ties (the infinitesimal jackknife, Jaeckel 1972). Raises Invalid
    (`one-class`).
    """
    both_classes(positive)
    _, level = np.unique(-score, return_inverse=True)
    rows = np.bincount(level).astype(np.float64)
    hits = np.bincount(level, weights=positive).astype(np.float64)
    taken, found = np.cumsum(rows), np.cumsum(hits)
    precision = found / taken
    total = found[-1]
    value = float(hits @ precision / total)
    # A row adds one found (if positive) and one taken at every level at or below its own score.
    gain = np.cumsum((hits / taken)[::-1])[::-1]
    cost = np.cumsum((hits * precision / taken)[::-1])[::-1]
    pull = np.where(positive, precision[level] - value + gain[level], 0.0) - cost[level]
    return Area(value, pull * len(score) / total)


def roc_interval(positive: NDArray[np.bool_], score: Floats, *, confidence: float = 0.95) -> Interval:
    """The area under the ROC curve with DeLong's error on the logit scale (Qin and Hotilovac 2008)."""
    area = roc_area(positive, score)
    return area_interval(area, positive, confidence=confidence, method="delong-logit")


def area_interval(area: Area, positive: NDArray[np.bool_], *, confidence: float, method: str) -> Interval:
    """The interval of an area; the rarer class decides how much is known when the area is exactly 0 or 1."""
    rarer = min(int(positive.sum()), int((~positive).sum()))
    return on_scale(area.value, area.error, scale="unit", n=max(rarer, 2), confidence=confidence, method=method)


def mean_area_interval(area: Area, weights: Floats, rows: Floats, *, confidence: float, method: str) -> Interval:
    """The interval of a weighted mean of areas, each known by `rows` of its own (those of the rarer side).

    Its degrees of freedom are Welch's and Satterthwaite's (Satterthwaite 1946, doi:10.2307/3002019), with the variance of a
    row taken to be the same in all areas, since a class of one row shows none of its own. So a rare class counts as much as
    it weighs: next to nothing in a mean weighted by shares, and nearly alone in a plain mean.
    """
    parts = weights**2 / rows
    n = 1 + float(parts.sum() ** 2 / (parts**2 / np.maximum(rows - 1, 1)).sum())
    return on_scale(area.value, area.error, scale="unit", n=max(n, 2), confidence=confidence, method=method)


def paired_roc_difference(
    positive: NDArray[np.bool_], score_a: Floats, score_b: Floats, *, confidence: float = 0.95
) -> Interval:
    """The ROC area of a minus that of b on the same rows (paired DeLong)."""
    return paired_difference(
        roc_area(positive, score_a), roc_area(positive, score_b), confidence=confidence, method="delong-paired"
    )


def paired_difference(a: Area, b: Area, *, confidence: float = 0.95, method: str = "influence-paired") -> Interval:
    """Area a minus area b over the same rows, from the difference of their influences."""
    value, error = a.value - b.value, spread(a.influence - b.influence)
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return Interval(value=value, low=value - half, high=value + half, confidence=confidence, method=method)

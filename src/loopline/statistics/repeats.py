"""Is one way of training really better than another? Means of few repeats, independent or over the same folds.

One value a side says nothing of chance, and values that do not differ at all show none to reckon with: there is no answer
then, rather than a certain one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from loopline.errors import Invalid
from loopline.statistics.intervals import quantile
from loopline.statistics.records import MeanDifference


def welch(a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95) -> MeanDifference | None:
    """How much higher the mean of `b` is than that of `a`, for independent repeats (say other seeds) of each.

    Student's t with unequal variances, the degrees of freedom by Welch (1947) and Satterthwaite (1946). None where a side has
    fewer than two finite values, or where neither side shows any spread. Raises Invalid (`bad-confidence`).
    """
    x, y = _finite(a), _finite(b)
    quantile(confidence)
    if len(x) < 2 or len(y) < 2:
        return None
    parts = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    variance = sum(parts)
    if _none(variance, x, y):
        return None
    freedom = variance**2 / (parts[0] ** 2 / (len(x) - 1) + parts[1] ** 2 / (len(y) - 1))
    return _by_t(float(y.mean() - x.mean()), variance, freedom, confidence, len(x), len(y), "welch")


def corrected_t(
    a: Sequence[float], b: Sequence[float], *, test_share: float, confidence: float = 0.95
) -> MeanDifference | None:
    """How much higher the mean of `b` is than that of `a`, for values in pairs over the same folds or resamplings.

    The corrected resampled t-test of Nadeau and Bengio (2003): folds share training rows, so that their differences vary
    together and their plain variance is too small; it is widened by `test_share`, the rows of a test fold over those that were
    trained on (1 / (k - 1) for k folds). Pairs with a value that is not finite are left out. None where fewer than two pairs are
    left, or where all differ alike. Raises Invalid (`bad-counts`) on samples of two lengths.
    """
    if len(a) != len(b):
        raise Invalid(
            f"{len(a)} and {len(b)} values are no pairs.", code="bad-counts", hint="Give one a fold and side."
        )
    quantile(confidence)
    differences = _finite(np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64))
    n = len(differences)
    if n < 2:
        return None
    spread = float(differences.var(ddof=1))
    if _none(spread, np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)):
        return None
    variance = spread * (1 / n + test_share)
    return _by_t(float(differences.mean()), variance, n - 1, confidence, n, n, "corrected resampled t")


def _by_t(
    value: float, variance: float, freedom: float, confidence: float, n: int, m: int, method: str
) -> MeanDifference:
    error = math.sqrt(variance)
    reach = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    p_value = min(1.0, 2 * float(special.stdtr(freedom, -abs(value) / error)))
    return MeanDifference(
        value=value,
        low=value - reach,
        high=value + reach,
        confidence=confidence,
        p_value=p_value,
        n=n,
        m=m,
        method=method,
    )


def _finite(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _none(variance: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether a variance is no more than what rounding leaves of values of this size."""
    size = max((float(np.abs(side[np.isfinite(side)]).max(initial=0.0)) for side in (a, b)), default=0.0)
    return variance <= (1e-12 * size) ** 2

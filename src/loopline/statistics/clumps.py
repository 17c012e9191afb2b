"""How sure a deviation is when rows come in clumps of unlike size: a patient of forty visits is forty rows at once.

A design effect mends a test's variance. Far out in the tail that is not enough: one large clump in a small window takes a
sum further than any normal curve allows for. Here the sum of a score over a sample is taken as compound Poisson: clumps come
independently of each other, each with its own size, and all its rows have one and the same score. The signed root of the
likelihood ratio statistic of that model, sqrt(2 sup_s (s D - K(s))) for the deviation D and the cumulant generating function K,
is compared to a standard normal: the first term of the saddlepoint approximation (Lugannani and Rice 1980; Daniels 1987). It is
the usual z where clumps are many and small, and little where a few large ones would do.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from loopline.statistics.binned import normal_quantile
from loopline.statistics.records import TwoSample

Floats = NDArray[np.float64]

_TILTS: Final = np.geomspace(1e-5, 30, 84)  # the values of s that are tried: between two of them a root is .1 % short

_INDICATOR: Final = np.array([[1.0, 0.0]])


class Clumps(msgspec.Struct, frozen=True):
    """In clumps of which size the rows are: `sizes` in rows, `shares` of all rows, both of one length."""

    sizes: tuple[float, ...]
    shares: tuple[float, ...]

    def of_effect(self, design: float) -> Clumps:
        """Clumps by which a share has this design effect: some of them only hold together, or all of them and more."""
        sizes, shares = np.array(self.sizes), np.array(self.shares)
        whole = float(sizes @ shares)
        if design >= whole:
            return Clumps(tuple((sizes * design / whole).tolist()), self.shares)
        bound = (design - 1) / (whole - 1) if design > 1 else 0.0
        return Clumps((1.0, *self.sizes), (1 - bound, *(shares * bound).tolist()))


def clumped_roots(counts_a: Floats, counts_b: Floats, scores: Floats, clumps: Clumps) -> Floats:
    """The signed root of each score's sum: how far the second sample is above what both samples' rows together expect.

    `counts_a` and `counts_b` are rows by (score, cell), shape (k, c), each row of `scores` the values of one score in the same
    cells. Returns k numbers, near standard normal where both samples come from one distribution.
    """
    n, m = float(counts_a[0].sum()), float(counts_b[0].sum())
    shares = (counts_a + counts_b) / (n + m)
    centred = scores - (shares * scores).sum(axis=1, keepdims=True)
    away = ((counts_b * n - counts_a * m) * centred).sum(axis=1) / (n + m)
    sizes, rate = np.array(clumps.sizes), np.array(clumps.shares) / np.array(clumps.sizes)
    best = np.zeros(len(away))
    with np.errstate(over="ignore", invalid="ignore"):
        for tilt in _TILTS:
            turned = np.sign(away)[:, None, None] * tilt * centred[:, :, None] * sizes
            ours, theirs = np.expm1(turned * (n / (n + m))), np.expm1(turned * (-m / (n + m)))
            spent = ((m * ours + n * theirs) @ rate * shares).sum(axis=1)
            best = np.fmax(best, tilt * np.abs(away) - spent)
    return np.asarray(np.sign(away) * np.sqrt(2 * best), np.float64)


def rank_in_clumps(found: TwoSample, a: Floats, b: Floats, clumps: Clumps) -> TwoSample:
    """The rank test, no surer than the mean rank of clumped rows lets it be."""
    both = a + b
    ranks = (np.cumsum(both) - both / 2) / both.sum()
    z = float(clumped_roots(a[None], b[None], ranks[None], clumps)[0])
    return _weaker(found, math.erfc(abs(z) / math.sqrt(2)), z)


def ks_in_clumps(found: TwoSample, a: Floats, b: Floats, clumps: Clumps) -> TwoSample:
    """The Kolmogorov-Smirnov test, no surer than the share below its cut lets it be when rows are clumped."""
    below_a, below_b = np.cumsum(a), np.cumsum(b)
    cut = int(np.argmax(np.abs(below_a / below_a[-1] - below_b / below_b[-1])))
    ours = np.array([[below_b[cut], below_b[-1] - below_b[cut]]])
    theirs = np.array([[below_a[cut], below_a[-1] - below_a[cut]]])
    z = float(clumped_roots(theirs, ours, _INDICATOR, clumps)[0])
    return _weaker(found, min(1.0, 2 * math.exp(-z * z / 2)), found.statistic)


def cell_in_clumps(found: TwoSample, a: Floats, b: Floats, clumps: Clumps) -> TwoSample:
    """The test of the fullest cell, no surer than clumps that fill one cell let it be."""
    roots = clumped_roots(*_cells(a, b), _INDICATOR, clumps)
    p_value = min(1.0, found.cells * math.erfc(float(np.abs(roots).max()) / math.sqrt(2)))
    return _weaker(found, p_value, normal_quantile(p_value))


def chi_square_in_clumps(found: TwoSample, a: Floats, b: Floats, clumps: Clumps, spread: float) -> TwoSample:
    """The chi-square test on the same cells, each cell's part no larger than clumps let it be."""
    cells = _cells(a, b)
    outside = (cells[0][:, 1] + cells[1][:, 1]) / (a.sum() + b.sum())
    statistic = float(outside @ clumped_roots(*cells, _INDICATOR, clumps) ** 2)
    return _weaker(found, float(special.chdtrc((found.cells - 1) / spread, statistic / spread)), statistic)


def _cells(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Rows in each cell and out of it, on both sides."""
    return np.stack((a, a.sum() - a), axis=1), np.stack((b, b.sum() - b), axis=1)


def _weaker(found: TwoSample, p_value: float, statistic: float) -> TwoSample:
    if p_value <= found.p_value:
        return found
    return msgspec.structs.replace(found, p_value=p_value, statistic=statistic)

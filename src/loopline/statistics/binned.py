"""Quick tests on counts over the same cells: are the values shifted, distributed otherwise, is one cell fuller?"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from loopline.statistics.records import TwoSample
from loopline.statistics.two_sample import Counts, paired_counts


def rank_binned(counts_a: Counts, counts_b: Counts) -> TwoSample:
    """The Mann-Whitney test on counts over the same ordered bins, with the correction for ties (Lehmann 1975).

    Ranks are bounded, so it holds for heavy tails; against a shift it sees more than Kolmogorov-Smirnov does (0.1 standard
    deviations, 3,000 rows a side: power .89 against .73). The statistic is the standardised U, positive where the second
    sample is higher; the effect is |P(b > a) - P(b < a)|. An empty side is no evidence. Raises Invalid (`bad-counts`).
    """
    a, b = paired_counts(counts_a, counts_b)
    n, m = float(a.sum()), float(b.sum())
    z, p_value, lean = 0.0, 1.0, 0.0
    if n > 0 and m > 0:
        lean = float(b @ (2 * (np.cumsum(a) - a) + a)) / (n * m) - 1.0
        total, tied = n + m, a + b
        ties = float((tied**3 - tied).clip(min=0).sum()) / max(total**3 - total, 1.0)
        variance = (total + 1) / (3 * n * m) * (1 - ties)  # of the lean, which is 2 U / (n m) - 1
        if variance > 1e-300:
            z = lean / math.sqrt(variance)
            p_value = math.erfc(abs(z) / math.sqrt(2))
    return TwoSample(
        test="rank",
        statistic=z,
        p_value=p_value,
        effect=abs(lean),
        effect_name="lean",
        n=int(n),
        m=int(m),
        cells=len(a),
    )


def fullest_cell(counts_a: Counts, counts_b: Counts) -> TwoSample:
    """The one cell whose share changed most surely, by an exact test that holds for rare cells (Bonferroni over cells).

    Given both sides' total in a cell, the second side's part is binomial, or narrower. It sees a new level in a short
    window against a long reference, where a chi-square test has too few expected rows to look. The effect is the change
    of that cell's share. Raises Invalid (`bad-counts`).
    """
    a, b = paired_counts(counts_a, counts_b)
    n, m = float(a.sum()), float(b.sum())
    seen = a + b > 0
    p_value, effect, cells = 1.0, 0.0, int(np.count_nonzero(seen))
    if n > 0 and m > 0 and cells > 1:
        a, b = a[seen], b[seen]
        part = m / (n + m)
        more = special.betainc(np.maximum(b, 1e-9), a + 1, part)
        less = special.betaincc(b + 1, np.maximum(a, 1e-9), part)
        tails = np.where(b > 0, np.where(a > 0, np.minimum(more, less), more), less)
        worst = int(np.argmin(tails))
        p_value = float(min(1.0, 2 * cells * tails[worst]))
        effect = float(abs(a[worst] / n - b[worst] / m))
    return TwoSample(
        test="cell",
        statistic=normal_quantile(p_value),
        p_value=p_value,
        effect=effect,
        effect_name="share",
        n=int(n),
        m=int(m),
        cells=cells,
    )


def normal_quantile(level: float) -> float:
    """The size of a standard normal value that is passed, on either side, with probability `level`."""
    return float(-special.ndtri(max(level, 1e-300) / 2))


def chi_square_quantile(level: float, degrees: float) -> float:
    """The value that a chi-square statistic passes with probability `level`."""
    return float(special.chdtri(degrees, level))

"""What the statistics room hands out: a two-sample comparison, an interval, and a difference of means."""

from __future__ import annotations

import msgspec

MOST_LOOKS = 25
"""Beyond so many looks at one window no confidence is left that a double tells from certainty."""


class TwoSample(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison of two samples.

    `statistic` is in the test's own units, `p_value` in [0, 1], `effect` in the units named by `effect_name` (both
    effects used here run from 0, the same, to 1, nothing in common). `n` and `m` are the rows of the two sides.
    """

    test: str
    statistic: float
    p_value: float
    effect: float
    effect_name: str
    n: int
    m: int
    cells: int


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate with its interval; `confidence` is what the method promises (0.95), `method` names it."""

    value: float
    low: float
    high: float
    confidence: float
    method: str


class MeanDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How much higher the mean of the second sample is, with its interval and the p-value of "not at all" (two-sided).

    `n` and `m` are the values of the two sides, the same number where they are pairs; `method` names the test.
    """

    value: float
    low: float
    high: float
    confidence: float
    p_value: float
    n: int
    m: int
    method: str

"""Closed-form intervals: equal to published numbers, and they cover what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loopline.errors import Invalid
from loopline.statistics.intervals import confidence_at, newcombe, on_scale, wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipys(case: tuple[int, int]) -> None:
    k, n = case
    found = wilson(k, n)
    known = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert found.low == pytest.approx(known.low, abs=1e-12)
    assert found.high == pytest.approx(known.high, abs=1e-12)
    assert found.low <= found.value <= found.high


def test_newcombe_equals_the_papers_example() -> None:
    # Newcombe 1998, table II, method 10: 56/70 against 48/80.
    found = newcombe(56, 70, 48, 80)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_later_looks_share_one_more_alpha_however_many() -> None:
    assert confidence_at(1) == 0.95
    confidences = [confidence_at(k) for k in range(1, 2_000)]
    assert confidences == sorted(confidences)
    later = math.fsum(1 - c for c in confidences[1:])
    assert 0.0499 < later <= 0.05


def test_every_interval_of_later_looks_covers_at_the_stated_rate() -> None:
    rng = np.random.default_rng(11)
    missed = 0
    for _ in range(1_000):
        # Ten fixed models, each right on 70 % of the same 400 rows, independently.
        right = rng.binomial(400, 0.7, size=9)
        intervals = [wilson(k, 400, confidence=confidence_at(look)) for look, k in enumerate(right, start=2)]
        missed += any(not i.low <= 0.7 <= i.high for i in intervals)
    assert 0 < missed <= stats.binom.ppf(0.999, 1_000, 0.05)


@pytest.mark.parametrize("scale", ["unit", "positive", "below_one", "real"])
def test_scales_agree_with_each_other_when_the_error_is_small(scale: str) -> None:
    found = on_scale(0.5, 1e-4, scale=scale, n=10_000)
    assert (found.low, found.high) == pytest.approx((0.5 - 1.96e-4, 0.5 + 1.96e-4), abs=1e-6)


def test_a_perfect_estimate_is_not_certain() -> None:
    found = on_scale(1.0, 0.0, scale="unit", n=20)
    assert 0.8 < found.low < 0.9
    assert found.high == 1.0


def test_bad_requests_are_named() -> None:
    for call in (
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: wilson(1, 2, confidence=1.0),
        lambda: confidence_at(0),
    ):
        with pytest.raises(Invalid):
            call()

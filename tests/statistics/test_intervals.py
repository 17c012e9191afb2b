"""Closed-form intervals: equal to published numbers, and they cover what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loopline.errors import Invalid
from loopline.statistics.intervals import confidence_at, newcombe, on_scale, quantile, widening, wilson
from loopline.statistics.records import MOST_LOOKS


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


def test_the_first_look_keeps_its_interval_and_later_ones_widen() -> None:
    assert confidence_at(1) == 0.95
    confidences = [confidence_at(look) for look in range(1, MOST_LOOKS + 1)]
    assert confidences == sorted(confidences)
    assert confidences[-1] < 1
    assert len(set(confidences)) == MOST_LOOKS
    # Scheffe's radius for two directions at half of 5 %, from the closed form: chi-squared of 2 degrees is exponential.
    assert quantile(confidence_at(2)) == pytest.approx(math.sqrt(-2 * math.log(0.025)), rel=1e-9)
    assert widening(2) == pytest.approx(math.sqrt(-2 * math.log(0.025)) / 1.959964, rel=1e-6)


def test_intervals_of_looks_at_chosen_beforehand_models_cover() -> None:
    rng = np.random.default_rng(11)
    missed = 0
    for _ in range(1_000):
        # Ten fixed models, each right on 70 % of the same 400 rows, independently.
        right = rng.binomial(400, 0.7, size=9)
        intervals = [wilson(k, 400, confidence=confidence_at(look)) for look, k in enumerate(right, start=2)]
        missed += any(not i.low <= 0.7 <= i.high for i in intervals)
    assert missed <= stats.binom.ppf(0.999, 1_000, 0.05)


@pytest.mark.parametrize("looks", [2, 5, 10, 25])
def test_intervals_cover_for_models_chosen_by_what_earlier_looks_showed(looks: int) -> None:
    """The worst way to adapt: score at random, see each estimate, and then add up what went well by how well it went.

    The figure is the mean over rows of score times outcome, whose truth is 0 for every score, as no score knows anything. The
    last model's estimate is all of the chance that was shown. Ordinary 95 % intervals miss it nearly always, as do those that
    spend alpha over looks alone.
    """
    rng = np.random.default_rng(looks)
    rows, times = 500, 400
    missed = {"ours": 0, "ordinary": 0, "spending": 0}
    spending = 1 - 0.05 / (looks * (looks - 1))
    for _ in range(times):
        outcome = rng.choice([-1.0, 1.0], size=rows)
        scores = rng.normal(size=(looks - 1, rows))
        shown = scores @ outcome / rows
        chosen = shown @ scores
        misses = dict.fromkeys(missed, False)
        for look, score in enumerate([*scores, chosen], start=1):
            gains = score * outcome
            error = float(gains.std(ddof=1)) / math.sqrt(rows)
            for way, confidence in (("ours", confidence_at(look)), ("ordinary", 0.95), ("spending", spending)):
                found = on_scale(float(gains.mean()), error, scale="real", n=rows, confidence=confidence)
                if look > 1:  # the first look has 5 % of its own
                    misses[way] |= not found.low <= 0 <= found.high
        for way, miss in misses.items():
            missed[way] += miss
    assert missed["ours"] <= stats.binom.ppf(0.999, times, 0.05)
    if looks >= 10:
        assert missed["ordinary"] > 0.5 * times
    if looks == 25:
        assert missed["spending"] > 0.5 * times


def test_a_majority_of_lucky_models_does_not_leave_its_interval() -> None:
    """The attack on leaderboards (Blum and Hardt 2015): random answers, those that did well put to a vote."""
    rng = np.random.default_rng(5)
    rows, looks, times = 1_000, 20, 400
    missed = ordinary = 0
    for _ in range(times):
        truth = rng.integers(0, 2, rows)
        answers = rng.integers(0, 2, (looks - 1, rows))
        right = (answers == truth).mean(axis=1)
        vote = np.where(((answers - 0.5) * (right - 0.5)[:, None]).sum(axis=0) > 0, 1, 0)
        hits = int((vote == truth).sum())
        for confidence in (confidence_at(looks), 0.95):
            found = wilson(hits, rows, confidence=confidence)
            miss = not found.low <= 0.5 <= found.high
            missed, ordinary = missed + (miss and confidence > 0.95), ordinary + (miss and confidence == 0.95)
    assert missed <= stats.binom.ppf(0.999, times, 0.05)
    assert ordinary > 0.5 * times


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
        lambda: confidence_at(MOST_LOOKS + 1),
    ):
        with pytest.raises(Invalid):
            call()

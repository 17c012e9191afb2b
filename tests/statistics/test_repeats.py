"""Differences of few repeats: equal to known values, right as often as they say, and silent where nothing can be known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from loopline.errors import Invalid
from loopline.statistics.repeats import corrected_t, welch


def test_welch_equals_scipys() -> None:
    rng = np.random.default_rng(3)
    for n, m in ((2, 2), (3, 9), (20, 5)):
        a, b = rng.normal(size=n), rng.normal(0.5, 3, size=m)
        found = welch(a.tolist(), b.tolist())
        known = stats.ttest_ind(b, a, equal_var=False)
        interval = known.confidence_interval()
        assert found is not None
        assert (found.value, found.p_value) == pytest.approx((b.mean() - a.mean(), known.pvalue))
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
        assert (found.n, found.m) == (n, m)


def test_without_shared_rows_the_corrected_test_is_the_paired_one() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=8), rng.normal(0.3, 1, size=8)
    found, known = corrected_t(a.tolist(), b.tolist(), test_share=0.0), stats.ttest_rel(b, a)
    assert found is not None
    assert (found.p_value, found.low) == pytest.approx((known.pvalue, known.confidence_interval().low))


def test_the_correction_widens_as_the_paper_says() -> None:
    a, b = [0.0, 0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.2, 0.2]
    found = corrected_t(a, b, test_share=1 / 4)
    assert found is not None
    error = math.sqrt((1 / 5 + 1 / 4) * np.var(b, ddof=1))
    assert found.value / error == pytest.approx(stats.t.isf(found.p_value / 2, 4))


@pytest.mark.parametrize(
    ("a", "b"), [([0.5], [0.6, 0.7]), ([], []), ([0.5, math.nan], [0.4, 0.3]), ([0.5, 0.5], [0.6, 0.6])]
)
def test_what_cannot_be_known_is_not_said(a: list[float], b: list[float]) -> None:
    assert welch(a, b) is None


@pytest.mark.parametrize(
    ("a", "b"), [([0.5], [0.6]), ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]), ([1.0, math.inf], [2.0, 3.0])]
)
def test_nor_of_pairs(a: list[float], b: list[float]) -> None:
    assert corrected_t(a, b, test_share=0.5) is None


def test_pairs_come_in_twos() -> None:
    with pytest.raises(Invalid) as told:
        corrected_t([0.1, 0.2], [0.1], test_share=0.5)
    assert told.value.code == "bad-counts"
    with pytest.raises(Invalid):
        welch([0.1, 0.2], [0.1, 0.3], confidence=1.0)


def test_welch_covers_at_its_rate_for_few_repeats_of_other_spread() -> None:
    rng = np.random.default_rng(5)
    covered, trials = 0, 4_000
    for _ in range(trials):
        found = welch(rng.normal(0.70, 0.01, 5).tolist(), rng.normal(0.73, 0.04, 4).tolist())
        assert found is not None
        covered += found.low <= 0.03 <= found.high
    low, high = stats.binom.ppf([0.0005, 0.9995], trials, 0.95)
    assert low - 0.01 * trials <= covered <= high + 0.01 * trials  # the degrees of freedom are an approximation


def _folds(rng: np.random.Generator, rows: int, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The accuracy, fold by fold, of two learners that are equally good: each sees one of two features alike."""
    y = rng.integers(0, 2, rows)
    x = rng.normal(size=(rows, 2)) + 0.4 * y[:, None]
    fold = rng.permutation(rows) % k
    scores = np.empty((2, k))
    for number in range(k):
        train, test = fold != number, fold == number
        for side in (0, 1):
            middle = (x[train & (y == 0), side].mean() + x[train & (y == 1), side].mean()) / 2
            scores[side, number] = ((x[test, side] > middle) == y[test]).mean()
    return scores[0], scores[1]


def test_folds_that_share_rows_raise_no_more_false_alarms_than_stated() -> None:
    rng = np.random.default_rng(6)
    k, trials = 10, 1_500
    alarms = 0
    for _ in range(trials):
        a, b = _folds(rng, 120, k)
        found = corrected_t(a.tolist(), b.tolist(), test_share=1 / (k - 1))
        alarms += found is not None and found.p_value < 0.05
    assert alarms <= stats.binom.ppf(0.999, trials, 0.05)


def test_resampling_raises_no_more_false_alarms_where_the_plain_test_does() -> None:
    rng = np.random.default_rng(7)
    times, rows, held = 15, 150, 30
    plain, corrected, trials = 0, 0, 400
    for _ in range(trials):
        y = rng.integers(0, 2, rows)
        x = rng.normal(size=(rows, 2)) + 0.4 * y[:, None]
        scores = np.empty((2, times))
        for number in range(times):
            test = np.zeros(rows, bool)
            test[rng.permutation(rows)[:held]] = True
            for side in (0, 1):
                middle = (x[~test & (y == 0), side].mean() + x[~test & (y == 1), side].mean()) / 2
                scores[side, number] = ((x[test, side] > middle) == y[test]).mean()
        plain += stats.ttest_rel(*scores).pvalue < 0.05
        found = corrected_t(scores[0].tolist(), scores[1].tolist(), test_share=held / (rows - held))
        corrected += found is not None and found.p_value < 0.05
    assert plain > 0.2 * trials, "the simulation would not find a test that is too sure"
    assert corrected <= stats.binom.ppf(0.999, trials, 0.06)

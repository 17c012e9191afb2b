"""ROC and precision-recall areas: equal to scikit-learn's, and their intervals cover at their rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from loopline.errors import Invalid
from loopline.statistics.ranking import (
    Area,
    area_interval,
    paired_difference,
    paired_roc_difference,
    precision_recall_area,
    roc_area,
    roc_interval,
)

REPEATS = 600


def draw(rng: np.random.Generator, n: int, share: float, apart: float) -> tuple[np.ndarray, np.ndarray]:
    y = rng.random(n) < share
    return y, rng.normal(size=n) + apart * y


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60))
def test_areas_equal_scikit_learns_ties_included(rows: list[tuple[bool, int]]) -> None:
    y, score = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    if y.all() or not y.any():
        with pytest.raises(Invalid) as caught:
            roc_area(y, score)
        assert caught.value.code == "one-class"
        return
    assert roc_area(y, score).value == pytest.approx(roc_auc_score(y, score))
    assert precision_recall_area(y, score).value == pytest.approx(average_precision_score(y, score))


def test_influence_is_the_derivative_by_the_rows_weight() -> None:
    rng = np.random.default_rng(2)
    y, score = draw(rng, 60, 0.3, 1.0)
    score = np.round(score, 1)
    for area, known in ((precision_recall_area, average_precision_score), (roc_area, roc_auc_score)):
        found: Area = area(y, score)
        for row in range(0, 60, 7):
            weights = np.ones(60)
            weights[row] += 1e-5
            slope = (known(y, score, sample_weight=weights) - found.value) / 1e-5 * 60
            # DeLong's n - 1 within a class makes the ROC influence larger by up to 1 / (2 * positives).
            assert found.influence[row] == pytest.approx(slope, rel=0.05, abs=1e-3)


def test_delong_error_equals_the_covariance_form() -> None:
    rng = np.random.default_rng(6)
    y, score = draw(rng, 80, 0.4, 0.7)
    pairs = (score[y][:, None] > score[~y][None, :]).astype(float)
    by_positive, by_negative = pairs.mean(axis=1), pairs.mean(axis=0)
    variance = by_positive.var(ddof=1) / y.sum() + by_negative.var(ddof=1) / (~y).sum()
    assert roc_area(y, score).error == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize("n", [200, 2_000])
@pytest.mark.parametrize(("share", "apart"), [(0.45, 0.5), (0.2, 1.0)])
def test_intervals_of_areas_cover_at_95_percent(n: int, share: float, apart: float) -> None:
    rng = np.random.default_rng([n, int(share * 100)])
    y, score = draw(rng, 2_000_000, share, apart)
    true_roc, true_pr = roc_area(y, score).value, precision_recall_area(y, score).value
    roc = pr = 0
    for _ in range(REPEATS):
        y, score = draw(rng, n, share, apart)
        interval = roc_interval(y, score)
        roc += interval.low <= true_roc <= interval.high
        interval = area_interval(precision_recall_area(y, score), y, confidence=0.95, method="influence-logit")
        pr += interval.low <= true_pr <= interval.high
    assert 0.93 <= roc / REPEATS <= 0.97
    assert 0.93 <= pr / REPEATS <= 0.97


@pytest.mark.parametrize("n", [200, 2_000])
def test_intervals_of_paired_differences_cover_at_95_percent(n: int) -> None:
    rng = np.random.default_rng(n)

    def both(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, shared = draw(rng, size, 0.3, 0.8)
        # Two models that see the same thing through noise of their own: strongly correlated scores.
        return y, shared + 0.4 * rng.normal(size=size), shared + 0.7 * rng.normal(size=size)

    y, a, b = both(2_000_000)
    true_roc = roc_area(y, a).value - roc_area(y, b).value
    true_pr = precision_recall_area(y, a).value - precision_recall_area(y, b).value
    roc = pr = 0
    for _ in range(REPEATS):
        y, a, b = both(n)
        interval = paired_roc_difference(y, a, b)
        roc += interval.low <= true_roc <= interval.high
        interval = paired_difference(precision_recall_area(y, a), precision_recall_area(y, b))
        pr += interval.low <= true_pr <= interval.high
    assert 0.93 <= roc / REPEATS <= 0.97
    assert 0.93 <= pr / REPEATS <= 0.97


def test_a_perfect_ranking_of_few_rows_is_not_certain() -> None:
    y = np.array([False] * 50 + [True] * 5)
    interval = roc_interval(y, np.arange(55, dtype=float))
    assert interval.value == 1.0
    assert interval.low < 0.7

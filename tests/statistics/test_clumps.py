"""Clumps of rows: far in the tail, a deviation that a few large groups would explain is no news."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from loopline.statistics.binned import fullest_cell, rank_binned
from loopline.statistics.clumps import Clumps, cell_in_clumps, clumped_roots, rank_in_clumps

_ALONE = Clumps((1.0,), (1.0,))
# As real patients are: most come once, one in three thousand forty times.
_SIZES, _OFTEN = np.array([1, 2, 3, 5, 10, 20, 40]), np.array([0.75, 0.15, 0.06, 0.03, 0.008, 0.0017, 0.0003])
_SHARES = _SIZES * _OFTEN / (_SIZES @ _OFTEN)
_CLUMPS = Clumps(tuple(map(float, _SIZES)), tuple(_SHARES.tolist()))


def _roots(here: float, n: int, b: np.ndarray, m: np.ndarray, clumps: Clumps) -> np.ndarray:
    a = np.full(len(b), n * here)
    sides = np.stack((a, n - a), axis=1), np.stack((b, m - b), axis=1)
    return np.array(
        [clumped_roots(x[None], y[None], np.array([[1.0, 0.0]]), clumps)[0] for x, y in zip(*sides, strict=True)]
    )


def test_rows_that_stand_alone_have_the_usual_z() -> None:
    b = np.array([[480.0, 520.0], [530.0, 470.0], [560.0, 440.0]])
    a = np.full((3, 2), 50_000.0)
    roots = clumped_roots(a, b, np.array([[1.0, 0.0]]), _ALONE)
    shares = (a + b)[:, 0] / (a + b).sum(axis=1)
    z = (b[:, 0] / 1000 - a[:, 0] / 100_000) / np.sqrt(shares * (1 - shares) * (1 / 1000 + 1 / 100_000))
    assert roots == pytest.approx(z, rel=0.03)


def test_alarms_far_out_are_as_rare_as_said_where_a_design_effect_alone_is_not_enough() -> None:
    """A level of 2 % in windows of 300 groups, each group wholly in it or not."""
    rng, here, n = np.random.default_rng(5), 0.02, 50_000
    sizes = rng.choice(_SIZES, p=_OFTEN, size=(20_000, 300))
    b = (sizes * (rng.random(sizes.shape) < here)).sum(axis=1).astype(float)
    m = sizes.sum(axis=1).astype(float)
    design = float(_SIZES @ _SHARES)
    level = 1e-4
    z = (b - m * here) / np.sqrt(m * here * (1 - here) * design)
    far = np.flatnonzero(z > 2)  # a root is never further out than z: the others need no look
    roots = _roots(here, n, b[far], m[far], _CLUMPS)
    bound = -stats.norm.ppf(level)
    assert (z > bound).sum() > 10 * stats.binom.isf(0.001, len(b), level)
    assert (roots > bound).sum() <= stats.binom.isf(0.001, len(b), 3 * level)
    assert (roots > 0).all()


@pytest.mark.parametrize("design", [1.0, 1.3, 4.0])
def test_clumps_of_an_effect_have_that_effect(design: float) -> None:
    made = _CLUMPS.of_effect(design)
    assert np.dot(made.sizes, made.shares) == pytest.approx(design)
    assert sum(made.shares) == pytest.approx(1)


def test_one_large_group_is_no_drift_and_many_are() -> None:
    a = np.array([49_500.0, 500.0])
    once, often = np.array([460.0, 40.0]), np.array([330.0, 170.0])
    found, sure = fullest_cell(a / 2, once / 2), fullest_cell(a / 2, often / 2)
    assert found.p_value < 1e-5
    assert cell_in_clumps(found, a, once, _CLUMPS).p_value > 1e-3
    assert cell_in_clumps(sure, a, often, _CLUMPS).p_value < 1e-8
    assert sure.p_value <= cell_in_clumps(sure, a, often, _CLUMPS).p_value  # never surer than the plain test


def test_the_rank_of_one_large_group_is_no_drift() -> None:
    a = np.array([48_000.0, 1_500.0, 500.0])
    b = np.array([448.0, 14.0, 38.0])
    found = rank_binned(a, b)
    clumped = rank_in_clumps(found, a, b, _CLUMPS)
    assert found.p_value < 1e-2 < clumped.p_value
    assert abs(clumped.statistic) < abs(found.statistic)
    assert rank_in_clumps(rank_binned(a[::-1], b[::-1]), a[::-1], b[::-1], _CLUMPS).statistic == pytest.approx(
        -clumped.statistic
    )

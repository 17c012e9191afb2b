"""Two-sample tests: equal to scipy's, and at their level when there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loopline.errors import Invalid
from loopline.statistics.two_sample import chi_square, ks_binned, pool_rare


def test_chi_square_equals_scipys_contingency_test() -> None:
    a, b = np.array([40, 60, 100, 20]), np.array([30, 90, 170, 45])
    found = chi_square(a, b)
    known = stats.chi2_contingency(np.array([a, b]), correction=False)
    assert found.statistic == pytest.approx(known.statistic)
    assert found.p_value == pytest.approx(known.pvalue)
    assert found.effect == pytest.approx(0.5 * np.abs(a / a.sum() - b / b.sum()).sum())
    assert (found.n, found.m, found.cells) == (220, 335, 4)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2, 0.4])
def test_ks_on_one_value_a_bin_has_scipys_distance_and_a_bound_close_above_its_p_value(shift: float) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=500), rng.normal(shift, 1, size=700)
    values = np.unique(np.concatenate([x, y]))
    found = ks_binned(np.isin(values, x).astype(int), np.isin(values, y).astype(int))
    known = stats.ks_2samp(x, y, method="exact")
    assert found.statistic == pytest.approx(known.statistic)
    assert found.p_value >= known.pvalue * (1 - 1e-9), "a p-value below the exact one would alarm too often"
    if known.pvalue < 0.1:
        assert np.log(found.p_value) <= 0.9 * np.log(known.pvalue), "within a tenth of its order of magnitude"


@pytest.mark.parametrize(("a", "b"), [([0, 0], [5, 6]), ([10], [12]), ([], []), ([1, 0], [0, 1])])
def test_no_rows_or_one_cell_is_no_evidence(a: list[int], b: list[int]) -> None:
    found = chi_square(a, b)
    assert found.p_value == 1.0
    assert found.effect == 0.0


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1]), ([1, -1], [1, 1]), ([np.nan, 1], [1, 1]), ([["x"]], [[1]])])
def test_what_is_no_count_is_named(a: list[float], b: list[float]) -> None:
    with pytest.raises(Invalid) as caught:
        ks_binned(a, b)
    assert caught.value.code == "bad-counts"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=40))
def test_pooling_keeps_every_row_and_fills_every_cell(pairs: list[tuple[int, int]]) -> None:
    a = np.array([p[0] for p in pairs], dtype=float)
    b = np.array([p[1] for p in pairs], dtype=float)
    if not a.sum() or not b.sum():
        return
    pooled_a, pooled_b = pool_rare(a, b)
    assert pooled_a.sum() == a.sum()
    assert pooled_b.sum() == b.sum()
    if len(pooled_a) > 1:
        expected = (pooled_a + pooled_b) * min(a.sum(), b.sum()) / (a.sum() + b.sum())
        assert np.all(expected >= 5 - 1e-9)
    # The order of the levels and which side is called first do not matter.
    assert chi_square(b, a).statistic == pytest.approx(chi_square(a, b).statistic)


@pytest.mark.parametrize("n", [500, 1_000, 3_000, 10_000])
@pytest.mark.parametrize("tail", ["even", "long"])
def test_false_alarms_of_a_500_level_column_stay_at_five_percent(n: int, tail: str) -> None:
    rng = np.random.default_rng([n, len(tail)])
    share = np.full(500, 1 / 500) if tail == "even" else 1.0 / np.arange(1, 501)
    share = share / share.sum()
    repeats = 1_000
    a, b = rng.multinomial(n, share, repeats), rng.multinomial(n, share, repeats)
    alarms = sum(chi_square(x, y).p_value < 0.05 for x, y in zip(a, b, strict=True))
    # Rejected only if a true rate of 5 % would give so many alarms in 1 of 1,000 test runs.
    assert alarms <= stats.binom.ppf(0.999, repeats, 0.05)
    assert alarms > 0


@pytest.mark.parametrize(("n", "m"), [(200, 5_000), (2_000, 2_000)])
def test_false_alarms_of_binned_ks_stay_at_or_below_five_percent(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    edges = np.linspace(-3, 3, 65)
    alarms = 0
    for _ in range(600):
        a, b = np.searchsorted(edges, rng.normal(size=n)), np.searchsorted(edges, rng.normal(size=m))
        found = ks_binned(np.bincount(a, minlength=66), np.bincount(b, minlength=66))
        alarms += found.p_value < 0.05
    assert 0 < alarms <= stats.binom.ppf(0.999, 600, 0.05)


def test_a_real_change_is_found() -> None:
    rng = np.random.default_rng(9)
    share = np.full(500, 1 / 500)
    moved = share.copy()
    moved[:25] *= 3
    moved /= moved.sum()
    found = chi_square(rng.multinomial(10_000, share), rng.multinomial(10_000, moved))
    assert found.p_value < 1e-6
    assert found.effect > 0.05

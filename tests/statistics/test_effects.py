"""Effect sizes: equal to scipy's, and the null quantile is where noise alone stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from loopline.errors import Invalid
from loopline.statistics.effects import (
    EFFECTS,
    jensen_shannon,
    null_quantile,
    psi,
    total_variation,
    wasserstein,
)

COUNTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=20).filter(
    lambda pairs: sum(p[0] for p in pairs) > 0 and sum(p[1] for p in pairs) > 0
)


@given(COUNTS)
def test_effects_equal_scipys(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array([p[0] for p in pairs], dtype=float), np.array([p[1] for p in pairs], dtype=float)
    assert jensen_shannon(a, b) == pytest.approx(float(np.nan_to_num(jensenshannon(a, b, 2))), abs=1e-7)
    at = np.arange(len(a), dtype=float) ** 1.5
    moved = wasserstein_distance(at, at, a, b)
    mean = np.average(at, weights=a)
    deviation = np.sqrt(np.average((at - mean) ** 2, weights=a))
    if deviation > 1e-9:
        assert wasserstein(a, b, at) == pytest.approx(moved / deviation, abs=1e-9)
    assert 0 <= total_variation(a, b) <= 1
    assert psi(a, b) == pytest.approx(psi(b, a))
    assert psi(a, a) == pytest.approx(0, abs=1e-12)


def test_nothing_in_common_is_one() -> None:
    assert total_variation([5, 0], [0, 3]) == 1
    assert jensen_shannon([5, 0], [0, 3]) == pytest.approx(1)
    assert wasserstein([4, 0], [0, 4], [0.0, 1.0]) == float("inf")


@pytest.mark.parametrize("effect", sorted(EFFECTS))
def test_noise_alone_stays_below_the_null_quantile(effect: str) -> None:
    bound = null_quantile(effect, 800, 500, 30, level=0.95, seed=1)
    rng = np.random.default_rng(2)
    a = rng.multinomial(800, np.full(30, 1 / 30), 1_000).astype(float)
    b = rng.multinomial(500, np.full(30, 1 / 30), 1_000).astype(float)
    above = float(np.mean(EFFECTS[effect](a, b) > bound))
    assert 0.025 < above < 0.08
    assert null_quantile(effect, 80_000, 50_000, 30, seed=1) < bound


def test_the_bare_constant_a_tenth_is_noise_at_500_levels() -> None:
    assert null_quantile("psi", 10_000, 10_000, 500, level=0.5) > 0.09
    assert null_quantile("psi", 10_000, 10_000, 500, level=0.5, shares=[1.0] + [0.0] * 499) < 0.01


def test_bad_requests_are_named() -> None:
    with pytest.raises(Invalid, match="psi"):
        null_quantile("ps", 10, 10, 3)
    with pytest.raises(Invalid):
        null_quantile("psi", 0, 10, 3)
    with pytest.raises(Invalid):
        psi([0, 0], [1, 2])
    with pytest.raises(Invalid):
        wasserstein([1, 2], [1, 2], [2.0, 1.0])

"""Benjamini-Hochberg: equal to scipy's, and its false discoveries are as few as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loopline.errors import Invalid
from loopline.statistics.discovery import benjamini_hochberg


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_q_values_equal_scipys(p_values: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p_values), stats.false_discovery_control(p_values), atol=1e-12)


def test_no_tests_give_no_findings() -> None:
    assert benjamini_hochberg([]).size == 0


@pytest.mark.parametrize("bad", [[0.2, 1.5], [-0.1], [float("nan")]])
def test_what_is_no_p_value_is_refused(bad: list[float]) -> None:
    with pytest.raises(Invalid, match="p-value"):
        benjamini_hochberg(bad)


def test_any_alarm_on_null_data_comes_at_the_stated_rate() -> None:
    rng = np.random.default_rng(3)
    repeats = 2_000
    any_alarm = sum(bool((benjamini_hochberg(rng.uniform(size=20)) <= 0.05).any()) for _ in range(repeats))
    low, high = stats.binom.ppf([0.001, 0.999], repeats, 0.05)
    assert low <= any_alarm <= high


def test_false_discovery_share_among_real_findings_is_held() -> None:
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(1_000):
        z = rng.normal(size=40)
        z[:10] += 3.0
        flagged = benjamini_hochberg(2 * stats.norm.sf(np.abs(z))) <= 0.05
        shares.append(flagged[10:].sum() / max(1, flagged.sum()))
    # Its expectation is 0.05 * 30/40; a generous band around it for 1,000 repeats.
    assert 0.025 <= np.mean(shares) <= 0.05

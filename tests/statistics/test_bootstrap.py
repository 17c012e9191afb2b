"""The bootstrap: seeded, right in its spread, and right again when rows are grouped."""

from __future__ import annotations

import numpy as np
import pytest

from loopline.statistics.bootstrap import GROUPS, Bootstrap, standard_error


@pytest.mark.parametrize("n", [150, GROUPS, 30_000])
def test_spread_of_a_mean_is_its_standard_error(n: int) -> None:
    rng = np.random.default_rng(n)
    columns = np.stack([rng.exponential(size=n), (rng.random(n) < 0.02).astype(float)], axis=1)
    means = Bootstrap(seed=1).means(columns)
    for column, replicates in zip(columns.T, means.T, strict=True):
        # 1,000 replicates know a spread to 2.2 %; 4,096 groups add 1.1 %.
        assert standard_error(replicates) == pytest.approx(column.std(ddof=1) / np.sqrt(n), rel=0.1)
        assert replicates.mean() == pytest.approx(column.mean(), abs=5 * column.std() / np.sqrt(n * 1_000))


def test_the_same_seed_gives_the_same_replicates_whatever_was_asked_before() -> None:
    columns = np.random.default_rng(0).normal(size=(700, 2))
    fresh, used = Bootstrap(seed=7), Bootstrap(seed=7)
    used.means(np.ones((20, 1)))
    used.means(np.ones((9_000, 1)))
    np.testing.assert_array_equal(fresh.means(columns), used.means(columns))
    assert not np.array_equal(Bootstrap(seed=8).means(columns), fresh.means(columns))


def test_a_metric_that_most_replicates_cannot_compute_has_no_error() -> None:
    assert np.isnan(standard_error(np.array([1.0, np.nan, np.nan])))
    # Two rows: 1 replicate in e^2 draws neither, the others know a mean.
    assert np.isfinite(standard_error(Bootstrap(seed=0).means(np.array([[0.0], [1.0]]))[:, 0]))

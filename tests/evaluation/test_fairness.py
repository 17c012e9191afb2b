"""Fairness: the field's definitions, intervals that hold for the largest difference, groups too small to tell."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.evaluation.fairness import fairness
from loopline.evaluation.records import Fairness
from loopline.evaluation.scored import scored
from loopline.evaluation.slicing import groups


def measured(y: np.ndarray, called: np.ndarray, group: np.ndarray, **asked: float) -> dict[str, Fairness]:
    rows = scored(y.astype(int), called.astype(float), task="binary", classes=("no", "yes"))
    return {f.metric: f for f in fairness(rows, groups(pl.Series("race", group)), seed=1, **asked)}


def test_values_are_the_fields_definitions() -> None:
    rng = np.random.default_rng(0)
    group = rng.choice(list("abc"), size=3_000)
    y, called = rng.random(3_000) < 0.4, rng.random(3_000) < np.where(group == "a", 0.6, 0.5)
    selection = [called[group == g].mean() for g in "abc"]
    true = [called[(group == g) & y].mean() for g in "abc"]
    false = [called[(group == g) & ~y].mean() for g in "abc"]
    found = measured(y, called, group)
    assert found["demographic_parity_difference"].value == pytest.approx(np.ptp(selection))
    assert found["equal_opportunity_difference"].value == pytest.approx(np.ptp(true))
    assert found["equalized_odds_difference"].value == pytest.approx(max(np.ptp(true), np.ptp(false)))
    rates = found["equal_opportunity_difference"].groups
    assert [g.true_positive_rate for g in rates] == pytest.approx(true)
    assert [g.false_positive_rate for g in rates] == pytest.approx(false)
    assert sum(g.n for g in rates) == 3_000


@pytest.mark.parametrize("rates", [(0.5, 0.5, 0.5, 0.5), (0.5, 0.55, 0.6, 0.7), (0.3, 0.31, 0.6)])
def test_the_interval_covers_the_true_largest_difference(rates: tuple[float, ...]) -> None:
    rng = np.random.default_rng(len(rates))
    sizes = [400, 200, 120, 60][: len(rates)]
    group = np.repeat(np.arange(len(rates)).astype(str), sizes)
    chance = np.repeat(rates, sizes)
    truth = max(rates) - min(rates)
    metric, repeats, covered, values, noise = "demographic_parity_difference", 300, 0, [], []
    for _ in range(repeats):
        found = measured(rng.random(len(group)) < 0.5, rng.random(len(group)) < chance, group, least=20)[metric]
        covered += found.low <= truth <= found.high
        values.append(found.value)
        noise.append(found.noise)
        assert found.low <= found.value <= found.high
    assert covered / repeats >= 0.93
    if truth == 0:
        # The plain value is above zero by noise alone, and `noise` says by how much.
        assert np.mean(values) > 0.05
        assert np.mean(noise) == pytest.approx(np.mean(values), rel=0.1)


def test_small_groups_are_named_and_left_out() -> None:
    group = np.array(["a"] * 500 + ["b"] * 500 + ["rare"] * 20)
    rng = np.random.default_rng(2)
    y, called = rng.random(1_020) < 0.5, rng.random(1_020) < 0.5
    called[-20:] = True
    found = measured(y, called, group)
    assert all(f.too_few == ("rare",) for f in found.values())
    assert found["demographic_parity_difference"].value < 0.2
    assert found["demographic_parity_difference"].groups[2].selection_rate == 1.0
    alone = measured(y[:520], called[:520], np.array(["a"] * 500 + ["b"] * 20))
    assert (alone["equal_opportunity_difference"].low, alone["equal_opportunity_difference"].high) == (0.0, 1.0)


def test_enough_rows_without_enough_positives_are_too_few() -> None:
    group = np.array(["a"] * 500 + ["b"] * 500)
    y = np.arange(1_000) % 2 == 0
    y[500:] = False
    y[500:510] = True
    found = measured(y, np.arange(1_000) % 3 == 0, group)
    assert found["equal_opportunity_difference"].too_few == ("b",)
    assert found["equalized_odds_difference"].too_few == ("b",)
    assert found["demographic_parity_difference"].too_few == ()

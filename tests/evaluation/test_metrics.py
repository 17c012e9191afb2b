"""Metrics: equal to scikit-learn's, and intervals that cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics as known

from loopline.errors import Invalid
from loopline.evaluation.catalogue import METRICS
from loopline.evaluation.metrics import values, with_intervals
from loopline.evaluation.scored import Scored, scored
from loopline.statistics.bootstrap import Bootstrap

BINARY = ("NO", "YES")


def binary(y: np.ndarray, p: np.ndarray, threshold: float = 0.5) -> Scored:
    return scored(np.where(y, "YES", "NO"), p, task="binary", classes=BINARY, threshold=threshold)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=3, max_size=60),
    st.floats(0.05, 0.95),
)
def test_binary_metrics_equal_scikit_learns(rows: list[tuple[bool, float]], threshold: float) -> None:
    y, p = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    found = values(binary(y, p, threshold))
    decided = p >= threshold
    assert found["accuracy"] == pytest.approx(known.accuracy_score(y, decided))
    assert found["brier"] == pytest.approx(known.brier_score_loss(y, p))
    assert found["log_loss"] == pytest.approx(known.log_loss(y, p, labels=[False, True]), rel=1e-6, abs=1e-9)
    for name, score in (("precision", known.precision_score), ("recall", known.recall_score), ("f1", known.f1_score)):
        defined = {"precision": decided.any(), "recall": y.any(), "f1": decided.any() or y.any()}[name]
        assert (name in found) == defined
        if defined:
            assert found[name] == pytest.approx(score(y, decided, zero_division=0))
    assert ("roc_auc" in found) == (0 < y.sum() < len(y))
    if "roc_auc" in found:
        assert found["roc_auc"] == pytest.approx(known.roc_auc_score(y, p))
        assert found["pr_auc"] == pytest.approx(known.average_precision_score(y, p))


def test_multiclass_metrics_equal_scikit_learns() -> None:
    rng = np.random.default_rng(8)
    y = rng.choice(4, size=700, p=[0.5, 0.3, 0.15, 0.05])
    raw = np.exp(rng.normal(size=(700, 4)) + 1.5 * np.eye(4)[y])
    p = raw / raw.sum(axis=1, keepdims=True)
    found = values(scored([f"c{i}" for i in y], p, task="multiclass", classes=("c0", "c1", "c2", "c3")))
    decided = p.argmax(axis=1)
    expected = {"accuracy": known.accuracy_score(y, decided), "log_loss": known.log_loss(y, p)}
    for how in ("macro", "weighted"):
        expected[f"precision_{how}"] = known.precision_score(y, decided, average=how)
        expected[f"recall_{how}"] = known.recall_score(y, decided, average=how)
        expected[f"f1_{how}"] = known.f1_score(y, decided, average=how)
    expected["roc_auc_ovr"] = known.roc_auc_score(y, p, multi_class="ovr")
    expected["roc_auc_ovr_weighted"] = known.roc_auc_score(y, p, multi_class="ovr", average="weighted")
    assert found == pytest.approx(expected)


def test_a_class_nobody_saw_is_left_out_as_scikit_learn_does() -> None:
    y, decided = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    p = np.eye(4)[decided] * 0.7 + 0.075
    found = values(scored(list("aabb"), p, task="multiclass", classes=tuple("abcd")))
    assert found["f1_macro"] == pytest.approx(known.f1_score(y, decided, average="macro"))


def test_regression_metrics_equal_scikit_learns() -> None:
    rng = np.random.default_rng(8)
    y = rng.normal(1e6, 20, size=400)
    p = y + rng.normal(0, 10, size=400)
    found = values(scored(y, p, task="regression"))
    assert found == pytest.approx(
        {
            "mae": known.mean_absolute_error(y, p),
            "rmse": known.root_mean_squared_error(y, p),
            "wape": np.abs(y - p).sum() / np.abs(y).sum(),
            "r2": known.r2_score(y, p),
        }
    )
    zeros = values(scored(np.zeros(5), np.ones(5), task="regression"))
    assert set(zeros) == {"mae", "rmse"}


def test_calibration_error_sees_a_known_miscalibration() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.2, 0.7, size=60_000)
    y = rng.random(60_000) < truth
    assert values(binary(y, truth))["calibration_error"] < 0.012
    assert values(binary(y, truth + 0.2))["calibration_error"] == pytest.approx(0.2, abs=0.01)


def test_calibrated_predictions_are_not_called_miscalibrated() -> None:
    rng = np.random.default_rng(2)
    lows, covered = [], 0
    bootstrap = Bootstrap(seed=4, repeats=400)
    for _ in range(300):
        p = rng.uniform(0.2, 0.7, size=500)
        y = rng.random(500) < p
        (found,) = (m for m in with_intervals(binary(y, p), bootstrap=bootstrap) if m.name == "calibration_error")
        lows.append(found.low)
        covered += found.low <= 0.02
        assert found.low <= found.value <= found.high
    # The plain value is about 0.05 here by noise alone.
    assert np.mean(lows) < 0.02
    # A sum of distances that is truly zero is the hardest case; the basic interval still reaches it most times.
    assert covered / 300 > 0.85


@pytest.mark.parametrize("n", [200, 2_000])
def test_binary_intervals_cover_at_95_percent(n: int) -> None:
    rng = np.random.default_rng(n)

    def draw(size: int) -> Scored:
        x = rng.normal(-1, 1, size=size)
        y = rng.random(size) < 1 / (1 + np.exp(-x))
        p = 1 / (1 + np.exp(-(x + 0.8 * rng.normal(size=size))))
        return binary(y, p, 0.4)

    true = values(draw(2_000_000))
    checked = ("roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1", "brier", "log_loss")
    covered = dict.fromkeys(checked, 0)
    # 2,000 repeats know a rate of 95 % to 0.5 points, 1,000 to 0.7.
    repeats = 2_000 if n == 200 else 1_000
    bootstrap = Bootstrap(seed=3, repeats=300)
    for _ in range(repeats):
        for metric in with_intervals(draw(n), bootstrap=bootstrap):
            if metric.name in covered:
                covered[metric.name] += metric.low <= true[metric.name] <= metric.high
    rates = {name: count / repeats for name, count in covered.items()}
    assert all(0.93 <= rate <= 0.97 for rate in rates.values()), rates


@pytest.mark.parametrize("n", [200, 2_000])
def test_regression_and_multiclass_intervals_cover(n: int) -> None:
    rng = np.random.default_rng(n)

    def numbers(size: int) -> Scored:
        x = rng.normal(size=size)
        return scored(3 * x + rng.normal(size=size), 2.7 * x, task="regression")

    def kinds(size: int) -> Scored:
        y = rng.choice(3, size=size, p=[0.5, 0.3, 0.2])
        raw = np.exp(rng.normal(size=(size, 3)) + np.eye(3)[y])
        return scored(
            np.array(list("abc"))[y], raw / raw.sum(axis=1, keepdims=True), task="multiclass", classes=tuple("abc")
        )

    repeats, bootstrap = 200, Bootstrap(seed=5, repeats=300)
    for draw in (numbers, kinds):
        true = values(draw(500_000))
        covered = dict.fromkeys(true, 0)
        for _ in range(repeats):
            for metric in with_intervals(draw(n), bootstrap=bootstrap):
                covered[metric.name] += metric.low <= true[metric.name] <= metric.high
        # The counts that true rates of 93 to 97 % give in all but 1 of 1,000 test runs.
        low, high = binom.ppf(0.001, repeats, 0.93), binom.ppf(0.999, repeats, 0.97)
        assert all(low <= count <= high for count in covered.values()), covered


def test_a_class_of_about_one_row_does_not_widen_the_mean_that_it_hardly_weighs_in() -> None:
    """It is seen in most windows once or twice; the plain mean, in which it weighs a third, stays as little known as it is."""
    rng = np.random.default_rng(6)

    def kinds(size: int) -> Scored:
        y = rng.choice(3, size=size, p=[0.5, 0.4967, 0.0033])
        raw = np.exp(rng.normal(size=(size, 3)) + 1.5 * np.eye(3)[y])
        prediction = raw / raw.sum(axis=1, keepdims=True)
        return scored(np.array(list("abc"))[y], prediction, task="multiclass", classes=tuple("abc"))

    true = values(kinds(2_000_000))["roc_auc_ovr_weighted"]
    repeats, bootstrap, covered, widest = 400, Bootstrap(seed=5, repeats=20), 0, 0.0
    for _ in range(repeats):
        found = {m.name: m for m in with_intervals(kinds(300), bootstrap=bootstrap)}
        weighted, plain = found["roc_auc_ovr_weighted"], found["roc_auc_ovr"]
        assert {type(end) for end in (weighted.value, weighted.low, weighted.high)} == {float}  # as records keep them
        covered += weighted.low <= true <= weighted.high
        widest = max(widest, weighted.high - weighted.low)
        assert plain.high - plain.low > 0.5 * (weighted.high - weighted.low)
    assert binom.ppf(0.001, repeats, 0.93) <= covered <= binom.ppf(0.999, repeats, 0.97)
    assert widest < 0.15


def test_intervals_hold_their_point_and_stay_within_the_metrics_ends() -> None:
    rng = np.random.default_rng(0)
    for size in (3, 12, 5_000):
        y = rng.random(size) < 0.5
        y[:2] = [True, False]
        for p in (rng.random(size), y.astype(float), np.full(size, 0.5)):
            for metric in with_intervals(binary(y, p), bootstrap=Bootstrap(seed=1, repeats=200)):
                kind = METRICS[metric.name]
                assert kind.low <= metric.low <= metric.value + 1e-12, metric
                assert metric.value - 1e-12 <= metric.high <= kind.high, metric


def test_few_rows_prove_nothing() -> None:
    one = {
        m.name
        for m in with_intervals(
            scored(np.array([5.0]), np.array([5.0]), task="regression"), bootstrap=Bootstrap(seed=1)
        )
    }
    assert one == set()
    y = np.zeros(20_000, dtype=bool)
    y[:5] = True
    found = {m.name: m for m in with_intervals(binary(y, y.astype(float)), bootstrap=Bootstrap(seed=1))}
    # Five positive rows, all found: neither ranking nor F1 is known beyond what five rows can tell.
    for name in ("roc_auc", "pr_auc", "recall", "precision", "f1"):
        assert (found[name].value, found[name].high) == (1.0, 1.0)
        assert found[name].low < 0.6


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        ([True, False], ("false", "true"), [1, 0]),
        ([1, 0], ("0", "1"), [1, 0]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        (["YES", "NO"], ("NO", "YES"), [1, 0]),
        (np.array([1.0, 0.0]), ("NO", "YES"), [1, 0]),
        (np.array([1, 0]), ("1", "0"), [1, 0]),
        (pl.Series(["YES", "NO"], dtype=pl.Categorical), ("NO", "YES"), [1, 0]),
    ],
)
def test_labels_are_compared_with_the_classes_by_their_text(label: Any, classes: Any, expected: list[int]) -> None:
    assert scored(label, np.array([0.4, 0.6]), task="binary", classes=classes).truth.tolist() == expected


@pytest.mark.parametrize(
    ("label", "prediction", "changes", "code"),
    [
        (["NO", "MAYBE"], [0.1, 0.2], {}, "unknown-label"),
        (np.array([0, 2]), [0.1, 0.2], {}, "unknown-label"),
        (np.array([0, np.nan]), [0.1, 0.2], {}, "unknown-label"),
        (["NO", None], [0.1, 0.2], {}, "missing-labels"),
        ([], [], {}, "no-rows"),
        (["NO", "YES"], [0.1, float("nan")], {}, "bad-prediction"),
        (["NO", "YES"], [0.1, 1.2], {}, "bad-prediction"),
        (["NO", "YES"], [0.1], {}, "bad-prediction"),
        (["NO", "YES"], ["x", "y"], {}, "bad-prediction"),
        (["NO", "YES"], [0.1, 0.2], {"task": "binari"}, "unknown-task"),
        (["NO", "YES"], [0.1, 0.2], {"classes": ("NO",)}, "bad-classes"),
        (["NO", "YES"], [0.1, 0.2], {"threshold": 1.5}, "bad-threshold"),
        (["NO", "YES"], [0.1, 0.2], {"task": "regression"}, "bad-label"),
        ([1.0, float("nan")], [0.1, 0.2], {"task": "regression"}, "bad-label"),
        ([1, 2, 3], [[0.5, 0.6, 0.1]] * 3, {"task": "multiclass", "classes": ("1", "2", "3")}, "bad-prediction"),
    ],
)
def test_what_cannot_be_measured_is_named(label: Any, prediction: Any, changes: dict[str, Any], code: str) -> None:
    asked: dict[str, Any] = {"task": "binary", "classes": BINARY, **changes}
    with pytest.raises(Invalid) as caught:
        scored(label, np.array(prediction), **asked)
    assert caught.value.code == code

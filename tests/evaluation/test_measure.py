"""The whole measurement: slices with sizes, looks that widen, paired differences, records that come back."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, confusion_matrix

from loopline.errors import Invalid
from loopline.evaluation.measure import difference, differences, measure
from loopline.evaluation.records import Measurement
from loopline.hashing import canonical_json

CLASSES = ("NO", "YES")


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 3, size=n)
    frame = pl.DataFrame(
        {
            "race": rng.choice(["A", "B", "C", None], size=n, p=[0.6, 0.3, 0.08, 0.02]),
            "age": rng.integers(18, 90, size=n),
        }
    )
    return (rng.random(n) < p).astype(int), p, frame


def test_a_binary_measurement_holds_all_that_is_promised() -> None:
    y, p, frame = rows(4_000)
    found = measure(
        y, p, task="binary", classes=CLASSES, threshold=0.4, frame_of_slices=frame, protected=["race"], seed=1
    )
    names = ["roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1", "brier", "log_loss", "calibration_error"]
    assert [m.name for m in found.metrics] == names
    for column in ("race", "age"):
        parts = [s for s in found.slices if s.column == column]
        assert sum(s.n for s in parts) == 4_000
        assert sum(s.positives or 0 for s in parts) == y.sum()
    assert [s.group for s in found.slices if s.column == "race"] == ["A", "B", "C", "missing"]
    assert {f.column for f in found.fairness} == {"race"}
    assert found.threshold == 0.4
    curves = found.curves
    assert curves.confusion is not None
    np.testing.assert_array_equal(curves.confusion.counts, confusion_matrix(y, p >= 0.4))
    assert curves.roc is not None
    assert len(curves.roc.x) <= 202
    assert auc(curves.roc.x, curves.roc.y) == pytest.approx(curves.roc.area, abs=2e-3)
    assert (curves.roc.x[0], curves.roc.y[0], curves.roc.x[-1], curves.roc.y[-1]) == (0, 0, 1, 1)
    observed, predicted = calibration_curve(y, p, n_bins=10, strategy="quantile")
    assert [b.observed for b in curves.calibration] == pytest.approx(observed, abs=0.01)
    assert [b.predicted for b in curves.calibration] == pytest.approx(predicted, abs=0.01)
    assert sum(b.n for b in curves.calibration) == 4_000


def test_a_measurement_comes_back_from_its_json_and_is_the_same_again_by_seed() -> None:
    y, p, frame = rows(900)
    asked = {"task": "binary", "classes": CLASSES, "frame_of_slices": frame, "protected": ["race"]}
    found = measure(y, p, seed=1, **asked)
    assert msgspec.json.decode(canonical_json(found), type=Measurement) == found
    assert measure(y, p, seed=1, **asked) == found
    assert measure(y, p, seed=2, **asked) != found


def test_each_further_look_widens_every_interval() -> None:
    y, p, _ = rows(1_000)
    widths = []
    for look in (1, 2, 5):
        found = measure(y, p, task="binary", classes=CLASSES, seed=1, looks=look)
        widths.append([m.high - m.low for m in found.metrics if m.name != "calibration_error"])
    assert all(a < b < c for a, b, c in zip(*widths, strict=True))


def test_small_and_one_sided_slices_say_so() -> None:
    y = np.array([0, 1] * 200 + [0] * 40 + [1] * 3 + [1] * 5 + [0] * 60)
    group = ["big"] * 400 + ["no positive"] * 40 + ["tiny"] * 3 + ["rare"] * 65
    found = measure(
        y, np.linspace(0, 1, len(y)), task="binary", classes=CLASSES, frame_of_slices=pl.DataFrame({"g": group}), seed=1
    )
    notes = {s.group: s.note for s in found.slices}
    assert notes == {
        "big": "",
        "no positive": "no positive rows: no ranking to measure",
        "tiny": "too few rows to tell (3)",
        "rare": "few positive rows (5)",
    }
    assert "roc_auc" not in {m.name for s in found.slices if s.group == "no positive" for m in s.metrics}


def test_regression_and_multiclass_measure_too() -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(100, 20, size=800)
    number = measure(
        y, y + rng.normal(size=800), task="regression", frame_of_slices=pl.DataFrame({"g": ["a", "b"] * 400}), seed=1
    )
    assert [m.name for m in number.metrics] == ["mae", "rmse", "wape", "r2"]
    assert number.curves.agreement is not None
    assert np.sum(number.curves.agreement.counts) == 800
    kinds = rng.choice(3, size=300)
    p = np.eye(3)[kinds] * 0.4 + 0.2
    many = measure(kinds, p, task="multiclass", classes=("a", "b", "c"), seed=1)
    assert many.curves.confusion is not None
    assert many.fairness == ()


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
def test_a_constant_prediction_is_measured_and_not_praised(constant: float) -> None:
    y, _, _ = rows(500)
    found = {m.name: m for m in measure(y, np.full(500, constant), task="binary", classes=CLASSES, seed=1).metrics}
    assert found["roc_auc"].value == 0.5
    assert found["roc_auc"].low <= 0.5 <= found["roc_auc"].high


@pytest.mark.parametrize("metric", ["roc_auc", "pr_auc", "accuracy", "f1", "brier", "log_loss"])
def test_paired_differences_are_narrower_than_two_intervals_and_turn_with_their_sides(metric: str) -> None:
    y, p, _ = rows(3_000)
    noisy = np.clip(p + np.random.default_rng(3).normal(0, 0.05, size=3_000), 0.01, 0.99)
    asked = {"metric": metric, "task": "binary", "classes": CLASSES, "seed": 1}
    found, turned = difference(y, p, noisy, **asked), difference(y, noisy, p, **asked)
    assert (found.value, found.low, found.high) == pytest.approx((-turned.value, -turned.high, -turned.low))
    assert found.value == pytest.approx(found.a - found.b)
    single = {m.name: m for m in measure(y, p, task="binary", classes=CLASSES, seed=1).metrics}[metric]
    assert found.high - found.low < single.high - single.low
    same = difference(y, p, p, **asked)
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0))


@pytest.mark.parametrize("n", [200, 2_000])
def test_intervals_of_paired_bootstrap_differences_cover(n: int) -> None:
    rng = np.random.default_rng(n)

    def draw(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = rng.normal(size=size)
        y = (rng.random(size) < 1 / (1 + np.exp(-x))).astype(int)
        return y, 1 / (1 + np.exp(-(x + 0.3 * rng.normal(size=size)))), 1 / (1 + np.exp(-(x + rng.normal(size=size))))

    y, a, b = draw(2_000_000)
    losses = {
        "accuracy": lambda p: float(np.mean((p >= 0.5) == y)),
        "brier": lambda p: float(np.mean((p - y) ** 2)),
    }
    repeats = 400
    for metric, loss in losses.items():
        truth = loss(a) - loss(b)
        asked = {"metric": metric, "task": "binary", "classes": CLASSES}
        covered = 0
        for seed in range(repeats):
            found = difference(*draw(n), seed=seed, **asked)
            covered += found.low <= truth <= found.high
        assert 0.93 <= covered / repeats <= 0.97


def test_all_differences_at_once_are_those_one_by_one_and_leave_out_what_one_side_lacks() -> None:
    y, p, _ = rows(800)
    # The second never calls anybody positive: it has no precision.
    timid = np.minimum(p, 0.4)
    found = differences(y, p, timid, task="binary", classes=CLASSES, seed=1, opponent="baseline")
    names = [d.metric for d in found]
    assert "precision" not in names
    assert set(names) >= {"roc_auc", "pr_auc", "recall", "f1", "brier"}
    for one in found:
        assert one.opponent == "baseline"
        alone = difference(y, p, timid, metric=one.metric, task="binary", classes=CLASSES, seed=1)
        assert msgspec.structs.replace(alone, opponent="baseline") == one


def test_what_cannot_be_compared_is_named() -> None:
    y, p, frame = rows(50)
    with pytest.raises(Invalid, match="raze") as caught:
        measure(y, p, task="binary", classes=CLASSES, frame_of_slices=frame, protected=["raze"], seed=1)
    assert "race" in caught.value.hint
    with pytest.raises(Invalid) as caught:
        measure(y, p, task="binary", classes=CLASSES, frame_of_slices=frame.head(3), seed=1)
    assert caught.value.code == "other-rows"
    with pytest.raises(Invalid) as caught:
        difference(y, p, p, metric="roc_auk", task="binary", classes=CLASSES, seed=1)
    assert caught.value.code == "unknown-metric"
    with pytest.raises(Invalid) as caught:
        difference(y, p, p, metric="rmse", task="binary", classes=CLASSES, seed=1)
    assert caught.value.code == "undefined-metric"
    with pytest.raises(Invalid) as caught:
        difference(np.ones(50), p, p, metric="roc_auc", task="binary", classes=CLASSES, seed=1)
    assert caught.value.code == "undefined-metric"

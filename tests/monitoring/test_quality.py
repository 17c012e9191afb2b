"""Quality on the labels that came: metrics of a window, and when a drop is told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.monitoring import quality


def answers(n: int, signal: float, seed: int, *, labelled: int | None = None) -> pl.DataFrame:
    """Answers of a binary model whose score tells `signal` of the truth; the first `labelled` rows have one."""
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.4
    score = 1 / (1 + np.exp(-(signal * (truth - 0.4) + random.normal(size=n))))
    known = n if labelled is None else labelled
    return pl.DataFrame(
        {
            "at": np.arange(n),
            "score": score,
            "label_given": np.where(score >= 0.5, "yes", "no"),
            "output": ["{}"] * n,
            "truth": [("yes" if t else "no") if place < known else None for place, t in enumerate(truth)],
        }
    )


def window(frame: pl.DataFrame, confidence: float = 0.95) -> quality.QualityWindow:
    return quality.window("w", frame, task="binary", classes=("no", "yes"), confidence=confidence)


def test_metrics_are_those_of_the_labelled_rows() -> None:
    frame = answers(2_000, 1.5, 1, labelled=1_500)
    found, alone = window(frame), window(frame.head(1_500))
    assert (found.rows, found.labelled) == (2_000, 1_500)
    assert found.metrics == alone.metrics
    low, high = found.metrics["roc_auc"][1:]
    assert low < 0.856 < high, "the area of two normal curves 1.5 sd apart is 0.856"


def test_few_labels_or_one_class_give_no_metric() -> None:
    assert window(answers(500, 1.5, 2, labelled=10)).metrics == {}
    one_class = answers(500, 1.5, 2).filter(pl.col("truth") == "no")
    assert "roc_auc" not in window(one_class).metrics


def test_a_drop_is_told_with_its_figures_and_a_good_window_is_not() -> None:
    assert quality.dropped(window(answers(3_000, 1.5, 3)), 0.84, task="binary") is None
    told = quality.dropped(window(answers(3_000, 0.5, 3)), 0.84, task="binary")
    assert told is not None
    assert "0.840 was expected" in told


def test_the_error_of_a_regression_drops_upwards() -> None:
    random = np.random.default_rng(4)
    truth = random.normal(size=2_000)
    frame = pl.DataFrame(
        {"at": range(2_000), "score": truth + random.normal(size=2_000), "truth": [str(t) for t in truth]}
    ).with_columns(label_given=pl.lit(None), output=pl.lit("{}"))
    found = quality.window("w", frame, task="regression", classes=())
    assert quality.dropped(found, 1.2, task="regression") is None
    assert quality.dropped(found, 0.8, task="regression") is not None


@pytest.mark.parametrize("seed", range(3))
def test_no_drop_is_told_where_there_is_none(seed: int) -> None:
    """60 windows at the confidence of a look whose share of the budget is 1 %: the chance of two false alarms is 0.1."""
    told = [
        quality.dropped(window(answers(400, 1.5, 100 * seed + n), confidence=0.98), 0.856, task="binary")
        for n in range(20)
    ]
    assert sum(one is not None for one in told) <= 2

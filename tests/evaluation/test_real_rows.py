"""A real model's predictions on real rows, against scikit-learn and a plain bootstrap."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from loopline.evaluation.measure import measure

ROWS = 6_000


def rows() -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    """Employment in Massachusetts with a model's probabilities; a synthetic stand-in where the file is missing."""
    here = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = here / "employment_reference.parquet"
    if path.exists():
        frame = pl.read_parquet(path).head(ROWS)
        y = frame["employed"].to_numpy().astype(int)
        return y, frame["predicted_probability"].to_numpy(), frame.select("SEX", "AGEP")
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 0.5, size=ROWS)
    frame = pl.DataFrame({"SEX": rng.integers(1, 3, size=ROWS), "AGEP": rng.integers(0, 95, size=ROWS)})
    return (rng.random(ROWS) < p).astype(int), p, frame


def test_metrics_and_intervals_on_real_rows() -> None:
    y, p, frame = rows()
    found = measure(y, p, task="binary", classes=("no", "yes"), frame_of_slices=frame, protected=["SEX"], seed=1)
    metrics = {m.name: m for m in found.metrics}
    plain = {
        "roc_auc": lambda a, b: roc_auc_score(a, b),
        "pr_auc": lambda a, b: average_precision_score(a, b),
        "f1": lambda a, b: f1_score(a, b >= 0.5),
        "brier": lambda a, b: float(np.mean((a - b) ** 2)),
    }
    rng = np.random.default_rng(3)
    drawn = [rng.integers(0, ROWS, size=ROWS) for _ in range(200)]
    for name, score in plain.items():
        assert metrics[name].value == pytest.approx(score(y, p))
        low, high = np.quantile([score(y[i], p[i]) for i in drawn], [0.025, 0.975])
        # 200 plain replicates know the width to about 10 %.
        assert metrics[name].high - metrics[name].low == pytest.approx(high - low, rel=0.25)
    assert sum(s.n for s in found.slices if s.column == "AGEP") == ROWS
    assert {f.column for f in found.fairness} == {"SEX"}

"""What columns contributed: it sums to the model's raw score, for every family and task."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.features.boundary import Boundary
from loopline.training.contributions import contributions
from loopline.training.estimators import link
from loopline.training.model import Model
from loopline.training.problem import Problem
from loopline.training.records import BoostedParams
from loopline.training.train import train

TASKS = ("binary", "multiclass", "regression")


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, str], Model]:
    rng = np.random.default_rng(3)
    n = 500
    x = rng.normal(size=n)
    ward = np.array(["A", "B", "C", ""])[rng.integers(0, 4, n)]
    days = rng.integers(0, 2000, n)
    score = x + (ward == "B") + np.sin(days / 58) + rng.normal(size=n) / 3
    labels = {
        "binary": np.where(score > 0.3, "yes", "no"),
        "multiclass": np.array(["low", "mid", "top"])[np.digitize(score, [0, 1])],
        "regression": score,
    }
    found = {}
    for task in TASKS:
        frame = pl.DataFrame(
            {
                "x": np.where(rng.random(n) < 0.1, np.nan, x),
                "ward": ward,
                "on": [dt.date(2020, 1, 1) + dt.timedelta(days=int(d)) for d in days],
                "label": labels[task],
            }
        ).with_columns(pl.col("x").fill_nan(None), pl.col("ward").replace({"": None}))
        problem = Problem.of(frame[:400], frame[400:], label="label")
        trained = train(problem, params=BoostedParams(leaves=6, min_rows=5, rounds=8))
        found[task, "boosted"], found[task, "linear"] = trained.model, trained.baseline
        assert found[task, "linear"].task == task
    return found


ROW = st.fixed_dictionaries(
    {
        "x": st.none() | st.floats(-1e6, 1e6, allow_nan=False, width=32),
        "ward": st.none() | st.sampled_from(["A", "B", "C", "Z"]),
        "on": st.dates(dt.date(1950, 1, 1), dt.date(2100, 1, 1)).map(dt.date.isoformat),
    }
)


@pytest.mark.parametrize("family", ["linear", "boosted"])
@pytest.mark.parametrize("task", TASKS)
def test_contributions_sum_to_the_raw_score(models: dict[tuple[str, str], Model], task: str, family: str) -> None:
    model = models[task, family]
    boundary = Boundary(model.signature.inputs)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(ROW, min_size=1, max_size=5))
    def check(rows: list[dict[str, Any]]) -> None:
        numbers, strings = boundary.decode(rows)
        found = contributions(model, numbers, strings)
        k = 3 if task == "multiclass" else 1
        assert set(found.columns) == {"x", "ward", "on"}
        assert found.values.shape == (len(rows), k, 3)
        scores = found.scores if k > 1 else found.scores[:, 0]
        np.testing.assert_allclose(
            link(scores, model.task), model.predict_arrays(numbers, strings), rtol=1e-5, atol=1e-7
        )

    check()


def test_a_column_that_decides_is_told(models: dict[tuple[str, str], Model]) -> None:
    model = models["binary", "boosted"]
    boundary = Boundary(model.signature.inputs)
    rows = [{"x": x, "ward": "A", "on": "2021-05-05"} for x in (-2.0, 2.0)]
    found = contributions(model, *boundary.decode(rows))
    at = found.columns.index("x")
    low, high = found.values[:, 0, at]
    assert low < 0 < high
    assert high - low > np.abs(np.delete(found.values[1, 0] - found.values[0, 0], at)).max()

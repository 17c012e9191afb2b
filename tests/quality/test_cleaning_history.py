"""Steps that look back: along real engines, as polars' own windows have it, and never at a later row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.quality.cleaning import Cleaning
from loopline.quality.cleaning_rows import History
from loopline.quality.cleaning_steps import Step, clean

_FILE = Path(os.environ.get("LOOPLINE_DATA", "../shared/data")) / "turbofan.parquet"
_AT = {"time": "cycle", "group": "unit"}


def _engines() -> pl.DataFrame:
    if not _FILE.exists():
        pytest.skip("needs turbofan.parquet in LOOPLINE_DATA")
    return pl.read_parquet(_FILE).select("unit", "cycle", "sensor_2", "sensor_11")


def _done(frame: pl.DataFrame, *steps: Step) -> pl.DataFrame:
    return Cleaning.fit(frame, steps).apply(frame).kept


def test_windows_lags_and_smoothing_of_real_engines() -> None:
    frame = _engines()
    shuffled = frame.sample(fraction=1, shuffle=True, seed=7)
    steps = [
        clean.window("sensor_2", rows=7, take=["mean", "std", "min", "max"], **_AT),
        clean.lag("sensor_2", rows=[1, 5], **_AT),
        clean.smooth("sensor_11", rows=5, **_AT),
        clean.smooth("sensor_2", rows=4, how="mean", **_AT),
    ]
    value, smooth = pl.col("sensor_2"), pl.col("sensor_11")
    expected = frame.with_columns(
        value.rolling_mean(7, min_samples=1).over("unit").alias("sensor_2.mean7"),
        value.rolling_std(7, min_samples=2).over("unit").alias("sensor_2.std7"),
        value.rolling_min(7, min_samples=1).over("unit").alias("sensor_2.min7"),
        value.rolling_max(7, min_samples=1).over("unit").alias("sensor_2.max7"),
        value.shift(1).over("unit").alias("sensor_2.lag1"),
        value.shift(5).over("unit").alias("sensor_2.lag5"),
        smooth.rolling_median(5, min_samples=1).over("unit").alias("sensor_11"),
        value.rolling_mean(4, min_samples=1).over("unit").alias("sensor_2"),
    )
    for given_frame in (frame, shuffled):  # in whatever order the rows stand
        found = _done(given_frame, *steps).sort("unit", "cycle")
        assert_frame_equal(found, expected, abs_tol=1e-6)


def test_a_missing_value_becomes_the_last_one_before_it() -> None:
    frame = pl.DataFrame(
        {
            "unit": [1, 1, 1, 1, 2, 2, None],
            "cycle": [4, 1, 2, 3, 1, 2, 0],
            "x": [None, 1.0, None, None, None, 5.0, None],
            "state": ["", "on", None, None, None, "off", None],
        }
    )
    found = _done(frame, clean.forward("x", rows=2, **_AT), clean.forward("state", **_AT))
    assert found["x"].to_list() == [None, 1.0, 1.0, 1.0, None, 5.0, None]  # three rows back is too far
    assert found["state"].to_list() == ["on", "on", "on", "on", None, "off", None]


def test_smoothing_leaves_a_missing_value_missing_and_reads_over_it() -> None:
    frame = pl.DataFrame({"cycle": [1, 2, 3, 4], "x": [1.0, None, 3.0, float("inf")]})
    assert _done(frame, clean.smooth("x", rows=3, how="mean", time="cycle"))["x"].to_list() == [1, None, 2, None]
    window = _done(frame, clean.window("x", rows=2, take=["mean", "std", "max"], time="cycle"))
    assert window["x.mean2"].to_list() == [1, 1, 3, 3]
    assert window["x.std2"].to_list() == [None] * 4
    assert window["x.max2"].to_list() == [1, 1, 3, 3]


def test_it_is_said_how_many_rows_before_are_wanted() -> None:
    frame = pl.DataFrame({"unit": [1, 1], "cycle": [1, 2], "x": [1.0, 2.0], "y": [1.0, 3.0]})
    fitted = Cleaning.fit(
        frame,
        [clean.smooth("x", rows=5, **_AT), clean.scale("x"), clean.lag("x", rows=[1, 3], **_AT), clean.scale("y")],
    )
    assert fitted.rows.history == History(time="cycle", group="unit", rows=7)
    assert fitted.rows.reads(["x"]).history == History(time="cycle", group="unit", rows=4)
    alone = fitted.rows.reads(["y"])
    assert (alone.history, alone.inputs) == (None, {"y": "number"})


_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "unit": st.none() | st.integers(1, 3),
            "cycle": st.integers(0, 6),
            "x": st.none() | st.floats(-1e6, 1e6),
            "state": st.none() | st.sampled_from(["on", "off"]),
        }
    ),
    min_size=1,
    max_size=12,
)
_STEPS = [
    clean.forward("x", rows=2, **_AT),
    clean.smooth("x", rows=3, **_AT),
    clean.window("x", rows=3, take=["mean", "std", "min", "max"], **_AT),
    clean.lag("state", rows=[2], **_AT),
    clean.forward("state", rows=1, **_AT),
    clean.lag("x", rows=[1], **_AT),
]


@settings(deadline=None)
@given(_ROWS, st.lists(st.sampled_from(_STEPS), min_size=1, unique_by=id))
def test_a_row_is_the_same_with_no_more_than_the_rows_it_asks_for(
    rows: list[dict[str, Any]], steps: list[Step]
) -> None:
    frame = pl.DataFrame(rows, schema={"unit": pl.Int64, "cycle": pl.Int64, "x": pl.Float64, "state": pl.String})
    fitted = Cleaning.fit(frame, steps)
    history = fitted.rows.history
    assert history is not None
    whole = fitted.apply(frame).kept
    for place in range(frame.height):
        here = frame.row(place, named=True)
        numbered = frame.with_row_index("_at")
        before = numbered.filter(
            pl.col("unit") == pl.lit(here["unit"], pl.Int64),
            (pl.col("cycle") < here["cycle"]) | ((pl.col("cycle") == here["cycle"]) & (pl.col("_at") < place)),
        ).sort("cycle", "_at")
        asked = [*before["_at"].tail(history.rows).to_list(), place]
        assert_frame_equal(fitted.apply(frame[asked]).kept[-1], whole[place], check_exact=True)


def test_no_later_row_is_looked_at() -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame({"unit": [1] * 30, "cycle": range(30), "x": rng.normal(size=30), "state": ["on"] * 30})
    fitted = Cleaning.fit(frame, _STEPS)
    later = frame.with_columns(x=pl.when(pl.col("cycle") > 12).then(99.0).otherwise(pl.col("x")))
    assert_frame_equal(fitted.apply(frame).kept.head(13), fitted.apply(later).kept.head(13))


def test_medians_are_the_same_a_stretch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    frame = pl.DataFrame({"unit": rng.integers(0, 4, 200), "cycle": rng.permutation(200), "x": rng.normal(size=200)})
    whole = _done(frame, clean.smooth("x", rows=5, **_AT))
    monkeypatch.setattr("loopline.quality.cleaning_history._CELLS", 35)
    assert_frame_equal(_done(frame, clean.smooth("x", rows=5, **_AT)), whole, check_exact=True)

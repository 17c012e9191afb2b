"""Cleaning: learned from training rows alone, told in counts, and the same for a frame and for a row of a request."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.errors import Invalid
from loopline.quality.cleaning import Change, Cleaning, clip, deduplicate, impute, placeholders, repair
from loopline.quality.cleaning_rows import RowCleaning

_WORDS = st.sampled_from(
    ["Female", "female", " Female ", "FEMALE\t", "Male", "?", " ? ", "Unknown/Invalid", "", "ß", "SS"]
)
_SCHEMA = {
    "sex": pl.String,
    "note": pl.String,
    "age": pl.Int64,
    "dose": pl.Float64,
    "ok": pl.Boolean,
    "small": pl.Float32,
}
_ROW = st.fixed_dictionaries(
    {
        "sex": st.none() | _WORDS,
        "note": st.none() | st.text(max_size=3),
        "age": st.none() | st.integers(-1000, 1000),
        "dose": st.none() | st.floats(allow_nan=True),
        "ok": st.none() | st.booleans(),
        "small": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
    }
)
_STEPS = st.lists(
    st.sampled_from(
        [
            placeholders(),
            placeholders("note", tokens=["", "0"]),
            repair(),
            repair("sex"),
            clip(low=0.1, high=0.9),
            clip("age"),
            impute(how="median"),
            impute("dose", how="mean"),
            impute("small", how="mean"),
            impute(how="mode"),
            impute("age", how="mode"),
            impute("age", value=0.5),
            impute("sex", value="unknown"),
            impute("ok", value=False),
            deduplicate(),
        ]
    ),
    max_size=6,
)


def _frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_SCHEMA)


_WHOLE = {"sex": "Female", "note": "x", "age": 41, "dose": 0.5, "ok": True, "small": 0.5}


@settings(deadline=None)
@given(st.lists(_ROW, max_size=6), st.lists(_ROW, max_size=6), _STEPS)
def test_a_row_gets_the_same_values_as_a_frame(
    train: list[dict[str, object]], later: list[dict[str, object]], steps: list[object]
) -> None:
    frame = _frame([*train, _WHOLE])  # one row without gaps: every step has something to learn from
    assume(frame["dose"].abs().fill_nan(0).max() < 1e300)  # type: ignore[operator]
    fitted = Cleaning.fit(frame, steps)  # type: ignore[arg-type]
    again = Cleaning.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again == fitted
    frame, report = again.apply(_frame(later))
    assert frame.height == len(later) == report.rows
    plain = RowCleaning.from_dict(fitted.to_dict())
    for given_row, row in zip(_frame(later).to_dicts(), frame.to_dicts(), strict=True):
        assert plain.apply_rows([given_row]) == [row]
    counted = {c.column: c.count for c in report.changes}
    assert all(0 < n <= len(later) for n in counted.values())


def test_what_each_step_does() -> None:
    train = pl.DataFrame(
        {
            "sex": ["Female", "female", "Female", " male", "Male", "Male", None],
            "age": [1, 2, 3, 4, 100, None, 3],
            "dose": [1.0, 2.0, float("nan"), 4.0, 5.0, None, 4.5],
            "label": ["YES", " yes", "?", "NO", "NO", "NO", "NO"],
        }
    )
    steps = [placeholders(), repair(), clip("age", low=0.0, high=0.8), impute("age"), impute("dose", how="mean")]
    fitted = Cleaning.fit(train, steps, keep=("label",))
    later = pl.DataFrame(
        {
            "sex": ["FEMALE ", "?", "Unknown/Invalid", "Other "],
            "age": [200, None, -5, 2],
            "dose": [None, float("nan"), 9.5, 1.0],
            "label": ["?", " yes", "NO", "NO"],
        }
    )
    clean, report = fitted.apply(later)
    assert clean.rows() == [
        ("Female", 4, 3.3, "?"),
        (None, 3, 3.3, " yes"),
        (None, 1, 9.5, "NO"),
        ("Other", 2, 1.0, "NO"),
    ]
    assert report.changes == (
        Change(step="nan", column="dose", count=1),
        Change(step="placeholders", column="sex", count=2),
        Change(step="repair", column="sex", count=2),
        Change(step="clip", column="age", count=2),
        Change(step="impute", column="age", count=1),
        Change(step="impute", column="dose", count=2),
    )
    assert fitted.fitted_on == 7


def test_missing_values_stay_missing_unless_asked() -> None:
    train = pl.DataFrame({"a": [1, None], "b": ["x", None]})
    clean, report = Cleaning.fit(train, [placeholders(), repair(), clip()]).apply(train)
    assert_frame_equal(clean, train)
    assert report.changes == ()


def test_nothing_of_later_rows_is_learned() -> None:
    train, later = pl.DataFrame({"a": [1, 2, None]}), pl.DataFrame({"a": [1000, None]})
    fitted = Cleaning.fit(train, [clip(low=0, high=1), impute("a")])
    fitted.apply(later)
    assert fitted.apply(later)[0]["a"].to_list() == [2, 2]
    assert fitted == Cleaning.fit(train, [clip(low=0, high=1), impute("a")])


def test_duplicates_are_left_out_of_training_only() -> None:
    train = pl.DataFrame({"a": [1, 1, 2], "b": ["x", " x", "y"]})
    fitted = Cleaning.fit(train, [repair(), deduplicate()])
    once, report = fitted.apply(train, training=True)
    assert once.rows() == [(1, "x"), (2, "y")]
    assert report.duplicates == 1
    assert fitted.apply(train)[0].height == 3
    assert len(fitted.apply_rows(train.to_dicts())) == 3


def test_a_categorical_column_and_an_empty_one_pass() -> None:
    train = pl.DataFrame({"a": pl.Series(["x", "X ", "x"], dtype=pl.Categorical), "b": ["y", None, "z"]})
    fitted = Cleaning.fit(train, [repair(), impute("b", value="none")])
    clean, _ = fitted.apply(pl.DataFrame({"a": [None], "b": [None]}))
    assert clean.rows() == [(None, "none")]
    assert fitted.apply(train)[0]["a"].to_list() == ["x", "x", "x"]


def test_rows_with_more_or_fewer_fields_pass() -> None:
    fitted = Cleaning.fit(pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"]}), [repair(), clip(), impute("a")])
    assert fitted.apply_rows([{"extra": 1.5}, {"a": "no number", "b": 3}, {"a": math.nan}, {"a": True}]) == [
        {"extra": 1.5, "a": 2},
        {"a": "no number", "b": 3},
        {"a": 2},
        {"a": True},
    ]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (lambda: [repair("sxe")], "Did you mean 'sex'"),
        (lambda: [clip("sex")], "does not suit"),
        (lambda: [impute("sex")], "does not suit"),
        (lambda: [impute("age", value="x")], "does not suit"),
        (lambda: [impute("ok", value=1)], "does not suit"),
        (lambda: [impute("on", how="mode")], "does not suit"),
        (lambda: [impute("gone")], "no value in 2 training rows"),
        (lambda: [repair("label")], "may not touch"),
        (lambda: [clip("age", low=0.9, high=0.1)], "low < high"),
        (lambda: [impute("age", how="magic")], "median, mean or mode"),
        (lambda: [impute(value=3)], "needs columns"),
    ],
)
def test_a_step_that_cannot_be_fitted_is_named(steps: object, says: str) -> None:
    frame = pl.DataFrame(
        {
            "sex": ["a", "b"],
            "age": [1, 2],
            "ok": [True, False],
            "on": ["2020-01-01"] * 2,
            "gone": [None, None],
            "label": ["y", "n"],
        },
        schema_overrides={"gone": pl.Float64},
    ).with_columns(pl.col("on").str.to_date())
    with pytest.raises(Invalid) as caught:
        Cleaning.fit(frame, steps(), keep=("label",))  # type: ignore[operator]
    assert says in str(caught.value)


def test_a_frame_without_the_column_is_refused_and_a_wrong_dict_too() -> None:
    fitted = Cleaning.fit(pl.DataFrame({"a": [1, 2]}), [clip("a")])
    with pytest.raises(Invalid, match="column 'a'"):
        fitted.apply(pl.DataFrame({"b": [1]}))
    with pytest.raises(Invalid, match="does not suit"):
        fitted.apply(pl.DataFrame({"a": ["x"]}))
    with pytest.raises(Invalid, match="not a fitted cleaning"):
        Cleaning.from_dict({"steps": [{"step": "magic"}]})


def test_rows_are_cleaned_without_polars() -> None:
    code = "import sys, loopline.quality.cleaning_rows as c; c.RowCleaning().apply_rows([{}]); print('polars' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"

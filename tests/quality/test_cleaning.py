# ruff: noqa: DTZ001 - tables hold naive times
"""Cleaning: learned from training rows alone, told in counts; every row is kept or set aside with its reason."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.errors import Invalid
from loopline.quality.cleaning import Cleaning
from loopline.quality.cleaning_records import Change
from loopline.quality.cleaning_steps import Step, clean


def cleaned(train: dict[str, Any] | pl.DataFrame, *steps: Step, later: dict[str, Any] | None = None) -> dict[str, Any]:
    """The columns of later rows (or of the training ones) after a cleaning that was fitted on the training rows."""
    frame = pl.DataFrame(train, strict=False)
    fitted = Cleaning.fit(frame, steps)
    again = Cleaning.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again == fitted
    rows = frame if later is None else pl.DataFrame(later, schema=frame.schema, strict=False)
    return again.apply(rows).kept.to_dict(as_series=False)


def test_texts_that_mean_missing_and_spellings() -> None:
    train = {"sex": ["Female", "female", "Female", " male", "Male", "Male", None]}
    later = {"sex": ["FEMALE ", "?", "Unknown/Invalid", "Other ", None, ""]}
    assert cleaned(train, clean.placeholders(), clean.repair(), later=later) == {
        "sex": ["Female", None, None, "Other", None, ""]
    }


def test_types_and_units_are_repaired() -> None:
    weights = ["70", " 70.5 kg", "1,250 g", "154 lb", "heavy", None, "1e2kg", "12,5", "-3", "3 stone"]
    step = clean.number("w", units={"kg": 1, "g": 0.001, "lb": 0.5})
    assert cleaned({"w": weights}, step)["w"] == [70, 70.5, 1.25, 77, None, None, 100, None, -3, None]
    commas = {"w": ["1.250,5", "3,5", "1.250", "12.50", "7"]}
    assert cleaned(commas, clean.number("w", decimal=","))["w"] == [1250.5, 3.5, 1250, None, 7]
    days = {"d": ["24.12.2024", "31.02.2024", None, "1.1.1969"]}
    assert cleaned(days, clean.date("d", format="%d.%m.%Y"))["d"] == [date(2024, 12, 24), None, None, date(1969, 1, 1)]
    moments = {"d": ["2024-12-24T08:30:00+01:00", "2024-12-24", "soon"]}
    assert cleaned(moments, clean.date("d"))["d"] == [datetime(2024, 12, 24, 7, 30), datetime(2024, 12, 24), None]
    told = {"ok": ["Yes", "no", " Y ", "perhaps", None]}
    assert cleaned(told, clean.boolean("ok"))["ok"] == [True, False, True, None, None]
    assert cleaned({"ok": [1, 0, 7]}, clean.boolean("ok"))["ok"] == [True, False, None]


def test_categories_are_mapped_and_rare_ones_pooled() -> None:
    train = {"ward": ["a", "a", "a", "b", "b", "c", None]}
    later = {"ward": ["a", "b", "c", "new", None]}
    assert cleaned(train, clean.rare("ward", below=2), later=later)["ward"] == ["a", "b", "other", "other", None]
    recode = clean.recode("ward", to={"a": "A", "b": "A"})
    assert cleaned(train, recode, later=later)["ward"] == ["A", "A", "c", "new", None]
    recode = clean.recode("ward", to={"a": "A"}, other="rest")
    assert cleaned(train, recode, later=later)["ward"] == ["A", "rest", "rest", "rest", None]
    assert cleaned({"code": [1, 1, 2, None]}, clean.recode("code", to={"1": "one"}))["code"] == [
        "one",
        "one",
        "2",
        None,
    ]


def test_missing_values_are_filled() -> None:
    train = {
        "sex": ["f", "f", "m", "m", None, "m"],
        "age": [1, 3, 10, 30, 500, None],
        "dose": [1.0, 2, None, 4, 5, 6.5],
    }
    later = {"sex": ["f", "m", None, "x"], "age": [None] * 4, "dose": [None, float("nan"), 1.0, None]}
    assert cleaned(train, clean.median("age"), later=later)["age"] == [10, 10, 10, 10]
    assert cleaned(train, clean.median("age", group="sex"), later=later)["age"] == [1, 10, 10, 10]
    assert cleaned(train, clean.mean("dose"), later=later)["dose"] == [3.7, 3.7, 1.0, 3.7]
    assert cleaned(train, clean.mean("dose", group="sex"), later=later)["dose"] == [1.5, 5.25, 1.0, 3.7]
    assert cleaned(train, clean.mode(), later=later)["sex"] == ["f", "m", "m", "x"]
    assert cleaned(train, clean.mode("age", group="dose"), later=later)["age"] == [1, 1, 1, 1]
    assert cleaned(train, clean.constant("age", value=-1), later=later)["age"] == [-1] * 4
    assert cleaned(train, clean.constant("age", value=0.5), later=later)["age"] == [0.5] * 4
    assert cleaned({"ok": [True, None]}, clean.constant("ok", value=False))["ok"] == [True, False]
    assert cleaned({"ok": [True, None, True, False]}, clean.mode("ok"))["ok"] == [True, True, True, False]


def test_a_group_seen_once_or_never_and_one_of_a_number() -> None:
    train = {"ward": [1, 1, 2, 3], "age": [10, 20, 99, None]}
    later = {"ward": [1, 2, 3, 4, None], "age": [None] * 5}
    assert cleaned(train, clean.median("age", group="ward"), later=later)["age"] == [10, 99, 20, 20, 20]


def test_outliers_are_clipped_flagged_or_set_aside() -> None:
    train = {"x": [*range(1, 101), 10_000]}
    later = {"x": [-500, 50, 151, 152, 999, None]}
    by_iqr = [-49, 50, 151, 151, 151, None]  # quartiles 26 and 76: 75 beyond them
    assert cleaned(train, clean.clip("x", by="iqr"), later=later)["x"] == by_iqr
    flagged = cleaned(train, clean.flag("x", by="iqr"), later=later)
    assert flagged == {"x": later["x"], "x.outlier": [True, False, False, True, True, None]}
    by_mad = cleaned(train, clean.clip("x", by="mad"), later=later)["x"]
    assert by_mad == [-79, 50, 151, 152, 181, None]  # 51 ± 3.5 times 25 / 0.6745
    assert cleaned(train, clean.clip("x", low=0.1, high=0.9), later=later)["x"] == [11, 50, 91, 91, 91, None]
    frame = pl.DataFrame(train)
    kept, aside, report, _ = Cleaning.fit(frame, [clean.quarantine("x", by="iqr")]).apply(frame, training=True)
    assert kept["x"].to_list() == list(range(1, 101))
    assert aside.rows() == [(10_000, "quarantine x", "outside -49 to 151")]
    assert (report.rows, report.kept, report.aside) == (101, 100, {"quarantine x": 1})


def test_numbers_are_scaled() -> None:
    train = {"x": [1.0, 2, 3, 4, None], "n": [0, 10, 20, 30, 40]}
    assert cleaned(train, clean.scale("n", by="range"), later={"x": [1.0], "n": [60]})["n"] == [1.5]
    assert cleaned(train, clean.scale("n", by="robust"))["n"] == [-1, -0.5, 0, 0.5, 1]
    standard = cleaned(train, clean.scale())["x"]
    assert standard[:4] == pytest.approx([-1.3416, -0.4472, 0.4472, 1.3416], abs=1e-4)
    assert standard[4] is None


def test_categories_become_numbers() -> None:
    train = {"size": ["s", "l", "m", "s", None]}
    later = {"size": ["m", "xl", None]}
    assert cleaned(train, clean.ordinal("size", order=["s", "m", "l"]), later=later)["size"] == [1, None, None]
    assert cleaned(train, clean.one_hot("size", most=2), later=later) == {"size=l": [0, 0, 0], "size=s": [0, 0, 0]}
    assert cleaned(train, clean.one_hot("size")) == {
        "size=l": [0, 1, 0, 0, 0],
        "size=m": [0, 0, 1, 0, 0],
        "size=s": [1, 0, 0, 1, 0],
    }


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_dates_become_parts_as_the_calendar_has_them(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    found = cleaned({"at": [moment, None]}, clean.date_parts("at"))
    parts = {"year": moment.year, "month": moment.month, "day": moment.day, "weekday": moment.weekday()}
    assert found == {f"at.{part}": [value, None] for part, value in {**parts, "hour": moment.hour}.items()}


def test_texts_are_hashed() -> None:
    found = cleaned(
        {"note": ["Chest pain, chest", "chest PAIN chest", "", None, "a b c d e"]}, clean.hashed("note", into=8)
    )
    rows = list(zip(*found.values(), strict=True))
    assert rows[0] == rows[1]
    assert sum(map(abs, rows[0])) in (1, 3)  # two words, one of them twice
    assert rows[2] == rows[3] == (0,) * 8
    assert rows[4] != rows[0]


def test_missing_values_stay_missing_unless_asked() -> None:
    train = pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [float("nan"), 2.0]})
    fitted = Cleaning.fit(train, [clean.placeholders(), clean.repair(), clean.clip()])
    found, _, report, _ = fitted.apply(train)
    assert_frame_equal(found, train)
    assert report.changes == ()
    assert (report.changed, report.cells) == (0, 0)


def test_a_value_that_no_step_changes_is_the_very_value() -> None:
    large = [2**62 + 1, None, 5, -3]
    found = cleaned({"n": pl.Series(large, dtype=pl.Int64)}, clean.constant("n", value=0))
    assert found["n"] == [2**62 + 1, 0, 5, -3]
    kinds = {"small": pl.Int8, "single": pl.Float32, "zoned": pl.Datetime("ms", "Europe/Berlin")}
    frame = pl.DataFrame(
        {"small": [1, None], "single": [0.1, None], "zoned": [datetime(2024, 1, 2), None]}, schema=kinds
    )
    steps = [
        clean.median("small"),
        clean.clip("single", by="quantiles"),
        clean.forward("zoned", time="small"),
    ]
    assert Cleaning.fit(frame, steps).apply(frame).kept.schema["zoned"] == pl.Datetime("ms", "Europe/Berlin")


def test_what_was_done_is_told_in_rows_and_cells() -> None:
    train = pl.DataFrame({"sex": ["f", " f", "?", None], "age": [1, None, 3, None]})
    steps = [clean.placeholders("sex"), clean.repair("sex"), clean.median("age"), clean.one_hot("sex")]
    report = Cleaning.fit(train, steps).apply(train).report
    assert report.changes == (
        Change(step="placeholders", column="sex", cells=1, missing=1, left=2),
        Change(step="repair", column="sex", cells=1, missing=2, left=2),
        Change(step="median", column="age", cells=2, missing=2, left=0),
        Change(step="one_hot", column="sex", made=("sex=f",), cells=4, missing=2, left=2),
    )
    assert (report.rows, report.kept, report.changed, report.cells) == (4, 4, 3, 4)


_TRAIN = {
    "sex": ["f", "f", "m", " M", None],
    "age": [1, 2, 3, None, 500],
    "at": [datetime(2024, 1, d) for d in (1, 2, 3, 4, 5)],
    "unit": [1, 1, 2, 2, 2],
    "note": ["the pump is broken again today", "The pump is broken again today", "all is well", None, ""],
}
_EACH = [
    clean.placeholders(),
    clean.repair(),
    clean.number("note"),
    clean.date("note"),
    clean.boolean("note"),
    clean.recode("sex", to={"f": "F"}),
    clean.rare(below=2),
    clean.constant("age", value=3),
    clean.median(group="sex"),
    clean.mean("age"),
    clean.mode(),
    clean.forward("age", time="at", group="unit"),
    clean.smooth("age", time="at"),
    clean.lag("age", rows=[1, 2], time="at"),
    clean.window("age", take=["mean", "std", "min", "max"], time="at", group="unit"),
    clean.clip(low=0.1, high=0.9),
    clean.clip("age", by="mad", width=2),
    clean.flag("age", by="iqr"),
    clean.quarantine("age", by="iqr"),
    clean.scale("age", by="robust"),
    clean.ordinal("sex", order=["f", "m"]),
    clean.one_hot("sex"),
    clean.date_parts("at"),
    clean.hashed("note", into=4),
    clean.deduplicate("sex", keep="fullest"),
    clean.near_duplicates("note"),
]


def test_there_is_an_example_of_each_step() -> None:
    from loopline.quality.cleaning_steps import STEPS

    assert {step.word for step in _EACH} == set(STEPS) == {name for name in vars(clean) if not name.startswith("_")}


_COUNTED = st.lists(st.sampled_from(_EACH), max_size=5, unique_by=id)


def _fitted(steps: list[Step]) -> Cleaning:
    """A cleaning of those of the steps that can be fitted together."""
    frame = pl.DataFrame(_TRAIN)
    taken: list[Step] = []
    for step in steps:
        try:
            Cleaning.fit(frame, [*taken, step])
        except Invalid:
            continue
        taken.append(step)
    return Cleaning.fit(frame, taken)


@settings(deadline=None, max_examples=60)
@given(_COUNTED)
def test_a_fitted_cleaning_is_json_and_the_same_again(steps: list[Step]) -> None:
    fitted = _fitted(steps)
    again = Cleaning.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again == fitted
    frame = pl.DataFrame(_TRAIN)
    for training in (False, True):
        one, other = (which.apply(frame, training=training) for which in (fitted, again))
        assert_frame_equal(one[0], other[0])
        assert_frame_equal(one[1], other[1])
        assert one[2] == other[2]


_VALUES = {
    "sex": st.none() | st.text(max_size=3),
    "age": st.none() | st.integers(-(10**9), 10**9),
    "at": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda d: d.replace(microsecond=0)),
    "unit": st.integers(1, 3),
    "note": st.none() | st.text(max_size=8),
}


@settings(deadline=None, max_examples=60)
@given(_COUNTED, st.lists(st.fixed_dictionaries(_VALUES), max_size=5))
def test_nothing_is_learned_from_later_rows_and_no_row_is_lost(steps: list[Step], later: list[dict[str, Any]]) -> None:
    fitted = _fitted(steps)
    before = fitted.to_dict()
    frame = pl.DataFrame(later, schema=pl.DataFrame(_TRAIN).schema)
    whole = fitted.apply(frame)
    assert fitted.to_dict() == before
    assert whole[0].height == frame.height  # no later row is ever set aside
    assert whole[1].height == 0
    if fitted.rows.history is None:  # and what becomes of a row does not depend on the others
        for place in range(frame.height):
            assert_frame_equal(fitted.apply(frame[place]).kept, whole[0][place])
    kept, aside, report, places = fitted.apply(frame, training=True)
    assert sorted(places) == places.tolist()
    assert len(places) == kept.height
    assert kept.height + aside.height == frame.height == report.rows
    assert (kept.height, aside.height) == (report.kept, sum(report.aside.values()))
    assert aside.is_empty() or aside["_reason"].null_count() == 0


def test_later_rows_change_nothing_that_was_learned() -> None:
    train = pl.DataFrame(_TRAIN)
    later = pl.DataFrame({**_TRAIN, "age": [10**6] * 5, "sex": ["x"] * 5})
    for step in _EACH:
        fitted = _fitted([step])
        apart = fitted.apply(train).kept
        fitted.apply(later)
        assert_frame_equal(fitted.apply(train).kept, apart)
        assert _fitted([step]) == fitted


_FRAME = {
    "sex": ["a", "b"],
    "age": [1, 2],
    "ok": [True, False],
    "on": [date(2020, 1, 1)] * 2,
    "same": [3.0, 3.0],
    "x.outlier": [1, 2],
    "x": [1, 2],
    "label": ["y", "n"],
    "stop": [None, 2],
}


@pytest.mark.parametrize(
    ("steps", "code", "says"),
    [
        (lambda: [clean.repair("sxe")], "cleaning-column", "Did you mean 'sex'"),
        (lambda: [clean.lag("age", time="agee")], "cleaning-column", "Did you mean 'age'"),
        (lambda: [clean.repair("nested")], "cleaning-column", "no plain values"),
        (lambda: [clean.clip("sex")], "cleaning-type", "holds text values"),
        (lambda: [clean.median("sex")], "cleaning-type", "'median' does not suit"),
        (lambda: [clean.mean("ok")], "cleaning-type", "does not suit"),
        (lambda: [clean.date_parts("age")], "cleaning-type", "does not suit"),
        (lambda: [clean.constant("age", value="x")], "cleaning-type", "does not suit"),
        (lambda: [clean.constant("ok", value=1)], "cleaning-type", "does not suit"),
        (lambda: [clean.mode("on")], "cleaning-type", "does not suit"),
        (lambda: [clean.near_duplicates("age")], "cleaning-type", "does not suit"),
        (lambda: [clean.lag("age", time="sex")], "cleaning-type", "(time)"),
        (lambda: [clean.number("sex")], "cleaning-type", "No value of the column 'sex'"),
        (lambda: [clean.median("gone")], "cleaning-empty", "no value in 2 training rows"),
        (lambda: [clean.rare("lost")], "cleaning-empty", "no value"),
        (lambda: [clean.scale("same")], "cleaning-constant", "no spread"),
        (lambda: [clean.scale("same", by="range")], "cleaning-constant", "no spread"),
        (lambda: [clean.clip("same", by="mad")], "cleaning-constant", "go by quantiles"),
        (lambda: [clean.flag("same", by="iqr")], "cleaning-constant", "go by quantiles"),
        (lambda: [clean.repair("label")], "cleaning-column", "the label"),
        (lambda: [clean.median("age", group="label")], "cleaning-column", "Nothing may be made from"),
        (lambda: [clean.median("stop", group="stop")], "cleaning-step", "its own groups"),
        (lambda: [clean.scale("kept")], "cleaning-column", "may not change"),
        (lambda: [clean.median("age"), clean.constant("age", value=1)], "cleaning-twice", "'median' and 'constant'"),
        (lambda: [clean.clip("age"), clean.clip("age", by="iqr")], "cleaning-twice", "Two steps want"),
        (lambda: [clean.clip("age"), clean.quarantine("age")], "cleaning-twice", "Put 'quarantine' before"),
        (lambda: [clean.one_hot("sex"), clean.mode("sex")], "cleaning-twice", "'one_hot' took apart"),
        (lambda: [clean.flag("x")], "cleaning-twice", "the table has already"),
        (lambda: [clean.lag("age", time="x"), clean.lag("x", time="age")], "cleaning-history", "same time and group"),
        (lambda: [clean.smooth("age", time="stop")], "cleaning-history", "missing in 1 of 2"),
    ],
)
def test_a_step_that_cannot_be_fitted_is_named(steps: Any, code: str, says: str) -> None:
    frame = pl.DataFrame({**_FRAME, "kept": [1, 2]}).with_columns(
        pl.lit(None, pl.Float64).alias("gone"), pl.lit(None, pl.String).alias("lost"), pl.lit([1]).alias("nested")
    )
    with pytest.raises(Invalid) as caught:
        Cleaning.fit(frame, steps(), keep=("kept",), hidden=("label",))
    assert caught.value.code == code
    assert says in str(caught.value)


def test_a_column_that_is_not_named_is_left_out_where_it_teaches_nothing() -> None:
    frame = pl.DataFrame(
        {"same": [1.0, 1.0], "gone": [None, None], "x": [1.0, 3.0]}, schema_overrides={"gone": pl.Float64}
    )
    fitted = Cleaning.fit(frame, [clean.scale(), clean.median(), clean.clip(by="iqr"), clean.mode()])
    assert [(step.word, step.column) for step in fitted.rows.steps] == [
        ("scale", "x"), ("median", "same"), ("median", "x"), ("clip", "x"),
    ]  # fmt: skip


def test_a_column_of_which_another_step_of_the_sort_speaks_is_left_to_it() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": [2, None], "g": ["x", "y"]})
    fitted = Cleaning.fit(frame, [clean.median(), clean.constant("b", value=0)])
    assert [(step.word, step.column) for step in fitted.rows.steps] == [("median", "a"), ("constant", "b")]


def test_one_row_and_infinities() -> None:
    one = pl.DataFrame({"x": [2.0], "y": [float("inf")]})
    assert Cleaning.fit(one, [clean.median("x"), clean.clip("x")]).apply(one).kept.rows() == [(2.0, float("inf"))]
    with pytest.raises(Invalid, match="no value in 1 training rows"):
        Cleaning.fit(one, [clean.clip("y")])
    with pytest.raises(Invalid, match="no spread"):
        Cleaning.fit(one, [clean.scale("x")])
    with pytest.raises(Invalid, match="no rows"):
        Cleaning.fit(one.head(0), [clean.median("x")])
    many = {"x": [1.0, 2.0, 3.0, float("inf"), float("-inf"), float("nan")]}
    assert cleaned(many, clean.clip("x", low=0, high=1), clean.median("x"))["x"] == [1, 2, 3, 3, 1, 2]


def test_a_frame_without_the_column_is_refused_and_a_wrong_dict_too() -> None:
    fitted = Cleaning.fit(pl.DataFrame({"a": [1, 2], "b": [1.5, 2]}), [clean.clip("a"), clean.median("b")])
    with pytest.raises(Invalid, match="column 'a'"):
        fitted.apply(pl.DataFrame({"b": [1.0]}))
    with pytest.raises(Invalid, match="does not suit"):
        fitted.apply(pl.DataFrame({"a": ["x"], "b": [1.0]}))
    with pytest.raises(Invalid, match="does not suit"):
        fitted.apply(pl.DataFrame({"a": [1.5], "b": [1.0]}))
    with pytest.raises(Invalid, match="quarantine's own"):
        fitted.apply(pl.DataFrame({"a": [1], "b": [1.0], "_rule": ["x"]}))
    assert fitted.apply(pl.DataFrame({"a": [1], "b": [None]})).kept.rows() == [(1, 1.5)]
    with pytest.raises(Invalid, match="not a fitted cleaning"):
        Cleaning.from_dict({"steps": [{"step": "magic"}]})

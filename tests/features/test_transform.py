from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.features import dates, table
from loopline.features.boundary import Boundary
from loopline.features.infer import infer_fields
from loopline.features.records import Field
from loopline.features.transform import SMOOTHING, Style, TableTransform

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
MOMENTS = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1))  # noqa: DTZ001
TEXT = st.sampled_from(["", "a", "b", "c", "No", "Überweisung", "rare", "x y"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.none() | FINITE,
            "integer": st.none() | st.integers(-(2**40), 2**40),
            "boolean": st.none() | st.booleans(),
            "day": st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
            "moment": st.none() | MOMENTS,
            "iso": st.none() | MOMENTS.map(lambda m: m.isoformat(timespec="seconds")),
            "first": st.none() | TEXT,
            "second": st.none() | TEXT,
        }
    ),
    min_size=1,
    max_size=12,
)
SCHEMA = {
    "number": pl.Float64,
    "integer": pl.Int64,
    "boolean": pl.Boolean,
    "day": pl.Date,
    "moment": pl.Datetime("us"),
    "iso": pl.String,
    "first": pl.String,
    "second": pl.Categorical,
}


def training(n: int = 120) -> pl.DataFrame:
    start = datetime(2020, 2, 28, 6, 30)  # noqa: DTZ001
    rows = [
        {
            "number": None if i % 7 == 0 else i * 0.37,
            "integer": None if i == 3 else i % 11,
            "boolean": None if i == 4 else i % 2 == 0,
            "day": None if i == 5 else (start + timedelta(days=i)).date(),
            "moment": None if i == 6 else start + timedelta(hours=7 * i),
            "iso": None if i == 7 else (start + timedelta(hours=5 * i)).isoformat(),
            "first": None if i == 8 else "abc"[i % 3],
            "second": None if i == 9 else ["No", "a", "Überweisung"][i % 3] if i % 40 else "rare",
        }
        for i in range(n)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def fitted(style: Style) -> TableTransform:
    frame = training()
    targets = (np.arange(frame.height) % 4 == 0).astype(np.float64)[:, None]
    return TableTransform.fit(frame, infer_fields(frame, label="none"), style=style, targets=targets)


TRANSFORMS = {"boosted": fitted("boosted"), "linear": fitted("linear")}


@pytest.mark.parametrize("style", ["boosted", "linear"])
@given(rows=ROWS)
@settings(max_examples=40, deadline=None)
def test_frame_json_round_trip_and_single_rows_give_the_same_features(
    style: str, rows: list[dict[str, object]]
) -> None:
    transform = TRANSFORMS[style]
    frame = pl.DataFrame(rows, schema=SCHEMA)
    features = transform.apply(frame)
    assert features.dtype == np.float32
    assert features.shape == (frame.height, len(transform.names))
    again = TableTransform.from_dict(json.loads(json.dumps(transform.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again.apply(frame), features)
    boundary = Boundary(transform.fields)
    for place, row in enumerate(table.raw_rows(frame, transform.fields)):
        one = json.loads(json.dumps(row))
        np.testing.assert_array_equal(again.apply_arrays(*boundary.decode([one]))[0], features[place])


def test_statistics_come_from_training_rows_and_not_from_the_rows_at_hand() -> None:
    transform = TRANSFORMS["linear"]
    names = transform.names
    features = transform.apply(training()[:1].with_columns(number=pl.lit(None, dtype=pl.Float64)))
    number = next(n for n in transform.plan.numbers if n.field == "number")
    present = [i * 0.37 for i in range(120) if i % 7]
    assert number.fill == pytest.approx(float(np.median(present)), rel=1e-6)
    assert features[0, names.index("number")] == pytest.approx((number.fill - number.center) / number.scale, abs=1e-6)
    assert features[0, names.index("number is missing")] == 1.0


def test_means_are_smoothed_and_those_of_training_rows_leave_the_row_out() -> None:
    n = 1_000
    codes = np.arange(n) % 2
    frame = pl.DataFrame({"c": np.where(codes == 0, "u", "v")})
    targets = (codes == 0).astype(np.float64)[:, None]
    fields = infer_fields(frame, label="none")
    transform, features = TableTransform.fit_apply(frame, fields, targets=targets)
    expected = (500 + SMOOTHING * 0.5) / (500 + SMOOTHING)
    assert transform.apply(frame[:1])[0, 0] == pytest.approx(expected, abs=1e-6)
    assert (features[codes == 0, 0] < expected).all()  # fewer rows of the level are seen out of fold
    assert transform.apply(pl.DataFrame({"c": ["never seen"]}))[0, 0] == pytest.approx(0.5)


def test_a_level_of_its_own_in_each_row_cannot_give_the_target_away() -> None:
    rng = np.random.default_rng(0)
    n = 4_000
    frame = pl.DataFrame({"c": rng.integers(0, 700, n).astype(str)})
    labels = rng.integers(0, 2, n).astype(np.float64)
    _, features = TableTransform.fit_apply(frame, infer_fields(frame, label="none"), targets=labels[:, None])
    assert abs(np.corrcoef(features[:, 0], labels)[0, 1]) < 0.06


def test_rare_and_unknown_levels_share_one_place() -> None:
    transform = TRANSFORMS["linear"]
    frame = pl.concat([training()[:2]]).with_columns(second=pl.Series(["rare", "never"]))
    features = transform.apply(frame)
    other = transform.names.index("second=(other)")
    assert "second=rare" not in transform.names
    assert features[:, other].tolist() == [1.0, 1.0]


def test_texts_that_cannot_be_read_are_missing() -> None:
    """A table that comes later may hold one odd value, which makes its whole column text: an evaluation takes it as it is."""
    fields = [
        Field(name=name, kind=kind, nullable=False) for name, kind in (("d", "date"), ("n", "number"), ("b", "boolean"))
    ]
    frame = pl.DataFrame({"d": ["1970-01-03", "soon"], "n": ["many", " 2.5"], "b": ["True", "perhaps"]})
    assert table.raw_rows(frame, fields) == [
        {"d": "1970-01-03", "n": None, "b": True},
        {"d": None, "n": 2.5, "b": None},
    ]
    np.testing.assert_array_equal(table.numbers(frame, fields), [[2, np.nan, 1], [np.nan, 2.5, np.nan]])


@given(days=st.floats(-25_000, 60_000, width=32))
def test_date_parts_are_those_of_the_calendar(days: float) -> None:
    got = dict(zip(dates.PARTS, dates.parts(np.array([days], dtype=np.float32))[0].tolist(), strict=True))
    day = date(1970, 1, 1) + timedelta(days=int(np.floor(np.float32(days))))
    assert (got["month"], got["day"], got["weekday"]) == (day.month, day.day, day.weekday())


def test_whole_hours_are_read_as_such() -> None:
    moments = [datetime(2024, 5, 17, hour) for hour in range(24)]  # noqa: DTZ001
    numbers = Boundary(infer_fields(pl.DataFrame({"t": moments}), label="none")).decode([{"t": m} for m in moments])[0]
    assert dates.parts(numbers[:, 0])[:, dates.PARTS.index("hour")].tolist() == list(range(24))


def test_a_missing_column_is_named_and_one_of_another_type_too() -> None:
    transform = TRANSFORMS["boosted"]
    filled = training().drop_nulls()
    strict = TableTransform.fit(filled, infer_fields(filled, label="none"), targets=np.ones((filled.height, 1)))
    with pytest.raises(Invalid, match="'integer' is missing"):
        strict.apply(filled.drop("integer"))
    for column, value in (("number", "many"), ("iso", "soon"), ("boolean", "maybe"), ("day", 3)):
        with pytest.raises(Invalid, match=f"'{column}'"):
            transform.apply(training().with_columns(pl.lit(value).alias(column)))
    assert np.isnan(transform.apply(training().drop("number"))[:, transform.names.index("number")]).all()

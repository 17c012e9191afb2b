from __future__ import annotations

import math
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.features.boundary import Boundary, days, days_of
from loopline.features.records import Field

FIELDS = (
    Field(name="age", kind="number", nullable=True),
    Field(name="visits", kind="integer", nullable=False),
    Field(name="smoker", kind="boolean", nullable=True),
    Field(name="ward", kind="category", nullable=True),
    Field(name="code", kind="category", nullable=False),
    Field(name="admitted", kind="date", nullable=True),
)
ROW = {"age": 41.5, "visits": 3, "smoker": True, "ward": "A", "code": "250", "admitted": "2024-03-31"}


def test_a_row_becomes_numbers_and_strings_in_the_order_of_the_fields() -> None:
    boundary = Boundary(FIELDS)
    assert boundary.numbers == ("age", "visits", "smoker", "admitted")
    assert boundary.strings == ("ward", "code")
    numbers, strings = boundary.decode([ROW, {"visits": 0.0, "code": "x", "age": None, "ward": ""}])
    assert numbers.dtype == np.float32
    assert numbers[0].tolist() == [41.5, 3.0, 1.0, 19813.0]
    assert numbers[1, 1] == 0.0
    assert np.isnan(numbers[1, [0, 2, 3]]).all()
    assert strings.tolist() == [["A", "250"], ["", "x"]]


@pytest.mark.parametrize(
    ("change", "code", "column"),
    [
        ({"age": "41"}, "wrong-type", "age"),
        ({"age": True}, "wrong-type", "age"),
        ({"age": [1]}, "wrong-type", "age"),
        ({"age": math.inf}, "out-of-range", "age"),
        ({"age": 10**400}, "out-of-range", "age"),
        ({"visits": 2.5}, "wrong-type", "visits"),
        ({"visits": None}, "missing-value", "visits"),
        ({"visits": math.nan}, "missing-value", "visits"),
        ({"smoker": "yes"}, "wrong-type", "smoker"),
        ({"smoker": 2}, "wrong-type", "smoker"),
        ({"ward": 3}, "wrong-type", "ward"),
        ({"code": ""}, "missing-value", "code"),
        ({"admitted": "31.03.2024"}, "wrong-type", "admitted"),
        ({"admitted": "2024-02-30"}, "wrong-type", "admitted"),
        ({"admitted": "20240331"}, "wrong-type", "admitted"),
        ({"admitted": 19813}, "wrong-type", "admitted"),
        ({"agee": 1}, "unknown-column", "agee"),
    ],
)
def test_a_bad_value_is_refused_with_its_row_and_column(change: dict[str, object], code: str, column: str) -> None:
    with pytest.raises(Invalid) as caught:
        Boundary(FIELDS).decode([ROW, ROW | change])
    assert (caught.value.code, caught.value.details["column"], caught.value.details["row"]) == (code, column, 1)
    assert column in caught.value.message
    columns = {name: [ROW.get(name), (ROW | change).get(name)] for name in ROW | change}
    with pytest.raises(Invalid) as by_column:
        Boundary(FIELDS).decode_columns(columns)
    assert by_column.value.code == code


def test_the_message_never_shows_the_value() -> None:
    with pytest.raises(Invalid) as caught:
        Boundary(FIELDS).decode([ROW | {"age": "secret-value"}])
    assert "secret-value" not in str(caught.value.to_dict())


def test_a_misspelt_column_is_answered_with_the_nearest() -> None:
    with pytest.raises(Invalid, match="Did you mean 'age'"):
        Boundary(FIELDS).decode([ROW | {"agee": 1}])


@pytest.mark.parametrize("rows", [[], {}, "text", [[1, 2]], [None]])
def test_what_is_no_list_of_rows_is_refused(rows: object) -> None:
    with pytest.raises(Invalid):
        Boundary(FIELDS).decode(rows)  # type: ignore[arg-type]


def test_columns_must_be_of_one_length_and_not_empty() -> None:
    for columns in ({}, {"age": []}, {"age": [1], "visits": [1, 2]}):
        with pytest.raises(Invalid):
            Boundary(FIELDS).decode_columns(columns)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_dates_and_their_iso_texts_give_the_same_days(moment: datetime) -> None:
    assert days(moment.isoformat()) == days_of(moment)
    assert days(moment.isoformat().replace("+00:00", "Z")) == days_of(moment)
    assert days(moment.date().isoformat()) == days_of(moment.date()) == math.floor(days_of(moment))


def test_days_are_counted_in_utc() -> None:
    assert days_of(date(1970, 1, 2)) == 1.0
    assert days("1970-01-02T00:00:00+02:00") == pytest.approx(1 - 2 / 24)
    assert days("1970-01-01T12:00:00.123456789Z") == pytest.approx(0.5 + 0.123456 / 86400)

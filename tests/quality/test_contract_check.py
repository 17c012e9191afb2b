# ruff: noqa: DTZ001 - tables hold naive times; columns line up
"""Applying a contract: no row is lost, each rule says what it means, bad rules are named."""

from __future__ import annotations

import re
from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.errors import Invalid
from loopline.quality.contract import Contract, column, contract, rows, rule, unique
from loopline.quality.contract_check import check, partition
from loopline.quality.contract_suggest import suggest

_SEVERITY = st.sampled_from(["warn", "quarantine"])
_TABLES = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.none() | st.integers(0, 6),
            "age": st.none() | st.integers(-5, 130),
            "weight": st.none() | st.floats(allow_nan=True, width=32),
            "sex": st.none() | st.sampled_from(["Female", "Male", "Unknown", "female "]),
            "code": st.none() | st.text("0123456789V.x\n", max_size=5),
            "dose": st.none() | st.text("0123456789.e- ", max_size=4),
            "on": st.none() | st.dates(date(1999, 1, 1), date(2001, 1, 1)),
            "ok": st.none() | st.booleans(),
        }
    ),
    max_size=12,
).map(
    lambda rows: pl.DataFrame(
        rows,
        schema={
            "id": pl.Int64,
            "age": pl.Int64,
            "weight": pl.Float64,
            "sex": pl.String,
            "code": pl.String,
            "dose": pl.String,
            "on": pl.Date,
            "ok": pl.Boolean,
        },
    )
)
_RULES = st.lists(
    st.one_of(
        st.builds(lambda s: unique("id", severity=s), _SEVERITY),
        st.builds(lambda s: unique("sex", "ok", severity=s), _SEVERITY),
        st.builds(lambda s: column("age").between(0, 120, severity=s), _SEVERITY),
        st.builds(lambda s: column("weight").between(0, None, severity=s), _SEVERITY),
        st.builds(lambda s: column("dose").between(None, 99, severity=s), _SEVERITY),
        st.builds(lambda s: column("on").between("2000-01-01", "2000-06-30", severity=s), _SEVERITY),
        st.builds(lambda s: column("sex").one_of("Female", "Male", severity=s), _SEVERITY),
        st.builds(lambda s: column("ok").one_of(True, severity=s), _SEVERITY),
        st.builds(lambda s: column("id").one_of(1, 2, 3, severity=s), _SEVERITY),
        st.builds(lambda s: column("code").not_null(severity=s), _SEVERITY),
        st.builds(lambda s: column("weight").not_null(severity=s), _SEVERITY),
        st.builds(lambda s: column("code").matches(r"\d+", severity=s), _SEVERITY),
        st.builds(lambda s: column("dose").of_type("number", severity=s), _SEVERITY),
        st.builds(lambda s: column("weight").of_type("integer", severity=s), _SEVERITY),
        st.builds(lambda s: rule("grown", "age >= 18 OR ok", severity=s), _SEVERITY),
        st.builds(lambda: rows(at_least=3, severity="warn")),
    ),
    max_size=8,
    unique_by=lambda r: r.title,
).map(lambda rules: contract(*rules))


@settings(deadline=None)
@given(_TABLES, _RULES)
def test_rows_in_are_rows_out_plus_quarantined(table: pl.DataFrame, made: Contract) -> None:
    numbered = table.with_row_index("row")
    good, aside, report = partition(numbered, made)
    assert good.height + aside.height == table.height == report.rows
    assert report.quarantined == aside.height == report.mask.sum()
    assert sorted([*good["row"], *aside["row"]]) == list(range(table.height))
    assert_frame_equal(aside.drop("_rule", "_reason"), numbered.filter(report.mask))  # as they came
    assert aside["_rule"].null_count() == 0
    for first, reasons in aside.select("_rule", "_reason").iter_rows():
        assert reasons.split("; ")[0] == first
    # What passed passes again, whatever was set aside.
    again = check(good, made)
    assert again.quarantined == 0
    counted = {r.name: r.broken for r in report.rules if r.severity == "quarantine"}
    for name, broken in counted.items():
        assert sum(name in reasons.split("; ") for reasons in aside["_reason"]) == broken


def _broken(table: pl.DataFrame, *rules: object) -> list[int]:
    """The numbers of the rows that break any of the rules, from 1."""
    report = check(table, contract(*rules))  # type: ignore[arg-type]
    return [n + 1 for n in report.mask.arg_true()]


def test_each_rule_on_typed_columns() -> None:
    table = pl.DataFrame(
        {
            "id": [1, 2, 2, None, None, 3],
            "part": ["a", "a", "a", None, None, None],
            "x": [1.0, float("nan"), 14.5, None, -0.5, float("inf")],
            "code": ["250", "25 0", "V57", "250\n", "", None],
            "on": [date(1999, 12, 31), date(2000, 1, 1), date(2000, 6, 30), date(2000, 7, 1), None, None],
            "at": [datetime(2000, 1, 1, h) for h in (0, 11, 12, 13, 14, 15)],
        }
    )
    assert _broken(table, unique("id")) == [3]  # the first occurrence passes; missing ones are not compared
    assert _broken(table, unique("id", "part")) == [3]
    assert _broken(table, column("x").between(0, 14)) == [3, 5, 6]  # null and NaN pass
    assert _broken(table, column("x").between(0)) == [5]
    assert _broken(table, column("x").not_null()) == [2, 4]
    assert _broken(table, column("id").matches("[12]")) == [6]
    assert _broken(table, column("code").matches(r"\d+")) == [2, 3, 4, 5]  # the whole text, to its very end
    assert _broken(table, column("on").between("2000-01-01", "2000-06-30")) == [1, 4]
    assert _broken(table, column("at").between("2000-01-01T12:00:00", None)) == [1, 2]
    assert _broken(table, column("part").one_of("b")) == [1, 2, 3]
    assert _broken(table, column("id").one_of(1, 2.0)) == [6]
    assert _broken(table, column("x").of_type("integer")) == [3, 5, 6]
    assert _broken(table, column("code").of_type("text"), column("on").of_type("datetime")) == []
    assert _broken(table, column("on").of_type("number")) == [1, 2, 3, 4]
    assert _broken(table, rule("small", "x < 10 AND id = 1")) == [2, 3, 6]  # what is not known passes
    report = check(table, contract(column("x").between(0, 14)))
    assert report.rules[0].examples == (3, 5, 6)
    assert report.to_dict()["rules"][0]["broken"] == 3


def test_a_zoned_time_is_compared_in_its_zone() -> None:
    at = pl.Series("at", [datetime(2000, 1, 1, h) for h in (10, 12)]).dt.replace_time_zone("UTC")
    assert _broken(at.to_frame(), column("at").between("2000-01-01T11:00:00")) == [1]


def test_texts_that_should_be_numbers_are_quarantined_and_the_rest_gets_its_type() -> None:
    table = pl.DataFrame(
        {
            "age": ["41", " 7", "unknown", None, "99999999999999999999"],
            "on": ["2024-02-29", "2024-02-30", None, "x", "2024-01-01"],
        }
    )
    made = contract(column("age").of_type("integer"), column("on").of_type("date"), column("age").between(0, 10))
    good, aside, report = partition(table, made)
    assert good.schema == {"age": pl.Int64, "on": pl.Date}
    assert good.rows() == []
    assert [r.broken for r in report.rules] == [2, 2, 3]
    good, aside, _ = partition(table, contract(column("age").of_type("integer")))
    assert good["age"].to_list() == [41, 7, None]
    assert aside["age"].to_list() == ["unknown", "99999999999999999999"]
    kept, _, _ = partition(pl.DataFrame({"n": [1.0, float("nan"), 2.5]}), contract(column("n").of_type("integer")))
    assert kept["n"].to_list() == [1, None]
    flags, _, _ = partition(pl.DataFrame({"f": ["true", "FALSE", "yes"]}), contract(column("f").of_type("boolean")))
    assert flags["f"].to_list() == [True, False]
    moments, _, _ = partition(
        pl.DataFrame({"t": ["2024-01-01T10:30:00", "2024-01-01", "10:30"]}), contract(column("t").of_type("datetime"))
    )
    assert moments["t"].to_list() == [datetime(2024, 1, 1, 10, 30), datetime(2024, 1, 1)]
    assert _broken(table, column("on").between("2024-02-01", None)) == [2, 4, 5]


def test_severities_decide_what_happens() -> None:
    table = pl.DataFrame({"a": [1, 2, 3], "b": [None, "x", "y"]})
    good, aside, report = partition(table, contract(column("a").between(0, 2, severity="warn")))
    assert (good.height, aside.height, report.outcome) == (3, 0, "warn")
    assert aside.columns == ["a", "b", "_rule", "_reason"]
    good, aside, report = partition(table, contract(column("a").between(0, 2), column("b").one_of("x", name="letters")))
    assert aside.select("a", "_rule", "_reason").rows() == [(3, "a.between(0, 2)", "a.between(0, 2); letters")]
    assert report.outcome == "quarantine"
    stopping = contract(column("b").not_null(severity="stop"))
    assert check(table, stopping).outcome == "stop"
    with pytest.raises(Invalid, match=re.escape("b.not_null(): 1 row; nothing was taken")):
        partition(table, stopping)
    with pytest.raises(Invalid, match="number of rows"):
        partition(table, contract(rows(at_least=4)))
    assert partition(table, contract(rows(at_least=3)))[2].outcome == "pass"
    assert partition(table, contract(rows(at_most=2, severity="warn")))[2].outcome == "warn"
    assert partition(table, contract())[2].outcome == "pass"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (column("aeg").not_null(), "Did you mean 'age'"),
        (unique("id", "aeg"), "Did you mean 'age'"),
        (rule("grown", "aeg > 18"), "Did you mean 'age'"),
        (rule("grown", "age >"), "cannot be asked"),
        (rule("grown", "age + 1"), "gives integer"),
        (rule("grown", "sum(age) > 3"), "whole table"),
        (rule("grown", "name > 3"), "cannot be asked"),
        (rule("grown", "age > 1; DROP TABLE x"), "cannot be asked"),
        (column("name").matches("(?=x)"), "does not parse"),
        (column("name").matches("("), "does not parse"),
        (column("on").matches("1"), "needs text"),
        (column("on").between(1, 2), "range is of numbers"),
        (column("age").between("2020-01-01"), "range is of dates"),
        (column("age").one_of("x"), "another type"),
        (column("on").one_of(True), "another type"),
    ],
)
def test_a_rule_that_cannot_be_asked_is_named(bad: object, says: str) -> None:
    table = pl.DataFrame({"id": [1], "age": [3], "name": ["x"], "on": [date(2020, 1, 1)]})
    with pytest.raises(Invalid) as caught:
        check(table, contract(bad))  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_no_value_of_a_row_is_in_an_error() -> None:
    table = pl.DataFrame({"name": ["Miller", "17"]})
    with pytest.raises(Invalid) as caught:
        check(table, contract(rule("number", "CAST(name AS INT) > 3")))
    assert "Miller" not in str(caught.value)
    assert "'number'" in str(caught.value)


def test_a_quarantine_is_not_taken_twice_by_accident() -> None:
    with pytest.raises(Invalid, match="_rule"):
        partition(pl.DataFrame({"a": [1], "_rule": ["x"]}), contract())


def test_a_suggestion_holds_of_its_own_table_and_says_what_matters() -> None:
    table = pl.DataFrame(
        {
            "visit_id": range(1, 201),
            "patient": [i % 90 for i in range(200)],
            "sex": ["Female", "Male"] * 100,
            "note": [f"text {i}" for i in range(200)],
            "days": [1 + i % 14 for i in range(200)],
            "change": [(-1) ** i * i / 7 for i in range(200)],
            "same": [3] * 200,
            "none": pl.Series([None] * 200, dtype=pl.String),
            "back": ["NO", "YES"] * 100,
        }
    )
    made = suggest(table, label="back", time="visit_id", group="patient")
    assert check(table, made).outcome == "pass"
    titles = [r.title for r in made.rules]
    assert titles[:5] == [
        "unique(visit_id)",
        "back.not_null()",
        "visit_id.not_null()",
        "patient.not_null()",
        "back.one_of(NO, YES)",
    ]
    assert set(titles[5:]) == {"days.between(0, 27)", "sex.one_of(Female, Male)", "change.between(-86.0, 85.0)"}
    assert {r.severity for r in made.rules[5:]} == {"warn"}
    assert len(suggest(table, label="back", at_most=2).rules) == 2
    with pytest.raises(Invalid, match="Did you mean 'back'"):
        suggest(table, label="bakc")


@settings(deadline=None)
@given(_TABLES)
@example(pl.DataFrame({"weight": [0.0, 1.0, float("inf")], "sex": ["a", "b", "b"], "on": [date(2000, 1, 1)] * 3}))
def test_a_suggestion_always_passes_its_own_table(table: pl.DataFrame) -> None:
    assert check(table, suggest(table, label="sex", time="on")).outcome == "pass"

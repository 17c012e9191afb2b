# ruff: noqa: DTZ001 - tables hold naive times; columns line up
"""Applying a contract: no row is lost, each rule says what it means, bad rules are named."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.errors import Invalid
from loopline.quality.contract import Contract, column, contract, fresh, like, rows, rule, schema, unique
from loopline.quality.contract_beyond import Beyond
from loopline.quality.contract_check import PERSONAL, check, partition
from loopline.quality.contract_suggest import suggest
from loopline.quality.profile import profile

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
        st.builds(lambda s: column("code").refers_to("data:codes", "code", severity=s), _SEVERITY),
        st.builds(lambda s: column("id").refers_to("data:codes", "id", severity=s), _SEVERITY),
        st.builds(lambda s: column("on").rising(severity=s), _SEVERITY),
        st.builds(lambda s: column("weight").rising(strict=True, by="sex", severity=s), _SEVERITY),
        st.builds(lambda: fresh("on", within="2d", severity="warn")),
        st.builds(lambda c: like("data:old@1", columns=c), st.sampled_from([(), ("age", "sex"), ("ok",)])),
    ),
    max_size=8,
    unique_by=lambda r: r.title,
).map(lambda rules: contract(*rules))


_CODES = pl.DataFrame({"code": ["0", "1", "V"], "id": [1, 2, 3]})
_OLD = pl.DataFrame({"age": [30, 40] * 50, "sex": ["Female", "Male"] * 50, "ok": [True] * 100})


def _beyond(old: pl.DataFrame = _OLD, codes: pl.DataFrame = _CODES, now: str = "2001-01-02T12:00:00+00:00") -> Beyond:
    """Other datasets and a time, as a service hands them in."""
    return Beyond(
        now=int(datetime.fromisoformat(now).timestamp() * 1000),
        column=lambda ref, name: {"data:codes": codes}[ref][name],
        profile=lambda ref: {"data:old@1": profile(old).freeze()}[ref],
    )


@settings(deadline=None)
@given(_TABLES, _RULES)
def test_rows_in_are_rows_out_plus_quarantined(table: pl.DataFrame, made: Contract) -> None:
    numbered = table.with_row_index("row")
    good, aside, report = partition(numbered, made, beyond=_beyond())
    assert good.height + aside.height == table.height == report.rows
    assert report.quarantined == aside.height == report.mask.sum()
    assert sorted([*good["row"], *aside["row"]]) == list(range(table.height))
    assert_frame_equal(aside.drop("_rule", "_reason"), numbered.filter(report.mask))  # as they came
    assert aside["_rule"].null_count() == 0
    for first, reasons in aside.select("_rule", "_reason").iter_rows():
        assert reasons.split("; ")[0] == first
    # What passed passes again, whatever was set aside.
    again = check(good, made, beyond=_beyond())
    assert again.quarantined == 0
    counted = {r.name: r.broken for r in report.rules if r.severity == "quarantine"}
    for name, broken in counted.items():
        assert sum(name in reasons.split("; ") for reasons in aside["_reason"]) == broken


def test_rows_that_were_taken_before_are_not_judged_again() -> None:
    table = pl.DataFrame({"id": [1, 2, 2, 3, 1, 3], "days": [99, 2, 3, 4, 5, 77]})
    rules = contract(unique("id"), column("days").between(0, 31), rows(at_most=6))
    good, aside, report = partition(table, rules, behind=3)
    assert good["days"].to_list() == [99, 2, 3, 4]
    assert aside["days"].to_list() == [5, 77]
    assert report.counts("quarantine") == {"unique(id)": 2, "days.between(0, 31)": 1}
    assert [example.row for example in report.rules[1].examples] == [6]
    with pytest.raises(Invalid, match="stops"):
        partition(table, contract(rows(at_most=5)), behind=3)


def _broken(table: pl.DataFrame, *rules: object) -> list[int]:
    """The numbers of the rows that break any of the rules, from 1."""
    report = check(table, contract(*rules), beyond=_beyond())  # type: ignore[arg-type]
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
    shown = [(e.row, e.values) for e in report.rules[0].examples]
    assert shown == [(3, {"x": "14.5"}), (5, {"x": "-0.5"}), (6, {"x": "inf"})]
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


def test_references_to_another_dataset() -> None:
    table = pl.DataFrame({"code": ["1", "9", None, "V"], "id": [1, 4, None, 3], "x": [1.0, 2.0, None, 3.0]})
    assert _broken(table, column("code").refers_to("data:codes", "code")) == [2]  # a missing value refers to nothing
    assert _broken(table, column("id").refers_to("data:codes", "id")) == [2]
    assert _broken(
        table.cast({"code": pl.Categorical, "id": pl.UInt8}), column("id").refers_to("data:codes", "id")
    ) == [2]
    with pytest.raises(Invalid, match="'id' of data:codes is integer"):
        _broken(table, column("code").refers_to("data:codes", "id"))
    with pytest.raises(Invalid, match="asks more than the table"):
        check(table, contract(column("code").refers_to("data:codes", "code")))


def test_times_that_rise() -> None:
    table = pl.DataFrame(
        {
            "at": [datetime(2000, 1, d) if d else None for d in (1, 5, 2, 0, 5, 3, 9)],
            "ward": ["a", "a", "b", "b", "b", "a", None],
            "n": [1.0, float("nan"), 0.5, 1.0, 2.0, 2.0, 3.0],
        }
    )
    assert _broken(table, column("at").rising()) == [3, 6]  # below the highest before, not below the one before
    assert _broken(table, column("at").rising(strict=True)) == [3, 5, 6]
    assert _broken(table, column("at").rising(by="ward")) == [6]  # each ward for itself, none for a missing one
    assert _broken(table, column("n").rising(strict=True)) == [3, 4, 6]
    texts = pl.DataFrame({"at": ["2000-01-01T10:00:00", "2000-01-01", "soon", None, "2000-01-02"]})
    assert _broken(texts, column("at").rising()) == [2, 3]
    with pytest.raises(Invalid, match="holds no times"):
        _broken(table.with_columns(at=pl.lit(True)), column("at").rising())


@pytest.mark.parametrize(
    ("newest", "old"),
    [
        (date(2001, 1, 1), ""),
        (date(2000, 12, 31), "2.5 days"),
        (datetime(2000, 12, 31, 12), ""),
        ("2000-12-31 11:00:00", "2.0 days"),
        (datetime(2000, 12, 31, 12, tzinfo=timezone(timedelta(hours=1))), "2.0 days"),
        (datetime(2100, 1, 1), ""),
        (None, "no time in any row"),
    ],
)
def test_how_old_the_newest_row_is(newest: object, old: str) -> None:
    table = pl.DataFrame({"at": [newest, None]}, schema_overrides=None if newest else {"at": pl.Date})
    result = check(table, contract(fresh("at", within="2d")), beyond=_beyond()).rules[0]
    assert (bool(result.broken), result.examples) == (bool(old), ())
    assert old in result.said
    if old:
        with pytest.raises(Invalid, match=r"fresh\(at, within=\"2d\"\)"):
            partition(table, contract(fresh("at", within="2d")), beyond=_beyond())
        kept = partition(table, contract(fresh("at", within="2d", severity="warn")), beyond=_beyond())
        assert (kept[0].height, kept[2].outcome) == (2, "warn")


def test_a_row_that_is_set_aside_makes_nothing_fresh() -> None:
    table = pl.DataFrame({"at": [date(1990, 1, 1), date(2900, 1, 1)]})
    made = contract(fresh("at", within="2d", severity="warn"), column("at").between(None, "2002-01-01"))
    assert "days old" in check(table, made, beyond=_beyond()).rules[0].said


@pytest.mark.parametrize(
    ("columns", "others", "said"),
    [
        ({"on": "date", "id": "integer", "dose": "text", "none": "boolean"}, False, ""),
        ({"id": "number", "on": "datetime", "dose": "any"}, True, ""),
        ({"id": "integer", "dose": "text"}, False, "'on' is a further column, 'none' is a further column"),
        ({"id": "text", "ward": "text"}, True, "there is no column 'ward', 'id' is integer, not text"),
        ({f"c{i}": "text" for i in range(12)}, True, "there is no column 'c9' and 2 more"),
    ],
)
def test_which_columns_there_are(columns: dict[str, str], others: bool, said: str) -> None:
    table = pl.DataFrame({"id": [1], "dose": ["2"], "on": [date(2000, 1, 1)], "none": [None]})
    (found,) = check(table, contract(schema(columns, others=others))).rules
    assert (bool(found.broken), found.severity) == (bool(said), "stop")
    assert found.said.endswith(said)
    # What is set aside and what becomes a number is as the version will have it.
    made = contract(column("dose").of_type("integer"), schema({"dose": "integer"}, others=True))
    assert check(pl.concat([table, table.with_columns(dose=pl.lit("?"))]), made).rules[1].said == ""


def test_distributions_as_in_another_version() -> None:
    old = pl.DataFrame({"age": [30 + n % 40 for n in range(2000)], "sex": ["f", "m"] * 1000, "n": range(2000)})
    same, older = old.sample(fraction=0.5, seed=1), old.with_columns(pl.col("age") + 20)
    wanted = contract(like("data:old@1", columns=["age", "sex"]))
    assert check(same, wanted, beyond=_beyond(old)).outcome == "pass"
    report = check(older, wanted, beyond=_beyond(old))
    assert (report.outcome, report.quarantined) == ("warn", 0)
    assert report.rules[0].said == "age is distributed otherwise than in data:old@1"
    assert (
        check(older.drop("n"), contract(like("data:old@1")), beyond=_beyond(old)).rules[0].broken == 1
    )  # what both have
    with pytest.raises(Invalid, match="nothing was taken"):
        partition(older, contract(like("data:old@1", severity="stop")), beyond=_beyond(old))
    for bad, says in (
        (same.drop("n"), "column 'n' that the table does not have"),
        (same.cast({"n": pl.String}), "of kind category"),
    ):
        with pytest.raises(Invalid, match=says):
            check(bad, contract(like("data:old@1", columns=["n"])), beyond=_beyond(old))
    # Rows that are set aside, and texts that become numbers, count as the version will have them.
    raw = same.cast({"age": pl.String}).extend(pl.DataFrame({"age": ["?"] * 900, "sex": ["f"] * 900, "n": [1] * 900}))
    both = contract(column("age").of_type("integer"), like("data:old@1", columns=["age"]))
    assert [r.broken for r in check(raw, both, beyond=_beyond(old)).rules] == [900, 0]


def test_examples_show_what_a_rule_read_and_nothing_personal() -> None:
    table = pl.DataFrame({"name": ["Miller", "Smith", "Smith"], "age": [300, 4, 5], "note": ["x" * 100, "", ""]})
    made = contract(
        unique("name"),
        column("age").between(0, 120),
        rule("called", "name <> 'Miller' AND age < 6"),
        column("note").matches("x?"),
        personal=["name"],
    )
    assert [[(e.row, e.values) for e in r.examples] for r in check(table, made).rules] == [
        [(3, {"name": PERSONAL})],
        [(1, {"age": "300"})],
        [(1, {"name": PERSONAL, "age": "300"})],
        [(1, {"note": "x" * 59 + "…"})],
    ]
    with pytest.raises(Invalid, match="list of personal columns speaks of a column 'nmae'"):
        check(table, contract(personal=["nmae"]))


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
    with pytest.raises(Invalid, match=re.escape("rows(at_least=4): there are 3 rows; nothing was taken")):
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
            "code": [f"AB {i % 10}.{i:03}" for i in range(200)],
            "nick": ["Jo", "Al"] * 100,
            "days": [1 + i % 14 for i in range(200)],
            "change": [(-1) ** i * i / 7 for i in range(200)],
            "same": [3] * 200,
            "none": pl.Series([None] * 200, dtype=pl.String),
            "back": ["NO", "YES"] * 100,
        }
    )
    made = suggest(table, label="back", time="visit_id", group="patient", personal=["nick", "gone"])
    assert check(table, made).outcome == "pass"
    titles = [r.title for r in made.rules]
    assert titles[:5] == [
        "unique(visit_id)",
        "back.not_null()",
        "visit_id.not_null()",
        "patient.not_null()",
        "back.one_of(NO, YES)",
    ]
    assert titles[5] == "columns"
    assert set(titles[6:]) == {
        "days.between(0, 27)",
        "sex.one_of(Female, Male)",
        "change.between(-86.0, 85.0)",
        r"code.matches([\p{L}\p{M}]+\s+\d\.\d{3})",
        *(f"{name}.not_null()" for name in ("sex", "note", "code", "nick", "days", "change", "same")),
    }
    assert made.personal == ("nick",)
    assert {r.severity for r in made.rules[5:]} == {"warn"}
    assert len(suggest(table, label="back", at_most=2).rules) == 2
    with pytest.raises(Invalid, match="Did you mean 'back'"):
        suggest(table, label="bakc")


@settings(deadline=None)
@given(_TABLES)
@example(pl.DataFrame({"weight": [0.0, 1.0, float("inf")], "sex": ["a", "b", "b"], "on": [date(2000, 1, 1)] * 3}))
def test_a_suggestion_always_passes_its_own_table(table: pl.DataFrame) -> None:
    assert check(table, suggest(table, label="sex", time="on")).outcome == "pass"

"""What a filter means is known from its tree; a wrong one is told with its place and what was expected there."""

from __future__ import annotations

import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.tracking.search import dates
from loopline.tracking.search.grammar import DEEPEST, MOST_ORDERS, MOST_TERMS, MOST_VALUES, parse, parse_order
from loopline.tracking.search.tree import And, Field, In, Like, Match, Missing, Not, Or, Order, OrderBy, Span, Tree

NOW = int(datetime.datetime(2026, 11, 28, 12, 30, 15, tzinfo=datetime.UTC).timestamp() * 1000)

LOSS = Field("metrics", "loss")
NAME = Field("attributes", "name")


def at(*moment: int) -> int:
    return int(datetime.datetime(*moment, tzinfo=datetime.UTC).timestamp() * 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", And(())),
        ("name = 'a'", In(NAME, ("a",))),
        ('NAME == "it\'s"', In(NAME, ("it's",))),
        ("run.name != 'it''s'", In(NAME, ("it's",), True)),
        ("attributes.run_name <> 'a'", In(NAME, ("a",), True)),
        ("metrics.loss <= -1.5e-3", Order(LOSS, "<=", -0.0015)),
        ("metric.`loss`>.5", Order(LOSS, ">", 0.5)),
        ('metrics."train/loss".min < 1', Order(Field("metrics", "train/loss", "min"), "<", 1.0)),
        ("metrics.train/loss-2.max < 1", Order(Field("metrics", "train/loss-2", "max"), "<", 1.0)),
        ('metrics."loss.max" < 1', Order(Field("metrics", "loss.max"), "<", 1.0)),
        ("Min(metrics.loss) < +INF", Order(Field("metrics", "loss", "min"), "<", math.inf)),
        ("params.lr IN (0.1, '0.2')", In(Field("params", "lr"), (0.1, "0.2"))),
        ('parameters."a ""b""" not in (\'x\')', In(Field("params", 'a "b"'), ("x",), True)),
        ("tags.mlflow.user LIKE 'a%'", Like(Field("tags", "mlflow.user"), "a%")),
        ("tag.a ILIKE 'A_'", Match(Field("tags", "a"), "(?is)^A.$")),
        ("params.a NOT LIKE 'a.%'", Match(Field("params", "a"), r"(?s)^a\..*$", True)),
        ("name ~ '^a'", Match(NAME, "^a")),
        ("name !~ '^a'", Match(NAME, "^a", True)),
        ("name NOT MATCHES '^a'", Match(NAME, "^a", True)),
        ("note IS NULL", Missing(Field("attributes", "note"))),
        ("note is not null", Not(Missing(Field("attributes", "note")))),
        ("metrics.loss BETWEEN 1 AND 2", And((Order(LOSS, ">=", 1.0), Order(LOSS, "<=", 2.0)))),
        ("metrics.loss NOT BETWEEN 1 AND 2", Or((Order(LOSS, "<", 1.0), Order(LOSS, ">", 2.0)))),
        ("datasets = 'visits@7'", In(Field("inputs", "data"), ("visits@7",))),
        ("models LIKE 'model:m@%'", Like(Field("outputs", "model"), "model:m@%")),
        ("status = 'FINISHED'", In(Field("attributes", "status"), ("finished",))),
        ("duration > '1h 30m'", Order(Field("attributes", "duration"), ">", 5_400_000.0)),
        ("duration < 1.5", Order(Field("attributes", "duration"), "<", 1500.0)),
        ("created = 5", In(Field("attributes", "created"), (Span(5, 6),))),
        (
            "NOT name = 'a' AND name = 'b' OR name = 'c'",
            Or((And((Not(In(NAME, ("a",))), In(NAME, ("b",)))), In(NAME, ("c",)))),
        ),
        (
            "(name = 'a' OR name = 'b') AND name = 'c'",
            And((Or((In(NAME, ("a",)), In(NAME, ("b",)))), In(NAME, ("c",)))),
        ),
    ],
)
def test_a_filter_means_its_tree(text: str, tree: Tree) -> None:
    assert parse(text, NOW) == tree


def test_nan_is_a_value_to_be_equal_to() -> None:
    found = parse("metrics.loss = NaN", NOW)
    assert isinstance(found, In)
    assert isinstance(found.values[0], float)
    assert math.isnan(found.values[0])


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("nam = 'x'", 1, "Did you mean 'name'?"),
        ("loss < 3", 1, "metrics.loss"),
        ("metrics.loss", 13, "a comparison was expected, not the end"),
        ("metrics. loss > 1", 10, "a key behind metrics."),
        ("params.'x' = 1", 8, "a key behind params."),
        ("run = 'x'", 5, "a key behind run."),
        ("run.nme = 'x'", 1, "Did you mean 'name'?"),
        ("tags.\"a\".min = 'x'", 9, "no part of tags"),
        ('metrics."a".mean = 1', 12, "no part of metrics"),
        ("min(params.x) > 1", 1, "min is of metrics only"),
        ("min(metrics.x > 1", 15, "')' was expected"),
        ("metrics.loss > and", 16, "a value was expected"),
        ("metrics.loss < 'a'", 16, "a number was expected"),
        ("metrics.loss > NaN", 14, "NaN has no order"),
        ("metrics.loss LIKE 'a'", 14, "LIKE is for texts"),
        ("tags.fold = 5", 13, "Write it in quotes: '5'."),
        ("params.x = true", 12, "Texts stand in quotes: 'true'."),
        ("params.x = `a`", 12, "a value was expected"),
        ("duration > 2h", 12, "stand in quotes"),
        ("duration > '2 parsecs'", 12, "no duration"),
        ("created > 2026-03-01", 11, "stand in quotes"),
        ("created > 'lately'", 11, "'last 7 days'"),
        ("created > '2026-02-30'", 11, "no date"),
        ("status = 'finishd'", 10, "Did you mean 'finished'?"),
        ("status > 'failed'", 8, "no order"),
        ("inputs < 'data:a@1'", 8, "no order"),
        ("parent LIKE 'a'", 8, "for texts"),
        ("name = 'x' nad name = 'y'", 12, "Did you mean 'AND'?"),
        ("name = 'x' && name = 'y'", 12, "Write AND."),
        ("name = 'x' name = 'y'", 12, "AND, OR or the end"),
        ("name NOT = 'x'", 10, "IN, LIKE, ILIKE, MATCHES or BETWEEN"),
        ("name IN 'x'", 9, "'(' was expected"),
        ("name IN ('x' 'y')", 14, "',' or ')'"),
        ("name IN ()", 10, "a value was expected"),
        ("name IS 'x'", 9, "NULL was expected"),
        ("metrics.a BETWEEN 1 OR 2", 21, "AND was expected"),
        ("(name = 'x'", 12, "')' of character 1"),
        ("name = 'x')", 11, "AND, OR or the end"),
        ("name = 'x", 8, "never closed"),
        ("name LIKE x", 11, "a pattern in quotes"),
        ("name ~ '(a'", 8, "unclosed group"),
        ("name ~ '(?<=a)b'", 8, "look-around"),
        ("name ~ '(\\w{500}){500}'", 8, "size limit"),
        ("name ~ '" + "a" * 1001 + "'", 8, "longer than 1000"),
        ("name LIKE '" + "%" * 1001 + "'", 11, "longer than 1000"),
        ("name = 'x'; DROP TABLE runs", 11, "One filter at a time."),
        ("name = 'a\x00b'", 10, "no text holds"),
        ("name = '\ud800'", 9, "no text holds"),
        ("AND", 1, "no field"),
        ("= 1", 1, "a field was expected"),
        ("NOT", 4, "a field was expected"),
        ("(" * (DEEPEST + 1) + "name = 'x'", DEEPEST + 1, "deeper than"),
        ("NOT " * (DEEPEST + 1) + "name = 'x'", 4 * DEEPEST + 1, "deeper than"),
        (" OR ".join(["name = 'x'"] * (MOST_TERMS + 1)), 14 * MOST_TERMS + 1, "more than 200 terms"),
        (f"metrics.a IN ({','.join('1' * (MOST_VALUES + 1))})", 15 + 2 * MOST_VALUES, "more than 1000 values"),
        ("name = '" + "x" * 10_000 + "'", 10_001, "longer than 10000"),
    ],
)
def test_a_wrong_filter_is_told_with_its_place(text: str, place: int, said: str) -> None:
    with pytest.raises(Invalid) as e:
        parse(text, NOW)
    assert e.value.code == "bad-filter"
    assert e.value.details["at"] == place
    assert f"at character {place}:" in e.value.message
    assert said in str(e.value)
    *_, shown, caret = e.value.hint.split("\n")
    assert caret.strip() == "^"
    if place <= len(text) and text[place - 1].isprintable():
        assert shown[len(caret) - 1] == text[place - 1], "the caret stands under the character"


def test_an_order_is_fields_with_a_way() -> None:
    assert parse_order(["metrics.loss DESC", "created", "tags.`a b` asc"]) == (
        OrderBy(LOSS, True),
        OrderBy(Field("attributes", "created")),
        OrderBy(Field("tags", "a b")),
    )
    for wrong, place in (("metrics.loss DOWN", 14), ("inputs", 1), ("", 1), ("name, id", 5), ("lss", 1)):
        with pytest.raises(Invalid) as e:
            parse_order([wrong])
        assert (e.value.code, e.value.details["at"]) == ("bad-filter", place)
        assert e.value.message.startswith("The order is wrong")
    with pytest.raises(Invalid):
        parse_order(["name"] * (MOST_ORDERS + 1))


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", at(2026, 1, 1), at(2027, 1, 1)),
        ("2026-02", at(2026, 2, 1), at(2026, 3, 1)),
        ("2026-03-01", at(2026, 3, 1), at(2026, 3, 2)),
        ("2026-03-01T12:00", at(2026, 3, 1, 12), at(2026, 3, 1, 12, 1)),
        ("2026-03-01 12:00:05Z", at(2026, 3, 1, 12, 0, 5), at(2026, 3, 1, 12, 0, 6)),
        ("2026-03-01T12:00:05.25+02:00", at(2026, 3, 1, 10, 0, 5) + 250, at(2026, 3, 1, 10, 0, 5) + 251),
        ("now", NOW, NOW + 1),
        ("Today", at(2026, 11, 28), at(2026, 11, 29)),
        ("yesterday", at(2026, 11, 27), at(2026, 11, 28)),
        ("this  week", at(2026, 11, 23), at(2026, 11, 30)),
        ("last week", at(2026, 11, 16), at(2026, 11, 23)),
        ("this month", at(2026, 11, 1), at(2026, 12, 1)),
        ("last month", at(2026, 10, 1), at(2026, 11, 1)),
        ("last year", at(2025, 1, 1), at(2026, 1, 1)),
        ("last 7 days", at(2026, 11, 21, 12, 30, 15), None),
        ("past 1 month", at(2026, 10, 28, 12, 30, 15), None),
        ("3 hours ago", at(2026, 11, 28, 9, 30, 15), at(2026, 11, 28, 9, 30, 15) + 1),
        ("since 2026-03-01", at(2026, 3, 1), None),
        ("since yesterday", at(2026, 11, 27), None),
    ],
)
def test_dates_in_words(text: str, start: int, end: int | None) -> None:
    assert dates.span(text, NOW) == Span(start, end)


def test_a_month_before_its_31st_is_the_last_day_of_a_shorter_one() -> None:
    assert dates.span("last 1 month", at(2026, 3, 31)) == Span(at(2026, 2, 28), None)
    assert dates.span("last 13 months", at(2025, 3, 31)) == Span(at(2024, 2, 29), None)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13", "2026-03-01T25:00", "last", "9999999 days ago", "since", "0000"]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert dates.span(text, NOW) is None


def test_durations() -> None:
    assert dates.duration("90s") == 90_000
    assert dates.duration("1h30m") == 5_400_000
    assert dates.duration("2 days 250 ms") == 172_800_250
    assert dates.duration("0.5h") == 1_800_000
    for text in ("", "h", "5", "2 parsecs", "1h and 2m"):
        assert dates.duration(text) is None


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(["name", "metrics.a", "(", ")", "=", "'x'", "1", "AND", "NOT", "IN", ",", "~", "`"])
    ).map(" ".join)
)
def test_any_text_is_a_filter_or_told_where_it_is_wrong(text: str) -> None:
    try:
        parse(text, NOW)
    except Invalid as e:
        assert e.code == "bad-filter"  # noqa: PT017
        assert 1 <= e.details["at"] <= len(text) + 1  # noqa: PT017

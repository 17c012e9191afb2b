"""Splits: no row is lost, no group on two sides, nothing is chosen by what comes after it."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.data.readers import read_table
from loopline.data.split import split, window
from loopline.data.split_leaks import check_leaks, leaks
from loopline.data.split_records import SIDES, Split
from loopline.errors import Invalid, Refused

REAL = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).parents[3] / "shared/data")) / "readmission.parquet"
_ROWS = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.integers(0, 8), st.sampled_from(["NO", "YES"])),
    min_size=6,
    max_size=60,
)


def _table(rows: list[tuple[int, int | None, str]]) -> pl.DataFrame:
    schema = {"time": pl.Int64, "patient": pl.Int64, "back": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index("row")


def _sides(made: Split) -> dict[int, str]:
    return {row: side for side in SIDES for row in getattr(made, side)["row"]}


@settings(deadline=None)
@given(_ROWS, st.integers(1, 11), st.integers(1, 11))
def test_a_split_by_time_looks_back_only(rows: list[tuple[int, int | None, str]], first: int, more: int) -> None:
    table, boundaries = _table(rows), (first, first + more)
    try:
        made = split(
            table, label="back", time="time", group="patient", task="regression", boundaries=boundaries, seed=0
        )
    except Invalid as error:
        assume(error.code != "split-empty")
        raise
    facts = made.facts
    assert sum(s.rows for s in facts.sides) + facts.dropped == len(rows)
    # Each patient is on one side, and it is the earliest that has them.
    for name, earlier in (("validation", made.train), ("test", pl.concat([made.train, made.validation]))):
        assert not set(getattr(made, name)["patient"].drop_nulls()) & set(earlier["patient"].drop_nulls())
    assert made.train["time"].to_list() == sorted(r[0] for r in rows if r[0] < first)
    # Cut the future off anywhere after the sides have a row each: the earlier rows are chosen as before.
    chosen = _sides(made)
    for cut in range(first + more + 1, 14):
        past = table.filter(pl.col("time") < cut)
        kept = {row: side for row, side in chosen.items() if table["time"][row] < cut}
        arguments = {"label": "back", "time": "time", "group": "patient", "task": "regression", "seed": 0}
        if set(kept.values()) == set(SIDES):
            assert _sides(split(past, boundaries=boundaries, **arguments)) == kept  # type: ignore[arg-type]
        else:
            with pytest.raises(Invalid, match="0 rows"):
                split(past, boundaries=boundaries, **arguments)  # type: ignore[arg-type]


@settings(deadline=None)
@given(_ROWS, st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.1, 0.1, 0.8)]))
def test_rows_of_one_moment_are_never_parted(
    rows: list[tuple[int, int | None, str]], fractions: tuple[float, ...]
) -> None:
    table = _table(rows)
    moments = table["time"].n_unique()
    if moments < 3:
        with pytest.raises(Invalid, match="0 rows"):
            split(table, label="back", time="time", task="regression", fractions=fractions, seed=0)
        return
    made = split(table, label="back", time="time", task="regression", fractions=fractions, seed=0)
    assert len(_sides(made)) == len(rows)
    times = [set(getattr(made, side)["time"]) for side in SIDES]
    assert max(times[0]) < min(times[1])
    assert max(times[1]) < min(times[2])
    assert made.facts.boundaries == (min(times[1]), min(times[2]))


def test_fractions_are_met_and_dates_work() -> None:
    day = date(2020, 1, 1)
    table = pl.DataFrame({"on": [day + timedelta(days=i // 2) for i in range(1000)], "y": [0, 1] * 500})
    made = split(
        table.sample(fraction=1, shuffle=True, seed=1), label="y", time="on", fractions=(0.6, 0.2, 0.2), seed=0
    )
    assert [s.rows for s in made.facts.sides] == [600, 200, 200]
    assert made.facts.boundaries == ("2020-10-27", "2021-02-04")
    assert made.facts.said() == "by time: train 600, validation 200, test 200"
    assert made.facts.to_dict()["sides"][0]["last"] == "2020-10-26"
    given_ = split(table, label="y", time="on", boundaries=(date(2020, 3, 1), date(2020, 4, 1)), seed=0)
    assert given_.facts.sides[1].first == "2020-03-01"
    zoned = table.with_columns(pl.col("on").cast(pl.Datetime("us", "UTC")))
    moments = (datetime(2020, 3, 1, tzinfo=UTC), datetime(2020, 4, 1, tzinfo=UTC))
    assert split(zoned, label="y", time="on", boundaries=moments, seed=0).train.height == given_.train.height


def test_a_split_by_group_keeps_groups_whole_and_rare_classes_everywhere() -> None:
    table = pl.DataFrame(
        {"g": [i // 3 for i in range(6000)], "y": ["rare" if i % 500 == 0 else "usual" for i in range(6000)]}
    )
    made = split(table, label="y", group="g", seed=3)
    assert not [one for one in leaks(made, label="y", group="g") if one.leak == "same-group"]
    assert [s.rows for s in made.facts.sides] == pytest.approx([4200, 900, 900], abs=30)
    assert [s.classes["rare"] for s in made.facts.sides] == pytest.approx([8, 2, 2], abs=1)
    assert_frame_equal(split(table, label="y", group="g", seed=3).test, made.test)
    assert not split(table, label="y", group="g", seed=4).test.equals(made.test)


def test_a_random_split_is_stratified_seeded_and_loses_nothing() -> None:
    table = pl.DataFrame({"i": range(5003), "y": [int(i % 500 == 0) for i in range(5003)]})
    made = split(table, label="y", seed=1)
    assert made.facts.by == "random, stratified"
    assert [s.classes["1"] for s in made.facts.sides] == [8, 1, 2]
    assert sorted([*made.train["i"], *made.validation["i"], *made.test["i"]]) == list(range(5003))
    assert made.train["i"].is_sorted()
    assert_frame_equal(split(table, label="y", seed=1).train, made.train)
    amounts = split(pl.DataFrame({"y": [i / 7 for i in range(100)]}), label="y", seed=1)
    assert (amounts.facts.by, [s.rows for s in amounts.facts.sides]) == ("random", [70, 15, 15])
    three = split(pl.DataFrame({"y": ["a"] * 3 + ["b"] * 30}), label="y", seed=1)
    assert [s.classes["a"] for s in three.facts.sides] == [1, 1, 1]


_SOME = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 30), st.sampled_from(["NO", "YES"])), min_size=40, max_size=150
)


@settings(deadline=None, max_examples=60)
@given(_SOME, st.sampled_from([None, "group", "stratified", "random"]), st.integers(0, 5))
def test_sides_are_disjoint_complete_and_the_same_for_a_seed(
    rows: list[tuple[int, int, str]], by: str | None, seed: int
) -> None:
    table = _table(rows)  # type: ignore[arg-type]
    arguments: dict[str, Any] = {"label": "back", "group": "patient", "task": "regression", "by": by, "seed": seed}
    assume(by != "group" or table["patient"].n_unique() >= 3)
    assume(by is not None or table["patient"].n_unique() >= 3)
    made = split(table, **arguments)
    drawn = [row for side in SIDES for row in getattr(made, side)["row"]]
    assert sorted(drawn) == list(range(len(rows)))
    assert _sides(split(table, **arguments)) == _sides(made)
    if by in (None, "group"):
        sides = [set(getattr(made, side)["patient"]) for side in SIDES]
        assert sum(map(len, sides)) == len(set().union(*sides))
    else:
        for side, share in zip(SIDES, (0.7, 0.15, 0.15), strict=True):
            assert abs(getattr(made, side).height - share * len(rows)) <= 1
        # The order of the table's rows decides nothing that a seed and their place do not.
        assert _sides(split(table.with_columns(time=0), **arguments)) == _sides(made)


@settings(deadline=None, max_examples=60)
@given(_SOME, st.integers(0, 5))
def test_strata_keep_their_shares(rows: list[tuple[int, int, str]], seed: int) -> None:
    table = _table(rows)  # type: ignore[arg-type]
    assume(min((table["back"] == c).sum() for c in ("NO", "YES")) >= 7)
    made = split(table, label="back", by="stratified", seed=seed)
    for value in ("NO", "YES"):
        total = int((table["back"] == value).sum())
        for side, share in zip(SIDES, (0.7, 0.15, 0.15), strict=True):
            assert abs(int((getattr(made, side)["back"] == value).sum()) - share * total) <= 1.5
    assert split(table, label="back", by="random", task="regression", seed=seed).facts.by == "random"


_MANY = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.integers(0, 40), st.sampled_from(["NO", "YES"])),
    min_size=60,
    max_size=120,
)


@settings(deadline=None, max_examples=60)
@given(_MANY, st.integers(4, 6), st.integers(3, 4), st.integers(0, 3))
def test_an_embargo_leaves_out_what_is_near_a_later_side_and_looks_back_only(
    rows: list[tuple[int, int | None, str]], first: int, more: int, span: int
) -> None:
    table, starts = _table(rows), (first, first + more)
    arguments: dict[str, Any] = {
        "label": "back", "time": "time", "group": "patient", "task": "regression", "boundaries": starts, "seed": 0,
        "embargo": str(span),
    }  # fmt: skip
    try:
        made = split(table, **arguments)
        plain = split(table, **arguments | {"embargo": ""})
    except Invalid as error:
        assume(error.code != "split-empty")
        raise
    near = {row for row, (time, _, _) in enumerate(rows) if any(start - span <= time < start for start in starts)}
    assert _sides(made) == {row: side for row, side in _sides(plain).items() if row not in near}
    assert made.facts.embargoed == len(_sides(plain)) - len(_sides(made))
    assert sum(s.rows for s in made.facts.sides) + made.facts.dropped + made.facts.embargoed == len(rows)
    assert sum(s.embargoed for s in made.facts.sides) == made.facts.embargoed
    # What comes after a moment decides nothing about the rows up to it.
    later = table.with_columns(
        pl.when(pl.col("time") >= starts[1]).then(pl.lit("NO")).otherwise(pl.col("back")).alias("back"),
    ).with_columns(pl.when(pl.col("time") >= starts[1]).then(None).otherwise(pl.col("patient")).alias("patient"))
    kept = {row: side for row, side in _sides(made).items() if rows[row][0] < starts[1]}
    try:
        again = _sides(split(later, **arguments))
    except Invalid:
        return
    assert {row: side for row, side in again.items() if rows[row][0] < starts[1]} == kept


def test_an_embargo_is_a_duration_where_time_is_a_date() -> None:
    days = [date(2020, 1, 1) + timedelta(days=i) for i in range(100)]
    table = pl.DataFrame({"on": days, "y": [0, 1] * 50})
    made = split(table, label="y", time="on", fractions=(0.6, 0.2, 0.2), embargo="1w", seed=0)
    assert [(s.rows, s.embargoed) for s in made.facts.sides] == [(53, 7), (13, 7), (20, 0)]
    assert made.train["on"].max() == date(2020, 2, 22)  # 2020-03-01 is the first of validation
    assert made.facts.said().endswith("; 14 rows within 1w before a later side left out")
    zoned = table.with_columns(pl.col("on").cast(pl.Datetime("us", "Europe/Paris")))
    hours = split(zoned, label="y", time="on", fractions=(0.6, 0.2, 0.2), embargo="25h", seed=0)
    assert hours.facts.embargoed == 2
    with pytest.raises(Invalid, match="no duration for an embargo"):
        split(table, label="y", time="on", embargo="7", seed=0)


def test_what_is_amiss_between_the_sides_is_told_with_counts() -> None:
    random = np.random.default_rng(0)
    n = 2_000
    truth = random.integers(0, 2, n)
    table = pl.DataFrame(
        {
            "id": range(n),
            "g": [i // 2 for i in range(n)],
            "a": random.normal(size=n).round(3),
            "b": random.normal(size=n).round(3),
            "note": [f"Text {i}" for i in random.integers(0, 10**6, n)],
            "after": np.where(random.random(n) < 0.995, truth, 1 - truth),
            "y": truth,
        }
    )
    made = split(table, label="y", by="random", group="g", seed=1)
    assert [(one.leak, one.severity, one.column) for one in leaks(made, label="y", group="g")] == [
        ("same-group", 3, ""),
        ("knows-label", 3, "after"),
    ]
    groups = [set(getattr(made, side)["g"]) for side in SIDES]
    shared = groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert leaks(made, label="y", group="g")[0].count == len(shared)
    assert {one.leak for one in leaks(made, label="y")} == {"knows-label"}
    # Rows of training, once more in the test: as they are under another id, spelled otherwise, and with one value changed.
    again = made.train.head(40).with_columns(
        id=pl.lit(9_000) + pl.int_range(40), note=pl.col("note").str.to_uppercase()
    )
    nearly = made.train.slice(40, 7).with_columns(a=pl.col("a") + 1)
    soiled = made._replace(test=pl.concat([made.test, again.select(table.columns), nearly.select(table.columns)]))
    found = {one.leak: one for one in leaks(soiled, label="y")}
    assert (found["same-row"].count, found["same-row"].severity) == (40, 3)
    assert found["same-row"].text == "40 rows of test equal one of an earlier side in every column."
    assert (found["near-row"].count, found["near-row"].severity) == (7, 2)
    with pytest.raises(Refused, match="40 rows of test equal"):
        check_leaks(list(found.values()), ["same-row"])
    check_leaks([one for one in found.values() if one.leak != "same-row"], ["same-row"])


def test_rows_that_are_alike_by_chance_are_no_finding() -> None:
    random = np.random.default_rng(0)
    table = pl.DataFrame({c: random.integers(0, 3, 900) for c in "abc"} | {"y": random.integers(0, 2, 900)})
    assert leaks(split(table, label="y", seed=0), label="y") == ()


def test_a_window_takes_only_groups_not_seen_before() -> None:
    table = pl.DataFrame({"t": [1, 2, 3, 4, 5, 6], "g": ["a", "b", "a", "c", "c", "d"], "y": [0, 1, 0, 1, 0, 1]})
    rows, facts = window(table, 3, 6, time="t", group="g", label="y")
    assert rows["t"].to_list() == [4, 5]
    assert (facts.rows, facts.dropped, facts.groups, facts.classes) == (2, 1, 1, {"0": 1, "1": 1})
    assert window(table, 3, 6, time="t").rows.height == 3
    # What comes after the window changes nothing.
    assert_frame_equal(window(table.filter(pl.col("t") < 6), 3, 6, time="t", group="g").rows, rows)
    with pytest.raises(Invalid, match="0 rows \\(1 in it, 1 of them of a g seen before\\)"):
        window(table, 3, 4, time="t", group="g")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": "bakc"}, "Did you mean 'back'"),
        ({"time": "tiem"}, "Did you mean 'time'"),
        ({"group": "patients"}, "Did you mean 'patient'"),
        ({"fractions": (0.5, 0.5, 0.5)}, "sum is 1"),
        ({"fractions": (1.0, 0.0, 0.0)}, "three positive"),
        ({"fractions": (0.5, 0.5)}, "three positive"),
        ({"time": "back"}, "ISO dates"),
        ({"time": "gap"}, "missing in 1 of 40 rows (first in row 2)"),
        ({"time": None, "boundaries": (1, 2)}, "no time column"),
        ({"time": None, "embargo": "2"}, "no time column"),
        ({"by": "time", "time": None}, "no time column"),
        ({"by": "group"}, "no group column"),
        ({"seed": -1}, "seed of a split is -1"),
        ({"by": "random", "embargo": "2"}, "no boundary in time"),
        ({"embargo": "2d"}, "no span of 'time'"),
        ({"embargo": "-1"}, "no span of 'time'"),
        ({"embargo": "40"}, "34 rows within 40"),
        ({"boundaries": (date(2020, 1, 1), date(2020, 1, 2))}, "own type"),
        ({"boundaries": (10, 90)}, "The test side of the split by time has 0 rows (train 10, validation 30, test 0"),
        ({"boundaries": (38, 39)}, "The validation side of the split by time has only back = 'NO'"),
        ({"group": "same"}, "30 rows dropped whose same an earlier side has".replace("30", "12")),
    ],
)
def test_a_split_that_cannot_be_is_refused_with_the_numbers(change: dict[str, object], says: str) -> None:
    table = pl.DataFrame(
        {
            "time": range(40),
            "patient": range(40),
            "back": ["NO", "YES"] * 20,
            "gap": [0, None, *range(2, 40)],
            "same": [1] * 40,
        }
    )
    arguments: dict[str, object] = {"label": "back", "time": "time", "seed": 0} | change
    with pytest.raises(Invalid) as caught:
        split(table, **arguments)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert caught.value.hint


@pytest.mark.skipif(not REAL.exists(), reason="the real file is not here")
def test_the_split_of_the_real_visits_does_not_leak() -> None:
    """Here `readmitted` nearly means that a later row exists, so whoever looks ahead has told the label."""
    frame = read_table(REAL).frame.sort("encounter_id")
    made = split(frame, label="readmitted", time="encounter_id", group="patient_nbr", seed=0)
    assert made.facts.dropped > 5_000
    assert not [one for one in leaks(made, label="readmitted", group="patient_nbr") if one.severity == 3]

    def rate(rows: pl.DataFrame) -> float:
        return float((rows["readmitted"] == "YES").mean())  # type: ignore[arg-type]

    # Within a side, each row's chance to be kept must not depend on whether its patient comes back: of the rows of one
    # stretch of time whose patient was not seen before it, ours keeps every single one.
    for side in made.facts.sides:
        assert side.first is not None
        stretch = frame.filter(pl.col("encounter_id").is_between(side.first, side.last))
        before = frame.filter(pl.col("encounter_id") < side.first)["patient_nbr"].unique()
        new = stretch.filter(~pl.col("patient_nbr").is_in(before.implode()))
        assert rate(getattr(made, side.name)) == pytest.approx(rate(new), abs=1e-12)
        assert rate(new) == pytest.approx(rate(stretch), abs=0.1)  # new patients come back somewhat less
    # The tempting wrong way keeps the last row of each patient: it halves the rate, since nobody has a later row.
    train_range = frame.filter(pl.col("encounter_id") <= made.facts.sides[0].last)
    last = frame.unique("patient_nbr", keep="last", maintain_order=True)
    wrong = last.filter(pl.col("encounter_id") <= made.facts.sides[0].last)
    assert rate(made.train) == pytest.approx(rate(train_range), abs=1e-12)
    assert rate(wrong) < rate(train_range) - 0.15
    # And its choice tells the label outright, which ours cannot: cutting the future off changes nothing of ours.
    half = split(
        frame.filter(pl.col("encounter_id") < made.facts.sides[2].last),
        label="readmitted",
        time="encounter_id",
        group="patient_nbr",
        boundaries=made.facts.boundaries,  # type: ignore[arg-type]
        seed=0,
    )
    assert_frame_equal(half.train, made.train)
    assert_frame_equal(half.validation, made.validation)

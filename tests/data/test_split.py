"""Splits: no row is lost, no group on two sides, nothing is chosen by what comes after it."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.data.readers import read_table
from loopline.data.split import SIDES, Split, overlap, split, window
from loopline.errors import Invalid

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
    assert overlap(made.train, made.test, group="g").groups == 0
    assert overlap(made.train, made.validation, group="g").groups == 0
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


def test_overlap_is_seen() -> None:
    first = pl.DataFrame({"id": [1, 2, 3], "g": ["a", "b", None], "x": [1.0, None, 3.0]})
    second = pl.DataFrame({"id": [4, 5, 6], "g": ["b", "c", None], "x": [None, 3.0, 3.0]})
    found = overlap(first, second, group="g", ignore=["id"])
    assert (found.groups, found.rows) == (1, 2)
    assert overlap(first, second).rows == 0


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
    assert overlap(made.train, made.test, group="patient_nbr").groups == 0

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

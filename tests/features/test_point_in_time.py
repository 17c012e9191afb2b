"""Features as they were: against a reading of the rules row by row, and nothing changed by what comes later."""

from __future__ import annotations

import datetime as dt
import os
import statistics
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.errors import Invalid
from loopline.features import point_in_time
from loopline.features.definitions import Feature, FeatureView, feature, feature_view, from_json
from loopline.features.point_in_time import Events, at_moments, features_of

SHARED = Path(os.environ.get("LOOPLINE_DATA", Path(__file__).parents[3] / "shared/data"))
SPANS = ("", "4", "9")
FEATURES = [
    feature(f"{by}{n}", "" if by == "count" and n == 2 else "v", by=by, over=span)  # type: ignore[arg-type]
    for by in ("last", "count", "sum", "mean", "min", "max", "std")
    for n, span in enumerate(SPANS)
]
_EVENTS = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["a", "b"]),
        st.none() | st.integers(0, 20),
        st.none() | st.integers(0, 25),
        st.none() | st.integers(-5, 5),
    ),
    max_size=25,
)
_ASKED = st.lists(st.tuples(st.none() | st.sampled_from(["a", "b", "c"]), st.none() | st.integers(0, 26)), max_size=12)


def view(known: str | None = None, ttl: str = "") -> FeatureView:
    return feature_view("w", source="events", entity="e", time="t", known=known, ttl=ttl, features=FEATURES)


def events_of(rows: list[Any]) -> pl.DataFrame:
    schema = {"e": pl.String, "t": pl.Int64, "k": pl.Int64, "v": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def by_hand(one: Feature, rows: list[Any], entity: Any, moment: Any, known: bool, ttl: str) -> Any:
    """The rules, one row after the other."""
    span = one.over or ttl
    seen = []
    for place, (e, t, k, v) in enumerate(rows):
        if entity is None or moment is None or e != entity or t is None or (known and k is None):
            continue
        arrived = max(t, k) if known else t
        if t < moment and arrived < moment and (not span or t >= moment - int(span)):
            seen.append((t, arrived, place, v))
    values = [v for *_, v in sorted(seen, key=lambda x: x[:3])]
    there = [v for v in values if v is not None]
    if one.by == "count":
        return len(there) if one.of else len(values)
    if one.by == "last":
        return values[-1] if values else None
    if not there or (one.by == "std" and len(there) < 2):
        return None
    return {"sum": sum, "mean": statistics.mean, "min": min, "max": max, "std": statistics.stdev}[one.by](there)


@settings(deadline=None, max_examples=60)
@given(_EVENTS, _ASKED, st.booleans(), st.sampled_from(["", "6"]), st.sampled_from([4_000_000, 3]))
def test_features_are_what_the_rules_say_row_by_row(
    rows: list[Any], asked: list[Any], known: bool, ttl: str, at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_in_time, "_AT_ONCE", at_once)  # also where the pairs come in several turns
        made = at_moments(
            Events(view("k" if known else None, ttl), events_of(rows)),
            pl.DataFrame(asked, schema={"e": pl.String, "t": pl.Int64}, orient="row"),
            "e",
            "t",
        )
    assert made.height == len(asked)
    for place, (entity, moment) in enumerate(asked):
        for one in FEATURES:
            wanted = by_hand(one, rows, entity, moment, known, ttl)
            found = made[f"w_{one.name}"][place]
            assert found == wanted or found == pytest.approx(wanted, rel=1e-12, abs=1e-9), (one, entity, moment)


@settings(deadline=None, max_examples=80)
@given(_EVENTS, _ASKED, st.booleans(), st.integers(0, 26))
def test_nothing_that_comes_later_changes_a_feature(
    rows: list[Any], asked: list[Any], known: bool, moment: int
) -> None:
    """No peeking: events that happen at a moment or after it, or are known of no earlier, may be anything."""
    table = events_of(rows)
    later = (pl.col("t") >= moment) | (
        pl.col("k").is_null() | (pl.max_horizontal("t", "k") >= moment) if known else False
    )
    without = table.filter(~later.fill_null(True))
    changed = table.with_columns(pl.when(later.fill_null(True)).then(99).otherwise("v").alias("v"))
    questions = pl.DataFrame(
        [(e, min(t, moment)) for e, t in asked if t is not None], schema={"e": pl.String, "t": pl.Int64}, orient="row"
    )
    made = [
        at_moments(Events(view("k" if known else None), frame), questions, "e", "t")
        for frame in (table, without, changed)
    ]
    assert_frame_equal(made[0], made[1])
    assert_frame_equal(made[0], made[2])


@settings(deadline=None, max_examples=60)
@given(_EVENTS, st.booleans(), st.integers(0, 26))
def test_all_entities_at_one_moment_are_what_each_was_asked_alone(rows: list[Any], known: bool, moment: int) -> None:
    events = Events(view("k" if known else None), events_of(rows))
    everybody = events.entities(moment).with_columns(pl.lit(moment, dtype=pl.Int64).alias("_t"))
    together = features_of(events, everybody)
    for place, entity in enumerate(everybody["_e"]):
        alone = at_moments(events, pl.DataFrame({"e": [entity], "t": [moment]}), "e", "t")
        assert_frame_equal(alone, together.slice(place, 1), check_exact=True)


def test_dates_and_times_of_day() -> None:
    stays = pl.DataFrame(
        {"p": [1, 1, 2], "day": [dt.date(2026, 1, 1), dt.date(2026, 1, 3), dt.date(2026, 1, 1)], "n": [3, 4, 5]}
    )
    last = feature_view(
        "s",
        source="stays",
        entity="p",
        time="day",
        ttl="2d",
        features=[feature("n", "n"), feature("all", "n * 2", by="sum", over="30d")],
    )
    moments = [dt.datetime(2026, 1, d, h, tzinfo=dt.UTC) for d, h in ((1, 23), (2, 0), (3, 12), (4, 0), (6, 0))]
    made = at_moments(Events(last, stays), pl.DataFrame({"p": [1] * 5, "at": moments}), "p", "at")
    # A day is over at its end: not known at 23 h, known the next day; two days later it is too old.
    assert made["s_n"].to_list() == [None, 3, 3, 4, None]
    assert made["s_all"].to_list() == [None, 6, 6, 14, 14]
    with pytest.raises(Invalid, match="by 'day' otherwise"):
        at_moments(Events(last, stays), pl.DataFrame({"p": [1], "at": [5]}), "p", "at")


def test_what_is_no_number_is_missing() -> None:
    odd = pl.DataFrame({"e": ["a"] * 3, "t": [1, 2, 3], "v": [1.0, float("nan"), float("inf")]})
    made = at_moments(Events(view(), odd), pl.DataFrame({"e": ["a"], "t": [9]}), "e", "t")
    assert (made["w_last0"][0], made["w_sum0"][0], made["w_count0"][0], made["w_count2"][0]) == (None, 1.0, 1, 3)
    assert Events(view(), odd.clear()).entities(5).height == 0
    assert at_moments(Events(view(), odd.clear()), pl.DataFrame({"e": ["a"], "t": [9]}), "e", "t")["w_count0"][0] == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"features": []}, "has no features"),
        ({"features": [feature("a", "v"), feature("a", "v")]}, "two features 'a'"),
        ({"features": [feature("a b", "v")]}, "cannot be the name"),
        ({"features": [feature("a")]}, "the last of nothing"),
        ({"features": [Feature(name="a", of="v", by="lats")]}, "no aggregate 'lats'"),  # type: ignore[arg-type]
        ({"name": "a/b"}, "cannot be a name of a feature view"),
        *(
            ({"features": [feature("a", sql)]}, "beyond a row")
            for sql in (
                "SUM(v)", "v - AVG(v) OVER (PARTITION BY e)", "first(v)", "v, t", "max (v)", "LEAD(v)",
                "(SELECT v FROM events)", "v; drop", "COLUMNS('v.*')", "v /* */", "row_number() over (order by t)", "`SUM`(v)",
                '"SUM"(v)', "CURRENT_TIMESTAMP", "v -- x", "v[1]", "EXISTS (v)",
            )
            if sql != "v, t"
        ),
    ],
)  # fmt: skip
def test_a_definition_that_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    arguments: dict[str, Any] = {
        "name": "w",
        "source": "events",
        "entity": "e",
        "time": "t",
        "features": [feature("a", "v")],
    }
    with pytest.raises(Invalid, match=says) as caught:
        feature_view(**arguments | change)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("v, t", "computed|beyond"),
        ("nowhere + 1", "no column 'nowhere'"),
        ("v +", "cannot be computed"),
        ("*", "computed|no column"),
    ],
)
def test_sql_that_does_not_fit_the_events_is_refused(sql: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        Events(
            feature_view("w", source="events", entity="e", time="t", features=[feature("a", sql)]),
            events_of([("a", 1, 1, 1)]),
        )


def test_expressions_of_one_row_are_taken() -> None:
    given_ = {
        "v": 2, "v * 2 + t": 5, "CASE WHEN v IN (1, 2) THEN 'low' ELSE 'high (over)' END": "low", "COALESCE(NULL, v)": 2,
        "v > 1 AND (t = 1 OR NOT (v = 2))": True, "ROUND(CAST(v AS DOUBLE) / 3, 2)": 0.67, "UPPER(e) || '-x'": "A-x",
    }  # fmt: skip
    made = at_moments(
        Events(
            feature_view(
                "w", source="s", entity="e", time="t", features=[feature(f"f{n}", sql) for n, sql in enumerate(given_)]
            ),
            events_of([("a", 1, 1, 2)]),
        ),
        pl.DataFrame({"e": ["a"], "t": [2]}),
        "e",
        "t",
    )
    assert list(made.row(0)) == list(given_.values())


def test_a_definition_goes_through_json() -> None:
    import msgspec

    whole = view("k", "6")
    again = from_json(msgspec.json.decode(msgspec.json.encode(whole)))
    assert again == whole
    assert again.digest == whole.digest
    with pytest.raises(Invalid, match="unknown field"):
        from_json(msgspec.to_builtins(whole) | {"extra": 1})


@pytest.mark.skipif(not (SHARED / "turbofan.parquet").exists(), reason="the real file is not here")
def test_real_engines_and_patients_against_a_plain_reading() -> None:
    engines = pl.read_parquet(SHARED / "turbofan.parquet")
    sensor = next(c for c in engines.columns if "sensor" in c or c.startswith("s"))
    unit, cycle = engines.columns[:2]
    rolling = feature_view(
        "e",
        source="t",
        entity=unit,
        time=cycle,
        features=[feature("mean", sensor, by="mean", over="10"), feature("n", by="count")],
    )
    made = at_moments(Events(rolling, engines), engines, unit, cycle)
    wanted = engines.select(
        pl.col(sensor)
        .cast(pl.Float64)
        .shift(1)
        .rolling_mean(10, min_samples=1)
        .over(unit, order_by=cycle)
        .alias("mean"),
        (pl.col(cycle) - 1).alias("n"),
    )
    assert made["e_n"].to_list() == wanted["n"].to_list()
    assert (made["e_mean"] - wanted["mean"]).abs().max() < 1e-6  # type: ignore[operator]

    visits = pl.read_parquet(SHARED / "readmission.parquet")
    before = feature_view(
        "p",
        source="v",
        entity="patient_nbr",
        time="encounter_id",
        features=[feature("visits", by="count"), feature("days", "time_in_hospital")],
    )
    made = at_moments(Events(before, visits), visits, "patient_nbr", "encounter_id")
    ordered = visits.select("patient_nbr", "encounter_id", "time_in_hospital", made["p_visits"], made["p_days"]).sort(
        "encounter_id"
    )
    counted = ordered.select(
        pl.int_range(pl.len()).over("patient_nbr").alias("visits"),
        pl.col("time_in_hospital").shift(1).over("patient_nbr").alias("days"),
    )
    assert ordered["p_visits"].to_list() == counted["visits"].to_list()
    assert ordered["p_days"].to_list() == counted["days"].to_list()

"""Labels that come later: not known before event + maturity, nor before their row was read; missing then, never a negative."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.conftest import Place

from loopline.data.maturity import READ, counted, immature, masked, stretches_of, with_read
from loopline.data.records import LabelColumn
from loopline.errors import Invalid, Refused

DAY = 86_400_000
LABEL = LabelColumn(column="back", time="left", matures="30d")
_EVENTS = st.lists(
    st.tuples(st.none() | st.integers(0, 200), st.none() | st.booleans(), st.integers(0, 200)), min_size=1
)


@settings(deadline=None)
@given(_EVENTS, st.none() | st.integers(0, 250), st.integers(0, 60))
def test_a_label_is_known_from_its_maturity_on(rows: list[tuple[Any, Any, int]], as_of: int | None, wait: int) -> None:
    left = [
        None if day is None else dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=day) for day, _, _ in rows
    ]
    frame = pl.DataFrame(
        {"left": left, "back": [b for _, b, _ in rows]}, schema={"left": pl.Datetime("us", "UTC"), "back": pl.Boolean}
    )
    read = with_read(frame, [[1, day * DAY] for _, _, day in rows])
    label = LabelColumn(column="back", time="left", matures=f"{wait}d")
    moment = None if as_of is None else as_of * DAY
    known = [day is not None and day + wait <= (seen if as_of is None else min(seen, as_of)) for day, _, seen in rows]
    assert immature(read, label, moment).to_list() == [not one for one in known]
    assert masked(read, [label], moment)["back"].to_list() == [
        value if sure else None for (_, value, _), sure in zip(rows, known, strict=True)
    ]
    told = counted(read, label, moment)
    assert told.rows == len(rows) == told.known + told.immature + told.missing
    assert with_read(frame, stretches_of(read[READ])).equals(read)
    # What comes later takes no knowledge away.
    if moment is not None:
        assert not (immature(read, label, moment + DAY) & ~immature(read, label, moment)).any()


def test_a_day_is_over_at_its_end() -> None:
    frame = with_read(pl.DataFrame({"left": [dt.date(1970, 1, 1)], "back": [True]}), [[1, 400 * DAY]])
    assert immature(frame, LABEL, 31 * DAY - 1).to_list() == [True]
    assert immature(frame, LABEL, 31 * DAY).to_list() == [False]


def stays(days: range, **columns: Any) -> pl.DataFrame:
    """One stay a day, in the days before 2026-03-01 that have these numbers; every fifth comes back."""
    end = dt.date(2026, 3, 1)
    return pl.DataFrame(
        {
            "id": [*days],
            "left": [end - dt.timedelta(days=n) for n in days],
            "days": [n % 14 + 1 for n in days],
            "back": [n % 5 == 0 for n in days],
        }
    ).with_columns(**columns)


def test_a_version_says_what_is_not_known_and_reads_it_as_missing(place: Place) -> None:
    made = place.add(stays(range(1, 201)), labels=(LABEL,))
    assert [(one.column, one.time, one.matures, one.immature) for one in made.labels] == [("back", "left", "30d", 30)]
    rows = place.rows()
    assert rows["back"].null_count() == 30
    assert rows.filter(pl.col("back").is_null())["id"].to_list() == list(range(1, 31))
    [now] = place.session.datasets.labels("visits")
    assert (now.rows, now.known, now.immature, now.missing) == (200, 170, 30, 0)
    # Looked at later it is what it was; as of an earlier day less is known.
    place.clock.forward(seconds=60 * 86_400)
    assert place.rows().equals(rows)
    earlier = place.clock.now() - 160 * DAY
    [then] = place.session.datasets.labels("visits", as_of=earlier)
    assert (then.known, then.immature) == (70, 130)
    # The same file, read again, says more: it is a version of its own.
    assert place.add(stays(range(1, 201))).labels[0].immature == 0
    assert place.rows()["back"].null_count() == 0
    assert place.rows(version=1).equals(rows)
    assert place.session.datasets.restore("visits", "1").labels[0].immature == 30
    assert place.rows().equals(rows)


def test_rows_behind_others_were_read_when_they_were(place: Place) -> None:
    place.add(stays(range(1, 101)), labels=(LABEL,))
    place.clock.forward(seconds=40 * 86_400)
    contract = {"rules": [{"rule": "between", "column": "id", "low": 3}]}
    later = stays(range(-39, 1)).with_columns(id=pl.col("id") + 1_000)
    made = place.add(later, onto="1", contract=contract)
    assert (made.rows, made.quarantined) == (138, 2)
    # Of the first ones 28 were read too early, of the others 30 have left too lately.
    unknown = place.rows().filter(pl.col("back").is_null())
    assert (unknown.height, (unknown["id"] < 500).sum()) == (58, 28)
    released = place.session.datasets.release("visits", "2", "they are right")
    assert released.rows == 2
    assert place.rows().tail(2)["back"].null_count() == 0  # read again with version 2, 40 days after


def test_stretches_of_no_rows_are_none() -> None:
    frame = pl.DataFrame({"x": [1, 2]})
    assert with_read(frame, [[0, 5], [2, 6], [0, 7]])[READ].to_list() == [6, 6]
    assert with_read(frame.clear(), [[0, 5]]).height == 0
    assert with_read(frame.clear(), []).schema[READ] == pl.Int64
    assert stretches_of(with_read(frame.clear(), [])[READ]) == []


@pytest.mark.parametrize("by", [None, "random"])
def test_a_split_leaves_unknown_labels_out_and_says_so(place: Place, by: Any) -> None:
    place.add(stays(range(1, 301)), labels=(LABEL,))
    made = place.session.datasets.split("visits", "back", time="left", by=by, embargo="" if by else "10d")
    facts = made.facts
    assert facts["immature"] == 30
    assert sum(s["rows"] for s in facts["sides"]) + facts["dropped"] + facts["embargoed"] + 30 == facts["rows"] == 300
    for side in ("train", "validation"):
        rows = place.rows(f"visits.{side}")
        assert rows["id"].min() > 30  # type: ignore[operator]
        assert rows["back"].null_count() == 0
    earlier = place.clock.now() - 100 * DAY
    then = place.session.datasets.split("visits", "back", time="left", by=by, as_of=earlier)
    assert (then.facts["immature"], then.facts["as_of"]) == (130, earlier)
    [side] = place.session.datasets.labels("visits.train")
    assert side.immature == 0
    assert place.rows("visits.train")["id"].min() > 130  # type: ignore[operator]


def test_unknown_labels_are_no_fault_of_what_is_learned_from(place: Place) -> None:
    """Rows whose label is not known may lack it; they are not among those that have to have one."""
    from loopline.data.records import Learning

    gaps = stays(range(1, 201)).with_columns(back=pl.when(pl.col("id") > 30).then("back"))
    with pytest.raises(Invalid, match="missing"):
        place.add(gaps, learning=Learning(label="back"))
    assert place.add(gaps, learning=Learning(label="back"), labels=(LABEL,)).rows == 200


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (LabelColumn(column="bakc", time="left"), "no column 'bakc'"),
        (LabelColumn(column="back", time="lfet"), "no column 'lfet'"),
        (LabelColumn(column="back", time="id", matures="30d"), "no dates"),
        (LabelColumn(column="back", time="left", matures="30"), "no duration"),
    ],
)
def test_a_label_that_cannot_be_is_refused(place: Place, label: LabelColumn, says: str) -> None:
    with pytest.raises(Invalid, match=says) as caught:
        place.add(stays(range(1, 201)), labels=(label,))
    assert caught.value.hint
    assert not place.session.datasets.list()


def test_a_split_with_findings_is_refused_where_that_is_asked(place: Place) -> None:
    place.add(stays(range(1, 301)).with_columns(tells=pl.col("back")))
    told = place.session.datasets.split("visits", "back", time="left")
    assert told.facts["findings"][0]["column"] == "tells"
    place.add(stays(range(1, 302)).with_columns(tells=pl.col("back")))
    with pytest.raises(Refused, match="tells alone tells 100% of the label") as caught:
        place.session.datasets.split("visits", "back", time="left", refuse=("knows-label",))
    assert caught.value.code == "split-leaks"
    assert place.session.datasets.show("visits.train").version == 1

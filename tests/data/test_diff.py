"""What a difference of two versions says, row by row and as a whole."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.catalog import Session
from loopline.data.diff import ColumnChange, Diff, diff
from loopline.data.diff_page import page, said
from loopline.errors import Invalid, Refused

NAMES = ("data:v@1", "data:v@2")


def of(before: pl.DataFrame, after: pl.DataFrame, *key: str) -> Diff:
    return diff(before, after, names=NAMES, totals=(before.height, after.height), key=key)


def test_rows_by_key() -> None:
    before = pl.DataFrame({"id": [1, 2, 3, 4], "x": [1.0, float("nan"), None, 4.0], "y": ["a", "b", "c", "d"]})
    after = pl.DataFrame({"id": [5, 4, 3, 2], "x": [5.0, 9.0, None, float("nan")], "y": ["e", "D", "c", "b"]})
    found = of(before, after, "id")
    assert (found.added, found.removed, found.changed, found.same) == (1, 1, 1, 2)
    assert found.changed_in == {"x": 1, "y": 1}
    assert found.moved  # 2, 3, 4 became 4, 3, 2
    assert not of(before, before, "id").moved


def test_whole_rows_are_a_multiset() -> None:
    before = pl.DataFrame({"x": [1, 1, 2, None]})
    after = pl.DataFrame({"x": [None, 1, 2, 2]})
    found = of(before, after)
    assert (found.added, found.removed, found.changed, found.same) == (1, 1, 0, 3)
    turned = of(before, before.reverse())
    assert (turned.added, turned.removed, turned.moved) == (0, 0, True)


def test_columns_come_go_and_change_type() -> None:
    before = pl.DataFrame({"id": [1, 2], "old": [1, 2], "n": [1, 2], "t": ["1", "x"]})
    after = pl.DataFrame({"id": [1, 2], "n": [1.0, 2.5], "t": [1, 2], "new": [True, False]})
    found = of(before, after, "id")
    assert found.schema == (
        ColumnChange(column="old", change="removed", before="Int64", after=""),
        ColumnChange(column="n", change="retyped", before="Int64", after="Float64"),
        ColumnChange(column="t", change="retyped", before="String", after="Int64"),
        ColumnChange(column="new", change="added", before="", after="Boolean"),
    )
    assert found.changed_in == {"n": 1, "t": 1}  # 1 is 1.0, "1" is 1
    assert msgspec.json.decode(msgspec.json.encode(found), type=Diff) == found


def test_a_shift_is_told_and_no_value_is_shown() -> None:
    before = pl.DataFrame({"secret": [f"name {n}" for n in range(500)], "days": [n % 14 for n in range(500)]})
    after = before.with_columns(pl.col("days") + 5)
    found = of(before, after, "secret")
    assert (found.changed, found.changed_in) == (500, {"days": 500})
    assert found.distribution is not None
    assert [c.column for c in found.distribution.drifted] == ["days"]
    told = "\n".join(said(found))
    assert "500 changed" in told
    assert "Changed in days 500" in told
    assert "name 1" not in page(found)


def test_a_key_that_is_none_is_refused() -> None:
    frame = pl.DataFrame({"id": [1, 1, 2], "x": [1, 2, 3]})
    with pytest.raises(Invalid, match="id is no key of data:v@1: 1 rows repeat"):
        of(frame, frame, "id")
    with pytest.raises(Invalid, match="no column 'ix'"):
        of(frame, frame, "ix")


_rows = st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 2)), max_size=12, unique_by=lambda row: row[0])


@settings(deadline=None)
@given(_rows, _rows)
def test_counts_add_up_and_turn_round(left: list[tuple[int, int | None]], right: list[tuple[int, int | None]]) -> None:
    schema = {"id": pl.Int64, "x": pl.Int64}
    before, after = (pl.DataFrame(rows, schema=schema, orient="row") for rows in (left, right))
    a, b = dict(left), dict(right)
    found, back = of(before, after, "id"), of(after, before, "id")
    assert found.changed == sum(a[k] != b[k] for k in a.keys() & b.keys())
    assert (found.added, found.removed) == (len(b.keys() - a.keys()), len(a.keys() - b.keys()))
    assert found.removed + found.changed + found.same == before.height
    assert (back.added, back.removed, back.changed) == (found.removed, found.added, found.changed)
    whole = of(before, after)
    assert whole.same == len(set(left) & set(right))
    assert whole.added + whole.same == after.height


def test_versions_are_compared_without_their_sealed_rows(place: Any, session: Session) -> None:
    place.add(300)
    session.datasets.split("visits", "back", time="id")
    place.add(320)
    found = msgspec.json.decode(session.datasets.diff("visits", "1", key=("id",)).read(), type=Diff)
    sealed = session.datasets.show("visits.test", "1").rows
    assert sealed > 0
    assert (found.before, found.after, found.left_out) == ("data:visits@1", "data:visits@2", 2 * sealed)
    assert (found.added, found.same) == (20, 300 - sealed)
    assert (found.rows_before, found.rows_after) == (300, 320)
    assert session.datasets.diff("visits", "1", to="data:visits.train@1", form="html").read().startswith(b"<!doctype")
    with pytest.raises(Refused, match="sealed"):
        session.datasets.diff("visits", "1", to="data:visits.test@1")
    with pytest.raises(Invalid, match="no form 'pdf'"):
        session.datasets.diff("visits", "1", form="pdf")

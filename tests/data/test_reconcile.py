"""Parts brought to the same columns: by property, every value is there once, taken or held back, and none is made up."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.reconcile import CONTENT, Part, reconcile
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks
from loopline.quality.contract_check import REASON

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "integers": st.integers(-(2**40), 2**40),
    "numbers": st.floats(-1e6, 1e6, allow_nan=False),
    "texts": st.sampled_from(["a", "7", "-3.5", "", "2026-01-01"]),
    "truths": st.booleans(),
    "days": st.dates(),
}
KINDS = {"integers": pl.Int64, "numbers": pl.Float64, "texts": pl.String, "truths": pl.Boolean, "days": pl.Date}


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        height = draw(st.integers(1, 4))
        columns = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
        series = []
        for name in columns:
            kind = draw(st.sampled_from(sorted(VALUES)))
            values = draw(st.lists(st.none() | VALUES[kind], min_size=height, max_size=height))
            series.append(pl.Series(name, values, dtype=KINDS[kind]))
        found.append(Part(f"part {number}", Blocks.of(pl.DataFrame(series))))
    return found


@given(parts())
@settings(max_examples=100, deadline=None)
def test_each_row_is_taken_or_held_back_whole(given: list[Part]) -> None:
    found = reconcile(given, {}, "quarantine")
    came = [row for part in given for row in part.rows.frame().iter_rows(named=True)]
    assert found.rows.height + found.held.height == len(came)
    aside = found.held.frame()
    assert aside.height == found.held.height
    assert all(aside[REASON].to_list())
    held = [json.loads(content) for content in aside[CONTENT]]
    left = Counter(_key(row) for row in came)
    left.subtract(_key(row) for row in held)
    taken = [row for row in came if left[_key(row)] > 0 and not left.subtract([_key(row)])]
    assert len(taken) == found.rows.height
    for before, after in zip(taken, found.rows.frame().iter_rows(named=True), strict=True):
        for name, value in after.items():
            assert (value is None) == (before.get(name) is None), "nothing is lost or made up"


def _key(row: dict[str, Any]) -> str:
    """A row as JSON has it: a float that is whole and an integer look the same."""
    return json.dumps({name: _plain(value) for name, value in row.items()}, sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


@given(parts())
@settings(max_examples=100, deadline=None)
def test_what_is_not_refused_is_taken_whole(given: list[Part]) -> None:
    try:
        found = reconcile(given, {}, "widen")
    except Invalid as e:
        said = e
    else:
        assert found.held.height == 0
        assert found.rows.height == sum(part.rows.height for part in given)
        return
    assert said.code == "schema-change"
    assert any(part.name in said.message for part in given)


@pytest.mark.parametrize(
    ("known", "came", "kind"),
    [
        (pl.Series([1]), pl.Series([1.5]), pl.Float64),
        (pl.Series([1.5]), pl.Series([1]), pl.Float64),
        (pl.Series([1], dtype=pl.Int32), pl.Series([2**40]), pl.Int64),
        (pl.Series([1]), pl.Series([7], dtype=pl.UInt8), pl.Int64),
        (pl.Series(["a"]), pl.Series([1]), pl.String),
        (pl.Series(["a"]), pl.Series([True]), pl.String),
        (pl.Series([None], dtype=pl.String), pl.Series([1]), pl.Int64),
    ],
)
def test_which_types_widen(known: pl.Series, came: pl.Series, kind: Any) -> None:
    given = [Part(name, Blocks.of(one.alias("x").to_frame())) for name, one in (("a", known), ("b", came))]
    assert reconcile(given, {}, "widen").rows.schema["x"] == kind


def test_a_column_that_had_not_always_a_value_may_be_absent() -> None:
    earlier = pl.DataFrame({"id": [1, 2], "note": ["a", None]})
    later = Part("later", Blocks.of(pl.DataFrame({"id": [3]})))
    found = reconcile([later], dict(earlier.schema), "refuse", earlier=Blocks.of(earlier))
    assert found.rows.frame().rows() == [(3, None)]
    with pytest.raises(Invalid, match="'note' is not there any more"):
        reconcile([later], dict(earlier.schema), "widen", earlier=Blocks.of(earlier.head(1)))


def test_of_a_very_wide_part_nothing_fits() -> None:
    """Its columns are looked up by name: searched for in a list, ten thousand of them take minutes."""
    wide = pl.DataFrame({f"c{n}": [1] for n in range(10_000)})
    found = reconcile([Part("wide", Blocks.of(wide))], {"id": pl.Int64()}, "quarantine")
    assert found.held.only([REASON]).frame()[REASON].to_list() == ["column 'id' is not there any more"]
    assert (found.rows.height, len(found.rows.columns)) == (0, 10_001)

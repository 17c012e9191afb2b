"""Slices: every row in exactly one group, groups with names that people read."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.evaluation.slicing import groups

COLUMNS = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-(10**6), 10**6)), min_size=1, max_size=60).map(
        lambda v: pl.Series("c", v, dtype=pl.Int64)
    ),
    st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=1, max_size=60).map(
        lambda v: pl.Series("c", v, dtype=pl.Float64)
    ),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=60).map(
        lambda v: pl.Series("c", v, dtype=pl.String)
    ),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=1, max_size=20).map(
        lambda v: pl.Series("c", v, dtype=pl.Boolean)
    ),
    st.lists(st.one_of(st.none(), st.dates()), min_size=1, max_size=40).map(lambda v: pl.Series("c", v, dtype=pl.Date)),
)


@settings(max_examples=200, deadline=None)
@given(COLUMNS)
def test_every_row_is_in_exactly_one_group(column: pl.Series) -> None:
    found = groups(column)
    rows = np.sort(np.concatenate(found.members))
    np.testing.assert_array_equal(rows, np.arange(len(column)))
    assert len(set(found.names)) == len(found.names) <= 22
    assert all(len(members) for members in found.members)


def test_ages_come_in_round_ranges() -> None:
    ages = pl.Series("age", np.random.default_rng(0).integers(18, 91, 5_000))
    found = groups(ages)
    assert found.names == ("29 or less", "30 to 44", "45 to 59", "60 to 74", "75 or more")
    assert min(len(m) for m in found.members) > 500


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (pl.Series([3, 1, 10, 1]), ("1", "3", "10")),
        (pl.Series(["b", None, "a"]), ("a", "b", "missing")),
        (pl.Series(["missing", None]), ("missing", "missing (no value)")),
        (pl.Series([True, False, None]), ("false", "true", "missing")),
        (pl.Series([date(2020, 1, 2), date(2021, 1, 2)]), ("2020", "2021")),
        (pl.Series([float("nan"), *range(20)]), ("under 4", "4 to 8", "8 to 11", "11 to 15", "15 or more", "missing")),
    ],
)
def test_groups_have_their_natural_order(column: pl.Series, names: tuple[str, ...]) -> None:
    assert groups(column).names == names


def test_many_categories_keep_the_frequent_ones() -> None:
    column = pl.Series("c", [f"v{i}" for i in range(60) for _ in range(i + 1)])
    found = groups(column)
    assert len(found.names) == 20
    assert found.names[-1] == "other (41 values)"
    assert "v59" in found.names


def test_a_column_that_is_mostly_one_value_is_still_split() -> None:
    visits = np.concatenate([np.zeros(4_000), np.random.default_rng(0).integers(1, 50, 500)]).astype(int)
    found = groups(pl.Series("visits", visits))
    assert len(found.names) == 5
    assert found.names[0] == "9 or less"

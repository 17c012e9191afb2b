"""Whatever way rows are cut and put together again, the profile is that of all of them."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.quality.profile import ColumnProfile, Profile, ProfileBuilder, profile
from loopline.quality.profile_column import level_column
from loopline.quality.profile_frame import counts_of
from loopline.quality.profile_sketch import (
    Floats,
    Prefixes,
    estimate_distinct,
    hash_names,
    hash_numbers,
    ordered,
    registers,
    unordered,
)

NUMBERS = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1.0]),
    st.floats(-1e60, 1e60),
    st.integers(-5, 5).map(float),
)
ROW = st.fixed_dictionaries(
    {
        "number": NUMBERS,
        "whole": st.one_of(st.none(), st.integers(-(2**40), 2**40)),
        "flag": st.one_of(st.none(), st.booleans()),
        "text": st.one_of(st.none(), st.text(max_size=3), st.sampled_from("abc"), st.text(min_size=99, max_size=130)),
        "day": st.one_of(st.none(), st.dates()),
    }
)
ROWS = st.lists(ROW, max_size=40)
SCHEMA = {"number": pl.Float64, "whole": pl.Int64, "flag": pl.Boolean, "text": pl.String, "day": pl.Date}


SHAPES = ("normal", "tiny", "whole", "wide", "narrow", "few", "all exponents", "infinite", "far")


def spread(rng: np.random.Generator, n: int, shape: str) -> Floats:
    """Doubles that lie in this or that way, some more than once."""
    values = rng.normal(size=n)
    match shape:
        case "tiny":
            values *= 1e-310
        case "whole":
            values = np.round(values * 30_000)
        case "wide":
            values = np.round(values * 1e15)
        case "narrow":
            values = 1e9 + values
        case "few":
            values = np.round(values, 2)
        case "all exponents":
            values = np.copysign(rng.integers(0, 2**63 - 2**52, n).view(np.float64), values)
        case "infinite":
            values[::3], values[1::5] = math.inf, -math.inf
        case "far":
            values = np.round(values * 100) * 2.0**60 + 2.0**80
    return np.concatenate((values, values[: n // 3], [0.0, -0.0] if n % 2 else []))


def made(rows: list[dict[str, Any]], reference: Profile | None = None) -> Profile:
    return profile(pl.DataFrame(rows, schema=SCHEMA), reference=reference)


def same(a: Profile, b: Profile) -> None:
    """Equal in every count; means and sums up to rounding; duplicates are counted within parts."""
    assert (a.rows, a.frozen, list(a.columns)) == (b.rows, b.frozen, list(b.columns))
    for name, column in a.columns.items():
        other = b.columns[name]
        assert msgspec.structs.replace(column, moments=None) == msgspec.structs.replace(other, moments=None)
        same_moments(column, other)


def same_moments(a: ColumnProfile, b: ColumnProfile) -> None:
    if a.moments is None or b.moments is None:
        assert a.moments is b.moments
        return
    assert (a.moments.count, a.moments.minimum, a.moments.maximum) == (
        b.moments.count,
        b.moments.minimum,
        b.moments.maximum,
    )
    scale = max(abs(a.moments.minimum or 0), abs(a.moments.maximum or 0), 1e-60)
    assert a.moments.mean == pytest.approx(b.moments.mean, abs=1e-12 * scale)
    for power, (x, y) in enumerate(((a.moments.m2, b.moments.m2), (a.moments.m3, b.moments.m3)), start=2):
        if x is not None and y is not None:
            assert x / scale**power == pytest.approx(y / scale**power, rel=1e-9, abs=1e-9 * max(1, a.moments.count))


@settings(max_examples=80, deadline=None)
@given(ROWS, ROWS, ROWS)
def test_merging_is_associative_commutative_and_gives_the_whole(a: Any, b: Any, c: Any) -> None:
    x, y, z, whole = made(a), made(b), made(c), made(a + b + c)
    same(x.merge(y).merge(z), whole)
    same(x.merge(y.merge(z)), whole)
    same(z.merge(y).merge(x), whole)
    assert x.merge(made([])) == x


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, ROWS)
def test_against_a_reference_frames_and_rows_give_the_same(a: Any, b: Any, c: Any) -> None:
    reference = made(a).freeze()
    whole = made(b + c, reference)
    same(made(b, reference).merge(made(c, reference)), whole)
    builder = ProfileBuilder(reference)
    builder.add(b)
    half = builder.take()
    builder.add([{k: v for k, v in row.items() if v is not None} for row in c])
    same(half.merge(builder.take()), whole)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_json_gives_the_profile_back(rows: Any) -> None:
    for p in (made(rows), made(rows).freeze(), made(rows, made(rows[:3]).freeze())):
        assert Profile.from_json(p.to_json()) == p
        p.warnings()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60), st.integers(0, 60))
def test_numbers_at_the_ends_of_what_a_double_holds(values: list[float], cut: int) -> None:
    parts = [profile(pl.DataFrame({"x": part}, schema={"x": pl.Float64})) for part in (values[:cut], values[cut:])]
    merged, whole = parts[0].merge(parts[1]), profile(pl.DataFrame({"x": values}, schema={"x": pl.Float64}))
    for p in (merged, whole):
        assert Profile.from_json(p.to_json()) == p
        frozen = p.freeze().columns["x"]
        assert frozen.bins is not None
        assert sum(frozen.bins.counts) == frozen.present
    assert merged.columns["x"].prefixes == whole.columns["x"].prefixes


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([1e-3, 1.0, 1e6]))
def test_many_distinct_values_merge_exactly_too(seed: int, n: int, m: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(2, n + m) * scale + rng.choice([0.0, 1e4])
    frame = pl.DataFrame({"x": values, "c": (values * 1e3 / scale).astype(np.int64)}).with_columns(
        pl.col("c").cast(pl.String)
    )
    merged, whole = profile(frame[:n]).merge(profile(frame[n:])), profile(frame)
    assert merged.columns["x"].prefixes == whole.columns["x"].prefixes
    assert merged.columns["x"].registers == whole.columns["x"].registers
    assert merged.columns["c"].registers == whole.columns["c"].registers
    a, b = merged.columns["c"].levels, whole.columns["c"].levels
    assert a is not None
    assert b is not None
    assert (a.hashed, a.total) == (b.hashed, b.total)
    frozen = whole.freeze()
    again = profile(frame, reference=frozen)
    assert again.columns["x"].bins == frozen.columns["x"].bins


@given(st.sampled_from(list(SCHEMA)), st.sampled_from(list(SCHEMA)))
def test_a_type_that_changes_is_refused(one: str, other: str) -> None:
    row = {"number": 1.5, "whole": 1, "flag": True, "text": "a", "day": 3}
    a, b = (profile(pl.DataFrame({"x": [row[name]]}).select(pl.col("x").cast(SCHEMA[name]))) for name in (one, other))
    if one == other:
        assert a.merge(b).rows == 2
    else:
        with pytest.raises(Invalid, match="of kind"):
            a.merge(b)


@given(st.lists(st.floats(allow_nan=False), min_size=2))
def test_ordered_keys_keep_the_order(values: list[float]) -> None:
    keys = ordered(np.array(values))
    assert (np.argsort(keys, kind="stable") == np.argsort(np.array(values) + 0.0, kind="stable")).all()
    assert (unordered(keys) == np.array(values)).all()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 4000), st.sampled_from(SHAPES))
def test_counting_gives_what_sorting_gives(seed: int, n: int, shape: str) -> None:
    values = spread(np.random.default_rng(seed), n, shape)
    keys, counts = np.unique(ordered(values), return_counts=True)
    assert Prefixes.of_values(values) == Prefixes.of(keys, counts)


@pytest.mark.parametrize("n", [10, 1000, 30_000])
def test_distinct_values_are_estimated_within_the_stated_error(n: int) -> None:
    by_number = [estimate_distinct(registers(hash_numbers(np.arange(n) + 10_000_000 * k))) for k in range(20)]
    by_name = [estimate_distinct(registers(hash_names([f"{k}/{i}" for i in range(n)]))) for k in range(20)]
    for found in (by_number, by_name):
        error = np.array(found) / n - 1
        assert abs(error.mean()) < 0.03
        assert error.std() < 0.04


def test_many_levels_are_counted_where_they_lie() -> None:
    rng = np.random.default_rng(3)
    for texts in (
        [f"{n}" for n in rng.integers(0, 3000, 9000)],
        [f"P{n}" for n in range(2000)],
        [f"{'dä' * 3} {n}" for n in rng.geometric(0.001, 9000)],
        [f"{n} {'long ' * 30}" for n in rng.integers(0, 1500, 4000)],
    ):
        series = pl.Series("c", [*texts, None])
        found = profile(series.to_frame()).columns["c"]
        assert found == level_column("category", counts_of(series), nulls=1, mistyped=0, like=None)
        assert found.levels is not None
        assert found.levels.hashed

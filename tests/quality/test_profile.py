from __future__ import annotations

import datetime as dt
import math

import msgspec
import numpy as np
import polars as pl
import pytest

from loopline.errors import Invalid, NotFound
from loopline.quality.profile import Profile, ProfileBuilder, profile


def _table(n: int = 2000, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "height": rng.normal(170, 10, n),
            "visits": rng.poisson(2, n),
            "smoker": rng.random(n) < 0.3,
            "town": rng.choice(["Ulm", "Köln", "Rom"], n),
            "born": [dt.date(1950, 1, 1) + dt.timedelta(days=int(d)) for d in rng.integers(0, 20000, n)],
            "label": rng.choice(["no", "yes"], n),
        }
    )


def test_columns_are_summarised_by_kind() -> None:
    frame = _table()
    got = profile(frame, label="label")
    assert got.rows == 2000
    assert [c.kind for c in got.columns.values()] == ["number", "integer", "boolean", "category", "date", "category"]
    height = got.columns["height"]
    assert height.moments is not None
    assert height.moments.mean == pytest.approx(frame["height"].mean())
    assert height.moments.deviation == pytest.approx(frame["height"].std())
    assert height.moments.skewness == pytest.approx(frame["height"].skew())
    assert height.distinct == pytest.approx(2000, rel=0.08)
    assert got.columns["visits"].distinct == frame["visits"].n_unique()
    assert dict(got.columns["town"].top) == dict(frame["town"].value_counts().iter_rows())
    assert height.quantile(0.5) == pytest.approx(frame["height"].median(), rel=0.01)
    lengths = got.columns["town"].lengths
    assert lengths is not None
    assert (lengths.shortest, lengths.longest) == (3, 4)


def test_missing_nan_and_infinite_are_told_apart() -> None:
    got = profile(pl.DataFrame({"x": [1.0, None, math.nan, math.inf, -math.inf, -math.inf, 3.0]})).columns["x"]
    assert (got.nulls, got.nans, got.infinities, got.present) == (1, 1, (2, 1), 5)
    assert got.moments is not None
    assert (got.moments.count, got.moments.mean, got.moments.minimum, got.moments.maximum) == (2, 2.0, 1.0, 3.0)


def test_frozen_bins_hold_the_exact_counts_of_the_data() -> None:
    frame = _table(20_000)
    frozen = profile(frame).freeze()
    again = profile(frame, reference=frozen)
    for name, column in frozen.columns.items():
        assert column.bins == again.columns[name].bins
        if column.levels is not None:
            assert column.levels == again.columns[name].levels
    bins = frozen.columns["height"].bins
    assert bins is not None
    assert len(bins.counts) <= 258
    assert max(bins.counts) < 0.03 * 20_000
    assert bins.counts[0] == bins.counts[-1] == 0


def test_a_profile_is_small_and_returns_from_json() -> None:
    for p in (profile(_table(), label="label"), profile(_table()).freeze()):
        assert Profile.from_json(p.to_json()) == p
        assert all(len(msgspec.json.encode(c)) < 16_000 for c in p.columns.values())
    with pytest.raises(Invalid, match="no profile"):
        Profile.from_json(b'{"rows": "many"}')


def test_types_that_change_are_refused() -> None:
    a, b = profile(pl.DataFrame({"x": [1, 2]})), profile(pl.DataFrame({"x": ["1", "2"]}))
    with pytest.raises(Invalid, match="'x' is of kind integer in one"):
        a.merge(b)
    with pytest.raises(Invalid, match="of kind category"):
        profile(pl.DataFrame({"x": ["1"]}), reference=a.freeze())
    with pytest.raises(Invalid, match="not frozen"):
        profile(pl.DataFrame({"x": [1]}), reference=a)
    with pytest.raises(Invalid, match="column y"):
        a.merge(profile(pl.DataFrame({"x": [1], "y": [2]})))
    with pytest.raises(NotFound, match="'lable'"):
        profile(_table(10), label="lable")


def test_a_column_of_nulls_alone_goes_with_any_kind() -> None:
    nulls, texts = profile(pl.DataFrame({"x": [None, None]})), profile(pl.DataFrame({"x": ["a", None]}))
    assert nulls.merge(texts).columns == texts.merge(nulls).columns
    assert nulls.merge(texts).columns["x"].nulls == 3
    assert profile(pl.DataFrame({"x": [None]}), reference=texts.freeze()).columns["x"].kind == "category"


def test_new_values_against_a_reference_are_named() -> None:
    frozen = profile(pl.DataFrame({"c": ["a", "b", "b"], "x": [1.0, 2.0, 3.0]})).freeze()
    got = profile(pl.DataFrame({"c": ["b", "z", "z"], "x": [-5.0, 2.0, 99.0]}), reference=frozen)
    levels, bins = got.columns["c"].levels, got.columns["x"].bins
    assert levels is not None
    assert bins is not None
    assert (levels.counts, levels.rest, levels.unseen) == ({"a": 0, "b": 1}, 2, {"z": 2})
    assert (bins.counts[0], bins.counts[-1]) == (1, 1)


def test_more_levels_than_are_kept_are_counted_by_hash() -> None:
    rng = np.random.default_rng(3)
    names = [f"n{int(k)}" for k in rng.zipf(1.3, 50_000) % 20_000]
    whole = profile(pl.DataFrame({"c": names})).columns["c"]
    parts = profile(pl.DataFrame({"c": names[:500]}))
    for start in range(500, 50_000, 9900):
        parts = parts.merge(profile(pl.DataFrame({"c": names[start : start + 9900]})))
    merged = parts.columns["c"]
    assert whole.levels is not None
    assert merged.levels is not None
    assert merged.levels.hashed == whole.levels.hashed
    assert merged.registers == whole.registers
    assert merged.distinct == pytest.approx(len(set(names)), rel=0.07)
    truth = {name: names.count(name) for name in merged.levels.counts}
    assert all(n <= truth[name] <= n + merged.levels.error for name, n in merged.levels.counts.items())
    assert "n1" in merged.levels.counts


def test_rows_in_dicts_give_the_profile_of_the_frame() -> None:
    frame = _table(9000)
    frozen = profile(_table(5000, seed=1), label="label").freeze()
    builder = ProfileBuilder(frozen)
    rows = frame.to_dicts()
    for row in rows:
        row["born"] = row["born"].isoformat()
    for start in range(0, 9000, 64):
        builder.add(rows[start : start + 64])
    got, want = builder.take(), profile(frame.drop("label"), reference=frozen)
    for name, column in want.columns.items():
        other = got.columns[name]
        assert msgspec.structs.replace(other, moments=None) == msgspec.structs.replace(column, moments=None)
    assert builder.take().rows == 0


def test_rows_of_another_type_are_counted_not_raised() -> None:
    frozen = profile(_table(100), label="label").freeze()
    builder = ProfileBuilder(frozen)
    builder.add([{"height": "tall", "visits": 10**400, "smoker": "yes", "town": 7, "born": "soon"}, {}])
    got = builder.profile()
    assert [c.mistyped for c in got.columns.values()] == [1, 0, 1, 1, 1]
    assert got.columns["visits"].infinities == (0, 1)
    assert all(c.nulls == 1 for c in got.columns.values())


def test_only_keeps_some_columns() -> None:
    got = profile(_table(50), label="label").only(["town", "visits"])
    assert (list(got.columns), got.label) == (["town", "visits"], None)
    with pytest.raises(NotFound, match=r"Did you mean 'town'"):
        got.only(["twon"])


def test_the_sizes_of_groups_are_kept_and_merge() -> None:
    table = pl.DataFrame({"who": ["a"] * 3 + ["b"] * 3 + ["c", None, None] + ["d"] * 47, "x": range(56)})
    made = profile(table, groups="who")
    assert made.groups == {1: 3, 3: 6, 50: 47}  # large sizes are rounded up
    assert Profile.from_json(made.to_json()).groups == made.groups
    assert made.merge(made).groups == {1: 6, 3: 12, 50: 94}
    assert profile(table).groups == {}

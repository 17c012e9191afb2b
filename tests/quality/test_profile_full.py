"""What only a full profile finds: against other computations, and merged like everything else."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.quality.test_profile_merge import ROW, SCHEMA, same

from loopline.errors import Invalid
from loopline.quality.profile import Profile, profile
from loopline.quality.profile_full import COLUMNS, Full

RNG = np.random.default_rng(5)
N = 3000


def _full(frame: pl.DataFrame, label: str | None = None) -> Full:
    found = profile(frame, label=label, full=True).full
    assert found is not None
    return found


def _codes(frame: pl.DataFrame, label: str | None = None) -> set[tuple[str, str]]:
    return {(w.column, w.code) for w in profile(frame, label=label, full=True).warnings()}


def test_numbers_go_together_as_their_ranks_do() -> None:
    x = RNG.normal(size=N)
    frame = pl.DataFrame(
        {
            "x": x,
            "down": -np.exp(x + RNG.normal(size=N)),
            "noise": RNG.normal(size=N),
            "day": pl.Series(range(N)).cast(pl.Date),
        }
    )
    for pair in _full(frame).pairs:
        expected = stats.spearmanr(frame[pair.one].to_physical(), frame[pair.other].to_physical()).statistic
        assert pair.value == pytest.approx(expected, abs=1e-9)
        assert (pair.measure, pair.rows) == ("rank correlation", N)
    gaps = frame.with_columns(pl.when(pl.col("noise") > 0).then("x").alias("x"), pl.col("down").fill_null(float("nan")))
    found = {(p.one, p.other): p for p in _full(gaps).pairs}["x", "down"]
    both = gaps.drop_nulls()
    assert found.rows == both.height
    assert found.value == pytest.approx(stats.spearmanr(both["x"], both["down"]).statistic, abs=0.02)


def test_categories_go_together_as_cramer_says() -> None:
    town = RNG.choice(["Ulm", "Rom", "Oslo"], N)
    frame = pl.DataFrame(
        {
            "town": town,
            "land": np.where(RNG.random(N) < 0.8, np.char.lower(town), "x"),
            "noise": RNG.choice(list("abcd"), N),
        }
    )
    found = {(p.one, p.other): p.value for p in _full(frame).pairs}
    table = frame.group_by("town", "land").len().pivot("land", index="town", values="len").fill_null(0).drop("town")
    expected = stats.contingency.association(table.to_numpy(), method="cramer")
    assert found["town", "land"] == pytest.approx(expected, abs=0.01)
    assert max(found["town", "noise"], found["land", "noise"]) < 0.05
    gaps = frame.with_columns(pl.when(pl.Series(RNG.random(N) < 0.5)).then("town").alias("town"))
    assert {(p.one, p.other): p.value for p in _full(gaps).pairs}["town", "land"] == pytest.approx(expected, abs=0.05)


def test_a_number_is_held_against_a_category_in_bins() -> None:
    x = RNG.normal(size=N)
    found = {
        (p.one, p.other): p.value
        for p in _full(pl.DataFrame({"x": x, "far": abs(x) > 1.5, "no": RNG.random(N) < 0.5})).pairs
    }
    assert found["x", "far"] > 0.8 > 0.1 > found["x", "no"]


def test_columns_that_are_equal_in_every_row() -> None:
    x = pl.Series([1.0, None, float("nan"), 2.0] * 20)
    frame = pl.DataFrame(
        {"x": x, "again": x, "third": x, "other": x.fill_nan(3.0), "name": ["a", "b"] * 40, "none": [None] * 80}
    )
    assert _full(frame).twins == (("x", "again"), ("again", "third"))
    assert ("again", "same-column") in _codes(frame)


def test_rows_that_nearly_repeat() -> None:
    frame = pl.DataFrame(
        {
            "id": range(N),
            "x": RNG.normal(size=N),
            "y": RNG.normal(size=N),
            "z": RNG.integers(0, 1000, N),
            "name": [f"Person {i % 2500} of Ulm" for i in range(N)],
        }
    )
    assert _full(frame).near_duplicates == 0
    again = frame.head(50).with_columns(pl.col("id") + N, y=pl.lit(9.5), name=pl.col("name").str.to_uppercase() + " ")
    whole = pl.concat([frame, again])
    assert _full(whole).near_duplicates == 50
    assert ("", "near-duplicate-rows") in _codes(whole)
    exact = pl.concat([frame, frame.head(50)])
    assert _full(exact.drop("id")).near_duplicates == 0  # those are told as what they are
    assert _full(frame.head(50).with_columns(pl.col("y") * 2)[:0]).near_duplicates is None
    few = pl.DataFrame({c: RNG.choice(["a", "b"], N) for c in "pqrs"})
    assert _full(few).near_duplicates is None  # chance alone makes such rows alike


def test_what_else_gives_the_label_away() -> None:
    y = RNG.random(N) < 0.4
    frame = pl.DataFrame(
        {"after": [1.0 if a else None for a in y], "gaps": [1.0 if a else None for a in RNG.random(N) < 0.5], "y": y}
    )
    assert ("after", "missing-tells") in _codes(frame, "y")
    assert {c for c in _codes(frame, "y") if c[0] in ("gaps", "")} & {
        ("gaps", "missing-tells"),
        ("", "order-tells"),
    } == set()
    assert ("", "order-tells") in _codes(frame.sort("y"), "y")
    assert not _full(frame).missing_tells


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        ([f"A{i % 900 + 100}" for i in range(990)] + ["17-b"] * 10, "odd-spelling"),
        ([f"2026-0{i % 9 + 1}-{i % 20 + 10}" for i in range(500)] + [f"{i % 20 + 10}/0{i % 9 + 1}/2026" for i in range(300)]
         + [f"{i % 20 + 10}. Mai 2026" for i in range(200)], "mixed-dates"),
        ([f"A{i % 900 + 100}" for i in range(1000)], ""),
        ([f"{'free text ' * (i % 7)}{i}" for i in range(1000)], ""),
        ([f"[{i % 100 // 10 * 10}-{i % 100 // 10 * 10 + 10})" for i in range(2000) if i % 100 >= 10 or i < 100], ""),
        ([f"[{10 + i % 80}-{20 + i % 80})" for i in range(990)] + ["elderly"] * 10, "odd-spelling"),
        ([f"2026-0{i % 9 + 1}-{i % 20 + 10} in words" for i in range(1000)], ""),
    ],
)  # fmt: skip
def test_how_texts_are_spelled(texts: list[str], code: str) -> None:
    found = {c for _, c in _codes(pl.DataFrame({"x": texts}))} & {"odd-spelling", "mixed-dates"}
    assert found == ({code} if code else set())


def test_a_pattern_shows_neither_letters_nor_digits() -> None:
    patterns = (
        profile(pl.DataFrame({"x": ["Zoë 7", "K-12", "12\t\n3", None, "x" * 500]}), full=True).columns["x"].patterns
    )
    assert patterns is not None
    assert patterns.counts == {"a 9": 1, "a-99": 1, "99 9": 1, "a": 1}


def test_a_wide_table_is_compared_in_part_and_says_so() -> None:
    frame = pl.DataFrame({f"c{i}": RNG.normal(size=40) for i in range(COLUMNS + 5)})
    found = _full(frame)
    assert len(found.pairs) == COLUMNS * (COLUMNS - 1) // 2
    assert found.left_out == tuple(f"c{i}" for i in range(COLUMNS, COLUMNS + 5))


def test_odd_tables_are_profiled_in_full() -> None:
    for frame in (
        pl.DataFrame({"x": pl.Series([], dtype=pl.Float64), "y": pl.Series([], dtype=pl.String)}),
        pl.DataFrame({"x": [1], "y": ["a"]}),
        pl.DataFrame({"x": [None, None], "y": [[1], [2]], "z": [float("inf"), float("nan")]}),
        pl.DataFrame({"x": [1e308, -1e308] * 40, "y": [True, None] * 40, "z": [b"a", b"b"] * 40}),
    ):
        found = profile(frame, full=True, label=frame.columns[0])
        assert Profile.from_json(found.to_json()) == found
        assert isinstance(found.warnings(), tuple)
    with pytest.raises(Invalid, match="not made against a reference"):
        profile(frame, full=True, reference=profile(frame).freeze())


def test_ordinary_columns_are_left_in_peace() -> None:
    frame = pl.DataFrame(
        {"a": RNG.normal(size=N), "b": RNG.choice(["x", "y", "z"], N), "c": RNG.poisson(4, N), "y": RNG.random(N) < 0.3}
    )
    assert profile(frame, label="y", full=True).warnings() == ()


def _near(a: Full | None, b: Full | None) -> None:
    """Equal but for rounding."""
    assert a is not None
    assert b is not None
    assert [(p.one, p.other, p.measure, p.rows) for p in a.pairs] == [
        (p.one, p.other, p.measure, p.rows) for p in b.pairs
    ]
    assert [p.value for p in a.pairs] == pytest.approx([p.value for p in b.pairs], abs=1e-9)
    for x, y in ((a.missing_tells, b.missing_tells), ({"": a.order_tells}, {"": b.order_tells})):
        assert {n: h and h.rows for n, h in x.items()} == {n: h and h.rows for n, h in y.items()}
        assert [h.value for h in x.values() if h] == pytest.approx([h.value for h in y.values() if h], abs=1e-9)
    loose = {"pairs": (), "missing_tells": {}, "order_tells": None}
    assert msgspec.structs.replace(a, **loose) == msgspec.structs.replace(b, **loose)


_PARTS = st.lists(ROW, max_size=40)


@settings(max_examples=60, deadline=None)
@given(_PARTS, _PARTS, _PARTS)
def test_merging_full_profiles_is_associative(a: Any, b: Any, c: Any) -> None:
    x, y, z = (profile(pl.DataFrame(rows, schema=SCHEMA), label="flag", full=True) for rows in (a, b, c))
    left, right = x.merge(y).merge(z), x.merge(y.merge(z))
    hints = {"association": None}
    for one in (left, right):
        for name, column in one.columns.items():
            one.columns[name] = msgspec.structs.replace(column, **hints)
    same(left, right)  # the patterns of texts among the rest
    _near(left.full, right.full)
    _near(left.full, z.merge(y).merge(x).full)
    assert x.merge(profile(pl.DataFrame(schema=SCHEMA), label="flag", full=True)).full == x.full
    assert x.merge(profile(pl.DataFrame(b, schema=SCHEMA))).full is None

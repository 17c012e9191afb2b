"""Points as bytes and as rows: nothing is lost, each is once, whatever came in which order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from loopline.app import Platform
from loopline.failpoints import arm
from loopline.tracking.points import EVERY, FEW, Columns, columns, distinct, fewer, pack, read, unpack
from loopline.tracking.records import Point
from loopline.tracking.tables import folded_points, hot_points

INTS = st.integers(-(2**63), 2**63 - 1)
POINTS = st.lists(st.tuples(st.integers(1, 5), INTS, INTS, st.floats()), max_size=50)


def made(points: list[tuple[int, int, int, float]]) -> Columns:
    return columns(*([list(column) for column in zip(*points, strict=True)] or [[], [], [], []]))


def bits(points: Columns) -> list[tuple[int, int, int, int]]:
    values = points.values.view(np.int64)
    return list(zip(*(c.tolist() for c in (points.keys, points.steps, points.times, values)), strict=True))


@given(POINTS, st.booleans())
def test_what_is_packed_comes_back(points: list[tuple[int, int, int, float]], closely: bool) -> None:
    assert bits(unpack(pack(made(points), closely=closely))) == bits(made(points))


@given(POINTS, POINTS)
def test_what_may_have_come_again_is_once_and_all_else_as_often_as_it_came(
    exact: list[tuple[int, int, int, float]], other: list[tuple[int, int, int, float]]
) -> None:
    both = exact + exact[::3] + other + other[::2] + exact[::2]
    again = np.array(
        [False] * (len(exact) + len(exact[::3])) + [True] * (len(both) - len(exact) - len(exact[::3])), bool
    )
    found = bits(distinct(made(both), again))
    once = bits(made(exact + exact[::3]))
    new = set(bits(made(other))) - set(once)
    assert sorted(found) == sorted([*once, *new])
    assert [point[:3] for point in found] == sorted(point[:3] for point in found)


@given(st.lists(st.floats(), min_size=1, max_size=300), st.integers(1, 50))
def test_a_plot_s_points_are_of_the_series_and_hold_its_ends_and_extremes(values: list[float], most: int) -> None:
    n = len(values)
    shown = fewer(columns([1] * n, range(n), [0] * n, values), most)
    places = shown.steps.tolist()
    assert len(places) <= max(most, 1)
    assert places == sorted(set(places))
    assert places[-1] == n - 1
    finite = [value for value in values if math.isfinite(value)]
    if most >= 4:
        assert places[0] == 0
        if len(finite) == n:
            assert max(shown.values) == max(values)
            assert min(shown.values) == min(values)


def counted(platform: Platform) -> tuple[int, int]:
    """How many hot rows and how many chunks there are."""
    with (platform.metrics or platform.database).snapshot() as connection:
        hot = connection.execute(sa.select(sa.func.count()).select_from(hot_points)).scalar_one()
        return hot, connection.execute(sa.select(sa.func.count()).select_from(folded_points)).scalar_one()


def test_many_small_batches_of_few_points_become_one_row(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    for step in range(EVERY + 3):
        runs.log(
            run, [Point(key="loss", value=step / 7, step=step, time=5), Point(key="acc", value=1.0, step=0, time=5)]
        )
    assert counted(either) == (5, 0), "the folded row, and what came since"
    assert [p.step for p in runs.history(run, "loss")] == list(range(EVERY + 3))
    assert len(runs.history(run, "acc")) == 1, "the same point is one point"
    runs.finish(run)
    assert counted(either) == (1, 0)
    assert [p.number for p in runs.history(run, "loss")] == [step / 7 for step in range(EVERY + 3)]


def test_many_points_are_folded_by_metric_and_chunks_are_filled_up(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    expected: dict[str, list[tuple[int, float]]] = {"loss": [], "acc": []}
    for batch in range(12):
        batch_points = []
        for place in range(1000):
            key = "acc" if place % 5 == 0 else "loss"
            step = batch * 1000 + place
            value = math.sin(step) if step % 97 else math.nan
            expected[key].append((step, value))
            batch_points.append(Point(key=key, value=value, step=step, time=10**12 + step))
        runs.log(run, batch_points)
    runs.finish(run)
    hot, chunks = counted(either)
    assert hot <= 1
    assert 2 <= chunks <= 2 + 12_000 // FEW
    for key, points in expected.items():
        found = runs.history(run, key)
        assert [(p.step, repr(p.number)) for p in found] == [(step, repr(value)) for step, value in points]
    plot = runs.history(run, "loss", points=200)
    assert len(plot) <= 200
    assert set(plot) <= set(runs.history(run, "loss"))


def test_one_point_a_metric_stands_in_the_series_alone_until_there_are_more(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    first = [Point(key=key, value=v, step=7, time=5) for key, v in (("a", 0.5), ("b", math.nan), ("c", math.inf))]
    runs.log(run, first)
    assert counted(either) == (0, 0)
    assert [repr(runs.history(run, p.key)) for p in first] == [repr((p,)) for p in first]
    assert runs.history(run, "of none") == ()
    runs.log(run, first[:1])
    assert runs.history(run, "a") == (first[0],), "the same point is one point"
    runs.log(run, [Point(key="a", value=2.0, step=6, time=5), Point(key="d", value=1.0, step=0, time=1)])
    assert [p.number for p in runs.history(run, "a")] == [2.0, 0.5]
    assert [repr(p) for key in "bcd" for p in runs.history(run, key)] == [
        repr(p) for p in (*first[1:], Point(key="d", value=1.0, step=0, time=1))
    ]
    runs.finish(run)
    assert counted(either) == (1, 0)
    assert [p.number for p in runs.history(run, "a")] == [2.0, 0.5]


@pytest.mark.parametrize("values", [[-0.0], [1.0, 1.5]])
def test_first_points_that_a_series_cannot_tell_are_rows_at_once(either: Platform, values: list[float]) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    runs.log(run, [Point(key="a", value=v, step=step, time=5) for step, v in enumerate(values)])
    assert counted(either) == (1, 0)
    assert [repr(p.number) for p in runs.history(run, "a")] == list(map(repr, values))
    runs.log(run, [Point(key="a", value=3.0, step=9, time=5)])
    assert [repr(p.number) for p in runs.history(run, "a")] == [*map(repr, values), "3.0"]


def test_who_has_read_how_many_batches_there_are_finds_their_points_after_they_are_folded(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    for step in range(5):
        runs.log(run, [Point(key="a", value=1.0, step=step, time=5)])
    runs.finish(run)
    assert counted(either) == (1, 0)
    with either.database.begin(lazy=True) as tx:
        number = tx.scalar(sa.text("SELECT number FROM runs"))
    with (either.metrics or either.database).begin(lazy=True) as tx:
        assert read(tx.rows, number, 1, 3).steps.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("where", ["tracking.points.written", "database.tx.before_commit@2"])
def test_a_batch_whose_call_failed_is_nowhere_and_comes_again(platform: Platform, where: str) -> None:
    runs = platform.session().runs
    run = runs.create("a").id
    runs.log(run, [Point(key="loss", value=1.0, step=0, time=1)])
    name, _, hit = where.partition("@")
    arm(f"{name}=EIO@{hit or 1}")
    try:
        with pytest.raises(OSError, match="Input/output"):
            runs.log(run, [Point(key="loss", value=9.0, step=9, time=1)])
    finally:
        arm("")
    assert [p.step for p in runs.history(run, "loss")] == [0], "its points are in the other file, and nobody reads them"
    assert runs.show(run).metrics == {"loss": 1.0}
    runs.log(run, [Point(key="loss", value=2.0, step=1, time=1)])
    assert [p.number for p in runs.history(run, "loss")] == [1.0, 2.0]


def test_last_least_and_greatest_are_kept(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    for values in ([3.0, 1.0], [math.nan, 5.0], [4.0], [math.nan]):
        start = len(runs.history(run, "loss"))
        runs.log(run, [Point(key="loss", value=v, step=start + place, time=1) for place, v in enumerate(values)])
    assert runs.show(run).metrics == {"loss": "NaN"}
    with either.database.snapshot() as connection:
        row = connection.execute(sa.text("SELECT last, low, high FROM run_series")).one()
    assert tuple(row) == (None, 1.0, 5.0)

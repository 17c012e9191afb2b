"""Runs beside each other: what differs and what does not, and a difference is called one only where chance is known."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from loopline.app import Platform
from loopline.errors import Invalid, NotFound
from loopline.tracking.comparison.records import Delta
from loopline.tracking.comparison.result import Comparison, page
from loopline.tracking.comparison.tables import left_out, metric, tables
from loopline.tracking.records import Point

COMMIT = {"commit": "a" * 40, "python": "3.11.9", "requirements": ["numpy==2.4.1", "scipy==1.17.0"], "packages": "x"}


def made(runs: Any, name: str, value: float | None = None, **given: Any) -> str:
    """A run with one value of `auc`; gives its id."""
    run = runs.create(name, **given).id
    if value is not None:
        runs.log(run, [Point(key="auc", value=value)])
    return str(run)


def differing(found: Comparison) -> dict[str, tuple[Any, ...]]:
    return {f"{one.of}: {one.key}": one.values for one in found.differences}


def delta(found: Comparison, key: str = "auc") -> Delta:
    (one,) = (metric for metric in found.metrics if metric.key == key)
    assert one.deltas[0] is None
    assert one.deltas[1] is not None
    return one.deltas[1]


def test_only_what_differs_is_shown(either: Platform) -> None:
    runs = either.session().runs
    other = {
        **COMMIT,
        "commit": "b" * 40,
        "requirements": ["numpy==2.4.2", "scipy==1.17.0", "polars==2.1.0"],
        "packages": "y",
    }
    a = made(
        runs, "fit", 0.6, params={"rate": 0.1, "leaves": 31, "kind": 1}, tags={"team": "one"}, inputs=("data:v@1",),
        environment=COMMIT,
    )  # fmt: skip
    b = made(
        runs, "fit", 0.6, params={"rate": 0.2, "leaves": 31, "kind": "1"}, tags={"team": "one"},
        inputs=("data:v@2", "data:w@1"), environment=other,
    )  # fmt: skip
    found = runs.compare((a, b))
    assert [run.id for run in found.runs] == [a, b]
    assert differing(found) == {
        "params: kind": (1, "1"),
        "params: rate": (0.1, 0.2),
        "inputs: data:v": ("data:v@1", "data:v@2"),
        "inputs: data:w": (None, "data:w@1"),
        "code: commit": ("a" * 40, "b" * 40),
        "packages: numpy": ("2.4.1", "2.4.2"),
        "packages: polars": (None, "2.1.0"),
    }
    assert found.metrics == ()
    assert found.alike == 6, "the group, leaves, team, scipy, python and auc"
    whole = runs.compare((a, b), all=True)
    assert whole.alike == 0
    assert {"params: leaves", "tags: team", "packages: scipy", "environment: python"} <= differing(whole).keys()
    assert [metric.key for metric in whole.metrics] == ["auc"]
    assert [metric.key for metric in runs.compare((a, b), ("auc",)).metrics] == ["auc"], "what is asked for is shown"


def test_runs_of_two_groups_are_told_apart(either: Platform) -> None:
    session = either.session()
    other = session.groups.create("rates").number
    runs = [session.runs.create("fit", group=group).id for group in (0, other, other)]
    found = session.runs.compare(tuple(runs))
    assert differing(found) == {"run: group": ("Default", "rates", "rates")}
    assert differing(session.runs.compare(tuple(runs[1:]))) == {}


def test_values_in_short_and_no_certainty_from_one_run(either: Platform) -> None:
    runs = either.session().runs
    a, b = made(runs, "a"), made(runs, "b")
    runs.log(a, [Point(key="loss", value=v, step=s) for s, v in enumerate([3.0, 0.5, 1.0])])
    runs.log(b, [Point(key="loss", value=v, step=s) for s, v in enumerate([2.0, math.nan, math.inf])])
    (one,) = runs.compare((a, b)).metrics
    first, second = one.values
    assert first is not None
    assert second is not None
    assert (first.last, first.low, first.high, first.step) == (1.0, 0.5, 3.0, 2)
    assert (second.last, second.low, second.high) == ("Infinity", 2.0, "Infinity")
    found = delta(runs.compare((a, b)), "loss")
    assert (found.value, found.finding, found.low, found.n, found.m) == ("Infinity", "not known", None, 1, 0)
    assert "no second finite value" in found.basis


def test_what_is_not_known_says_of_which_metrics(platform: Platform) -> None:
    runs = platform.session().runs
    ids = []
    for name, base in (("a", 0.6), ("b", 0.7)):
        ids.append(made(runs, name, base))
        runs.log(ids[-1], [Point(key=f"loss {n}", value=base) for n in range(7)])
        for fold in range(3):
            made(runs, f"fold {fold}", base + fold * base / 100, parent=ids[-1])
    shown = left_out(runs.compare(ids))
    assert (
        "a difference in loss 0, loss 1, loss 2, loss 3, loss 4 and 2 more is not known: the runs have no second"
        in shown
    )
    assert "Means over 3 folds" in shown
    assert "auc" not in shown


def test_folds_as_child_runs_are_compared_in_pairs(either: Platform) -> None:
    runs = either.session().runs
    rng = random.Random(1)
    parents = [made(runs, name) for name in ("a", "b", "c")]
    for fold in range(5):
        hard = rng.gauss(0.7, 0.1)  # a fold is hard or easy for all, which pairs take out
        for parent, better in zip(parents, (0.0, 0.03, 0.0), strict=True):
            made(runs, f"fold {fold}", hard + better + rng.gauss(0, 0.003), parent=parent)
    for parent in parents:
        runs.log(parent, [Point(key="auc", value=0.7)])
    found = runs.compare(tuple(parents), ("auc",))
    assert [run.folds for run in found.runs] == [5, 5, 5]
    _, better, same = found.metrics[0].deltas
    assert better is not None
    assert same is not None
    assert (better.finding, better.method, better.n, better.m) == ("higher", "corrected resampled t", 5, 5)
    assert better.low is not None
    assert better.mean == pytest.approx(0.03, abs=0.01)
    assert better.confidence == pytest.approx(0.975), "two runs are held against the first: each has half of the 5 %"
    assert (same.finding, same.basis) == ("not told apart", "5 folds as child runs")


def test_what_folds_alone_say_is_compared_too(either: Platform) -> None:
    runs = either.session().runs
    rng = random.Random(4)
    parents = [made(runs, name) for name in ("a", "b")]
    for fold in range(5):
        for parent, value in zip(parents, (0.6, 0.7), strict=True):
            made(runs, f"fold {fold}", value + rng.gauss(0, 0.003), parent=parent)
    (one,) = runs.compare(tuple(parents)).metrics
    assert (one.key, one.values, one.same) == ("auc", (None, None), False)
    assert one.folds == pytest.approx((0.6, 0.7), abs=0.01)
    found = delta(runs.compare(tuple(parents)))
    assert (found.value, found.finding, found.n) == (None, "higher", 5)
    first, second = metric(one)
    assert first == f"{one.folds[0]:.4g} by folds"
    assert second.startswith(f"{one.folds[1]:.4g} by folds (higher: mean +0.")
    with pytest.raises(NotFound, match="None of these runs has the metric 'auc'"):
        runs.plot(tuple(parents), "auc")


def test_the_use_of_the_machine_is_compared_where_it_is_asked_for(either: Platform) -> None:
    runs = either.session().runs
    ids = [made(runs, name, 0.6) for name in ("a", "b")]
    for place, run in enumerate(ids):
        runs.log(run, [Point(key="system/cpu_percent", value=place), Point(key="system/memory_used", value=1)])
    found = runs.compare(tuple(ids))
    assert (found.metrics, found.system, found.alike) == ((), 2, 2), "alike are the group and auc"
    assert "2 metrics of the machine's use are not shown." in left_out(found)
    assert [one.key for one in runs.compare(tuple(ids), ("system/cpu_percent",)).metrics] == ["system/cpu_percent"]
    whole = runs.compare(tuple(ids), all=True)
    assert len(whole.metrics) == 3
    assert whole.system == 0


def test_folds_as_steps_of_a_metric_that_says_so(either: Platform) -> None:
    runs = either.session().runs
    a, b = made(runs, "a"), made(runs, "b")
    for run, shift in ((a, 0.0), (b, 0.05)):
        values = [0.7 + shift + 0.01 * ((fold * 7 + int(shift * 100)) % 3) for fold in range(6)]
        for key in ("fold/auc", "auc"):
            runs.log(run, [Point(key=key, value=value, step=fold) for fold, value in enumerate(values)])
    found = runs.compare((a, b))
    assert delta(found, "fold/auc").finding == "higher"
    assert delta(found, "auc").finding == "not known", "the steps of any other metric are no repeats"
    runs.log(b, [Point(key="fold/auc", value=0.7, step=9)])
    assert delta(runs.compare((a, b)), "fold/auc").basis == "the two runs have other folds, and no pairs"


def test_runs_that_differ_in_their_seeds_alone_are_repeats(either: Platform) -> None:
    runs = either.session().runs
    a = [
        made(runs, "small", v, params={"leaves": 8, "seed": s}, environment=COMMIT)
        for s, v in enumerate([0.61, 0.62, 0.60])
    ]
    b = [
        made(runs, "large", v, params={"leaves": 64, "seed": s}, environment=COMMIT)
        for s, v in enumerate([0.71, 0.70, 0.72])
    ]
    made(
        runs, "small", 0.99, params={"leaves": 8, "seed": 1}, environment=COMMIT
    )  # the same seed again: the newer one counts
    made(runs, "small", 0.99, params={"leaves": 9, "seed": 7}, environment=COMMIT)  # other params
    made(runs, "small", 0.99, params={"leaves": 8, "seed": 8}, environment={**COMMIT, "commit": "c" * 40})  # other code
    made(runs, "small", 0.99, params={"leaves": 8}, environment=COMMIT)  # no seed
    found = runs.compare((a[0], b[0]))
    assert [run.repeats for run in found.runs] == [2, 2]
    one = delta(found)
    assert (one.method, one.n, one.m) == ("welch", 3, 3)
    assert one.value == pytest.approx(0.10)
    assert delta(runs.compare((a[0], a[2]))).basis == "they are repeats of one another"


def test_repeats_without_any_spread_prove_nothing(either: Platform) -> None:
    runs = either.session().runs
    a = [made(runs, "small", 0.6, params={"leaves": 8, "seed": s}) for s in range(3)]
    b = [made(runs, "large", 0.7, params={"leaves": 64, "seed": s}) for s in range(3)]
    found = delta(runs.compare((a[0], b[0])))
    assert (found.finding, found.low) == ("not known", None)
    assert "all repeats say the same" in found.basis


def test_what_cannot_be_compared_is_named(either: Platform) -> None:
    runs = either.session().runs
    a, b = made(runs, "a", 0.5), made(runs, "b", 0.6)
    for given in ((), (a,), (a, a), (a, f"run:{a}")):
        with pytest.raises(Invalid) as told:
            runs.compare(given)
        assert told.value.code == "bad-comparison"
    with pytest.raises(NotFound, match="01ZZZZ") as unknown:
        runs.compare((a, "01ZZZZZZZZZZZZZZZZZZZZZZZZ"))
    assert unknown.value.code == "no-run"
    for ask in (lambda: runs.compare((a, b), ("auk",)), lambda: runs.plot((a, b), "auk")):
        with pytest.raises(NotFound, match="auk") as metric:
            ask()
        assert "auc" in metric.value.hint


def test_a_hundred_runs_stand_beside_each_other_and_no_more(platform: Platform) -> None:
    runs = platform.session().runs
    given = [made(runs, "fit", 0.5 + n / 1000, params={"n": n, "seed": n}, environment=COMMIT) for n in range(101)]
    found = runs.compare(tuple(given[:100]))
    assert len(found.metrics[0].deltas) == 100
    with pytest.raises(Invalid):
        runs.compare(tuple(given))
    picture = runs.plot(tuple(given[:100]), "auc", "svg")
    ET.fromstring(picture.read())


def test_a_page_shows_names_as_names(platform: Platform) -> None:
    runs = platform.session().runs
    a, b = made(runs, "<b>a</b>", 0.5, params={"<i>": "$x$"}), made(runs, "b $y$ & c", 0.7)
    found = runs.compare((a, b))
    for text in (page(found, {"auc": runs.plot((a, b), "auc", "svg").read()}), tables(found), found._repr_html_()):
        assert "<b>a</b>" not in text
        assert "&lt;b&gt;a" in text
        assert "http" not in text.replace("http-equiv", ""), "it stands alone"
    picture = runs.plot((a, b), "auc", "svg").read().decode()
    assert "b $y$ &amp; c" in picture
    assert "<b>" not in picture
    assert runs.plot((a, b), "auc").read().startswith(b"\x89PNG")


def test_runs_of_one_long_name_are_told_apart_in_a_picture(platform: Platform) -> None:
    runs = platform.session().runs
    given = tuple(runs.create("a name of many words that is the same for each of them " * 3).id for _ in range(3))
    for run in given:
        runs.log(run, [Point(key="auc", value=0.5, step=step) for step in (0, 1)])
    picture = runs.plot(given, "auc", "svg").read().decode()
    assert all(f"({run[-6:]})" in picture for run in given)

"""Data that runs read elsewhere, batches of params and tags, runs that are changed: what MLflow's clients brought into the room."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sqlalchemy as sa

from loopline.app import Platform
from loopline.errors import Conflict, Invalid, NotFound
from loopline.tracking.records import ExternalDataset, ExternalUse, Point
from loopline.tracking.tables import external_datasets


def dataset(name: str, **more: Any) -> ExternalDataset:
    return ExternalDataset(name=name, digest=f"of {name}", source_type="http", source=f"http://x/{name}", **more)


def test_what_a_run_read_elsewhere_is_kept_once(either: Platform) -> None:
    session = either.session()
    runs, groups = session.runs, session.groups
    group = groups.create("others").number
    first, second = runs.create("a"), runs.create("b", group=group)
    train, test = dataset("train", context="training", tags={"k": "v"}), dataset("tést 1", schema="s", profile="p")
    assert runs.use(first.id, [train, test]).external == (train, test)
    entries = len(session.ledger.entries())
    assert runs.use(first.id, [dataset("train", context="else")]).external == (train, test), (
        "said again, it changes nothing"
    )
    assert runs.use(second.id, [train]).external == (train,)
    assert len(session.ledger.entries()) == entries + 2
    assert runs.used() == (
        ExternalUse(group=0, name="train", digest="of train", context="training"),
        ExternalUse(group=0, name="tést 1", digest="of tést 1", context=""),
        ExternalUse(group=group, name="train", digest="of train", context="training"),
    )
    assert [one.name for one in runs.used(groups=(group,))] == ["train"]
    found = {
        'external.name = "train"': {"a", "b"}, "external.name != 'train'": {"a"}, "external.digest LIKE 'of t%'": {"a", "b"},
        "external.context = 'training'": {"a", "b"}, "external.context IS NULL": set(), "external.name ILIKE 'TÉST%'": {"a"},
        "external.name IN ('x', 'tést 1')": {"a"}, "NOT external.name = 'tést 1'": {"b"}, "external.name ~ '1$'": {"a"},
    }  # fmt: skip
    for filter, names in found.items():
        assert {run.name for run in runs.search(filter).runs} == names, filter
    for wrong in ("external.size = 'x'", "external = 'x'"):
        with pytest.raises(Invalid):
            runs.search(wrong)
    with pytest.raises(Invalid):
        runs.search("", order=("external.name",))


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [dataset("")], [ExternalDataset(name="a", digest="")], [dataset("x" * 501)], [dataset("a", profile="x" * ((1 << 24) + 1))],
        [dataset("ok"), dataset("a", context="x" * 501)], [dataset(f"{n}") for n in range(1001)],
    ],
)  # fmt: skip
def test_what_is_no_dataset_is_refused_whole(either: Platform, bad: list[ExternalDataset]) -> None:
    runs = either.session().runs
    run = runs.create("a")
    with pytest.raises(Invalid):
        runs.use(run.id, bad)
    assert runs.show(run.id).external == ()


def test_a_batch_is_whole_or_not_at_all(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a", params={"lr": 0.1}).id
    assert runs.log(run, [Point(key="m", value=1.0)], {"p": "1"}, {"t": "", "u": "x"}).count == 1
    assert runs.log(run, tags={"u": None}).digest == ""
    kept = runs.show(run)
    assert (kept.params, kept.tags, kept.metrics) == ({"lr": 0.1, "p": "1"}, {"t": ""}, {"m": 1.0})
    with pytest.raises(Conflict) as told:
        runs.log(run, [Point(key="m", value=2.0)], {"lr": 0.2, "new": 1, "p": "2"}, {"t": "y"})
    assert told.value.details["params"] == {"lr": 0.1, "p": "1"}
    with pytest.raises(Invalid):
        runs.log(run, [Point(key="m", value=2.0), Point(key="", value=1.0)], {"new": 1})
    with pytest.raises(Invalid):
        runs.log(run)
    assert runs.show(run) == kept
    assert len(runs.history(run, "m")) == 1


def test_a_run_is_renamed_resumed_and_ended_anew(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a", created=1_000)
    assert run.created == 1_000
    for n in range(3):
        runs.log(run.id, [Point(key="m", value=float(n), step=n)])
    assert runs.change(run.id, name="b").name == "b"
    ended = runs.change(run.id, status="failed", ended=5_000)
    assert (ended.status, ended.ended, ended.name) == ("failed", 5_000, "b")
    assert runs.change(run.id, status="running").status == "running"
    runs.log(run.id, [Point(key="m", value=9.0, step=9)])
    assert runs.change(run.id, status="scheduled").status == "scheduled"
    assert [point.number for point in runs.history(run.id, "m")] == [0.0, 1.0, 2.0, 9.0]
    assert [one.name for one in runs.search("status = 'scheduled' AND duration > 3").runs] == ["b"]
    for bad in ({"name": ""}, {"name": "a\nb"}, {"ended": -1}, {"ended": 2**60}):
        with pytest.raises(Invalid):
            runs.change(run.id, **bad)
    for created in (-1, 2**60):
        with pytest.raises(Invalid):
            runs.create("x", created=created)
    runs.delete(run.id)
    with pytest.raises(Conflict):
        runs.change(run.id, name="c")


def test_what_is_said_of_data_goes_with_the_last_run_that_read_it(either: Platform) -> None:
    runs = either.session().runs
    first, second = runs.create("a").id, runs.create("b").id
    runs.use(first, [dataset("train"), dataset("test")])
    runs.use(second, [dataset("train")])
    for run, left in ((first, 1), (second, 0)):
        runs.delete(run)
        runs.purge(runs=(run,))
        with either.database.begin() as tx:
            assert len(tx.rows(sa.select(external_datasets))) == left


def test_the_last_points_of_runs(either: Platform) -> None:
    runs = either.session().runs
    first, second = runs.create("a").id, runs.create("b").id
    runs.log(first, [Point(key="m", value=1.0, step=5, time=7), Point(key="m", value=2.0, step=4, time=9)])
    runs.log(first, [Point(key="a", value=math.nan, step=1, time=1)])
    assert runs.last((second, first)) == {
        second: (),
        first: (Point(key="a", value=math.nan, step=1, time=1), Point(key="m", value=1.0, step=5, time=7)),
    }
    with pytest.raises(NotFound):
        runs.last((first, "0" * 26))
    with pytest.raises(Invalid):
        runs.last(())

"""Runs through a platform's session: what is written is there, what clashes is refused, pages are stable."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import sqlalchemy as sa

from loopline.access.records import Principal
from loopline.app import Platform
from loopline.errors import Conflict, Invalid, NotFound
from loopline.operations import Body
from loopline.tracking.records import Point, Run
from loopline.tracking.tables import hot_points


def test_a_run_keeps_what_it_was_given(either: Platform) -> None:
    runs = either.session().runs
    above = runs.create("fit all", kind="pipeline")
    made = runs.create(
        "fit",
        kind="step",
        parent=above.ref,
        params={"rate": 0.1, "leaves": 31, "names": ["a", "b"], "missing": math.nan, "deep": {"x": None}},
        tags={"by": "hand"},
        inputs=("data:visits@7",),
        environment={"python": "3.11"},
    )
    assert runs.show(made.id) == made == runs.show(made.ref)
    assert made.params == {"rate": 0.1, "leaves": 31, "names": ["a", "b"], "missing": "NaN", "deep": {"x": None}}
    assert (made.parent, made.tags, made.inputs, made.status) == (
        above.id,
        {"by": "hand"},
        ("data:visits@7",),
        "running",
    )
    assert runs.tag(made.id, {"by": None, "team": "a", "empty": ""}).tags == {"team": "a", "empty": ""}
    done = runs.finish(made.id, outputs=("model:readmission@1",), message="fine")
    assert (done.status, done.outputs, done.message) == ("finished", ("model:readmission@1",), "fine")
    assert done.ended is not None
    assert done.ended >= done.created
    assert runs.finish(made.id, outputs=("model:readmission@1",), message="fine") == done
    with pytest.raises(Conflict):
        runs.finish(made.id, "failed")


def test_a_param_has_one_value(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a", params={"rate": 0.1}).id
    assert runs.params(run, {"rate": 0.1, "depth": 3}).params == {"rate": 0.1, "depth": 3}
    with pytest.raises(Conflict):
        runs.params(run, {"new": 1, "rate": 0.2})
    assert runs.show(run).params == {"rate": 0.1, "depth": 3}, "the refused call left nothing"


def test_points_come_back_with_nan_and_infinities(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    values = [0.5, math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    batch = [Point(key="loss", value=v, step=s, time=1000 + s) for s, v in enumerate(values)]
    answer = runs.log(run, [*batch, Point(key="train/acc", value=0.9, step=-3)])
    assert answer.count == 8
    found = runs.history(run, "loss")
    assert [math.isnan(p.number) for p in found] == [math.isnan(v) for v in values]
    assert [p.number for p in found if p.value != "NaN"] == [v for v in values if not math.isnan(v)]
    assert math.copysign(1, found[4].number) == -1
    assert [(p.step, p.time) for p in found] == [(p.step, p.time) for p in batch]
    assert runs.history(run, "train/acc")[0].time > 1_600_000_000_000, "a point without a time has that of the call"
    assert runs.history(run, "other") == ()
    # What is on the wire is the same: JSON has names for what it has no numbers for.
    assert msgspec.json.decode(msgspec.json.encode(found), type=tuple[Point, ...]) == found


def test_the_last_value_is_by_step_then_time_and_not_by_arrival(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    runs.log(run, [Point(key="loss", value=1.0, step=5, time=10), Point(key="odd", value=math.nan, step=1, time=1)])
    runs.log(run, [Point(key="loss", value=2.0, step=4, time=99), Point(key="odd", value=math.inf, step=0, time=1)])
    assert runs.show(run).metrics == {"loss": 1.0, "odd": "NaN"}
    runs.log(run, [Point(key="loss", value=3.0, step=5, time=11), Point(key="odd", value=-math.inf, step=2, time=1)])
    assert runs.show(run).metrics == {"loss": 3.0, "odd": "-Infinity"}
    assert [p.number for p in runs.history(run, "loss")] == [2.0, 1.0, 3.0]


def test_the_same_batch_is_kept_once(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    batch = [Point(key="loss", value=i / 7, step=i, time=1 + i) for i in range(50)]
    assert runs.log(run, batch) == runs.log(run, batch)
    assert len(runs.history(run, "loss")) == 50


def test_a_batch_is_one_digested_entry(platform: Platform) -> None:
    session = platform.session()
    run = session.runs.create("a")
    answer = session.runs.log(run.id, [Point(key="loss", value=1.0, step=i, time=1) for i in range(20)])
    with platform.database.snapshot() as connection:
        bodies = [row.body for row in connection.execute(sa.text("SELECT body FROM ledger_entries"))]
    entry = msgspec.json.decode(bodies[-1])
    assert entry["o"] == "runs.log"
    assert entry["n"] == 20
    assert entry["d"] == {"points": answer.digest}
    assert entry["u"] == [run.ref]


def test_points_stand_in_the_second_file_on_sqlite(platform: Platform) -> None:
    runs = platform.session().runs
    runs.log(runs.create("a").id, [Point(key="loss", value=1.0, step=step) for step in range(2)])
    count = sa.select(sa.func.count()).select_from(hot_points)
    assert platform.metrics is not None
    with platform.metrics.snapshot() as connection:
        assert connection.execute(count).scalar() == 1
    with platform.database.snapshot() as connection:
        assert connection.execute(count).scalar() == 0


@pytest.mark.parametrize(
    "points",
    [
        [],
        [{"key": "", "value": 1.0}],
        [{"key": "a\0b", "value": 1.0}],
        [{"key": "../a", "value": 1.0}],
        [{"key": "a" * 251, "value": 1.0}],
        [{"key": "a", "value": "nan"}],
        [{"key": "a", "value": None}],
        [{"key": "a", "value": 1.0, "step": 2**63}],
        [{"key": "a", "value": 1.0, "time": -2}],
        [{"key": "a", "value": 1.0}, {"key": "b", "value": 1.0, "time": 2**63}],
    ],
)
def test_bad_points_are_refused_whole(platform: Platform, points: list[dict[str, object]]) -> None:
    runs = platform.session().runs
    run = runs.create("a").id
    with pytest.raises(Invalid):
        runs.log(run, points)  # type: ignore[arg-type]
    assert runs.show(run).metrics == {}


def test_pages_are_stable_while_runs_come(either: Platform) -> None:
    runs = either.session().runs
    made = [runs.create(f"r{i % 3}", kind="trial" if i % 2 else "run").id for i in range(23)]
    seen: list[Run] = []
    page = runs.list(limit=5)
    while True:
        seen.extend(page.runs)
        runs.create("late")
        if page.after is None:
            break
        page = runs.list(limit=5, after=page.after)
    assert [run.id for run in seen] == sorted(made, reverse=True)
    assert {run.id for run in runs.list(name="r1", kind="trial").runs} == {
        made[i] for i in range(23) if i % 3 == 1 and i % 2
    }
    child = runs.create("c", parent=made[0])
    assert [run.id for run in runs.list(parent=made[0]).runs] == [child.id]
    runs.finish(made[1], "failed")
    assert [run.id for run in runs.list(status="failed").runs] == [made[1]]
    for limit in (0, -1, 1001):
        with pytest.raises(Invalid):
            runs.list(limit=limit)


def test_another_projects_run_is_not_there(platform: Platform) -> None:
    here = platform.session()
    here.projects.create("clinic")
    there = platform.session(project="clinic")
    foreign = there.runs.create("a")
    there.runs.log(foreign.id, [Point(key="loss", value=1.0)])
    there.runs.put_artifact(foreign.id, "a.txt", b"secret")
    assert foreign.ref == f"run:clinic/{foreign.id}"
    for attempt in (
        lambda: here.runs.show(foreign.id),
        lambda: here.runs.show(foreign.ref),
        lambda: here.runs.history(foreign.id, "loss"),
        lambda: here.runs.artifact(foreign.id, "a.txt"),
        lambda: here.runs.create("b", parent=foreign.id),
        lambda: here.runs.log(foreign.id, [Point(key="loss", value=1.0)]),
        lambda: here.runs.finish(foreign.id),
        lambda: here.runs.tag(foreign.id, {"a": "b"}),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert here.runs.list().runs == ()


def test_what_a_run_read_is_of_projects_that_its_maker_can_read(platform: Platform) -> None:
    owner = platform.session()
    owner.projects.create("clinic")
    owner.access.add_principal("ann")
    owner.access.grant("ann", "data_scientist")
    foreign = ("data:clinic/visits@1",)
    runs = platform.session(Principal(name="ann")).runs
    for attempt in (
        lambda: runs.create("a", inputs=foreign),
        lambda: runs.finish(runs.create("b").id, outputs=foreign),
    ):
        with pytest.raises(NotFound, match="clinic"):
            attempt()
    assert [run.name for run in runs.list().runs] == ["b"]
    with pytest.raises(NotFound, match="clinic"):
        platform.session(Principal(name="ann")).datasets.add(
            "t", Body(b"a,b\n1,2\n", name="t.csv"), inputs=list(foreign)
        )
    assert owner.runs.create("c", inputs=foreign).inputs == foreign


def test_many_writers_of_one_run_lose_nothing(either: Platform) -> None:
    session = either.session()
    run = session.runs.create("a").id
    failures: list[Exception] = []

    def write(worker: int) -> None:
        try:
            for step in range(10):
                session.runs.log(run, [Point(key="loss", value=float(worker), step=step * 4 + worker, time=1)])
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [p.step for p in session.runs.history(run, "loss")] == list(range(40))
    assert session.runs.show(run).metrics == {"loss": 3.0}


@pytest.mark.parametrize("what", ["tag", "params"])
def test_writers_of_one_run_never_wait_in_a_ring(either: Platform, what: str) -> None:
    """They name the same keys in another order each; on PostgreSQL a row that is written is held until the commit."""
    runs = either.session().runs
    keys = [f"k{n}" for n in range(40)]
    for _ in range(8):
        run, start = runs.create("a").id, threading.Barrier(6)

        def write(place: int, run: str = run, start: threading.Barrier = start) -> None:
            start.wait(timeout=60)
            for turn in range(3):
                at = (place * 7 + turn * 5) % len(keys)
                getattr(runs, what)(run, dict.fromkeys(keys[at:] + keys[:at], "same"))

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(write, range(6))) == [None] * 6
        shown = runs.show(run)
        assert (shown.tags if what == "tag" else shown.params) == dict.fromkeys(keys, "same")


def test_two_writers_of_one_param_cannot_both_win(either: Platform) -> None:
    session = either.session()
    run = session.runs.create("a").id
    outcomes: list[object] = []
    start = threading.Barrier(2)

    def write(value: int) -> None:
        start.wait()
        try:
            session.runs.params(run, {"rate": value})
            outcomes.append(value)
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=write, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 1
    assert session.runs.show(run).params["rate"] in outcomes


def test_far_too_many_params_or_tags_are_refused_at_once(either: Platform) -> None:
    runs = either.session().runs
    made = runs.create("fit")
    many = {f"k{n}": "v" for n in range(10_001)}
    for call in (
        lambda: runs.params(made.id, dict(many)),
        lambda: runs.tag(made.id, many),
        lambda: runs.create("fit", params=dict(many)),
        lambda: runs.create("fit", tags=many),
    ):
        with pytest.raises(Invalid) as refused:
            call()
        assert refused.value.code == "bad-batch"
    assert runs.show(made.id) == made
    assert len(runs.list().runs) == 1


def test_what_create_gives_is_what_is_there(either: Platform) -> None:
    session = either.session()
    parent = session.runs.create("above")
    made = session.runs.create(
        "fit",
        kind="step",
        parent=parent.ref,
        params={
            "z": 1.0,
            "a": "0.10",
            "list": [1, {"x": None}],
            "nan": float("nan"),
            "on": True,
            "tiny": 1e-300,
        },
        tags={"b": "2", "a": ""},
        inputs=(parent.ref, parent.ref),
        environment={"python": "3.11", "seeds": {"numpy": 1}},
        created=12,
    )
    assert made == session.runs.show(made.id)
    assert list(made.params) == sorted(made.params)
    assert session.runs.create("bare") == session.runs.list(limit=1).runs[0]

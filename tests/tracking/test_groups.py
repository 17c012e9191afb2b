"""Groups of runs, and deleting and restoring: what is deleted is kept aside, takes no more, and comes back as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from loopline.app import Platform
from loopline.errors import Conflict, Invalid, NotFound
from loopline.operations import Body
from loopline.tracking.groups import hold_group
from loopline.tracking.ids import ulid
from loopline.tracking.journal_format import KINDS, frame, pack, run_prefix
from loopline.tracking.records import Point


def test_every_project_has_the_default_group(either: Platform) -> None:
    session = either.session()
    session.projects.create("clinic")
    there = either.session(project="clinic")
    for groups in (session.groups, there.groups):
        (default,) = groups.list().groups
        assert (default.number, default.name, default.tags, default.deleted) == (0, "Default", {}, None)
        assert groups.list(name="Default").groups == (default,) == (groups.show(0),)
        assert groups.list(name="Other").groups == groups.list(lifecycle="deleted").groups == ()
    assert session.runs.create("a").group == 0
    with pytest.raises(Conflict) as taken:
        session.groups.create("Default")
    assert taken.value.code == "group-taken"
    tagged = there.groups.tag(0, {"team": "a", "gone": "x"})
    assert there.groups.tag(0, {"gone": None}).tags == {"team": "a"}
    assert tagged.created == there.groups.show(0).created == there.projects.show().created
    assert session.groups.show(0).tags == {}, "the other project's is another"
    assert there.groups.change(0, name="Rest", note="all else").name == "Rest"
    assert there.groups.create("Default").number == 1


def test_where_the_default_group_is_deleted_a_new_one_takes_its_place(either: Platform) -> None:
    """As in MLflow it may be deleted; runs that name no group have a place nevertheless, journals' among them."""
    session = either.session()
    former = session.runs.create("a").id
    assert session.groups.delete(0).deleted is not None
    assert session.groups.list().groups == ()
    assert [group.number for group in session.groups.list(lifecycle="deleted").groups] == [0]
    assert session.runs.show(former).deleted is not None
    for call in (lambda: session.runs.create("b", group=0), lambda: session.runs.restore(former)):
        with pytest.raises(Conflict) as deleted:
            call()
        assert deleted.value.code == "group-deleted"
    number = session.runs.create("b").group
    assert (number, session.groups.show(1).name) == (1, "Default")
    assert session.runs.create("c").group == 1
    body = run_prefix(ulid(1)) + b'{"name": "d", "created": 1}'
    session.runs.send(ulid(2), 1, Body(pack(frame(1 + KINDS.index("run"), body))))
    assert {run.group for run in session.runs.list().runs} == {1}
    session.runs.purge(groups=(0,))
    assert session.groups.create("next").number == 2, "a number is never given again"
    with pytest.raises(Conflict, match="Default"):
        session.groups.restore(0)
    session.groups.change(1, name="Mine")
    assert session.groups.restore(0).deleted is None
    assert session.runs.create("e").group == 0


def test_groups_are_counted_in_their_project_and_listed_by_number(either: Platform) -> None:
    session = either.session()
    session.projects.create("clinic")
    made = [session.groups.create(f"g{n}", {"n": str(n)}, note="why").number for n in range(7)]
    assert made == list(range(1, 8))
    assert either.session(project="clinic").groups.create("g0").ref == "group:clinic/1"
    seen: list[int] = []
    page = session.groups.list(limit=3)
    while True:
        seen.extend(group.number for group in page.groups)
        if page.after is None:
            break
        page = session.groups.list(limit=3, after=page.after)
    assert seen == [0, *made]
    assert session.groups.show(3).tags == {"n": "2"}
    with pytest.raises(NotFound):
        session.groups.show(8)
    with pytest.raises(NotFound):
        either.session(project="clinic").runs.create("a", group=5)


def test_a_name_is_that_of_one_live_group(either: Platform) -> None:
    groups = either.session().groups
    one, two = groups.create("one"), groups.create("two")
    for attempt in (lambda: groups.create("one"), lambda: groups.change(two.number, name="one")):
        with pytest.raises(Conflict) as taken:
            attempt()
        assert taken.value.code == "group-taken"
    groups.delete(one.number)
    assert groups.change(two.number, name="one").name == "one", "a deleted group's name is free"
    with pytest.raises(Conflict) as taken:
        groups.restore(one.number)
    assert taken.value.code == "group-taken"
    assert [g.number for g in groups.list(name="one", lifecycle="all").groups] == [1, 2]
    groups.change(two.number, name="two")
    assert groups.restore(one.number).deleted is None
    for bad in ("", " ", "a\nb", "a" * 501):
        with pytest.raises(Invalid):
            groups.create(bad)
    assert groups.create("/Shared/churn 2").name == "/Shared/churn 2"


def test_many_make_one_group_at_once(either: Platform) -> None:
    session = either.session()
    outcomes: list[object] = []
    start = threading.Barrier(4)

    def make(n: int) -> None:
        start.wait()
        try:
            session.groups.create(f"of {n}")
            outcomes.append(session.groups.create("same").number)
        except Conflict as e:
            outcomes.append(e.code)

    threads = [threading.Thread(target=make, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("group-taken") == 3
    assert [g.number for g in session.groups.list().groups] == list(range(6))


def test_the_first_runs_of_many_projects_begin_at_once(either: Platform) -> None:
    """The row of number 0 stands in the way of another by its number and by its name, and neither is an error."""
    for n in range(100):
        either.session().projects.create(f"new-{n}")
        together = threading.Barrier(6)

        def begin(_: int, project: str = f"new-{n}", together: threading.Barrier = together) -> str:
            with either.database.begin(lazy=True, project=project) as tx:
                together.wait(timeout=60)
                return hold_group(tx, 0, alone=False).name

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(begin, range(6))) == {"Default"}


def test_a_deleted_run_is_kept_aside(either: Platform) -> None:
    runs = either.session().runs
    kept, gone = runs.create("kept"), runs.create("gone", params={"rate": 0.1})
    runs.log(gone.id, [Point(key="loss", value=1.0, step=1, time=1)])
    before = runs.show(gone.id)
    deleted = runs.delete(gone.id)
    assert deleted.deleted is not None
    assert runs.delete(gone.id) == deleted, "again is no error and changes nothing"
    assert runs.show(gone.id) == deleted, "it can be looked at"
    for found in (runs.list, runs.search):
        assert [r.id for r in found().runs] == [kept.id]
        assert [r.id for r in found(lifecycle="deleted").runs] == [gone.id]
        assert [r.id for r in found(lifecycle="all").runs] == [gone.id, kept.id]
    assert [r.id for r in runs.search("deleted = 'today'", lifecycle="all").runs] == [gone.id]
    assert [r.id for r in runs.search("params.rate = 0.1").runs] == []
    restored = runs.restore(gone.id)
    assert restored == before == runs.restore(gone.id)
    runs.log(gone.id, [Point(key="loss", value=2.0, step=2, time=1)])
    assert len(runs.history(gone.id, "loss")) == 2


def test_a_deleted_run_takes_no_more(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a", params={"rate": 1}).id
    before = runs.delete(run)
    attempts: list[Callable[[], object]] = [
        lambda: runs.log(run, [Point(key="loss", value=1.0)]),
        lambda: runs.params(run, {"depth": 3}),
        lambda: runs.correct(run, {"rate": 2}, "wrong"),
        lambda: runs.tag(run, {"a": "b"}),
        lambda: runs.note(run, "text"),
        lambda: runs.link(run, inputs=("data:visits@1",)),
        lambda: runs.finish(run),
    ]
    for attempt in attempts:
        with pytest.raises(Conflict) as refused:
            attempt()
        assert refused.value.code == "run-deleted"
    assert runs.show(run) == before


def test_a_group_takes_its_runs_with_it_and_brings_just_those_back(either: Platform) -> None:
    session = either.session()
    runs, group = session.runs, session.groups.create("churn").number
    first, second, other = runs.create("a", group=group), runs.create("b", group=group), runs.create("c")
    runs.delete(first.id)
    gone = session.groups.delete(group)
    assert gone.deleted is not None
    assert session.groups.delete(group) == gone
    assert [r.id for r in runs.list().runs] == [other.id]
    attempts: list[Callable[[], object]] = [
        lambda: runs.create("d", group=group),
        lambda: runs.restore(second.id),
        lambda: session.groups.change(group, note="x"),
        lambda: session.groups.tag(group, {"a": "b"}),
    ]
    for attempt in attempts:
        with pytest.raises(Conflict) as refused:
            attempt()
        assert refused.value.code == "group-deleted"
    assert session.groups.restore(group).deleted is None
    assert [r.id for r in runs.list(groups=(group,)).runs] == [second.id]
    assert [r.id for r in runs.list(groups=(group,), lifecycle="deleted").runs] == [first.id]


def test_runs_are_found_by_their_groups(either: Platform) -> None:
    session = either.session()
    numbers = [0, session.groups.create("churn").number, session.groups.create("it's odd").number]
    made = {number: [session.runs.create("a", group=number).id for _ in range(3)] for number in numbers}
    for found in (session.runs.list, session.runs.search):
        assert sorted(r.id for r in found(groups=(1, 2)).runs) == sorted(made[1] + made[2])
        assert {r.id for r in found(groups=(0,)).runs} == set(made[0])
        assert found(groups=(9,)).runs == ()
    search = session.runs.search
    assert {r.id for r in search("group = 'churn'").runs} == set(made[1])
    assert {r.id for r in search("group = 'Default'").runs} == set(made[0])
    assert {r.id for r in search("group LIKE '%odd' OR group = 'Default'").runs} == set(made[0] + made[2])
    assert {r.id for r in search("group MATCHES 'odd$'").runs} == set(made[2])
    ordered = search("", ("group", "id DESC")).runs
    assert [r.group for r in ordered] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    page = search("", ("group",), limit=4, groups=(1, 2))
    assert page.after is not None
    rest = search("", ("group",), limit=4, groups=(1, 2), after=page.after)
    assert {r.id for r in page.runs + rest.runs} == set(made[1] + made[2])
    with pytest.raises(Invalid) as other:
        search("", ("group",), limit=4, groups=(1,), after=page.after)
    assert other.value.code == "bad-page"

"""Removing deleted runs for good: every row and point goes, what is needed stays, and journals are never blocked by it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from loopline.access.records import Principal
from loopline.app import Platform
from loopline.database import Database, metadata
from loopline.errors import Conflict, Invalid, NotFound, Refused
from loopline.operations import Body
from loopline.testing.clock import FakeClock
from loopline.tracking.ids import ulid
from loopline.tracking.journal_format import KEY_LENGTH, KINDS, POINT, POINTS, frame, pack, run_prefix
from loopline.tracking.records import ExternalDataset, Measure, Point, Run, TagRetention
from loopline.tracking.tables import hot_points, run_purged

SENDER, OTHER, RUN = ulid(1), ulid(3), ulid(2)


def said(kind: str, run: str = RUN, **fields: Any) -> bytes:
    return frame(KINDS.index(kind) + 1, run_prefix(run) + json.dumps(fields).encode())


def point(step: int, run: str = RUN) -> bytes:
    return frame(POINTS, run_prefix(run) + KEY_LENGTH.pack(4) + b"loss" + POINT.pack(step, 1_000, 0.5))


def batch(*frames: bytes) -> Body:
    return Body(pack(b"".join(frames)))


def rows(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of tracking, of both databases, by table; the dictionary of keys and who sent how much apart."""
    found: dict[str, list[tuple[Any, ...]]] = {}

    def read(database: Database, tables: list[sa.Table]) -> None:
        with database.snapshot() as connection:
            for table in tables:
                if got := [tuple(row) for row in connection.execute(sa.select(table))]:
                    found.setdefault(table.name, []).extend(got)

    of_tracking = [t for t in metadata.sorted_tables if t.name.startswith("run") or t.name == "store_references"]
    kept = {"run_words", "run_senders", "run_purged", "run_retention"}
    read(platform.database, [t for t in of_tracking if t.name not in kept])
    if platform.metrics is not None:
        read(platform.metrics, [t for t in of_tracking if t.name.startswith("run_points")])
    return found


def full(platform: Platform, **given: Any) -> str:
    """A run with something in every table, and a logged model that it measured."""
    runs = platform.session().runs
    run = runs.create(
        "a", params={"rate": 0.1}, tags={"by": "hand"}, inputs=("data:v@1",), environment={"argv": "secret"}, **given
    ).id
    for part in range(3):
        runs.log(run, [Point(key="loss", value=0.5, step=s, time=1) for s in range(part * 3000, part * 3000 + 3000)])
    runs.correct(run, {"rate": 0.2}, "wrong")
    runs.use(run, [ExternalDataset(name="visits", digest="1", source="somewhere")])
    runs.put_artifact(run, "a.txt", b"content")
    runs.send(SENDER, runs.received(SENDER).number + 1, batch(said("console", run, text="printed", time=5)))
    model = runs.create("logged", kind="model").id
    runs.measure(model, run, [Measure(key="loss", value=0.5, time=1)])
    runs.finish(run)
    return run


def test_a_purge_takes_every_row_and_point(either: Platform) -> None:
    runs = either.session().runs
    run = full(either)
    there = set(rows(either))
    assert there >= {
        t.name for t in metadata.sorted_tables if any(k.column.table.name == "runs" for k in t.foreign_keys)
    }
    assert "run_points_folded" in there
    runs.delete(run)
    purged = runs.purge((run,))
    assert purged.runs == (f"run:{run}",)
    left = rows(either)
    assert [row[1] for row in left.pop("runs")] == [logged.id for logged in runs.list(kind="model").runs]
    assert left == {}, "nothing of it is left in any table"
    for attempt in (lambda: runs.show(run), lambda: runs.restore(run), lambda: runs.history(run, "loss")):
        with pytest.raises(NotFound) as gone:
            attempt()
        assert gone.value.code == "run-purged"
    assert either.session().ledger.verify().ok


def test_what_others_share_stays(either: Platform) -> None:
    runs = either.session().runs
    gone, kept = full(either), full(either)
    child = runs.create("child", parent=gone).id
    before = runs.show(kept)
    runs.delete(gone)
    runs.purge((gone,))
    assert runs.show(kept) == before
    assert len(runs.history(kept, "loss")) == 9000
    assert runs.artifact(kept, "a.txt").read() == b"content"
    assert runs.console(kept).read() == b"printed"
    assert runs.show(child).parent is None


def test_what_is_shared_stays_for_runs_that_begin_while_the_last_one_goes(either: Platform) -> None:
    runs = either.session().runs
    for turn in range(12):
        environment = {"python": f"3.{turn}"}
        gone = runs.create("a", environment=environment).id
        runs.delete(gone)
        made: list[str] = []
        start = threading.Barrier(3)

        def begin(environment: dict[str, str] = environment, made: list[str] = made, start: Any = start) -> None:
            start.wait()
            made.append(runs.create("b", environment=environment).id)

        threads = [threading.Thread(target=begin) for _ in range(2)]
        for thread in threads:
            thread.start()
        start.wait()
        runs.purge((gone,))
        for thread in threads:
            thread.join()
        assert [runs.show(run).environment for run in made] == [environment] * 2


def test_a_live_run_and_a_needed_one_are_not_removed(either: Platform) -> None:
    session = either.session()
    runs = session.runs
    live, needed, free = (runs.create(name).id for name in ("live", "needed", "free"))
    with pytest.raises(Conflict) as refused:
        runs.purge((live,))
    assert refused.value.code == "run-live"
    made = session.datasets.add("visits", Body(b"a,b\n1,2\n3,4\n", name="t.csv"), inputs=[f"run:{needed}"])
    runs.delete(needed)
    runs.delete(free)
    with pytest.raises(Conflict, match=made.ref) as refused:
        runs.purge((free, needed))
    assert refused.value.code == "run-needed"
    assert {run.id for run in runs.list(lifecycle="deleted").runs} == {needed, free}, "a refused purge removes none"
    purged = runs.purge(older_than=0)
    assert purged.runs == (f"run:{free}",)
    assert [(n.run, n.by) for n in purged.needed] == [(needed, made.ref)]
    assert runs.restore(needed).deleted is None


def test_another_projects_version_keeps_a_run_and_is_not_named(either: Platform) -> None:
    session = either.session()
    session.projects.create("clinic")
    run = session.runs.create("a").id
    there = either.session(project="clinic")
    there.datasets.add("visits", Body(b"a,b\n1,2\n3,4\n", name="t.csv"), inputs=[f"run:default/{run}"])
    session.runs.delete(run)
    with pytest.raises(Conflict) as refused:
        session.runs.purge((run,))
    assert "clinic" not in str(refused.value)
    assert "visits" not in str(refused.value)


def test_the_retention_of_a_project_says_when(either: Platform) -> None:
    session = either.session()
    session.projects.create("clinic")
    here, there = session.runs, either.session(project="clinic").runs
    for runs in (here, there):
        runs.delete(runs.create("a").id)
    with pytest.raises(Invalid) as none:
        here.purge()
    assert none.value.code == "no-retention"
    either.upkeep()
    assert len(here.list(lifecycle="deleted").runs) == 1, "without a retention it is kept for ever"
    assert here.set_retention(3_600_000).deleted == 3_600_000
    assert here.purge().runs == ()
    here.set_retention(0)
    either.upkeep()
    assert here.list(lifecycle="all").runs == ()
    assert len(there.list(lifecycle="deleted").runs) == 1, "the other project keeps its own"
    assert here.set_retention(None).deleted is None
    assert session.ledger.verify().ok
    with pytest.raises(Invalid):
        here.set_retention(-1)
    with pytest.raises(Invalid):
        here.purge(older_than=-1)


def test_a_tag_keeps_a_run_longer_or_for_good(database_url: str, tmp_path: Path) -> None:
    clock = FakeClock()
    platform = Platform.open(
        workspace=tmp_path, checkpoints=str(tmp_path / "copies"), database=database_url, clock=clock
    )
    session = platform.session()
    runs, day = session.runs, 86_400_000
    group = session.groups.create("churn").number
    said: dict[str, dict[str, str]] = {
        "plain": {}, "held": {"hold": "anything"}, "published": {"stage": "published"}, "draft": {"stage": "draft"},
        "long": {"stage": "x" * 100 + "1"}, "nearly": {"stage": "x" * 100 + "2"}, "both": {"stage": "published", "hold": ""},
    }  # fmt: skip
    made = {name: runs.create(name, tags=tags, group=group).id for name, tags in said.items()}
    session.groups.delete(group)
    rules = (
        TagRetention(key="hold"),
        TagRetention(key="stage", value="published", kept=60 * day),
        TagRetention(key="stage", value="x" * 100 + "1", kept=60 * day),
        TagRetention(key="none has it", kept=0),
    )
    assert runs.set_retention(30 * day, rules).tags == rules
    assert runs.retention().tags == rules

    def left() -> set[str]:
        return {run.name for run in runs.list(lifecycle="all").runs}

    def after(days: int) -> set[str]:
        clock.forward(seconds=days * 86_400)
        platform.upkeep()
        return left()

    assert after(29) == set(said)
    clock.forward(seconds=2 * 86_400)
    for run, kept in ((made["held"], "hold"), (made["published"], "stage")):
        with pytest.raises(Conflict) as refused:
            runs.purge((run,))
        assert refused.value.code == "run-kept"
        assert run in refused.value.message
        assert repr(kept) in refused.value.message
    with pytest.raises(Conflict, match="keeps runs with its tag"):
        runs.purge(groups=(group,))
    assert len(runs.purge(older_than=0, dry_run=True).runs) == 3
    assert after(0) == {"held", "published", "long", "both"}
    assert after(30) == {"held", "both"}
    runs.set_retention(30 * day)
    assert after(0) == set()
    wrong = ((TagRetention(key="a", kept=-1),), (TagRetention(key=""),), (TagRetention(key="a"), TagRetention(key="a")))
    for given in (*wrong, tuple(TagRetention(key=f"k{n}") for n in range(101))):
        with pytest.raises(Invalid):
            runs.set_retention(0, given)
    assert session.ledger.verify().ok
    platform.close()


def test_a_dry_run_changes_nothing(either: Platform) -> None:
    session = either.session()
    group = session.groups.create("churn").number
    run = full(either, group=group)
    session.groups.delete(group)
    before, entries = rows(either), session.ledger.verify().size
    found = session.runs.purge(older_than=0, dry_run=True)
    assert (found.runs, found.groups) == ((f"run:{run}",), ("group:1",))
    assert rows(either) == before
    assert session.ledger.verify().size == entries
    assert session.runs.purge(older_than=0) == found


def test_groups_go_with_their_runs_and_numbers_are_never_given_again(either: Platform) -> None:
    session = either.session()
    group = session.groups.create("churn").number
    made = [session.runs.create("a", group=group).id for _ in range(3)]
    with pytest.raises(Conflict) as refused:
        session.runs.purge(groups=(group,))
    assert refused.value.code == "group-live"
    session.groups.delete(group)
    purged = session.runs.purge(groups=(group,))
    assert set(purged.runs) == {f"run:{run}" for run in made}
    assert purged.groups == (f"group:{group}",)
    with pytest.raises(NotFound):
        session.groups.show(group)
    assert session.groups.create("churn").number == group + 1


def test_many_runs_are_removed_in_parts(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopline.tracking.deletion.AT_ONCE", 4)
    session = platform.session()
    group = session.groups.create("churn").number
    made = [session.runs.create("a", group=group).id for _ in range(10)]
    session.datasets.add("visits", Body(b"a,b\n1,2\n3,4\n", name="t.csv"), inputs=[f"run:{run}" for run in made[:5]])
    session.groups.delete(group)
    first = session.runs.purge(older_than=0)
    assert (len(first.runs), first.more, first.groups) == (4, True, ())
    second = session.runs.purge(older_than=0)
    assert (len(second.runs), second.more, second.groups) == (1, False, ())
    assert {n.run for n in second.needed} == set(made[:5]), "what is needed is passed over, and its group stays"
    other = session.groups.create("other").number
    for _ in range(10):
        session.runs.create("b", group=other)
    session.groups.delete(other)
    parts = [session.runs.purge(groups=(other,)) for _ in range(3)]
    assert [(len(p.runs), p.more, len(p.groups)) for p in parts] == [(4, True, 0), (4, True, 0), (2, False, 1)]


def test_only_an_admin_removes_for_good(platform: Platform) -> None:
    owner = platform.session()
    owner.access.add_principal("ann")
    owner.access.grant("ann", "data_scientist")
    ann = platform.session(Principal(name="ann"))
    run = ann.runs.create("a").id
    ann.runs.delete(run)
    for attempt in (lambda: ann.runs.purge((run,)), lambda: ann.runs.set_retention(0), lambda: ann.store.sweep()):
        with pytest.raises(Refused):
            attempt()
    assert ann.runs.retention().deleted is None
    assert ann.runs.restore(run).deleted is None


def test_what_a_journal_brings_to_a_deleted_run_is_kept_for_its_restoring(either: Platform) -> None:
    runs = either.session().runs
    runs.send(SENDER, 1, batch(said("run", name="fit", created=1), point(0)))
    runs.delete(RUN)
    more = [
        point(1),
        said("params", params={"a": 1}),
        said("tags", tags={"t": "x"}),
        said("console", text="hi", time=1),
    ]
    assert runs.send(SENDER, 2, batch(*more, said("finish", status="finished", ended=2))).number == 2
    kept = runs.put_artifact(RUN, "late.txt", b"late")
    shown = runs.show(RUN)
    assert shown.deleted is not None
    assert (shown.status, shown.params, shown.tags) == ("finished", {"a": 1}, {"t": "x"})
    assert runs.list().runs == ()
    restored = runs.restore(RUN)
    assert restored.status == "finished"
    assert [p.step for p in runs.history(RUN, "loss")] == [0, 1]
    assert runs.artifacts(RUN) == (kept,)


def test_what_a_journal_brings_to_a_purged_run_is_dropped_and_the_rest_is_taken(either: Platform) -> None:
    runs = either.session().runs
    other = ulid(7)
    runs.send(SENDER, 1, batch(said("run", name="fit", created=1), point(0)))
    runs.delete(RUN)
    runs.purge((RUN,))
    more = [point(1), said("run", other, name="child", created=1, parent=RUN), point(0, other)]
    assert runs.send(SENDER, 2, batch(*more, said("finish", status="finished", ended=2))).number == 2
    assert [run.id for run in runs.list(lifecycle="all").runs] == [other]
    assert runs.show(other).parent is None
    # A copy of its journal does not bring it back either.
    assert runs.send(OTHER, 1, batch(said("run", name="fit", created=1), point(0))).number == 1
    assert runs.close(SENDER).number == 2
    assert [run.id for run in runs.list(lifecycle="all").runs] == [other]
    with pytest.raises(NotFound) as gone:
        runs.put_artifact(RUN, "late.txt", b"late")
    assert gone.value.code == "run-purged"


def test_a_journal_names_its_group_and_makes_it_where_there_is_none(either: Platform) -> None:
    session = either.session()
    first, second, third, fourth = (ulid(10 + n) for n in range(4))
    begun = [said("run", run, name="fit", created=1, group="churn") for run in (first, second)]
    assert session.runs.send(SENDER, 1, batch(*begun, said("run", third, name="x", created=1, group="Default"))).number
    assert [session.runs.show(run).group for run in (first, second, third)] == [1, 1, 0]
    session.groups.delete(1)
    session.runs.send(SENDER, 2, batch(said("run", fourth, name="fit", created=1, group="churn")))
    assert session.runs.show(fourth).group == 2, "the name of a deleted group is free"
    assert session.groups.show(2).name == "churn"
    with pytest.raises(Invalid):
        session.runs.send(SENDER, 3, batch(said("run", ulid(20), name="fit", created=1, group="a\nb")))
    session.runs.send(SENDER, 3, batch(point(0, first)))


def test_points_that_a_crash_left_go_with_the_next_purge(platform: Platform) -> None:
    runs = platform.session().runs
    first, second = full(platform), full(platform)
    with platform.database.snapshot() as connection:
        numbers = dict(connection.execute(sa.text("SELECT id, number FROM runs")).fetchall())
    for run in (first, second):
        runs.delete(run)
    runs.purge((first,))
    with platform.database.begin() as tx:  # as if the process had been killed before it removed the points
        tx.execute(run_purged.update().values(number=numbers[first]))
    assert platform.metrics is not None
    with platform.metrics.begin() as tx:
        tx.execute(hot_points.insert().values(run=numbers[first], batch=1, exact=False, points=b"\0"))
    runs.purge(older_than=0)
    assert set(rows(platform)) == {"runs"}, "the logged models are left, and no points"


def test_an_answer_that_is_kept_for_a_call_sent_again_goes_after_a_day(tmp_path: Path) -> None:
    clock = FakeClock()
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), clock=clock)

    def create() -> str:
        made: Run = platform.call(
            "runs.create", {"name": "a"}, principal=platform.owner, project="default", idempotency_key="k"
        )
        return made.id

    first = create()
    clock.forward(seconds=23 * 3600)
    platform.upkeep()
    assert create() == first
    clock.forward(seconds=2 * 3600)
    platform.upkeep()
    with platform.database.snapshot() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM idempotency")).scalar() == 0
    platform.close()

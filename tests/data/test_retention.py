"""Versions removed for good: nothing that somebody needs, never at once, and with their bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loopline as ll
from loopline.app import Platform
from loopline.catalog import Session
from loopline.data import versions
from loopline.data.files.adding import add as add_files
from loopline.data.records import LIVE
from loopline.data.service import DatasetsService
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused
from loopline.evaluation.tables import evaluations
from loopline.features.definitions import feature, feature_view
from loopline.operations import Body
from loopline.pipeline.engine import Node, run

from .conftest import Place

DAY = 86_400_000


def filled(place: Place, count: int = 4) -> Session:
    """So many versions of the visits, a day apart."""
    for number in range(count):
        place.add(100 + number)
        place.clock.forward(milliseconds=DAY)
    return place.session


def why(session: Session, **which: Any) -> dict[str, str]:
    """The versions that would go ("") and those that stay, with the reason."""
    found = session.datasets.purge(dry_run=True, **which)
    return dict.fromkeys(found.versions, "") | {one.version: one.by for one in found.kept}


def aged(place: Place) -> None:
    """A day and more after a purge, and long after all files were written."""
    place.clock.forward(milliseconds=DAY + 1)
    for path in place.platform.settings.workspace.glob("tables/**/*.parquet"):
        os.utime(path, (1, 1))


def parquet(place: Place, name: str = "visits") -> int:
    return len([*(place.platform.settings.workspace / "tables" / "default" / name).glob("*.parquet")])


def test_a_retention_keeps_what_is_young_or_among_the_last(place: Place) -> None:
    session = filled(place)
    assert session.datasets.retention().age is None
    with pytest.raises(Invalid, match="keeps all versions for ever") as refused:
        session.datasets.purge()
    assert refused.value.code == "no-retention"
    assert list(why(session, older_than=0)) == ["data:visits@3", "data:visits@2", "data:visits@1", "data:visits@4"]
    assert why(session, last=2) == {
        "data:visits@4": "it is one of the last 2",
        "data:visits@3": "it is one of the last 2",
        "data:visits@2": "",
        "data:visits@1": "",
    }
    assert why(session, older_than=3 * DAY)["data:visits@2"] == ""
    assert why(session, older_than=4 * DAY)["data:visits@2"] == "it is younger than 4d"
    kept = session.datasets.set_retention(3 * DAY, 1)
    assert (kept.age, kept.last) == (3 * DAY, 1)
    found = session.datasets.purge()
    assert found.versions == ("data:visits@2", "data:visits@1")
    assert [entry.outputs for entry in session.ledger.entries() if entry.operation == "datasets.purge"] == [
        ("data:visits@2", "data:visits@1")
    ]
    assert session.datasets.purge().versions == ()
    assert session.datasets.set_retention(None).last is None


def test_what_is_removed_is_read_no_more_and_stays_on_record(place: Place) -> None:
    session = filled(place, 3)
    session.datasets.purge(versions=("data:visits@1",))
    shown = session.datasets.show("visits", "1")
    assert (shown.rows, shown.purged) == (100, place.clock.now())
    assert [version.version for version in session.datasets.log("visits")] == [3, 2, 1]
    calls: list[Callable[[], Any]] = [
        lambda: session.datasets.read("visits", "1"),
        lambda: session.datasets.files("visits", "1"),
        lambda: session.datasets.profile("visits", "1"),
        lambda: session.datasets.profile("visits", "1", full=True),
        lambda: session.datasets.diff("visits", "1"),
        lambda: session.datasets.restore("visits", "1"),
        lambda: session.datasets.suggest("visits", "1"),
        lambda: session.datasets.split("visits", "back", "1"),
        lambda: session.datasets.clean("visits", ({"step": "clip", "columns": ["days"]},), "1"),
        lambda: session.datasets.tag("visits", "1", "late"),
        lambda: session.datasets.labels("visits", "1"),
        lambda: session.datasets.purge(versions=("data:visits@1",)),
        lambda: session.datasets.add("visits", Body(b"id,days,back\n1,2,true\n", name="a.csv"), onto="1"),
    ]
    for call in calls:
        with pytest.raises(NotFound, match=r"The content of data:visits@1 was removed for good on 2026-03-04") as gone:
            call()
        assert gone.value.code == "version-purged"
    assert session.datasets.withdraw("visits", "1", "it was bad").ref == "data:visits@1"
    assert session.lineage.trace("data:visits@1").edges


def test_the_bytes_go_a_day_later_and_the_others_stay(place: Place) -> None:
    session = filled(place, 3)
    table = place.platform.settings.workspace / "tables" / "default" / "visits"
    digest = next(blob for blob in _profiles(place) if blob)
    session.datasets.purge(older_than=0)
    for path in table.glob("*.parquet"):
        os.utime(path, (1, 1))
    assert session.datasets.vacuum().files == 0
    assert parquet(place) == 3
    aged(place)
    seen = session.datasets.vacuum(dry_run=True)
    assert (seen.files, parquet(place)) == (2, 3)
    assert session.datasets.vacuum() == seen
    assert parquet(place) == 1
    assert place.rows(version=3).height == 102
    assert session.datasets.vacuum().files == 0
    for path in place.platform.settings.workspace.glob("blobs/**/*"):
        os.utime(path, (1, 1))
    assert session.store.sweep().removed == 2  # the profiles
    with pytest.raises(NotFound):
        place.platform.blobs.stat(digest)
    assert session.ledger.verify().ok
    assert pl.read_delta(str(table)).height == 102


def _profiles(place: Place) -> list[str]:
    import sqlalchemy as sa

    from loopline.data.tables import dataset_versions

    with place.platform.database.begin(lazy=True) as tx:
        return [row.profile for row in tx.rows(sa.select(dataset_versions).order_by(dataset_versions.c.version))]


def test_rows_that_a_later_version_shares_stay(place: Place) -> None:
    place.add(100)
    place.session.datasets.add("visits", Body(b"id,days,back\n1000,2,true\n", name="more.csv"), onto="1")
    place.session.datasets.restore("visits", "1")
    assert parquet(place) == 2
    place.session.datasets.purge(older_than=0)
    aged(place)
    assert place.session.datasets.vacuum().files == 1  # the row of version 2 alone
    assert place.rows(version=3).height == 100


def test_files_and_their_objects_go_as_well(place: Place, tmp_path: Path) -> None:
    session, folder = place.session, tmp_path / "scans"
    folder.mkdir()
    (folder / "same").write_bytes(b"same")
    for number in (1, 2):
        (folder / "scan").write_bytes(f"scan {number}".encode())
        add_files(session.files, "scans", folder, states=tmp_path / "states")
    assert session.datasets.purge(older_than=0).versions == ("data:scans@1",)
    with pytest.raises(NotFound, match="The content of data:scans@1 was removed"):
        session.files.open("scans", "1")
    aged(place)
    session.datasets.vacuum()
    for path in place.platform.settings.workspace.glob("blobs/**/*"):
        os.utime(path, (1, 1))
    assert session.store.sweep().removed == 2  # its manifest, and the scan that the other version has not
    assert {file.path for file in session.files.open("scans").manifest.files} == {"same", "scan"}


def test_nothing_goes_that_somebody_needs(place: Place, contract: Callable[..., dict[str, Any]]) -> None:
    session = filled(place, 9)
    data = session.datasets
    data.tag("visits", "1", "published")
    data.withdraw("visits", "2", "a broken sensor")
    run_ = session.runs.create("training", inputs=("data:visits@3",)).id
    data.clean("visits", ({"step": "clip", "columns": ["days"]},), "4")
    data.split("visits", "back", "5")
    session.features.define("seen", _view("data:visits@6"))
    other = Body(b"days\n3\n", name="other.csv")
    data.add("codes", other, contract=contract(ll.column("days").refers_to("data:visits@7", "days")))
    found = why(session, older_than=0)
    assert found == {
        "data:codes@1": "it is the newest",
        "data:visits@9": "it is the newest",
        "data:visits@8": "",
        "data:visits@7": "data:codes@1 was made from it",
        "data:visits@6": "features:seen@1 names it",
        "data:visits@5": "data:visits.test@1 was made from it",
        "data:visits@4": "data:visits.clean@1 was made from it",
        "data:visits@3": f"run:{run_} names it",
        "data:visits@2": "it is withdrawn, and stays to be looked at",
        "data:visits@1": "it is tagged published",
        **{f"data:visits.{side}@1": "it is the newest" for side in ("clean", "test", "train", "validation")},
    }
    for ref, reason in found.items():
        if reason:
            with pytest.raises(Conflict, match=f"{ref} cannot be removed") as needed:
                data.purge(versions=(ref,))
            assert needed.value.code == "version-needed"
    assert data.purge(older_than=0).versions == ("data:visits@8",)
    data.untag("visits", "published")
    session.runs.delete(run_)
    assert why(session, older_than=0)["data:visits@1"] == ""
    assert why(session, older_than=0)["data:visits@3"] == f"run:{run_} names it"  # it can be restored
    session.runs.purge(older_than=0)
    assert why(session, older_than=0)["data:visits@3"] == ""


def _view(source: str) -> dict[str, Any]:
    import msgspec

    made: dict[str, Any] = msgspec.to_builtins(
        feature_view("seen", source=source, entity="id", time="days", features=[feature("count", by="count")])
    )
    return made


def test_a_contract_that_compares_with_an_old_version_keeps_it(
    place: Place, contract: Callable[..., dict[str, Any]]
) -> None:
    session = filled(place, 2)
    session.datasets.tag("visits", "1", "first")
    place.add(300, contract=contract(ll.like("data:visits@first")))
    session.datasets.untag("visits", "first")
    assert why(session, older_than=0)["data:visits@1"] == ""  # nobody can ask for it by that tag any more
    place.add(301, contract=contract(ll.like("data:visits@1")))
    assert why(session, older_than=0)["data:visits@1"] == "the contract of data:visits@4 names it"


def test_sealed_rows_and_looks_at_them_stay(place: Place) -> None:
    session = place.session
    place.add(200)
    for _ in range(3):
        session.datasets.split("visits", "back", seed=_)
    found = why(session, older_than=0)
    assert found["data:visits.test@1"] in ("", "its rows are sealed for evaluation")
    assert found["data:visits.test@3"] == "it is the newest"
    opened = [version for version in session.datasets.log("visits.test") if version.opened]
    assert all(found[version.ref] == "" for version in opened)
    assert place.rows().height < 200  # what is sealed is left out still, after all that may go has gone
    session.datasets.purge(older_than=0)
    assert place.rows().height < 200


def test_held_rows_are_decided_about_first(place: Place, contract: Callable[..., dict[str, Any]]) -> None:
    place.add(100, contract=contract(ll.column("days").between(0, 10)))
    place.add(120)
    held = place.session.datasets.quarantine("visits", "1").held
    assert why(place.session, older_than=0)["data:visits@1"] == (
        f"{held} of its quarantined rows are held still: release or drop them"
    )
    place.session.datasets.drop("visits", "1", "typing errors")
    assert place.session.datasets.purge(older_than=0).versions == ("data:visits@1",)
    with pytest.raises(NotFound, match="was removed for good"):
        place.session.datasets.quarantine("visits", "1")
    aged(place)
    assert (
        place.session.datasets.vacuum().files == 1
    )  # its rows; of a quarantine the newest table stays for other programs
    assert parquet(place, "visits.quarantine") == 1


def test_what_a_loop_learns_on_stays(place: Place) -> None:
    place.add(100)
    place.add(110, facts={LIVE: "served rows"})
    place.add(120, facts={LIVE: "served rows"})
    assert why(place.session, older_than=0) == {
        "data:visits@3": "it is the newest",
        "data:visits@2": "",
        "data:visits@1": "it is what the loop learns on",
    }


def test_what_came_into_use_within_the_day_is_kept_after_all(place: Place) -> None:
    session = filled(place, 3)
    session.datasets.purge(older_than=0)
    session.runs.create("late", inputs=("data:visits@1",))
    aged(place)
    assert session.datasets.vacuum().files == 1
    assert session.datasets.show("visits", "1").purged is None
    assert place.rows(version=1).height == 100
    assert session.datasets.show("visits", "2").purged is not None


def test_a_step_whose_result_is_gone_is_done_again(place: Place) -> None:
    session = filled(place, 2)
    done: list[str] = []

    def work(_: Any) -> dict[str, Any]:
        done.append("data")
        return {"dataset": "data:visits@1", "said": "100 rows as data:visits@1."}

    def go() -> None:
        run("visits", [Node("data", work)], session.pipelines)

    go()
    go()
    assert done == ["data"]
    started = session.pipelines.start("other", "sha256:" + "1" * 64)
    session.pipelines.step(started.id, "data", "sha256:" + "2" * 64, {"dataset": "data:visits@1"}, 1.0)
    assert why(session, older_than=0)["data:visits@1"] == f"{started.ref}, which is not ended, names it"
    session.pipelines.end(started.id, "stopped")
    session.datasets.purge(older_than=0)
    go()
    assert done == ["data", "data"]
    assert session.pipelines.show(started.id).steps[0].outputs == {"dataset": "data:visits@1"}


def test_a_version_of_another_project_that_is_made_from_one_keeps_it(place: Place) -> None:
    session = filled(place, 2)
    session.projects.create("lab")
    lab = place.platform.session(project="lab")
    lab.datasets.add("copies", Body(b"a\n1\n", name="a.csv"), inputs=["data:default/visits@1"])
    assert why(session, older_than=0)["data:visits@1"] == "something of another project names it"


def test_upkeep_removes_by_the_retention_of_each_project(place: Place) -> None:
    session = filled(place, 3)
    session.datasets.set_retention(0)
    place.platform.upkeep()
    assert [version.purged is None for version in session.datasets.log("visits")] == [True, False, False]
    aged(place)
    place.platform.upkeep()
    assert parquet(place) == 1


@pytest.mark.parametrize("given", [{"older_than": -1}, {"last": 0}, {"last": 2**40}, {"older_than": 2**60}])
def test_what_is_no_age_or_count_is_refused(place: Place, given: dict[str, Any]) -> None:
    filled(place, 1)
    with pytest.raises(Invalid):
        place.session.datasets.purge(**given)
    with pytest.raises(Invalid):
        place.session.datasets.set_retention(given.get("older_than"), given.get("last"))


def test_only_an_admin_removes(place: Place) -> None:
    filled(place, 2)
    place.session.access.add_principal("ann")
    place.session.access.grant("ann", "data_scientist")
    ann = place.platform.session(place.platform.authenticate(place.session.access.create_token(principal="ann").secret))
    for call in (lambda: ann.datasets.purge(older_than=0), lambda: ann.datasets.set_retention(0)):
        with pytest.raises(Refused):
            call()


def test_both_databases_remove_alike(either: Platform) -> None:
    session = either.session()
    for rows in (1, 2, 3):
        session.datasets.add("visits", Body(b"a\n" + b"1\n" * rows, name="a.csv"))
    run_ = session.runs.create("training", inputs=("data:visits@2",)).id
    found = session.datasets.purge(older_than=0)
    assert found.versions == ("data:visits@1",)
    assert {one.version: one.by for one in found.kept} == {
        "data:visits@3": "it is the newest",
        "data:visits@2": f"run:{run_} names it",
    }
    assert session.datasets.vacuum().files == 0
    with pytest.raises(LooplineError):
        session.datasets.read("visits", "1")


def test_who_reads_a_version_just_then_reads_to_its_end(place: Place) -> None:
    filled(place, 2)
    table = place.platform.settings.workspace / "tables" / "default" / "visits"
    place.session.datasets.purge(versions=("data:visits@1",))
    assert versions.read(table, 0).height == 100


def test_a_window_that_was_looked_at_goes_once_it_is_opened_and_its_rows_stay_known(place: Place) -> None:
    platform, session = place.platform, place.session
    place.add(place.visits(500))
    first = session.datasets.split("visits", "back").test
    seen = looked_at(place, first)
    with platform.database.begin() as tx:
        document = platform.blobs.put([b"{}"]).digest
        row = {"project": "default", "id": "one", "model": "model:m@1", "dataset": first, "document": document}
        tx.execute(evaluations.insert().values(**row, plots={}, at=tx.now, by="os:tester"))
    place.add(place.visits(700))
    session.datasets.split("visits", "back")
    assert session.datasets.show(*at(first)).opened
    assert first in session.datasets.purge(older_than=0).versions
    aged(place)
    session.datasets.vacuum()
    assert parquet(place, "visits.test") == 1
    with pytest.raises(Refused, match="is opened"):  # as before
        looked_at(place, first)
    place.add(place.visits(900))
    third = looked_at(place, session.datasets.split("visits", "back").test)
    assert len(third) > 100
    assert not third & seen, "no row is new evidence that was looked at in the window that is gone"


def at(ref: str) -> tuple[str, str]:
    name, _, version = ref.removeprefix("data:").partition("@")
    return name, version


def looked_at(place: Place, ref: str) -> set[int]:
    """The ids in a window, by a look that is counted."""
    workspace = place.platform.settings.workspace
    with place.platform.database.begin(principal="os:tester") as tx:
        datasets = DatasetsService(tx, place.platform.blobs, workspace / "tables", workspace / "scratch")
        rows, look = datasets.look(ref)
        assert datasets.count(ref, look, "a test")
    return set(rows["id"])

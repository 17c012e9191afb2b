"""Versions by name: tags, days, restored and withdrawn ones, and what was made of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from loopline.catalog import Session
from loopline.data import versions
from loopline.data.records import Learning, Vacuumed
from loopline.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from loopline.ledger import lineage
from loopline.operations import Body
from loopline.quality.blocks import Blocks

DAY = 86_400_000


def test_a_tag_names_one_version_for_good(place: Any, session: Session) -> None:
    for rows in (100, 120):
        place.add(rows)
    made = session.datasets.tag("visits", "1", "published")
    assert made.ref == "data:visits@1"
    assert session.datasets.tag("visits", "1", "published") == made  # the same again
    assert session.datasets.show("visits", "published").version == 1
    assert session.datasets.show("visits", "@published").tags == ("published",)
    with pytest.raises(Conflict, match="is version 1 already") as caught:
        session.datasets.tag("visits", "2", "published")
    assert "untag visits@published" in caught.value.hint
    session.datasets.untag("visits", "published")
    session.datasets.tag("visits", "2", "published")
    assert [(t.tag, t.version) for t in session.datasets.tags("visits")] == [("published", 2)]
    assert place.rows(version="published").height == 120
    named = [e.outputs for e in session.ledger.entries(operation="datasets.tag")]
    assert ["data:visits@published"] in [list(outputs) for outputs in named]


@pytest.mark.parametrize("tag", ["7", "v7", "latest", "2026-03-01", "a b", ""])
def test_a_tag_that_reads_like_a_version_is_refused(place: Any, session: Session, tag: str) -> None:
    place.add()
    with pytest.raises(Invalid):
        session.datasets.tag("visits", "1", tag)
    assert session.datasets.tags("visits") == ()


def test_a_day_names_the_newest_version_at_its_end(place: Any, session: Session) -> None:
    place.add(100)
    place.clock.forward(milliseconds=DAY - 1)
    place.add(110)
    place.clock.forward(milliseconds=1)
    place.add(120)
    assert session.datasets.show("visits", "2026-03-01").version == 2
    assert session.datasets.show("visits", "2026-03-02").version == 3
    with pytest.raises(NotFound, match="no version yet on 2026-02-28"):
        session.datasets.show("visits", "2026-02-28")
    with pytest.raises(Invalid, match="is no day"):
        session.datasets.show("visits", "2026-02-30")


def test_an_earlier_version_is_restored_without_writing_a_row(place: Any, session: Session) -> None:
    first = place.add(100)
    place.add(place.visits(120, more=pl.lit(1)))
    back = session.datasets.restore("visits", "1", message="the second was cut off")
    assert (back.version, back.digest, back.rows, back.columns) == (3, first.digest, 100, first.columns)
    assert back.inputs == ("data:visits@1",)
    assert place.rows().equals(place.rows(version=1))
    assert place.rows(version=2).height == 120  # what came between stays
    assert session.datasets.restore("visits", "1").version == 3  # it is the newest already
    assert session.datasets.restore("visits", "3").version == 3
    assert place.add(130).version == 4  # and one can go on
    assert session.ledger.verify().ok


def test_a_sealed_version_is_not_restored(place: Any, session: Session) -> None:
    place.add()
    session.datasets.split("visits", "back", time="id")
    with pytest.raises(Refused, match="sealed"):
        session.datasets.restore("visits.test", "1")


def test_nothing_is_made_from_a_withdrawn_version(place: Any, session: Session) -> None:
    place.add(200)
    place.add(220)
    session.datasets.split("visits", "back", time="id")
    run = session.runs.create("fit", inputs=("data:visits.train@1",))
    told = session.datasets.withdraw("visits", "2", "the sensor was broken")
    sides = {f"data:visits.{side}@1" for side in ("train", "validation", "test")}
    assert {*sides, f"run:{run.id}"} <= set(told.affected)
    assert session.datasets.show("visits", "2").withdrawn == "the sensor was broken"
    assert session.datasets.show("visits.train", "1").unsound == "data:visits@2"
    assert session.datasets.show("visits").version == 1  # the newest that is not withdrawn
    assert place.rows(version=2).height  # to look at, it is there
    for refused in (
        lambda: session.datasets.split("visits", "back", version="2", time="id"),
        lambda: session.datasets.split("visits.train", "back", time="id"),
        lambda: session.datasets.restore("visits", "2"),
        lambda: place.add(10, onto="2"),
    ):
        with pytest.raises(Refused, match=r"data:visits@2 is withdrawn \(the sensor was broken\)"):
            refused()
    # The same content may be brought again, on purpose, and is then another version.
    assert place.add(220).version == 3
    assert session.datasets.show("visits").unsound == ""


def test_what_rests_on_a_withdrawn_version_is_known_through_runs_and_models(place: Any, session: Session) -> None:
    place.add(100)
    session.datasets.tag("visits", "1", "published")
    above = session.runs.create("search", inputs=("data:visits@published",))
    trial = session.runs.create("trial", parent=above.id)
    other = session.runs.create("other")
    model = session.models.add("risk", run=trial.id)
    sound = session.models.add("risk", run=other.id)
    session.datasets.add("scores", Body(b"id,score\n1,0.5\n", name="scores.csv"), inputs=[model.ref])
    refs = (
        "data:visits@1",
        above.ref,
        trial.ref,
        other.ref,
        model.ref,
        sound.ref,
        "data:scores@1",
        "run:none",
        "data:none@1",
    )
    assert session.datasets.unsound(refs) == {}
    told = session.datasets.withdraw("visits", "1", "the sensor was broken")
    assert session.datasets.unsound(refs) == dict.fromkeys(
        ("data:visits@1", above.ref, trial.ref, model.ref, "data:scores@1"), "data:visits@1"
    )
    assert {"data:visits@published", above.ref} <= set(told.affected)
    assert session.datasets.show("scores").unsound == "data:visits@1"
    with pytest.raises(Refused, match="data:visits@1 is withdrawn"):
        session.models.set_alias("risk", "champion", model.version)
    with pytest.raises(Refused, match="data:visits@1 is withdrawn"):
        session.models.add("risk", run=trial.id, facts={"again": "yes"})
    session.models.set_alias("risk", "champion", sound.version)


def test_a_withdrawal_lists_all_however_much_it_is(
    place: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.add(10)
    runs = {session.runs.create("fit", inputs=("data:visits@1",)).ref for _ in range(12)}
    monkeypatch.setattr(lineage, "_EDGES", 5)
    assert session.lineage.trace("data:visits@1", "forward").cut
    assert set(session.datasets.withdraw("visits", "1", "wrong year").affected) == runs


def test_content_that_was_withdrawn_is_no_version_again_by_itself(place: Any, session: Session) -> None:
    place.add(100)
    place.add(120)
    session.datasets.withdraw("visits", "2", "the sensor was broken")
    with pytest.raises(Refused, match=r"data:visits@2 again, which is withdrawn \(the sensor was broken\)") as caught:
        place.add(120, learning=Learning(label="back"))  # as a loop does, of its file
    assert "by hand: loopline data add visits" in caught.value.hint
    assert session.datasets.show("visits").version == 1
    again = place.add(120)
    assert (again.version, again.facts["again"]) == (
        3, "the rows of data:visits@2, which is withdrawn (the sensor was broken)",
    )  # fmt: skip
    assert place.add(120, learning=Learning(label="back")).version == 3


def test_rows_of_another_kind_are_refused_under_a_name_that_has_a_sealed_window(place: Any, session: Session) -> None:
    place.add(200)
    session.datasets.split("visits", "back", time="id")
    other = pl.DataFrame({"sensor": range(300), "watts": [n % 11 for n in range(300)], "failed": [False] * 300})
    with pytest.raises(Invalid, match=r"visits.parquet holds other things than data:visits.test@1") as caught:
        place.add(other)
    assert caught.value.code == "other-kind"
    assert "a name of its own" in caught.value.hint
    back = other.rename({"failed": "back"})  # the label's name alone tells no rows apart
    with pytest.raises(Invalid, match=r"none of its columns are there \(id, days, back\)"):
        place.add(back, learning=Learning(label="back"))
    assert session.datasets.show("visits").version == 1
    assert place.add(200, onto="1").version == 2  # of the same kind they go on


def test_a_withdrawal_says_why_once(place: Any, session: Session) -> None:
    place.add()
    with pytest.raises(Invalid, match="without a reason"):
        session.datasets.withdraw("visits", "1", "  ")
    told = session.datasets.withdraw("visits", "1", "wrong year")
    assert session.datasets.withdraw("visits", "1", "wrong year") == told
    with pytest.raises(Conflict, match="withdrawn already: wrong year"):
        session.datasets.withdraw("visits", "1", "another reason")
    with pytest.raises(NotFound, match="Every version of 'visits' is withdrawn"):
        session.datasets.show("visits")
    (entry,) = session.ledger.entries(operation="datasets.withdraw", limit=1)
    assert "wrong year" not in str(entry)  # refs and digests alone


# Quarantine, decided


@pytest.fixture
def held(place: Any, contract: Callable[..., dict[str, Any]]) -> Session:
    """Twenty visits, of which numbers 3, 6, ... have no days and the first has too many."""
    import loopline as ll

    days = [99 if n == 0 else None if n % 3 == 2 else n for n in range(20)]
    rules = contract(ll.column("days").not_null(name="days there"), ll.column("days").between(0, 31, name="a month"))
    place.add(place.visits(20, days=pl.Series(days)), contract=rules)
    session: Session = place.session
    return session


def test_held_rows_are_released_behind_the_newest_version(place: Any, held: Session) -> None:
    before = held.datasets.quarantine("visits", "1")
    assert (before.rows, before.held, before.released, before.dropped) == (7, 7, 0, 0)
    assert [row["_row"] for row in before.shown] == list(range(1, 8))
    made = held.datasets.release("visits", "1", "the clinic confirmed it", rule="a month")
    assert (made.rows, made.held, made.into) == (1, 6, "data:visits@2")
    newest = place.rows(version=2)
    assert newest["days"].to_list()[-1] == 99
    assert newest.height == place.rows(version=1).height + 1
    assert "_rule" not in newest.columns
    after = held.datasets.quarantine("visits", "1")
    assert (after.rows, after.held, after.released, after.dropped) == (7, 6, 1, 0)
    assert 1 not in [row["_row"] for row in after.shown]
    assert held.datasets.show("visits", "2").inputs == ("data:visits@1",)


def test_dropped_rows_stay_counted(held: Session) -> None:
    made = held.datasets.drop("visits", "1", "never filled in", rows=(2, 4))
    assert (made.rows, made.held, made.into) == (2, 5, "")
    found = held.datasets.quarantine("visits", "1", rule="days there")
    assert [row["_row"] for row in found.shown] == [3, 5, 6, 7]
    assert found.rows == found.held + found.released + found.dropped
    with pytest.raises(Conflict, match=r"Row 2 .* is decided already"):
        held.datasets.release("visits", "1", "after all", rows=(2,))
    held.datasets.drop("visits", "1", "the rest")
    with pytest.raises(Invalid, match="is held"):
        held.datasets.drop("visits", "1", "again")
    assert held.datasets.show("visits").version == 1


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"reason": " "}, "no-reason"),
        ({"rows": (99,)}, "bad-rows"),
        ({"rows": (0,)}, "bad-rows"),
        ({"rows": (1,), "rule": "a month"}, "bad-rows"),
    ],
)
def test_a_decision_that_means_nothing_is_refused(held: Session, said: dict[str, Any], code: str) -> None:
    for decide in (held.datasets.release, held.datasets.drop):
        with pytest.raises(Invalid) as caught:
            decide("visits", "1", **{"reason": "because", **said})
        assert caught.value.code == code
    with pytest.raises(NotFound, match="broke a rule 'a mont'"):
        held.datasets.drop("visits", "1", "because", rule="a mont")
    assert held.datasets.quarantine("visits", "1").held == 7


# Files that no version needs


def test_what_a_killed_ingest_left_goes_a_day_later_and_nothing_else(place: Any, session: Session) -> None:
    place.add(100)
    place.add(120)
    table = place.platform.settings.workspace / "tables" / "default" / "visits"
    for rows in (130, 140):  # as by an ingest that was killed before its version was named
        versions.write(table, versions.save(table, Blocks.of(place.visits(rows))))
    before = {path.name for path in table.glob("*.parquet")}
    left = set(versions.files_of(table, 2)) - set(versions.files_of(table, 3))
    assert session.datasets.vacuum() == Vacuumed(files=0, bytes=0, young=len(left))
    for path in table.glob("*.parquet"):
        os.utime(path, (1, 1))
    seen = session.datasets.vacuum(dry_run=True)
    assert (seen.files, seen.young) == (len(left), 0)
    assert {path.name for path in table.glob("*.parquet")} == before
    assert session.datasets.vacuum() == seen
    assert before - {path.name for path in table.glob("*.parquet")} == left
    for version, rows in ((1, 100), (2, 120)):
        assert place.rows(version=version).height == rows
    assert pl.read_delta(str(table)).height == 140  # another program still reads the newest
    assert session.datasets.restore("visits", "1").version == 3
    place.platform.upkeep()
    assert place.rows(version=3).height == 100


def test_a_disk_that_is_full_while_rows_are_written_is_told_as_such() -> None:
    with pytest.raises(Unavailable, match="no space left to write 3 rows") as caught, versions._space(3):
        pl.DataFrame({"a": range(100_000)}).write_parquet("/dev/full")
    assert caught.value.code == "disk-full"

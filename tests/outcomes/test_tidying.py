"""The record as time goes by: what is put together reads the same, what is old goes, and no answer is lost or doubled."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline import failpoints
from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import NotFound
from loopline.outcomes.records import Label
from loopline.outcomes.tables import log_cursors, segments
from loopline.outcomes.tidying import FEWEST
from loopline.serving.log import remove_read
from loopline.serving.log import segments as files_of
from loopline.testing.clock import FakeClock

from .conftest import Worker

DAY = 86_400_000


def frame_of(session: Session, endpoint: str = "risk") -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(session.predictions.read(endpoint).read()))


def places(platform: Platform) -> list[tuple[int, int, int]]:
    with platform.database.begin() as tx:
        query = segments.select().where(segments.c.endpoint == "risk").order_by(segments.c.number)
        return [(row.number, row.until, row.rows) for row in tx.rows(query)]


def log_folder(platform: Platform) -> Path:
    return platform.settings.workspace / "serving" / "log"


def test_small_segments_are_put_together_and_read_the_same(
    session: Session, platform: Platform, worker: Worker
) -> None:
    sent = []
    for turn in range(FEWEST + 4):
        sent += worker.answer(2)
        worker.answer(1, endpoint="other")
        worker.answer(status=400)
        session.predictions.collect()
        if turn == 3:
            session.labels.add("risk", [Label(prediction=sent[0], value="yes")])
    before, counted = frame_of(session), session.predictions.traffic("risk")
    found = session.predictions.compact()
    assert found.segments == FEWEST + 5 + FEWEST + 4  # with the empty one that was there; both endpoints
    assert len(places(platform)) == 1
    assert places(platform)[0][:2] == (0, FEWEST + 4)
    assert frame_of(session).equals(before)
    assert session.predictions.traffic("risk") == counted
    assert before["truth"].drop_nulls().to_list() == ["yes"]
    assert session.predictions.show("risk", sent[0]).label == "yes"
    assert session.predictions.compact().segments == 0
    worker.answer(1)
    session.predictions.collect()
    assert places(platform)[1][:2] == (FEWEST + 5, FEWEST + 5)  # no number is given twice
    (entry,) = session.ledger.entries(operation="predictions.compact")
    assert entry.count == found.segments
    assert f"endpoint:risk@log.0-{FEWEST + 4}" in entry.outputs
    assert session.ledger.verify().ok
    session.store.sweep()
    assert frame_of(session).height == before.height + 1


def test_what_is_old_goes_with_its_labels(
    session: Session, platform: Platform, clock: FakeClock, worker: Worker
) -> None:
    old = worker.answer(3)
    session.predictions.collect()
    session.labels.add("risk", [Label(prediction=old[0], value="yes")])
    clock.forward(milliseconds=10 * DAY)
    new = worker.answer(2)
    session.predictions.collect()
    session.labels.add("risk", [Label(prediction=new[0], value="no")])
    gone = session.predictions.expire("risk", clock.now() - 5 * DAY)
    assert (gone.answers, gone.labels) == (3, 1)
    assert frame_of(session)["id"].to_list() == new
    assert frame_of(session)["truth"].to_list() == ["no", None]
    assert session.predictions.expire("risk", clock.now() - 5 * DAY).answers == 0
    assert len(session.ledger.entries(operation="predictions.expire")) == 1
    with pytest.raises(NotFound):
        session.predictions.expire("none", 1)
    assert session.store.sweep(dry_run=True).young == 2  # bytes that nobody needs, and that are new on this very disk


def test_upkeep_removes_segments_that_are_on_record(session: Session, platform: Platform, clock: FakeClock) -> None:
    first = Worker(platform.settings.workspace, clock, 0)
    sent = first.answer(2)
    session.predictions.collect()
    late = first.answer(1)  # not on record yet
    first.log.close()
    second = Worker(platform.settings.workspace, clock, 1)
    sent += second.answer(1)
    session.predictions.collect()
    clock.forward(milliseconds=2 * DAY)
    third = Worker(platform.settings.workspace, clock, 2)
    sent += late + third.answer(1)
    third.log.close()
    platform.upkeep()
    kept = {path.name for path in files_of(log_folder(platform))}
    assert first.log.path.name not in kept  # on record, closed and old
    assert second.log.path.name in kept  # its worker may write on
    assert third.log.path.name in kept  # nobody has read it
    session.predictions.collect()
    assert sorted(frame_of(session)["id"].to_list()) == sorted(sent)
    with platform.database.begin() as tx:
        assert {row.segment for row in tx.rows(log_cursors.select())} == kept


def test_a_crash_between_file_and_cursor_takes_nothing_twice(
    session: Session, platform: Platform, clock: FakeClock, worker: Worker
) -> None:
    sent = worker.answer(2)
    worker.log.close()
    session.predictions.collect()
    clock.forward(milliseconds=2 * DAY)
    with platform.database.begin() as tx:
        offsets = {row.segment: row.offset for row in tx.rows(log_cursors.select())}
    assert remove_read(log_folder(platform), offsets, clock.now()) == [worker.log.path.name]  # and then it dies
    session.predictions.collect()
    assert frame_of(session)["id"].to_list() == sent
    platform.upkeep()
    with platform.database.begin() as tx:
        assert list(tx.rows(log_cursors.select())) == []


def test_the_removal_can_be_cut_off_anywhere(
    session: Session, platform: Platform, clock: FakeClock, worker: Worker
) -> None:
    sent = worker.answer(2)
    worker.log.close()
    session.predictions.collect()
    clock.forward(milliseconds=2 * DAY)
    failpoints.arm("serving.log.before_remove=EIO")
    try:
        with pytest.raises(OSError, match="before_remove"):
            platform.upkeep()
    finally:
        failpoints.arm("")
    platform.upkeep()
    session.predictions.collect()
    assert frame_of(session)["id"].to_list() == sent


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["answer", "collect", "compact", "upkeep", "day", "rotate"]), max_size=60))
def test_in_any_order_each_answer_is_there_once(tmp_path_factory: pytest.TempPathFactory, turns: list[str]) -> None:
    folder, clock = tmp_path_factory.mktemp("tidy"), FakeClock()
    platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "c"), clock=clock)
    try:
        session = platform.session()
        worker, sent = Worker(folder / "w", clock), []
        for turn in turns:
            if turn == "answer":
                sent += worker.answer(1)
                for _ in range(FEWEST):
                    session.predictions.collect()
                    sent += worker.answer(1)
            elif turn == "collect":
                session.predictions.collect()
            elif turn == "compact":
                session.predictions.compact()
            elif turn == "upkeep":
                platform.upkeep()
            elif turn == "day":
                clock.forward(milliseconds=DAY + 1)
            else:
                worker.log.close()
                clock.forward(milliseconds=1)
                worker = Worker(folder / "w", clock)
        session.predictions.collect()
        if sent:
            assert frame_of(session)["id"].to_list() == sent
    finally:
        platform.close()

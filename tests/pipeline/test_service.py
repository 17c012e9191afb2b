"""The pipeline room's verbs."""

from __future__ import annotations

import pytest

from loopline.catalog import Session
from loopline.errors import Conflict, Invalid, NotFound

KEY, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_a_start_with_the_same_key_takes_the_run_up(session: Session) -> None:
    first = session.pipelines.start("visits", KEY, "by hand")
    again = session.pipelines.start("visits", KEY, "by somebody else")
    assert (again.id, again.reason) == (first.id, "by hand")
    assert (first.resumed, again.resumed) == (False, True)
    assert session.pipelines.start("others", KEY).id != first.id


def test_an_ended_run_is_not_taken_up_and_takes_nothing(session: Session) -> None:
    first = session.pipelines.start("visits", KEY)
    ended = session.pipelines.end(first.id, "failed", "disk full")
    assert (ended.status, ended.message) == ("failed", "disk full")
    assert ended.ended is not None
    with pytest.raises(Conflict, match="failed"):
        session.pipelines.step(first.id, "data", KEY, {}, 0.1)
    with pytest.raises(Conflict, match="failed already"):
        session.pipelines.end(first.id, "finished")
    assert session.pipelines.start("visits", KEY).id != first.id


def test_the_newest_of_what_a_step_gave_is_known(session: Session) -> None:
    run = session.pipelines.start("visits", KEY)
    assert session.pipelines.known("visits", "data", KEY) is None
    session.pipelines.step(run.id, "data", KEY, {"dataset": "data:visits@1"}, 1.5)
    found = session.pipelines.known("visits", "data", KEY)
    assert found is not None
    assert (found.outputs, found.seconds, found.cached) == ({"dataset": "data:visits@1"}, 1.5, False)
    assert session.pipelines.known("visits", "data", OTHER) is None
    assert session.pipelines.known("others", "data", KEY) is None


def test_a_step_recorded_again_is_one_step(session: Session) -> None:
    run = session.pipelines.start("visits", KEY)
    session.pipelines.step(run.id, "data", KEY, {"n": 1}, 0.1)
    session.pipelines.step(run.id, "data", OTHER, {"n": 2}, 0.1)
    (step,) = session.pipelines.show(run.id).steps
    assert (step.key, step.outputs) == (OTHER, {"n": 2})


@pytest.mark.parametrize("key", ["", "sha256:abc", "md5:" + "a" * 64, "sha256:" + "A" * 64])
def test_a_key_is_a_digest(session: Session, key: str) -> None:
    with pytest.raises(Invalid, match="no key"):
        session.pipelines.start("visits", key)


def test_what_is_not_there_is_said(session: Session) -> None:
    with pytest.raises(NotFound, match="no run 'gone'"):
        session.pipelines.show("gone")
    with pytest.raises(NotFound):
        session.pipelines.end("gone", "finished")
    with pytest.raises(Invalid):
        session.pipelines.start("no name", KEY)


def test_starts_steps_and_ends_are_on_the_ledger(session: Session) -> None:
    run = session.pipelines.start("visits", KEY)
    session.pipelines.step(run.id, "data", OTHER, {"secret": "a row"}, 0.1)
    session.pipelines.end(run.id, "finished")
    found = [entry for entry in session.ledger.entries() if entry.operation.startswith("pipelines.")]
    assert {entry.operation for entry in found} == {"pipelines.start", "pipelines.step", "pipelines.end"}
    assert "a row" not in str(found)
    (step,) = (entry for entry in found if entry.operation == "pipelines.step")
    assert step.digests == {"key": OTHER}

"""Labels: late, early, corrected, unknown, and more than one call may carry."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Invalid
from loopline.outcomes.records import Label
from loopline.testing.clock import FakeClock

from .conftest import Worker


def truth(session: Session, id: str) -> str | float | None:
    return session.predictions.show("risk", id).label


def test_a_late_label_is_joined(session: Session, worker: Worker, clock: FakeClock) -> None:
    (id,) = worker.answer(1)
    session.predictions.collect()
    assert truth(session, id) is None
    clock.forward(seconds=86_400)
    taken = session.labels.add("risk", [Label(prediction=id, value="yes", at=clock.now() - 5000)])
    assert (taken.taken, taken.joined, taken.waiting, taken.corrected) == (1, 1, 0, 0)
    shown = session.predictions.show("risk", id)
    assert (shown.label, shown.label_at) == ("yes", clock.now() - 5000)


def test_a_label_before_its_prediction_is_collected_waits(session: Session, worker: Worker, clock: FakeClock) -> None:
    (id,) = worker.answer(1)
    clock.forward(milliseconds=1)
    taken = session.labels.add("risk", [Label(prediction=id, value="no")])
    assert (taken.joined, taken.waiting) == (0, 1)
    clock.forward(seconds=60)
    session.predictions.collect()
    assert truth(session, id) == "no"
    assert session.predictions.traffic("risk").variants["champion"].labelled == 1


def test_a_label_of_an_unknown_prediction_waits_and_shows_nowhere(session: Session, worker: Worker) -> None:
    (id,) = worker.answer(1)
    session.predictions.collect()
    taken = session.labels.add("risk", [Label(prediction="nobody", value="no"), Label(prediction=id, value="no")])
    assert (taken.taken, taken.joined, taken.waiting) == (2, 1, 1)
    assert len(session.predictions.list("risk", labelled=True)) == 1


def test_a_correction_counts_and_the_first_stays_on_record(
    session: Session, platform: Platform, worker: Worker, clock: FakeClock
) -> None:
    (id,) = worker.answer(1)
    session.predictions.collect()
    session.labels.add("risk", [Label(prediction=id, value="no")])
    clock.forward(seconds=1)
    again = session.labels.add("risk", [Label(prediction=id, value="no")])
    assert (again.corrected, again.taken) == (0, 1)
    clock.forward(seconds=1)
    assert session.labels.add("risk", [Label(prediction=id, value="yes")]).corrected == 1
    assert truth(session, id) == "yes"
    with platform.database.snapshot() as connection:
        kept = connection.exec_driver_sql("SELECT number, value FROM labels ORDER BY number").fetchall()
    assert [tuple(row) for row in kept] == [(1, "no"), (2, "yes")]
    assert session.predictions.traffic("risk").variants["champion"].labelled == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (1.0, "1"),
        (0.5, "0.5"),
        ("YES", "YES"),
        (-3, "-3"),
        (1e300, str(int(1e300))),
    ],
)
def test_values_are_kept_as_class_texts(session: Session, worker: Worker, value: Any, text: str) -> None:
    (id,) = worker.answer(1)
    session.predictions.collect()
    session.labels.add("risk", [Label(prediction=id, value=value)])
    assert truth(session, id) == text


def test_what_is_no_batch_of_labels(session: Session, worker: Worker) -> None:
    (id,) = worker.answer(1)
    session.predictions.collect()
    one = Label(prediction=id, value="yes")
    for bad in (
        [],
        [one, one],
        [Label(prediction="", value="yes")],
        [Label(prediction=id, value=float("nan"))],
        [Label(prediction=id, value=float("inf"))],
        [Label(prediction=f"p{n}", value=1) for n in range(100_001)],
    ):
        with pytest.raises(Invalid):
            session.labels.add("risk", bad)
    assert truth(session, id) is None


def test_a_large_batch_is_taken_whole(session: Session, worker: Worker) -> None:
    ids = [id for _ in range(30) for id in worker.answer(100)]
    session.predictions.collect()
    taken = session.labels.add("risk", [Label(prediction=id, value=n % 2) for n, id in enumerate(ids)])
    assert (taken.taken, taken.joined) == (3000, 3000)
    assert session.predictions.traffic("risk").variants["champion"].labelled == 3000


def test_a_batch_is_one_entry_without_its_values(session: Session, worker: Worker) -> None:
    ids = worker.answer(5)
    session.predictions.collect()
    session.labels.add("risk", [Label(prediction=id, value="SECRET") for id in ids])
    (entry,) = (e for e in session.ledger.entries(limit=1000) if e.operation == "labels.add")
    assert (entry.record, entry.count, set(entry.digests)) == ("digest", 5, {"labels"})
    assert "SECRET" not in str(entry)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given_=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", "c"])), max_size=15),
    after=st.integers(0, 15),
)
def test_the_last_label_counts_whenever_it_is_collected(
    session: Session, worker: Worker, clock: FakeClock, given_: list[tuple[int, str]], after: int
) -> None:
    ids = worker.answer(6)
    expected: dict[str, str] = {}
    for place, (n, value) in enumerate(given_):
        clock.forward(milliseconds=3)
        if place == after:
            session.predictions.collect()
        session.labels.add("risk", [Label(prediction=ids[n], value=value)])
        expected[ids[n]] = value
    session.predictions.collect()
    assert {p.id: p.label for p in session.predictions.list("risk", limit=10_000) if p.id in ids} == {
        id: expected.get(id) for id in ids
    }

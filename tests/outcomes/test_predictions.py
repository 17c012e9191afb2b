"""The log becomes the record: each answer exactly once, whoever collects and whatever ends them."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.api.server import ApiServer
from loopline.app import Platform
from loopline.catalog import Session
from loopline.client import connect
from loopline.errors import Invalid, NotFound
from loopline.outcomes.records import Label
from loopline.testing.clock import FakeClock

from .conftest import Worker


def ids_of(session: Session, endpoint: str = "risk") -> list[str]:
    frame = pl.read_ipc_stream(io.BytesIO(session.predictions.read(endpoint).read()))
    return list(frame["id"].to_list())


def test_answers_are_collected_once(session: Session, worker: Worker) -> None:
    sent = worker.answer(3) + worker.answer(1)
    assert session.predictions.collect().predictions == 4
    assert session.predictions.collect().predictions == 0
    sent += worker.answer(2)
    assert session.predictions.collect().predictions == 2
    assert ids_of(session) == sent


def test_segments_of_several_workers_and_rotations(session: Session, platform: Platform, clock: FakeClock) -> None:
    workers = [Worker(platform.settings.workspace, clock, number, segment_bytes=600) for number in range(3)]
    sent: list[str] = []
    for turn in range(12):
        clock.forward(milliseconds=10)
        sent += workers[turn % 3].answer(2)
        if turn % 5 == 4:
            session.predictions.collect()
    session.predictions.collect()
    assert len(list((platform.settings.workspace / "serving" / "log").glob("*.segment"))) > 3
    assert sorted(ids_of(session)) == sorted(sent)


def test_a_torn_tail_is_left_until_it_is_whole(session: Session, worker: Worker) -> None:
    sent = worker.answer(1)
    whole = worker.log.path.read_bytes()
    sent += worker.answer(1)
    all_of_it = worker.log.path.read_bytes()
    worker.log.path.write_bytes(all_of_it[: len(whole) + 9])
    assert session.predictions.collect().predictions == 1
    worker.log.path.write_bytes(all_of_it)
    assert session.predictions.collect().predictions == 1
    assert ids_of(session) == sent


def test_projects_and_endpoints_are_kept_apart(session: Session, platform: Platform, worker: Worker) -> None:
    session.projects.create("other")
    mine, theirs, else_ = worker.answer(1), worker.answer(1, endpoint="other~risk"), worker.answer(1, endpoint="cost")
    session.predictions.collect()
    assert ids_of(session) == mine
    assert ids_of(session, "cost") == else_
    assert ids_of(platform.session(project="other")) == theirs
    with pytest.raises(NotFound):
        session.predictions.show("risk", theirs[0])


def test_rows_answers_and_labels_are_shown(session: Session, worker: Worker, clock: FakeClock) -> None:
    (first,) = worker.answer(1)
    clock.forward(seconds=5)
    (second,) = worker.answer(1, variant="challenger", version=2)
    session.predictions.collect()
    session.labels.add("risk", [Label(prediction=first, value="yes")])
    shown = session.predictions.show("risk", first)
    assert (shown.row, shown.output) == ({"x": 0, "name": "row 0"}, {"probability": 0.25, "label": "no"})
    assert (shown.label, shown.model, shown.variant, shown.shadow) == ("yes", "model:risk@1", "champion", False)
    assert [p.id for p in session.predictions.list("risk")] == [second, first]
    assert [p.id for p in session.predictions.list("risk", limit=1)] == [second]
    assert [p.id for p in session.predictions.list("risk", variant="champion")] == [first]
    assert [p.id for p in session.predictions.list("risk", labelled=True)] == [first]
    assert [p.id for p in session.predictions.list("risk", since=clock.now())] == [second]
    assert session.predictions.list("none") == []


def test_the_score_of_two_classes_is_that_of_the_positive_one_whatever_the_label(
    session: Session, worker: Worker
) -> None:
    worker.answer(1, output={"label": "no", "probability": 0.9, "probabilities": {"no": 0.9, "yes": 0.1}})
    worker.answer(1, output={"label": "b", "probability": 0.6, "probabilities": {"a": 0.3, "b": 0.6, "c": 0.1}})
    worker.answer(1, output={"value": 7.5})
    session.predictions.collect()
    frame = pl.read_ipc_stream(io.BytesIO(session.predictions.read("risk").read()))
    assert frame["score"].to_list() == [0.1, 0.6, 7.5]
    assert frame["label_given"].to_list() == ["no", "b", None]


def test_errors_are_counted_and_no_predictions(session: Session, worker: Worker) -> None:
    worker.answer(1)
    worker.answer(1, status=422)
    found = session.predictions.collect()
    assert (found.predictions, found.errors) == (1, 1)
    assert len(ids_of(session)) == 1


def test_requests_of_no_endpoint_stop_nothing(session: Session, worker: Worker) -> None:
    # What a worker refuses before it knows the endpoint (no token, a foreign name, a wrong path) anybody can send.
    worker.answer(1, endpoint="", status=401)
    nothing = session.predictions.collect()
    assert (nothing.segments, nothing.predictions, nothing.errors) == (0, 0, 1)
    sent = worker.answer(2)
    worker.answer(1, endpoint="", status=404)
    found = session.predictions.collect()
    assert (found.segments, found.predictions, found.errors) == (1, 2, 1)
    assert ids_of(session) == sent
    assert session.predictions.collect().segments == 0
    assert session.ledger.verify().ok


@pytest.mark.parametrize("name", ["", "no name", "other~risk", "../risk", "endpoint:risk"])
def test_what_is_no_name_is_no_endpoint(session: Session, name: str) -> None:
    for ask in (
        lambda: session.predictions.list(name),
        lambda: session.predictions.read(name),
        lambda: session.predictions.show(name, "x"),
        lambda: session.predictions.traffic(name),
        lambda: session.labels.add(name, [Label(prediction="x", value=1)]),
    ):
        with pytest.raises(Invalid) as refused:
            ask()
        assert refused.value.code == "bad-name"


def test_traffic_by_variant_with_shadow_apart(session: Session, worker: Worker, clock: FakeClock) -> None:
    live = worker.answer(10, latency=1000)
    worker.answer(10, variant="challenger", version=2, shadow=True, ids=live, latency=3000)
    worker.answer(4, variant="challenger", version=2)
    worker.answer(1, variant="challenger", version=2, status=500)
    worker.answer(2, variant="challenger", version=2, output={"probability": None, "label": "no"})
    session.predictions.collect()
    session.labels.add("risk", [Label(prediction=id, value="yes") for id in live[:6]])
    found = session.predictions.traffic("risk").variants
    assert set(found) == {"champion", "challenger", "challenger:shadow"}
    champion, challenger, shadow = (found[n] for n in ("champion", "challenger", "challenger:shadow"))
    assert (champion.requests, champion.rows, champion.errors, champion.labelled) == (1, 10, 0, 6)
    assert (champion.distinct_outputs, champion.latency_p50, champion.latency_p99) == (10, 1000.0, 1000.0)
    assert (challenger.requests, challenger.rows, challenger.errors) == (3, 6, 1)
    assert (challenger.invalid_outputs, challenger.model) == (2, "model:risk@2")
    assert (shadow.rows, shadow.labelled, shadow.invalid_outputs) == (10, 6, 0)
    clock.forward(seconds=1)
    assert session.predictions.traffic("risk", since=clock.now()).variants == {}


def test_traffic_of_a_variant_counts_all_its_versions(session: Session, worker: Worker) -> None:
    worker.answer(5, version=1)
    worker.answer(7, version=2)
    session.predictions.collect()
    found = session.predictions.traffic("risk").variants["champion"]
    assert (found.rows, found.model) == (12, "model:risk@2")


def test_the_same_answer_to_all_is_one_output(session: Session, worker: Worker) -> None:
    for _ in range(5):
        worker.answer(3, output={"value": 1.5})
    session.predictions.collect()
    found = session.predictions.traffic("risk").variants["champion"]
    assert (found.rows, found.distinct_outputs, found.invalid_outputs) == (15, 1, 0)


def test_personal_reads_and_segments_are_on_the_ledger(session: Session, worker: Worker) -> None:
    (id,) = worker.answer(1)
    session.predictions.collect()
    session.predictions.collect()  # nothing came: nothing to record
    session.predictions.show("risk", id)
    session.predictions.read("risk")
    entries = [e for e in session.ledger.entries(limit=1000) if e.operation.startswith("predictions.")]
    assert sorted(e.operation for e in entries) == ["predictions.collect", "predictions.read", "predictions.show"]
    (collected,) = (e for e in entries if e.operation == "predictions.collect")
    assert (collected.record, collected.count, collected.outputs) == ("digest", 1, ("endpoint:risk@log.1",))
    assert "row 0" not in str(entries)


def test_two_collectors_at_once_take_each_answer_once(platform: Platform, worker: Worker) -> None:
    sent: list[str] = []
    failed: list[BaseException] = []
    going = threading.Event()

    def collect() -> None:
        session = platform.session()
        try:
            while not going.is_set():
                session.predictions.collect()
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=collect) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        sent += worker.answer(2)
    going.set()
    for thread in threads:
        thread.join()
    platform.session().predictions.collect()
    assert failed == []
    assert ids_of(platform.session()) == sent


PROGRAM = """
import sys
from loopline.app import Platform
platform = Platform.open(workspace=sys.argv[1], checkpoints=sys.argv[1] + ".copies")
session = platform.session()
print(session.predictions.collect().predictions)
platform.close()
"""


def test_two_processes_at_once_take_each_answer_once(tmp_path: Path, clock: FakeClock) -> None:
    Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "w.copies")).close()
    worker = Worker(tmp_path / "w", clock)
    sent = [id for _ in range(50) for id in worker.answer(20)]
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "w")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    taken = [int(process.communicate(timeout=120)[0]) for process in both]
    assert sum(taken) == len(sent)
    assert max(taken) == len(sent)
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "w.copies"))
    assert ids_of(platform.session()) == sent
    platform.close()


@pytest.mark.parametrize(
    "place",
    ["store.put.before_rename", "store.put.after_rename", "database.tx.before_commit", "database.tx.after_commit"],
)
def test_a_killed_collector_loses_nothing_and_takes_nothing_twice(place: str, tmp_path: Path, clock: FakeClock) -> None:
    Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "w.copies")).close()
    worker = Worker(tmp_path / "w", clock)
    sent = worker.answer(20)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "w")]
    killed = subprocess.run(command, env={**os.environ, "LOOPLINE_FAILPOINTS": f"{place}=kill"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    sent += worker.answer(3)
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "w.copies"))
    session = platform.session()
    session.predictions.collect()
    assert ids_of(session) == sent
    assert session.ledger.verify().ok
    platform.close()


_examples = itertools.count()
events = st.lists(st.sampled_from(["answer", "collect", "rotate", "worker", "error"]), min_size=1, max_size=25)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=events)
def test_in_whatever_order_each_answer_is_there_once(
    platform: Platform, session: Session, clock: FakeClock, events: list[str]
) -> None:
    endpoint, sent = f"e{next(_examples)}", list[Any]()  # the workspace is that of the examples before
    workers = [Worker(platform.settings.workspace, clock)]
    for event in events:
        clock.forward(milliseconds=7)
        if event == "answer":
            sent += workers[-1].answer(2, endpoint=endpoint)
        elif event == "error":
            workers[-1].answer(1, endpoint=endpoint, status=400)
        elif event == "collect":
            session.predictions.collect()
        elif event == "rotate":
            workers[-1].log.rotate(clock.now())
        else:
            workers.append(Worker(platform.settings.workspace, clock, len(workers)))
    session.predictions.collect()
    assert ids_of(session, endpoint) == sent
    for worker in workers:
        worker.log.close()


def test_what_a_stream_answered_twice_is_one_answer_and_has_its_id_over_http(
    platform: Platform, session: Session, worker: Worker
) -> None:
    ids = ["risk/visits/0/7-1795888597347", "risk/visits/0/8-1795888597347"]
    for again in (ids, ids[1:], ids[:1]):  # what a kill left is answered again
        worker.answer(len(again), variant="stream", ids=again)
        session.predictions.collect()
    (served,) = worker.answer(1)
    session.predictions.collect()
    assert {one.id for one in session.predictions.list("risk")} == {*ids, served}
    assert len(session.predictions.list("risk")) == 3
    assert session.predictions.traffic("risk").variants["stream"].rows == 2
    session.labels.add("risk", [Label(prediction=ids[0], value="yes")])
    server = ApiServer(platform).start()
    try:
        with connect(server.url) as remote:
            assert remote.predictions.show("risk", ids[0]).label == "yes"
            assert remote.predictions.show("risk", served).variant == "champion"
            with pytest.raises(NotFound, match="no prediction"):
                remote.predictions.show("risk", "risk/visits/0/9-1795888597347")
    finally:
        server.stop()

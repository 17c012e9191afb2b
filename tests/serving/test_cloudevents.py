"""CloudEvents: made and read by the CloudEvents SDK as it is, and by plain requests where the SDK would make none."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from loopline.serving.log import read_segment, segments
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Answer, call, expected, live, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
ROWS: list[dict[str, Any]] = [EXAMPLE, {"age": None, "visits": 0, "insured": False, "admitted": None, "ward": "west"}]
YES = [expected(row) for row in ROWS]
LABELS = ["yes" if p >= 0.5 else "no" for p in YES]
REQUIRED = {"id": "7", "source": "/ward/north", "type": "visit", "specversion": "1.0"}
CSV = b"age,visits,insured,admitted,ward\n61.5,2,True,2024-05-31,north\n,0,False,,west\n"


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    return serve(table(1, live(bundle(version=3), 3)), row_limit=100)


def send(port: int, message: Any, path: str = "/events/risk") -> tuple[Answer, CloudEvent]:
    """Sends what the SDK made, and has it read what comes back."""
    answer = call(port, "POST", path, message.body, dict(message.headers))
    assert answer.status == 200, answer.body
    event = from_http_event(HTTPMessage(headers=answer.headers, body=answer.body))
    assert isinstance(event, CloudEvent)
    return answer, event


def test_events_of_the_sdk_in_both_modes(server: Supervisor, folder: Path) -> None:
    ids = []
    for data, labels in ((EXAMPLE, LABELS[:1]), (json.dumps(ROWS).encode(), LABELS), ({"instances": ROWS}, LABELS)):
        asked = CloudEvent({**REQUIRED, "datacontenttype": "application/json", "subject": "östlich 7"}, data)
        for make in (to_binary_event, to_structured_event):
            answer, event = send(server.port, make(asked))
            structured = answer.headers["content-type"] == "application/cloudevents+json"
            assert structured == (make is to_structured_event)
            assert (event.get_specversion(), event.get_type()) == ("1.0", "loopline.prediction")
            assert (event.get_source(), event.get_subject()) == ("/endpoints/risk", "östlich 7")
            assert event.get_extension("causationid") == "7"
            assert event.get_time() is not None
            found = event.get_data()
            assert isinstance(found, dict)
            assert [p["label"] for p in found["predictions"]] == labels
            assert [p["probabilities"]["yes"] for p in found["predictions"]] == pytest.approx(
                YES[: len(labels)], rel=1e-4
            )
            assert found["model"] == "model:risk@3"
            ids += [p["id"] for p in found["predictions"]]
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records] == ids
    assert [r.row for r in records] == [*[EXAMPLE] * 2, *ROWS * 4]


def test_an_event_delivered_twice_is_answered_by_one_id(server: Supervisor) -> None:
    def answered(**attributes: str) -> str:
        event = CloudEvent({**REQUIRED, **attributes, "datacontenttype": "application/json"}, EXAMPLE)
        return send(server.port, to_binary_event(event))[1].get_id()

    assert answered() == answered(type="other")
    assert len({answered(), answered(id="8"), answered(source="/ward/west")}) == 3


def test_data_that_are_no_json(server: Supervisor) -> None:
    packed = {**REQUIRED, "datacontenttype": "text/csv"}
    for given in ({"data_base64": base64.b64encode(CSV).decode()}, {"data": CSV.decode()}):
        answer = structured(server.port, {**packed, **given})
        assert [p["label"] for p in answer.json["data"]["predictions"]] == LABELS
    headers = {f"ce-{name}": value for name, value in REQUIRED.items()}
    answer = call(server.port, "POST", "/events", CSV, {**headers, "Content-Type": "text/csv"})
    assert [p["label"] for p in answer.json["predictions"]] == LABELS
    kind = "application/vnd.clinic.visit+json; charset=utf-8"
    answer = call(server.port, "POST", "/events/risk", EXAMPLE, {**headers, "Content-Type": kind})
    assert [p["label"] for p in answer.json["predictions"]] == LABELS[:1]


def batch(port: int, events: Any, path: str = "/events/risk") -> Answer:
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    return call(port, "POST", path, body, {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"})


def test_a_batch_is_answered_by_a_batch(server: Supervisor, folder: Path) -> None:
    made = [
        CloudEvent({**REQUIRED, "id": "a", "datacontenttype": "application/json", "subject": "north"}, EXAMPLE),
        CloudEvent({**REQUIRED, "id": "b", "datacontenttype": "application/json"}, {"instances": ROWS}),
        CloudEvent({**REQUIRED, "id": "c", "datacontenttype": "text/csv"}, CSV.decode()),
    ]
    answer = batch(server.port, b"[" + b",".join(to_structured_event(event).body for event in made) + b"]")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/cloudevents-batch+json"
    headers, ids = {"content-type": "application/cloudevents+json"}, []
    for event, one, labels in zip(made, answer.json, (LABELS[:1], LABELS, LABELS), strict=True):
        found = from_http_event(HTTPMessage(headers=headers, body=json.dumps(one).encode()))
        assert isinstance(found, CloudEvent)
        assert (found.get_type(), found.get_subject()) == ("loopline.prediction", event.get_subject())
        assert found.get_extension("causationid") == event.get_id()
        alone = send(server.port, to_structured_event(event))[1]
        assert found.get_id() == alone.get_id()
        data: Any = found.get_data()
        assert data.keys() == {"model", "version", "predictions"}
        assert [p["label"] for p in data["predictions"]] == labels
        ids += [p["id"] for p in data["predictions"]]
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records[:5]] == ids
    assert len({r.request for r in records[:5]}) == 1, "one request, one batch of the model"
    assert [r.row for r in records[:3]] == [EXAMPLE, *ROWS]


def test_of_a_bad_batch_nothing_is_answered_and_the_event_is_named(server: Supervisor) -> None:
    good, bad = {**REQUIRED, "data": EXAMPLE}, {**REQUIRED, "id": "x9", "data": {**EXAMPLE, "age": "old"}}
    for events, status, words in (
        ([good, bad], 400, "Event 1 (\"x9\"): "), ([good, 7], 400, "Event 1: The event is not an object"),
        ([good, {}], 400, "no attribute 'id'"), ([], 400, "no events"), ({}, 400, "not a list"), (b"[", 400, "not JSON"),
        ([{**REQUIRED, "data": ROWS * 30}] * 2, 413, "Event 1"),
        ([{**REQUIRED, "datacontenttype": "a/b", "data": "x"}], 415, "Event 0"),
    ):  # fmt: skip
        answer = batch(server.port, events)
        assert (answer.status, words in answer.error["message"]) == (status, True), (events, answer.body)
    assert batch(server.port, [good], "/v1/models/risk:predict").status == 415
    stats = call(server.port, "GET", "/v2/models/risk/stats").json["model_stats"][0]
    assert stats["execution_count"] == 0


def test_kserve_s_path_has_kserve_s_names(server: Supervisor) -> None:
    asked = CloudEvent({**REQUIRED, "datacontenttype": "application/json"}, {"instances": ROWS})
    for make in (to_binary_event, to_structured_event):
        _, event = send(server.port, make(asked), "/v1/models/risk:predict")
        assert (event.get_type(), event.get_source()) == ("io.kserve.inference.response", "io.kserve.inference.risk")
        found = event.get_data()
        assert isinstance(found, dict)
        assert [p["label"] for p in found["predictions"]] == LABELS
    assert call(server.port, "POST", "/v1/models/risk:predict", {"instances": ROWS}).json.keys() == {
        "predictions",
        "loopline",
    }


def structured(port: int, event: Any) -> Answer:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return call(port, "POST", "/events/risk", body, {"Content-Type": "application/cloudevents+json; charset=UTF-8"})


BAD: list[tuple[Any, int, str]] = [
    (b"{", 400, "not JSON"),
    (b"\xff", 400, "not JSON"),
    (b"[1]", 400, "not an object"),
    ({}, 400, "no attribute 'id'"),
    ({**REQUIRED, "id": ""}, 400, "no attribute 'id'"),
    ({**REQUIRED, "id": 7}, 400, "no attribute 'id'"),
    ({**REQUIRED, "specversion": "0.3"}, 400, "specversion"),
    ({**REQUIRED, "Subject": "x"}, 400, "'Subject'"),
    ({**REQUIRED, "subject": {}}, 400, "'subject'"),
    ({**REQUIRED, "subject": "x" * 2000}, 400, "more than 1024"),
    (REQUIRED, 400, "no data"),
    ({**REQUIRED, "data": None}, 400, "no data"),
    ({**REQUIRED, "data": 7}, 400, "exactly one of"),
    ({**REQUIRED, "data": []}, 400, "0 rows"),
    ({**REQUIRED, "data": {**EXAMPLE, "age": "old"}}, 400, "a number is wanted"),
    ({**REQUIRED, "data": {**EXAMPLE, "age": 10**400}}, 400, "age"),
    (json.dumps({**REQUIRED, "data": EXAMPLE}).replace("61.5", "1e999").encode(), 400, "not JSON"),
    ({**REQUIRED, "data": EXAMPLE, "data_base64": "e30="}, 400, "one of them"),
    ({**REQUIRED, "data_base64": "e"}, 400, "no base64"),
    ({**REQUIRED, "data_base64": 7}, 400, "no base64"),
    ({**REQUIRED, "datacontenttype": 7, "data": EXAMPLE}, 400, "'datacontenttype'"),
    ({**REQUIRED, "datacontenttype": "image/png", "data_base64": "e30="}, 415, "not read here"),
]


def test_bad_events_are_refused_by_name_and_never_a_500(server: Supervisor) -> None:
    for event, status, words in BAD:
        answer = structured(server.port, event)
        assert answer.status == status, (event, answer.body)
        assert words in answer.error["message"] + answer.error["hint"], (event, answer.json)
    answer = call(server.port, "POST", "/events/risk", EXAMPLE)
    assert (answer.status, answer.error["code"]) == (400, "no-event")
    other = {"Content-Type": "application/cloudevents+avro"}
    assert call(server.port, "POST", "/events/risk", [REQUIRED], other).status == 415
    headers = {f"ce-{name}": value for name, value in REQUIRED.items()} | {"ce-subject": "%ff"}
    assert call(server.port, "POST", "/events/risk", EXAMPLE, headers).status == 400
    assert call(server.port, "GET", "/events/risk").status == 405
    assert structured(server.port, {**REQUIRED, "data": EXAMPLE}).status == 200

"""Plain JSON rows, on the short way of our protocol and on the ordinary way of ASGI: both must answer the same."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopline.serving.log import read_segment, segments
from loopline.serving.records import Policy
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, FIELDS, NUMBERS, call, expected, live, raw, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]


@pytest.fixture(params=["short", "asgi"])
def start(request: pytest.FixtureRequest, serve: Serve, plain_asgi: Callable[..., int]) -> Callable[..., int]:
    """Serves a table by either way; gives the port."""
    if request.param == "short":
        return lambda first, **options: serve(first, **options).port
    return plain_asgi


ROWS: list[dict[str, Any]] = [
    EXAMPLE,
    {"age": None, "visits": 0, "insured": None, "admitted": None, "ward": None},
    {"age": 3, "visits": 7, "insured": False, "admitted": "1969-12-31", "ward": "west"},
    {"age": -90.5, "visits": 1, "insured": True, "admitted": "2030-01-01", "ward": "elsewhere"},
]


def test_an_output_that_is_no_number_fails_its_request_alone(start: Callable[..., int], bundle: Bundle) -> None:
    port = start(table(1, live(bundle(task="regression", bias=3.38e38))))
    good, bad = EXAMPLE, {**EXAMPLE, "age": 3.4e38}  # whose value is beyond float32
    assert call(port, "POST", "/predict/risk", [good, good]).status == 200  # though their sum is, too
    refused = call(port, "POST", "/predict/risk", [good, bad])
    assert refused.status >= 500
    assert "not a finite number" in refused.json["error"]["message"]
    assert call(port, "POST", "/predict/risk", [good]).status == 200


def test_rows_are_answered_as_the_model_reckons(start: Callable[..., int], bundle: Bundle) -> None:
    port = start(table(1, live(bundle(version=3), 3)))
    answer = call(port, "POST", "/predict/risk", ROWS)
    assert answer.status == 200, answer.body
    said = answer.json
    assert (said["endpoint"], said["model"], said["version"], said["variant"]) == (
        "risk",
        "model:risk@3",
        3,
        "champion",
    )
    for row, prediction in zip(ROWS, said["predictions"], strict=True):
        positive = prediction["probabilities"]["yes"]
        assert math.isclose(positive, expected(row), rel_tol=1e-4, abs_tol=1e-6)
        assert prediction["label"] == ("yes" if positive >= 0.5 else "no")
        assert prediction["probability"] == prediction["probabilities"][prediction["label"]]
        assert list(prediction["probabilities"]) == ["no", "yes"]
        assert math.isclose(sum(prediction["probabilities"].values()), 1, rel_tol=1e-5)
    ids = [p["id"] for p in said["predictions"]]
    assert ids == sorted(set(ids))
    again = call(port, "POST", "/predict/risk", ROWS[0]).json
    assert again["predictions"][0]["probability"] == said["predictions"][0]["probability"]
    assert again["predictions"][0]["id"] > ids[-1]
    wrapped = call(port, "POST", "/predict/risk", {"rows": ROWS[:2], "route_key": "k"}).json
    assert len(wrapped["predictions"]) == 2


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks(start: Callable[..., int], bundle: Bundle, task: str) -> None:
    port = start(table(1, live(bundle(task=task, bias=0.5))))
    found = call(port, "POST", "/predict/risk", [EXAMPLE]).json["predictions"][0]
    if task == "regression":
        logit = math.log(expected(EXAMPLE, 0.5) / (1 - expected(EXAMPLE, 0.5)))
        assert math.isclose(found["value"], logit, rel_tol=1e-4)
    else:
        assert set(found["probabilities"]) == {"a%", 'b"', "c"}
        assert math.isclose(sum(found["probabilities"].values()), 1, rel_tol=1e-5)
        assert found["label"] == max(found["probabilities"], key=found["probabilities"].get)
        assert found["probability"] == max(found["probabilities"].values())


BAD: list[tuple[Any, str, dict[str, Any]]] = [
    ([], "no-rows", {}),
    ({"rows": []}, "no-rows", {}),
    (b"", "not-json", {}),
    (b'[{"age": 1', "not-json", {}),
    (b"\xff\xfe", "not-json", {}),
    (b'[{"age": NaN}]', "not-json", {}),
    (b"[" * 100_000, "not-json", {}),
    (json.dumps([{**EXAMPLE, "ward": "\ud800"}]).encode(), "not-json", {}),
    (5, "not-rows", {}),
    ([5], "not-rows", {"row": 0}),
    ({"rows": 5}, "not-rows", {}),
    ([EXAMPLE, {**EXAMPLE, "agee": 1}], "unknown-column", {"field": "agee", "row": 1}),
    (
        [{k: v for k, v in EXAMPLE.items() if k != "visits"}],
        "missing-column",
        {"field": "visits", "row": 0, "got": "nothing"},
    ),
    ([{k: v for k, v in EXAMPLE.items() if k != "ward"}], "missing-column", {"field": "ward"}),
    ([{**EXAMPLE, "visits": None}], "missing-value", {"field": "visits", "row": 0, "got": "null"}),
    ([{**EXAMPLE, "age": "old"}], "wrong-type", {"field": "age", "row": 0, "expected": "a number", "got": '"old"'}),
    ([{**EXAMPLE, "age": True}], "wrong-type", {"field": "age"}),
    ({"rows": [{**EXAMPLE, "age": [1]}]}, "wrong-type", {"field": "age", "row": 0, "got": "[1]"}),
    ({name: [value] for name, value in EXAMPLE.items()}, "wrong-type", {"field": "age", "row": 0}),
    ([{**EXAMPLE, "visits": 2.5}], "wrong-type", {"field": "visits", "got": "2.5"}),
    ([EXAMPLE, {**EXAMPLE, "insured": "yes"}], "wrong-type", {"field": "insured", "row": 1}),
    ([{**EXAMPLE, "admitted": "31.5.2024"}], "wrong-type", {"field": "admitted"}),
    ([{**EXAMPLE, "admitted": 19874}], "wrong-type", {"field": "admitted"}),
    ([{**EXAMPLE, "ward": 7}], "wrong-type", {"field": "ward"}),
    ([{**EXAMPLE, "ward": ["north"]}], "wrong-type", {"field": "ward"}),
    ([{**EXAMPLE, "age": 1e39}], "out-of-range", {"field": "age"}),
    ([{**EXAMPLE, "visits": 10**400}], "out-of-range", {"field": "visits"}),
    (b'[{"age":1e999,"visits":1,"insured":true,"admitted":null,"ward":""}]', "out-of-range", {"field": "age"}),
    (b'[{"age":1,"age":2,"visits":1,"insured":true,"admitted":null,"ward":""}]', "duplicate-key", {"field": "age"}),
    ([{**EXAMPLE, "visits": 99999999999999999999999}], "out-of-range", {"field": "visits"}),
    ([{**EXAMPLE, "visits": 1e30}], "out-of-range", {"field": "visits"}),
    ({"rows": [EXAMPLE], "routekey": "k"}, "unknown-key", {}),
    ([EXAMPLE] * 11, "too-many-rows", {"limit": 10}),
    (b"x" * 5000, "body-too-large", {"limit": 4096}),
]


def test_bad_input_is_named_and_never_a_500(start: Callable[..., int], bundle: Bundle) -> None:
    port = start(table(1, live(bundle())), body_limit=4096, row_limit=10)
    for body, code, details in BAD:
        if body == b"[" * 100_000:
            body = b"[" * 4000
        answer = call(port, "POST", "/predict/risk", body)
        assert answer.status == (413 if code in ("too-many-rows", "body-too-large") else 400), (body, answer.body)
        assert answer.error["code"] == code, (body, answer.error)
        assert details.items() <= answer.error["details"].items(), (body, answer.error)
        assert answer.error["message"]
        assert answer.error["hint"] or code == "unknown-column", (body, answer.error)
    assert call(port, "POST", "/predict/risk", [EXAMPLE]).status == 200
    assert "Did you mean 'age'" in call(port, "POST", "/predict/risk", [{**EXAMPLE, "agee": 1}]).error["hint"]


def test_what_needs_a_second_look_is_accepted(start: Callable[..., int], bundle: Bundle) -> None:
    port = start(table(1, live(bundle())))
    plain = call(port, "POST", "/predict/risk", [EXAMPLE]).json["predictions"][0]["probability"]
    for other in (
        {**EXAMPLE, "visits": 2.0},
        {**EXAMPLE, "insured": 1},
        {**EXAMPLE, "admitted": "2024-05-31T00:00:00Z"},
    ):
        found = call(port, "POST", "/predict/risk", [other])
        assert found.status == 200, found.body
        assert found.json["predictions"][0]["probability"] == plain


def test_a_column_named_rows_is_a_column(start: Callable[..., int], bundle: Bundle) -> None:
    named = tuple(msgspec.structs.replace(f, name="rows") if f.name == "age" else f for f in FIELDS)
    rows_first = ("rows", *NUMBERS[1:])
    example = {"rows": 61.5, **{k: v for k, v in EXAMPLE.items() if k != "age"}}
    port = start(table(1, live(bundle(fields=named, numbers=rows_first, example=example))))
    alone = call(port, "POST", "/predict/risk", example)
    assert alone.status == 200, alone.body
    wanted = alone.json["predictions"][0]["probabilities"]
    for body in ([example], {"rows": [example]}, {"rows": [example, example], "route_key": "k"}):
        found = call(port, "POST", "/predict/risk", body)
        assert found.status == 200, found.body
        assert found.json["predictions"][-1]["probabilities"] == wanted
    beside = call(port, "POST", "/predict/risk", {**example, "rows": [example]})
    assert (beside.status, beside.error["code"], beside.error["details"]["field"]) == (400, "wrong-type", "rows")
    assert call(port, "POST", "/predict/risk", {"rows": []}).error["code"] == "no-rows"


def test_rows_are_taken_as_they_stand_in_the_source(start: Callable[..., int], bundle: Bundle, folder: Path) -> None:
    named = tuple(msgspec.structs.replace(f, name="user.age") if f.name == "age" else f for f in FIELDS)
    example = {"user.age": 61.5, **{k: v for k, v in EXAMPLE.items() if k != "age"}}
    bundled = bundle(fields=named, numbers=("user.age", *NUMBERS[1:]), example=example)
    port = start(table(1, live(bundled), passthrough=("user.id",)))
    wanted = call(port, "POST", "/predict/risk", example).json["predictions"][0]["probabilities"]
    source = {"user": {"id": "u1", "age": 61.5, "tags": ["a"]}, **{k: v for k, v in EXAMPLE.items() if k != "age"}}
    for row in (source, {**source, "tags": ["new", "late"]}, {**source, "tags": None}):
        for body in (row, [row], {"rows": [row]}):
            found = call(port, "POST", "/predict/risk", body)
            assert found.status == 200, found.body
            assert found.json["predictions"][0]["probabilities"] == wanted
    unknown = call(port, "POST", "/predict/risk", {**source, "user": {"age": 61.5, "agee": 2}})
    assert (unknown.error["code"], unknown.error["details"]["field"]) == ("unknown-column", "user.agee")
    twice = call(port, "POST", "/predict/risk", {**source, "user.age": 3})
    assert (twice.status, twice.error["code"]) == (400, "duplicate-key")
    logged = [r.row for path in segments(folder / "log") for r in read_segment(path)[0] if r.status == 200]
    assert [row for row in logged[1:] if row] == [{"user.id": "u1", **example}] * 9


def test_unknown_endpoint_and_method(start: Callable[..., int], bundle: Bundle) -> None:
    port = start(table(1, live(bundle())))
    answer = call(port, "POST", "/predict/rusk", [EXAMPLE])
    assert (answer.status, answer.error["code"]) == (404, "no-endpoint")
    assert "risk" in answer.error["hint"]
    answer = call(port, "GET", "/predict/risk")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    answer = call(port, "POST", "/v2/models/rusk/infer", {})
    assert answer.status == 404
    assert isinstance(answer.error, str)


def test_one_bad_request_of_a_turn_fails_alone(start: Callable[..., int], bundle: Bundle) -> None:
    port = start(table(1, live(bundle())))
    good = json.dumps([EXAMPLE]).encode()
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(12)]
    for n, connection in enumerate(connections):
        connection.request("POST", "/predict/risk", good if n % 3 else b'[{"age": "x"}]')
    assert [c.getresponse().status for c in connections] == [200 if n % 3 else 400 for n in range(12)]
    for connection in connections:
        connection.close()


def test_pipelined_and_odd_requests(start: Callable[..., int], bundle: Bundle) -> None:
    port = start(table(1, live(bundle())))
    body = json.dumps([EXAMPLE]).encode()
    one = b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    last = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    found = raw(port, one * 3 + last)
    assert found.count(b"HTTP/1.1 200 OK") == 4
    assert found.count(b'"predictions"') == 3
    assert found.endswith(b'{"live":true}')
    chunked = (
        b"POST /predict/risk HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    found = raw(port, chunked + b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:]))
    assert found.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in found
    found = raw(port, one.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert found.startswith(b"HTTP/1.1 200 OK")
    found = raw(port, one.replace(b"Host:", b"Expect: 100-continue\r\nHost:"), until=b"predictions")
    assert found.startswith(b"HTTP/1.1 100 Continue")
    assert b"HTTP/1.1 200 OK" in found
    query = one.replace(b"/predict/risk", b"/predict/r%69sk?x=1")
    assert raw(port, query, until=b"predictions").startswith(b"HTTP/1.1 200")
    assert raw(port, b"GARBAGE\r\n\r\n").startswith(b"HTTP/1.1 400")
    gzip = one.replace(b"Host:", b"Content-Encoding: gzip\r\nHost:")
    assert raw(port, gzip, until=b"}").startswith(b"HTTP/1.1 415")


def test_unknown_categories_are_counted_or_refused(serve: Serve, bundle: Bundle) -> None:
    made = bundle()
    server = serve(table(1, live(made)))
    strange = {**EXAMPLE, "ward": "attic"}
    assert call(server.port, "POST", "/predict/risk", [strange, EXAMPLE, strange]).status == 200
    text = call(server.port, "GET", "/metrics").body.decode()
    assert 'loopline_unknown_categories_total{endpoint="risk",column="ward"} 2' in text
    server.push(table(2, live(made), policy=Policy(unknown_category="refuse")))
    answer = call(server.port, "POST", "/predict/risk", [EXAMPLE, strange])
    assert (answer.status, answer.error["code"]) == (400, "unknown-category")
    assert {"field": "ward", "row": 1, "got": '"attic"'}.items() <= answer.error["details"].items()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1e400", "wrong-type"),
        ("-1e400", "wrong-type"),
        ("9" * 400, "wrong-type"),
        (str(2**63), "wrong-type"),
        ("[1]", "wrong-type"),
        ('{"a": 1}', "wrong-type"),
        ("[" * 50 + "]" * 50, "wrong-type"),
        ("[" * 500 + "]" * 500, "too-deep"),
        ("NaN", "not-json"),
    ],
)
def test_a_row_that_the_log_could_not_give_back_is_refused(
    serve: Serve, bundle: Bundle, folder: Path, value: str, code: str
) -> None:
    from loopline.serving.log import read_on

    server = serve(table(1, live(bundle()), passthrough=("patient",)))
    row = json.dumps({**EXAMPLE, "patient": "?"}).replace('"?"', value)
    for body in (row, f"[{row}]", f'{{"rows": [{row}]}}', f"[{row}, {row}]"):
        answer = call(server.port, "POST", "/predict/risk", body.encode())
        assert (answer.status, answer.error["code"]) == (400, code)
    assert call(server.port, "POST", "/predict/risk", [{**EXAMPLE, "patient": 2**60}]).status == 200
    server.stop()
    (found,) = (records for _, _, records in read_on(folder / "log", {}))
    assert [r.row for r in found] == [None] * 4 + [{**EXAMPLE, "patient": 2**60}]


def test_columns_whose_names_stand_escaped_in_json(serve: Serve, bundle: Bundle, folder: Path) -> None:
    from loopline.serving.log import read_on

    names = ('say "hi"', "back\\slash", "new\nline")
    server = serve(table(1, live(bundle()), passthrough=names))
    row = {**EXAMPLE, **dict.fromkeys(names, 1)}
    answer = call(server.port, "POST", "/predict/risk", [row, EXAMPLE])
    assert answer.status == 200, answer.body
    assert call(server.port, "POST", "/predict/risk", [{**row, 'say \\"hi\\"': 1}]).error["code"] == "unknown-column"
    server.stop()
    ((_, _, records),) = read_on(folder / "log", {})
    assert [r.row for r in records] == [row, EXAMPLE, None]


def test_passthrough_columns_are_taken_and_kept(serve: Serve, bundle: Bundle, folder: Path) -> None:
    from loopline.serving.log import read_segment, segments

    server = serve(table(1, live(bundle()), passthrough=("patient", "race")))
    row = {**EXAMPLE, "patient": 17, "race": "Asian: other"}
    answer = call(server.port, "POST", "/predict/risk", [row, EXAMPLE])
    assert answer.status == 200, answer.body
    assert answer.json["predictions"][0]["probability"] == answer.json["predictions"][1]["probability"]
    server.stop()
    (path,) = segments(folder / "log")
    records, _ = read_segment(path)
    assert [r.row for r in records] == [row, EXAMPLE]

"""TensorFlow Serving's REST calls and KServe's first version of them, by plain requests."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopline.serving.records import BUCKETS
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Answer, call, expected, live, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
ROWS: list[dict[str, Any]] = [EXAMPLE, {"age": None, "visits": 0, "insured": False, "admitted": None, "ward": "west"}]
YES = [expected(row) for row in ROWS]
LABELS = ["yes" if p >= 0.5 else "no" for p in YES]


def post(port: int, verb: str, body: Any, where: str = "risk") -> Answer:
    return call(port, "POST", f"/v1/models/{where}:{verb}", body)


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    weights = (live(bundle(version=3), 3, BUCKETS), live(bundle(version=4, bias=-9.0), 4, 0, "challenger"))
    return serve(table(1, *weights), row_limit=100)


def test_rows_and_columns(server: Supervisor) -> None:
    texts = [{**row, "ward": {"b64": base64.b64encode(row["ward"].encode()).decode()}} for row in ROWS]
    for instances in (ROWS, texts, [[*row.values()] for row in ROWS]):
        answer = post(server.port, "predict", {"signature_name": "serving_default", "instances": instances})
        assert answer.status == 200, answer.body
        assert [p["label"] for p in answer.json["predictions"]] == LABELS
        assert [p["probabilities"][1] for p in answer.json["predictions"]] == pytest.approx(YES, rel=1e-4)
        assert len(set(answer.json["loopline"]["ids"])) == 2
    columns = {name: [row[name] for row in ROWS] for name in EXAMPLE}
    for inputs in (columns, {name: [[v] for v in values] for name, values in columns.items()}):
        answer = post(server.port, "predict", {"inputs": inputs})
        assert answer.json["outputs"]["label"] == LABELS
        assert [p[1] for p in answer.json["outputs"]["probabilities"]] == pytest.approx(YES, rel=1e-4)


def test_examples_with_context(server: Supervisor) -> None:
    context = {"admitted": None, "insured": True}
    rows = [{k: v for k, v in row.items() if k not in context} for row in ROWS]
    answer = post(server.port, "classify", {"examples": rows, "context": context})
    assert answer.status == 200, answer.body
    found = [dict(row) for row in answer.json["results"]]
    assert [row["yes"] for row in found] == pytest.approx([expected({**row, **context}) for row in rows], rel=1e-4)
    assert all(row["yes"] + row["no"] == pytest.approx(1.0) for row in found)


def test_a_regression(serve: Serve, bundle: Bundle) -> None:
    port = serve(table(1, live(bundle(task="regression")))).port
    value = pytest.approx(0.02 * 61.5 + 0.8 - 0.5 + 1.9874 + 0.5, rel=1e-5)
    assert post(port, "predict", {"instances": [EXAMPLE]}).json["predictions"] == [value]
    assert post(port, "predict", {"inputs": {k: [v] for k, v in EXAMPLE.items()}}).json["outputs"] == [value]
    assert post(port, "regress", {"examples": [EXAMPLE]}).json["results"] == [value]
    answer = post(port, "classify", {"examples": [EXAMPLE]})
    assert (answer.status, ":regress" in answer.error) == (400, True)
    about = call(port, "GET", "/v1/models/risk/metadata").json
    outputs = about["metadata"]["signature_def"]["signature_def"]["serving_default"]["outputs"]
    assert outputs["value"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]


def test_versions_and_labels(server: Supervisor) -> None:
    low = [expected(row, -9.0) for row in ROWS]
    for where, probabilities in (
        ("risk/versions/3", YES), ("risk/labels/champion", YES), ("risk/versions/4", low), ("risk/labels/challenger", low),
    ):  # fmt: skip
        answer = post(server.port, "predict", {"instances": ROWS}, where)
        assert [p["probabilities"][1] for p in answer.json["predictions"]] == pytest.approx(probabilities, rel=1e-3)
    for where, words in (
        ("risk/versions/9", "no version '9'. There are: 3, 4"), ("risk/labels/stable", "no label 'stable'"),
        ("rusk", "Did you mean 'risk'"), ("rusk/versions/3", "no endpoint"),
    ):  # fmt: skip
        for answer in (
            post(server.port, "predict", {"instances": ROWS}, where),
            call(server.port, "GET", f"/v1/models/{where}"),
        ):
            assert answer.status == 404
            assert words in answer.error


def test_what_is_there(server: Supervisor) -> None:
    about = call(server.port, "GET", "/v1/models/risk").json
    good = {"error_code": "OK", "error_message": ""}
    assert about["model_version_status"] == [
        {"version": "3", "state": "AVAILABLE", "status": good}, {"version": "4", "state": "AVAILABLE", "status": good},
    ]  # fmt: skip
    assert about["ready"] is True
    assert call(server.port, "GET", "/v1/models").json == {"models": ["risk"]}
    assert len(call(server.port, "GET", "/v1/models/risk/versions/4").json["model_version_status"]) == 1
    assert len(call(server.port, "GET", "/v1/models/risk/labels/champion").json["model_version_status"]) == 1
    told = call(server.port, "GET", "/v1/models/risk/versions/4/metadata").json
    assert told["model_spec"] == {"name": "risk", "signature_name": "", "version": "4"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert {name: i["dtype"] for name, i in signature["inputs"].items()} == {
        "age": "DT_DOUBLE", "visits": "DT_INT64", "insured": "DT_BOOL", "admitted": "DT_STRING", "ward": "DT_STRING",
    }  # fmt: skip
    assert signature["outputs"]["probabilities"]["tensor_shape"]["dim"][1]["size"] == "2"
    assert call(server.port, "POST", "/v1/models/risk", {}).status == 405
    assert call(server.port, "GET", "/v1/models/risk:predict").status == 405
    assert call(server.port, "POST", "/v1/models/risk:generate", {}).status == 404


def test_bad_input_is_a_text_and_never_a_500(server: Supervisor) -> None:
    for body, verb, words in (
        (b"{", "predict", "not JSON"),
        (b"[]", "predict", "not an object"),
        ({}, "predict", "Exactly one of 'instances' and 'inputs'"),
        ({"instances": [], "inputs": []}, "predict", "Exactly one"),
        ({"instances": []}, "predict", "0 rows"),
        ({"inputs": {}}, "predict", "0 rows"),
        ({"instances": {}}, "predict", "not a list"),
        ({"inputs": 7}, "predict", "not a list"),
        ({"inputs": {"age": 7}}, "predict", "'age' is not a list"),
        ({"inputs": {"age": [1], "ward": []}}, "predict", "0 values"),
        ({"instances": [[1, 2]]}, "predict", "Row 0 has 2 values"),
        ({"instances": [{**EXAMPLE, "agee": 1}]}, "predict", "Did you mean 'age'"),
        ({"instances": [{**EXAMPLE, "ward": {"b64": "?"}}]}, "predict", "base64"),
        ({"instances": [{**EXAMPLE, "ward": {"b64": 7}}]}, "predict", "base64"),
        ({"instances": [{**EXAMPLE, "ward": {"b64": "/w=="}}]}, "predict", "base64"),
        ({"instances": [{**EXAMPLE, "age": "x"}]}, "predict", "a number is wanted"),
        ({"instances": ROWS, "signature_name": "other"}, "predict", '"other" not found in signature def'),
        ({"instances": ROWS, "signature_name": 7}, "predict", "not found in signature def"),
        ({"examples": ROWS, "context": []}, "classify", "'context' is not an object"),
        ({"examples": [7]}, "classify", "Row 0 is not an object"),
        ({"examples": ROWS}, "regress", ":classify"),
        (b'{"instances": ' + b"[" * 100_000, "predict", "not JSON"),
    ):
        answer = post(server.port, verb, body)
        assert answer.status == 400, (body, answer.body)
        assert words in answer.error, (body, answer.error)
    assert post(server.port, "predict", {"instances": ROWS * 51}).status == 413
    assert post(server.port, "predict", {"instances": ROWS}).status == 200

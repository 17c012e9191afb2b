"""Azure Machine Learning's scoring route: plain requests, as its managed endpoints send them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from loopline.serving.log import read_segment, segments
from loopline.serving.records import BUCKETS, Endpoint, RouteTable
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Answer, call, expected, live, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
ROWS: list[dict[str, Any]] = [EXAMPLE, {"age": None, "visits": 0, "insured": False, "admitted": None, "ward": "west"}]
COLUMNS = [*EXAMPLE]
DATA = [[*row.values()] for row in ROWS]
YES = [expected(row) for row in ROWS]
LABELS = ["yes" if p >= 0.5 else "no" for p in YES]


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    weights = (live(bundle(version=3), 3, BUCKETS), live(bundle(version=4, bias=-9.0), 4, 0, "challenger"))
    return serve(table(1, *weights), row_limit=200)


def score(port: int, body: Any, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(port, "POST", "/score", body, {"Content-Type": "application/json", **names})


def test_a_model_of_mlflow_answers_a_plain_list(server: Supervisor, folder: Path) -> None:
    ids: list[str] = []
    for given in (
        {"columns": COLUMNS, "index": [0, 1], "data": DATA},
        {"columns": COLUMNS, "data": DATA},
        {name: [row[name] for row in ROWS] for name in COLUMNS},
        ROWS,
        DATA,
    ):
        answer = score(server.port, {"input_data": given, "params": {}})
        assert answer.status == 200, answer.body
        assert answer.json == LABELS
        assert answer.headers["x-loopline-model"] == "model:risk@3"
        ids += answer.headers["x-loopline-ids"].split(",")
    assert score(server.port, ROWS).json == LABELS
    many = score(server.port, {"input_data": ROWS * 51})
    assert (len(many.json), "x-loopline-ids" in many.headers) == (102, False)
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records][: len(ids)] == ids
    assert [(r.output or {})["label"] for r in records][: len(ids)] == LABELS * 5


def test_automated_machine_learning_s_forms(server: Supervisor) -> None:
    answer = score(server.port, {"data": ROWS, "method": "predict"})
    assert answer.json["result"] == LABELS
    assert len(answer.json["loopline"]["ids"]) == 2
    answer = score(server.port, {"Inputs": {"data": ROWS}, "GlobalParameters": 1.0})
    assert answer.json["Results"] == LABELS
    answer = score(server.port, {"Inputs": {"data": DATA}, "GlobalParameters": {"method": "predict_proba"}})
    assert [p[1] for p in answer.json["Results"]] == pytest.approx(YES, rel=1e-4)


def test_the_deployment_is_chosen_by_a_header(server: Supervisor) -> None:
    for name, bias in (("champion", 0.0), ("challenger", -9.0)):
        body = {"Inputs": {"data": ROWS}, "GlobalParameters": {"method": "predict_proba"}}
        answer = score(server.port, body, azureml_model_deployment=name)
        assert [p[1] for p in answer.json["Results"]] == pytest.approx([expected(r, bias) for r in ROWS], rel=1e-3)
        assert answer.json["loopline"]["variant"] == name
    answer = score(server.port, {"input_data": ROWS}, azureml_model_deployment="blue")
    assert (answer.status, "champion, challenger" in answer.json["message"]) == (404, True)


def test_ids_of_requests_come_back(server: Supervisor) -> None:
    answer = score(server.port, ROWS, x_request_id="r7", x_ms_client_request_id="c7")
    names = ("x-request-id", "x-ms-request-id", "x-ms-client-request-id")
    assert [answer.headers.get(name) for name in names] == ["r7", "c7", "c7"]
    answer = score(server.port, b"{", x_request_id="r8")
    assert (answer.status, answer.headers["x-request-id"]) == (400, "r8")
    assert score(server.port, ROWS).headers["x-request-id"]
    assert score(server.port, ROWS, x_ms_client_request_id="c" * 101).status == 431


def test_probes_and_swagger(server: Supervisor) -> None:
    probe = call(server.port, "GET", "/")
    assert (probe.status, probe.body) == (200, b"Healthy")
    for version, validator in (
        ("", OpenAPIV2SpecValidator),
        ("?version=2", OpenAPIV2SpecValidator),
        ("?version=3", OpenAPIV30SpecValidator),
        ("?version=3.1", OpenAPIV31SpecValidator),
    ):
        answer = call(server.port, "GET", f"/swagger.json{version}")
        validator(answer.json).validate()
        schemas = answer.json.get("definitions") or answer.json["components"]["schemas"]
        assert answer.json["paths"].keys() == {"/", "/score", "/swagger.json"}
        example = schemas["ServiceInput"]["example"]
        said = score(server.port, example)
        assert said.json == LABELS[:1]
        jsonschema.validate(said.json, schemas["ServiceOutput"])
        assert schemas["ServiceInput"]["properties"]["input_data"]["items"]["properties"].keys() == {*COLUMNS}
    answer = call(server.port, "GET", "/swagger.json?version=4")
    assert (answer.status, "[2, 3, 3.1]" in answer.json["message"]) == (404, True)


BAD: list[tuple[Any, str]] = [
    (b"{", "not JSON"),
    (b"\xff", "not JSON"),
    (b"", "not JSON"),
    (b"7", "exactly one of"),
    ({}, "exactly one of"),
    ({"data": ROWS, "input_data": ROWS}, "exactly one of"),
    ({"input_data": 7}, "holds no rows"),
    ({"input_data": {"columns": COLUMNS, "data": [[1]]}}, "Row 0 has 1 values"),
    ({"input_data": {"columns": [1], "data": [[1]]}}, "list of texts"),
    ({"input_data": {"age": [1], "visits": [1, 2]}}, "2 values"),
    ({"input_data": []}, "0 rows"),
    ({"input_data": [{**EXAMPLE, "age": "old"}]}, "a number is wanted"),
    ({"Inputs": ROWS}, "one key 'data'"),
    ({"Inputs": {"WebServiceInput0": ROWS}}, "one key 'data'"),
    ({"Inputs": {"data": ROWS}, "GlobalParameters": "predict"}, "not an object"),
    ({"Inputs": {"data": ROWS}, "GlobalParameters": {"method": ["predict"]}}, "predict_proba"),
    ({"data": ROWS, "method": "explain"}, "predict_proba"),
]


def test_bad_input_is_named_in_azure_s_shape_and_never_a_500(server: Supervisor) -> None:
    for body, words in BAD:
        answer = score(server.port, body)
        assert answer.status == 400, (body, answer.body)
        assert answer.json.keys() == {"message"}
        assert words in answer.json["message"], (body, answer.json)
    assert (answer := call(server.port, "GET", "/score")).status == 405
    assert answer.json.keys() == {"message"}
    assert score(server.port, ROWS).status == 200


def test_a_regression_has_no_probabilities(serve: Serve, bundle: Bundle) -> None:
    port = serve(table(1, live(bundle(task="regression")))).port
    assert score(port, {"input_data": [EXAMPLE]}).json == pytest.approx(
        [0.02 * 61.5 + 0.8 - 0.5 + 1.9874 + 0.5], rel=1e-5
    )
    assert score(port, {"data": [EXAMPLE], "method": "predict_proba"}).status == 400


def test_with_several_endpoints_the_path_names_one(serve: Serve, bundle: Bundle) -> None:
    folder = bundle()
    names = ("risk", "other")
    endpoints = {name: Endpoint(name=name, variants=(live(folder),)) for name in names}
    port = serve(RouteTable(epoch=1, endpoints=endpoints)).port
    for name in names:
        assert call(port, "POST", f"/endpoints/{name}/score", ROWS).json == LABELS
        assert call(port, "GET", f"/endpoints/{name}/swagger.json").json["info"]["title"] == name
    answer = call(port, "POST", "/score", ROWS)
    assert (answer.status, "/endpoints/NAME/score" in answer.json["message"]) == (404, True)
    assert json.loads(call(port, "GET", "/swagger.json").body)["message"]

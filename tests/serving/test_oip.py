"""The Open Inference Protocol, proven by the unmodified tritonclient."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from loopline.serving.log import read_segment, segments
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, expected, live, table, tensors

Bundle = Callable[..., Path]
ROWS: list[dict[str, Any]] = [
    EXAMPLE,
    {"age": None, "visits": 0, "insured": False, "admitted": "", "ward": ""},
    {"age": 3.25, "visits": 7, "insured": True, "admitted": "1969-12-31", "ward": "wést"},
]


@pytest.fixture
def server(serve: Callable[..., Supervisor], bundle: Bundle) -> Supervisor:
    return serve(table(1, live(bundle(version=3), 3), passthrough=("patient",)), row_limit=100)


@pytest.fixture
def client(server: Supervisor) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(f"localhost:{server.port}")
    yield made
    made.close()


def inputs(
    rows: list[dict[str, Any]], binary: bool = True, shape: tuple[int, ...] = (-1, 1)
) -> list[triton.InferInput]:
    return tensors(triton, rows, shape, binary_data=binary)


def test_a_client_finds_its_way(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("risk")
    assert client.is_model_ready("risk", "3")
    assert not client.is_model_ready("risk", "4")
    assert not client.is_model_ready("rusk")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    about = client.get_model_metadata("risk")
    assert (about["name"], about["versions"]) == ("risk", ["3"])
    assert {i["name"]: i["datatype"] for i in about["inputs"]} == {
        "age": "FP64", "visits": "INT64", "insured": "BOOL", "admitted": "BYTES", "ward": "BYTES",
    }  # fmt: skip
    assert [o["name"] for o in about["outputs"]] == ["probabilities", "label"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_infer_with_the_client_s_defaults(
    client: triton.InferenceServerClient, binary_in: bool, shape: tuple[int, ...]
) -> None:
    answer = client.infer("risk", inputs(ROWS[:1] + ROWS[2:], binary_in, shape), request_id="mine")
    probabilities = answer.as_numpy("probabilities")
    rows = [EXAMPLE, {**ROWS[2], "ward": "unknown"}]
    assert probabilities.shape == (2, 2)
    assert np.allclose(probabilities[:, 1], [expected(r) for r in rows], rtol=1e-4)
    assert answer.as_numpy("label").tolist() == [b"yes" if p >= 0.5 else b"no" for p in probabilities[:, 1]]
    said = answer.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "risk", "3")
    assert said["parameters"]["variant"] == "champion"
    assert len(set(said["parameters"]["prediction_ids"].split(","))) == 2


def test_missing_values_and_json_out(client: triton.InferenceServerClient, server: Supervisor, folder: Path) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    answer = client.infer("risk", inputs(ROWS), model_version="3", outputs=wanted)
    said = answer.get_response()
    assert [o["name"] for o in said["outputs"]] == ["probabilities"]
    rows = [EXAMPLE, {**ROWS[1], "admitted": None}, {**ROWS[2], "ward": "unknown"}]
    assert np.allclose(answer.as_numpy("probabilities")[:, 1], [expected(r) for r in rows], rtol=1e-4)
    ids = said["parameters"]["prediction_ids"].split(",")
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records] == ids
    assert [r.row for r in records] == ROWS
    probability = [r.output["probabilities"]["yes"] for r in records if r.output]
    assert np.allclose(probability, answer.as_numpy("probabilities")[:, 1], rtol=1e-6)


def test_json_and_binary_may_be_mixed_both_ways(client: triton.InferenceServerClient) -> None:
    given = {tensor.name(): tensor for tensor in inputs(ROWS[:1])}
    half = triton.InferInput("age", [1, 1], "FP16")
    half.set_data_from_numpy(np.array([[61.5]], np.float16))  # FP16 has no JSON form
    given["age"] = half
    given["visits"].set_data_from_numpy(np.array([[2]]), binary_data=False)
    wanted = [
        triton.InferRequestedOutput("label", binary_data=True),
        triton.InferRequestedOutput("probabilities", binary_data=False),
    ]
    answer = client.infer("risk", list(given.values()), outputs=wanted, request_id="m/1")
    said = answer.get_response()
    assert [(o["name"], "data" in o) for o in said["outputs"]] == [("label", False), ("probabilities", True)]
    assert (said["id"], answer.as_numpy("label").tolist()) == ("m/1", [b"yes"])
    assert math.isclose(answer.as_numpy("probabilities")[0, 1], expected(EXAMPLE), rel_tol=1e-4)
    whole = client.infer("risk", list(given.values()))  # without outputs the client asks for all of them in binary
    assert ["data" in o for o in whole.get_response()["outputs"]] == [False, False]


def test_both_ways_agree(plain_asgi: Callable[..., int], bundle: Bundle) -> None:
    port = plain_asgi(table(1, live(bundle())))
    call(port, "GET", "/v2/health/live")
    client = triton.InferenceServerClient(f"localhost:{port}")
    found = client.infer("risk", inputs(ROWS[:1])).as_numpy("probabilities")[0, 1]
    assert math.isclose(found, expected(EXAMPLE), rel_tol=1e-4)
    client.close()


def column(name: str, data: Any, datatype: str, shape: Any = None, **parameters: Any) -> dict[str, Any]:
    found = {"name": name, "shape": [len(data)] if shape is None else shape, "datatype": datatype, "data": data}
    if parameters:
        found["parameters"] = parameters
        del found["data"]
    return found


GOOD = {
    "age": column("age", [1.5], "FP64"),
    "visits": column("visits", [2], "INT64"),
    "insured": column("insured", [True], "BOOL"),
    "admitted": column("admitted", [None], "BYTES"),
    "ward": column("ward", ["north"], "BYTES"),
}


def test_bad_tensors_are_refused(client: triton.InferenceServerClient, server: Supervisor) -> None:
    def ask(changes: dict[str, Any], tail: bytes = b"", length: int | None = None, **more: Any) -> Any:
        request = {"inputs": [v for v in {**GOOD, **changes}.values() if v], **more}
        head = json.dumps(request).encode()
        headers = {"Inference-Header-Content-Length": str(len(head) if length is None else length)} if tail else {}
        return call(server.port, "POST", "/v2/models/risk/infer", head + tail, headers)

    assert ask({}).status == 200
    assert ask({"age": column("age", [[1.5]], "FP32", [1, 1])}).status == 200
    assert ask({"age": column("age", [1.5], "FP32", binary_data_size=2)}, b"\0\x3e").status == 400
    assert ask({"age": column("age", [1.5], "FP16", binary_data_size=2)}, b"\0\x3e").status == 200
    assert ask({"insured": column("insured", [None], "FP32")}).status == 200
    text = struct.pack("<I", 5) + b"north"
    assert ask({"ward": column("ward", [1], "BYTES", binary_data_size=9)}, text).status == 200
    bad: list[tuple[dict[str, Any], bytes, dict[str, Any], str]] = [
        ({"age": None}, b"", {}, "'age' is missing"),
        ({"agee": column("agee", [1], "FP64")}, b"", {}, "Did you mean 'age'"),
        ({"age": column("age", [1.5], "FP64", [1, 2])}, b"", {}, "expected shape [N] or [N, 1], got [1, 2]"),
        ({"age": column("age", [1.5], "FP64", [-1])}, b"", {}, "expected shape"),
        ({"age": column("age", [1.5], "FP64", [10**9])}, b"", {}, "rows"),
        ({"age": column("age", [1.5], "FP64", [])}, b"", {}, "expected shape"),
        ({"age": column("age", [1.5, 2], "FP64")}, b"", {}, "has 1 rows"),
        ({"age": column("age", ["x"], "FP64")}, b"", {}, "a number is wanted"),
        ({"age": column("age", [1.5], "FLOAT")}, b"", {}, "datatype"),
        ({"visits": column("visits", [1.5], "FP64")}, b"", {}, "whole number"),
        ({"visits": column("visits", [None], "INT64")}, b"", {}, "missing"),
        ({"age": column("age", [1], "FP64", binary_data_size=8)}, b"1234567", {}, "binary_data_size"),
        ({"age": column("age", [1], "FP64", binary_data_size=-1)}, b"12345678", {}, "binary_data_size"),
        ({"age": column("age", [1], "FP64", binary_data_size="8")}, b"12345678", {}, "binary_data_size"),
        ({"age": column("age", [1], "FP64", binary_data_size=8)}, struct.pack("<d", math.inf), {}, "too large"),
        ({"visits": column("visits", [1], "FP64", binary_data_size=8)}, struct.pack("<d", math.nan), {}, "missing"),
        ({"ward": column("ward", [1], "BYTES", binary_data_size=9)}, b"\xff\xff\xff\xffnorth", {}, "BYTES"),
        ({"ward": column("ward", [1], "BYTES", binary_data_size=9)}, b"\x05\0\0\0\xff\xff\xff\xff\xff", {}, "BYTES"),
        ({"ward": column("ward", [1], "BYTES", binary_data_size=12)}, struct.pack("<III", 0, 0, 0), {}, "values"),
        ({}, b"left", {}, "4 bytes are left"),
        ({}, b"", {"outputs": [{"name": "probability"}]}, "Did you mean 'probabilities'"),
    ]
    for changes, tail, more, words in bad:
        answer = ask(changes, tail, **more)
        assert answer.status == (413 if changes.get("age", {}) and changes["age"]["shape"] == [10**9] else 400), (
            answer.body
        )
        assert words in answer.error, (changes, answer.error)
    assert "Content-Length" in ask({}, b"x", 10**6).error
    assert ask({}, b"x", 3).status == 400
    assert call(server.port, "POST", "/v2/models/risk/infer", b"[]").status == 400
    assert call(server.port, "POST", "/v2/models/risk/versions/9/infer", {}).status == 404
    with pytest.raises(InferenceServerException, match="has 0 rows"):
        client.infer("risk", inputs([]))


@pytest.mark.parametrize("value", ["1" + "0" * 400, str(2**63), str(-(2**63) - 1)])
def test_a_value_that_the_log_could_not_keep_is_refused(server: Supervisor, value: str) -> None:
    kinds = {"age": "FP64", "visits": "INT64", "insured": "BOOL"}
    sent = {
        "inputs": [
            {"name": name, "shape": [1], "datatype": kinds.get(name, "BYTES"), "data": [given]}
            for name, given in EXAMPLE.items()
        ]
        + [{"name": "patient", "shape": [1], "datatype": "INT64", "data": ["?"]}]
    }
    body = json.dumps(sent)
    answer = call(server.port, "POST", "/v2/models/risk/infer", body.replace('"?"', value).encode())
    assert answer.status == 400, answer.body
    assert b"64 bits" in answer.body
    assert call(server.port, "POST", "/v2/models/risk/infer", body.replace('"?"', "7").encode()).status == 200

"""Azure's own inference server beside ours, and TorchServe's Python client against ours, each in an environment of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import environment

from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Answer, call, expected, live, table

pytestmark = pytest.mark.systems
Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
ROWS: list[dict[str, Any]] = [EXAMPLE, {"age": None, "visits": 0, "insured": False, "admitted": None, "ward": "west"}]
SPLIT = {"columns": [*EXAMPLE], "index": [0, 1], "data": [[*row.values()] for row in ROWS]}


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Azure's server with a scoring script; its port."""
    python = environment("azureml-inference-server-http==1.5.1")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    script = Path(__file__).with_name("azure_score.py")
    child = subprocess.Popen(
        [python.with_name("azmlinfsrv"), "--entry_script", script, "--port", str(port)],
        cwd=tmp_path_factory.mktemp("azure"),
        env={
            **os.environ,
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "AML_APP_ROOT": str(script.parent),
        },
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            if call(port, "GET", "/").status == 200:
                break
        except (OSError, http.client.HTTPException):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)
    yield port
    os.killpg(child.pid, signal.SIGTERM)
    child.wait()


def test_azure_s_server_and_ours_answer_alike(azure: int, serve: Serve, bundle: Bundle) -> None:
    ours = serve(table(1, live(bundle()))).port

    def both(method: str, path: str, body: Any = None, **headers: str) -> tuple[Answer, Answer]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        a, b = (call(port, method, path, body, named) for port in (azure, ours))
        assert a.status == b.status, (path, body, a.body, b.body)
        return a, b

    a, b = both("GET", "/")
    assert a.body == b.body == b"Healthy"
    a, b = both("POST", "/score", {"input_data": SPLIT}, content_type="application/json")
    assert a.json == b.json == ["yes" if expected(row) >= 0.5 else "no" for row in ROWS]
    assert a.headers["content-type"].partition(";")[0] == b.headers["content-type"]
    for given in (
        {"x_request_id": "r7"},
        {"x_ms_client_request_id": "c7"},
        {"x_request_id": "r7", "x_ms_client_request_id": "c7"},
        {"x_ms_request_id": "m7"},
    ):
        a, b = both("POST", "/score", {"input_data": SPLIT}, **given)
        for name in ("x-ms-request-id", "x-ms-client-request-id"):
            assert a.headers.get(name) == b.headers.get(name), (given, name)
        assert not given.get("x_request_id") or a.headers["x-request-id"] == b.headers["x-request-id"] == "r7"
    a, b = both("POST", "/score", {"input_data": SPLIT}, x_ms_client_request_id="c" * 101)
    assert a.json.keys() == b.json.keys() == {"message"}
    a, b = both("POST", "/score", b"\xff")
    assert a.json.keys() == b.json.keys() == {"message"}
    a, b = both("PUT", "/score", b"{}")
    for version in ("", "?version=2", "?version=3", "?version=3.1", "?version=9"):
        a, b = both("GET", f"/swagger.json{version}")
        if a.status == 200:
            for name in ("swagger", "openapi"):
                assert a.json.get(name, "")[:3] == b.json.get(name, "")[:3]
            assert a.json["paths"].keys() == b.json["paths"].keys() == {"/", "/score", "/swagger.json"}
            schemas = [said.json.get("definitions") or said.json["components"]["schemas"] for said in (a, b)]
            assert schemas[0].keys() == schemas[1].keys()
        else:
            assert a.json.keys() == b.json.keys() == {"message"}


PROGRAM = """
import json, sys
from torchserve_client import TorchServeClientREST
client = TorchServeClientREST(base_url="http://127.0.0.1", inference_port=int(sys.argv[1]), management_port=int(sys.argv[1]))
said = {
    "ping": client.inference.health_check(),
    "one": client.inference.prediction("risk", {"data": sys.argv[2]}),
    "version": client.inference.prediction("risk", {"data": sys.argv[2]}, version="3"),
    "models": client.management.list_models(),
    "model": client.management.describe_model("risk"),
}
print(json.dumps(said))
"""


def test_torchserve_s_python_client_as_it_is(serve: Serve, bundle: Bundle, tmp_path: Path) -> None:
    python = environment("torchserve-client==0.0.2")
    server = serve(table(1, live(bundle(version=3), 3)))
    done = subprocess.run(
        [python, "-c", PROGRAM, str(server.port), json.dumps(EXAMPLE)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["ping"]["status"] == "Healthy"
    for name in ("one", "version"):
        assert said[name]["probabilities"]["yes"] == pytest.approx(expected(EXAMPLE), rel=1e-4)
    assert [model["modelName"] for model in said["models"]["models"]] == ["risk"]
    assert [model["modelVersion"] for model in said["model"]] == ["3"]


GRPC_PROGRAM = """
import json, sys
from google.protobuf import empty_pb2
from torchserve_client import TorchServeClientGRPC
from torchserve_client.proto import inference_pb2
client = TorchServeClientGRPC(base_url="http://127.0.0.1", inference_port=int(sys.argv[1]))
stub = client.inference.stub  # its own methods name a field that its messages do not have
row = {"data": sys.argv[2].encode()}
asked = inference_pb2.PredictionsRequest(model_name="risk", input=row)
try:
    stub.Predictions(inference_pb2.PredictionsRequest(model_name="rusk", input=row), timeout=20)
except Exception as e:
    refused = e.code().name
said = {
    "ping": json.loads(stub.Ping(empty_pb2.Empty(), timeout=20).health),
    "one": [json.loads(stub.Predictions(asked, timeout=20).prediction)],
    "stream": [json.loads(part.prediction) for part in stub.StreamPredictions(asked, timeout=20)],
    "version": [json.loads(stub.Predictions(
        inference_pb2.PredictionsRequest(model_name="risk", model_version="3", input=row), timeout=20).prediction)],
    "refused": refused,
}
print(json.dumps(said))
"""


def test_stubs_of_torchserve_s_proto_are_answered(serve: Serve, bundle: Bundle, tmp_path: Path) -> None:
    python = environment("torchserve-client==0.0.2")
    server = serve(table(1, live(bundle(version=3), 3)), grpc_port=0)
    done = subprocess.run(
        [python, "-c", GRPC_PROGRAM, str(server.grpc_port), json.dumps(EXAMPLE)], cwd=tmp_path, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["ping"], said["refused"]) == ({"status": "Healthy"}, "NOT_FOUND")
    for name in ("one", "stream", "version"):
        assert [p["probabilities"]["yes"] for p in said[name]] == [pytest.approx(expected(EXAMPLE), rel=1e-4)]

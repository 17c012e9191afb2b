"""The extensions of the Open Inference Protocol: repository and statistics, asked by the unmodified tritonclient."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from loopline.serving.records import KNOWN, Endpoint, RouteTable
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, live, table
from .test_oip import ROWS, inputs

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
BEARER = {"Authorization": "Bearer sesame", "Via": "1.1 elsewhere"}


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    good = live(bundle(version=3), 3)
    risk = table(1, good).endpoints["risk"]
    other = Endpoint(name="other", variants=(good,))
    return serve(RouteTable(epoch=1, endpoints={"risk": risk, "other": other}))


@pytest.fixture
def client(server: Supervisor) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(f"localhost:{server.port}")
    yield made
    made.close()


def test_the_index_names_what_is_served(client: triton.InferenceServerClient, server: Supervisor) -> None:
    assert {"model_repository", "statistics", "binary_tensor_data"} <= set(client.get_server_metadata()["extensions"])
    found = client.get_model_repository_index()
    assert sorted((m["name"], m["version"], m["state"]) for m in found) == [
        ("other", "3", "READY"), ("risk", "3", "READY"),
    ]  # fmt: skip
    assert call(server.port, "POST", "/v2/repository/index", {"ready": True}).json == found
    for body in (b"[", b'{"ready": 1}', b"\xff"):
        assert call(server.port, "POST", "/v2/repository/index", body).status == 400
    assert call(server.port, "POST", "/v2/repository/index", b" " * (65 << 10)).status == 413
    assert call(server.port, "GET", "/v2/repository/index").status == 405
    assert call(server.port, "POST", "/v2/repository/indices").status == 404


@pytest.mark.parametrize("control", ["", "there.sock"])
def test_deployment_rules_what_is_loaded(serve: Serve, bundle: Bundle, control: str) -> None:
    server = serve(table(1, live(bundle())), control=control)
    client = triton.InferenceServerClient(f"localhost:{server.port}")
    load, unload = ("loopline deploy risk MODEL@VERSION", "risk --remove") if control else ("loopline serve MODEL",) * 2
    with pytest.raises(InferenceServerException, match=load):
        client.load_model("risk")
    with pytest.raises(InferenceServerException, match=unload):
        client.unload_model("risk")
    assert client.is_model_ready("risk")
    client.close()


def test_an_endpoint_that_failed_is_told(serve: Serve, bundle: Bundle, folder: Path) -> None:
    good, bad = bundle(), bundle(version=2)
    risk, lost = table(1, live(good)).endpoints["risk"], Endpoint(name="lost", variants=(live(bad, 2),))
    first = serve(RouteTable(epoch=1, endpoints={"risk": risk, "lost": lost}))
    first.stop()
    (bad / "model.onnx").write_bytes(b"cut")
    again = Supervisor(first.folder, log=folder / "log", port=0)
    again.start()
    try:
        found = {m["name"]: m for m in call(again.port, "POST", "/v2/repository/index").json}
        assert (found["risk"]["state"], found["lost"]["state"]) == ("READY", "UNAVAILABLE")
        assert [m["name"] for m in call(again.port, "POST", "/v2/repository/index", {"ready": True}).json] == ["risk"]
    finally:
        again.stop()


def test_a_token_sees_its_own_endpoints_alone(serve: Serve, bundle: Bundle) -> None:
    good = live(bundle())
    digest = hashlib.sha256(b"sesame").hexdigest()
    endpoints = {name: Endpoint(name=name, variants=(good,)) for name in ("mine", "theirs")}
    server = serve(RouteTable(epoch=1, endpoints=endpoints), {"mine": (digest,), KNOWN: (digest,)})
    index = call(server.port, "POST", "/v2/repository/index", headers=BEARER)
    assert [m["name"] for m in index.json] == ["mine"]
    stats = call(server.port, "GET", "/v2/models/stats", headers=BEARER).json["model_stats"]
    assert [m["name"] for m in stats] == ["mine"]
    assert call(server.port, "GET", "/v2/models/theirs/stats", headers=BEARER).status == 403
    assert call(server.port, "POST", "/v2/repository/models/theirs/load", headers=BEARER).status == 403
    for method, path in (
        ("POST", "/v2/repository/index"), ("GET", "/v2/models/stats"), ("GET", "/v2/models/mine/stats"),
        ("POST", "/v2/repository/models/mine/unload"),
    ):  # fmt: skip
        assert call(server.port, method, path, headers={"Via": "1.1 elsewhere"}).status == 401


@pytest.mark.parametrize("workers", [1, 2])
def test_statistics_count_what_was_answered(serve: Serve, bundle: Bundle, workers: int) -> None:
    began = time.time_ns() // 1_000_000
    server = serve(table(1, live(bundle(version=3), 3)), workers=workers)
    client = triton.InferenceServerClient(f"localhost:{server.port}")
    empty = client.get_inference_statistics("risk")["model_stats"][0]
    assert (empty["inference_count"], empty["inference_stats"]["success"]["count"]) == (0, 0)
    for _ in range(4):
        client.infer("risk", inputs(ROWS))
        call(server.port, "POST", "/predict/risk", [EXAMPLE])  # on a connection of its own: either worker
    bad = inputs(ROWS)
    bad[0].set_data_from_numpy(np.full((3, 1), np.inf))
    with pytest.raises(InferenceServerException):
        client.infer("risk", bad)

    def counted() -> Any:
        (found,) = client.get_inference_statistics("risk", "3")["model_stats"]
        return found

    deadline = time.monotonic() + 20
    while counted()["inference_count"] < 16:
        assert time.monotonic() < deadline, counted()
        time.sleep(0.1)
    found = counted()
    assert (found["name"], found["version"], found["inference_count"]) == ("risk", "3", 16)
    said = found["inference_stats"]
    assert said["success"]["count"] == 8
    assert 1 <= said["compute_infer"]["count"] == found["execution_count"] <= 8
    assert 0 < said["compute_infer"]["ns"] < said["success"]["ns"]
    assert began <= found["last_inference"] <= time.time_ns() // 1_000_000
    assert client.get_inference_statistics()["model_stats"] == [found]
    with pytest.raises(InferenceServerException, match="no version"):
        client.get_inference_statistics("risk", "9")
    client.close()

"""Explanations on request: they sum to what was answered, keep nobody waiting, and are refused by name where there are none."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from loopline.serving.log import read_segment, segments
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, call, live, table
from .test_packaged import children, packaged, trained  # noqa: F401 - a fixture

Serve = Callable[..., Supervisor]
Bundle = Callable[..., Path]
Trained = tuple[Any, pl.DataFrame]


@pytest.mark.parametrize("runtime", ["onnx", "native"])
def test_contributions_sum_to_what_was_answered(
    serve: Serve,
    trained: Trained,  # noqa: F811
    tmp_path: Path,
    folder: Path,
    runtime: str,
) -> None:
    packed, rows = packaged(trained, tmp_path / "b", runtime)
    server = serve(table(1, live(packed)))
    answer = call(server.port, "POST", "/predict/risk?explain=true", rows[:50])
    assert answer.status == 200, answer.body
    plain = call(server.port, "POST", "/predict/risk", rows[:50]).json
    assert [p["label"] for p in answer.json["predictions"]] == [p["label"] for p in plain["predictions"]]
    assert "explanations" not in plain
    for prediction, why in zip(answer.json["predictions"], answer.json["explanations"], strict=True):
        assert why["contributions"].keys() == {"x", "ward"}
        assert why["class"] == "yes"
        assert math.isclose(why["base"] + sum(why["contributions"].values()), why["score"], rel_tol=1e-9, abs_tol=1e-9)
        likely = 1 / (1 + math.exp(-why["score"]))
        assert math.isclose(likely, prediction["probabilities"]["yes"], rel_tol=1e-4)
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records[:50]] == [p["id"] for p in answer.json["predictions"]]


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_asks_for_explanations_by_a_parameter(
    serve: Serve,
    trained: Trained,  # noqa: F811
    tmp_path: Path,
    binary: bool,
) -> None:
    packed, rows = packaged(trained, tmp_path / "b", "onnx")
    server = serve(table(1, live(packed)), grpc_port=0)
    wanted = call(server.port, "POST", "/predict/risk?explain=true", rows[:3]).json["explanations"]
    by_http = triton_http.InferenceServerClient(f"127.0.0.1:{server.port}")
    by_grpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    for client, module, how in ((by_http, triton_http, {"binary_data": binary}), (by_grpc, triton_grpc, {})):
        named = [module.InferRequestedOutput("label", **how)]
        for outputs in [None, named] if binary else [named]:
            answer = client.infer("risk", given(module, rows[:3]), outputs=outputs, parameters={"explain": True})
            assert len(answer.as_numpy("label")) == 3
            texts = [
                text if isinstance(text, str) else text.decode() for text in answer.as_numpy("explanation").tolist()
            ]
            assert [json.loads(text) for text in texts] == wanted
            plain = client.infer("risk", given(module, rows[:3]), outputs=outputs)
            assert plain.as_numpy("explanation") is None
        many = client.infer("risk", given(module, (rows * 2)[:101]), parameters={"explain": "true"})
        assert many.as_numpy("explanation") is None
        said = many.get_response()
        error = (
            said["parameters"] if isinstance(said, dict) else {k: v.string_param for k, v in said.parameters.items()}
        )
        assert "at most 100 are explained" in error["explanation_error"]
        assert len(many.as_numpy("label")) == 101
        with pytest.raises(InferenceServerException, match="parameter explain is"):
            client.infer("risk", given(module, rows[:1]), parameters={"explain": "perhaps"})
        client.close()
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]},
                       {"name": "ward", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}  # fmt: skip
    answer = call(server.port, "POST", "/v2/models/risk/infer?explain=true", body)
    assert {one["name"] for one in answer.json["outputs"]} == {"probabilities", "label", "explanation"}


def given(module: Any, rows: list[dict[str, Any]]) -> list[Any]:
    """Rows of the trained model as inputs of one of tritonclient's modules."""
    found = []
    for name, datatype, kind in (("x", "FP64", np.float64), ("ward", "BYTES", np.object_)):
        array = np.array(
            [math.nan if row[name] is None and kind is np.float64 else row[name] or "" for row in rows], kind
        )
        if kind is np.object_:
            array = np.array([text.encode() for text in array], kind)
        tensor = module.InferInput(name, array.shape, datatype)
        tensor.set_data_from_numpy(array)
        found.append(tensor)
    return found


def test_what_cannot_be_explained_is_refused_by_name(serve: Serve, bundle: Bundle, folder: Path) -> None:
    server = serve(table(1, live(bundle())))  # a graph alone
    answer = call(server.port, "POST", "/predict/risk?explain=true", [EXAMPLE])
    assert (answer.status, answer.error["code"]) == (400, "no-explainer")
    assert "model:risk@1" in answer.error["message"]
    assert call(server.port, "POST", "/predict/risk?explain=false", [EXAMPLE]).status == 200
    assert call(server.port, "POST", "/predict/risk?explain=perhaps", [EXAMPLE]).error["code"] == "bad-query"
    tensors = call(server.port, "POST", "/v2/models/risk/infer?explain=true", {"inputs": []})
    assert tensors.status == 400
    asked = {"inputs": [{"name": n, "shape": [1], "datatype": "BYTES" if isinstance(v, str) else "FP64", "data": [v]}
                        for n, v in EXAMPLE.items()], "parameters": {"explain": True}}  # fmt: skip
    assert b"cannot be explained" in call(server.port, "POST", "/v2/models/risk/infer", asked).body
    doc = call(server.port, "GET", "/docs/risk/openapi.json").json
    assert "explain" not in {p["name"] for p in doc["paths"]["/predict/risk"]["post"]["parameters"]}


def test_the_prediction_stands_where_it_is_not_explained(
    serve: Serve,
    trained: Trained,  # noqa: F811
    tmp_path: Path,
) -> None:
    packed, rows = packaged(trained, tmp_path / "b", "onnx")
    server = serve(table(1, live(packed)))
    doc = call(server.port, "GET", "/docs/risk/openapi.json").json
    assert "explain" in {p["name"] for p in doc["paths"]["/predict/risk"]["post"]["parameters"]}
    answer = call(server.port, "POST", "/predict/risk?explain=true", (rows * 2)[:101])
    assert answer.status == 200
    assert len(answer.json["predictions"]) == 101
    assert (answer.json["explanations"], answer.json["explanation_error"]["code"]) == (None, "too-many-rows")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_explaining_stalls_nobody_and_outlives_its_child(
    serve: Serve,
    trained: Trained,  # noqa: F811
    tmp_path: Path,
) -> None:
    packed, rows = packaged(trained, tmp_path / "b", "onnx")
    server = serve(table(1, live(packed)))
    (worker,) = server.pids
    assert call(server.port, "POST", "/predict/risk?explain=true", rows[:1]).json["explanations"]
    (child,) = children(worker)
    os.kill(child, signal.SIGSTOP)  # it hangs
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(call, server.port, "POST", "/predict/risk?explain=true", rows[:1])
        for _ in range(20):
            assert call(server.port, "POST", "/predict/risk", rows[:1]).status == 200
        assert not waits.done()
        os.kill(child, signal.SIGKILL)
        assert waits.result().json["explanation_error"]["code"] == "explanation-failed"
    assert call(server.port, "POST", "/predict/risk?explain=true", rows[:1]).json["explanations"]
    (other,) = children(worker)
    assert other != child
    server.stop()
    deadline = time.monotonic() + 20
    while runs(other):  # it ends by itself when its worker is gone
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(pid: int) -> bool:
    """Whether a process is there and not only to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

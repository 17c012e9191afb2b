"""Explanations on request: they sum to what was answered, keep nobody waiting, and are refused by name where there are none."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

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


def test_what_cannot_be_explained_is_refused_by_name(serve: Serve, bundle: Bundle, folder: Path) -> None:
    server = serve(table(1, live(bundle())))  # a graph alone
    answer = call(server.port, "POST", "/predict/risk?explain=true", [EXAMPLE])
    assert (answer.status, answer.error["code"]) == (400, "no-explainer")
    assert "model:risk@1" in answer.error["message"]
    assert call(server.port, "POST", "/predict/risk?explain=false", [EXAMPLE]).status == 200
    assert call(server.port, "POST", "/predict/risk?explain=perhaps", [EXAMPLE]).error["code"] == "bad-query"
    tensors = call(server.port, "POST", "/v2/models/risk/infer?explain=true", {"inputs": []})
    assert tensors.status == 400
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

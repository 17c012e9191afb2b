"""Bundles as packaging writes them: the ONNX form in the worker, the native form in a child process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopline.features.table import raw_rows
from loopline.packaging.bundle import write_bundle
from loopline.packaging.runtime import predict_rows
from loopline.serving.supervisor import Supervisor
from loopline.training.problem import Problem
from loopline.training.records import BoostedParams
from loopline.training.train import train

from .conftest import call, live, table

Serve = Callable[..., Supervisor]


@pytest.fixture(scope="module")
def trained() -> tuple[Any, pl.DataFrame]:
    rng = np.random.default_rng(0)
    n = 400
    x = rng.normal(size=n)
    ward = np.array(["A", "B", "C"])[rng.integers(0, 3, n)]
    label = np.where(x + (ward == "B") + rng.normal(size=n) / 2 > 0, "yes", "no")
    frame = pl.DataFrame({"x": x, "ward": ward, "label": label})
    frame = frame.with_columns(pl.when(pl.Series(x > 1.5)).then(None).otherwise(pl.col("ward")).alias("ward"))
    problem = Problem.of(frame[:300], frame[300:], label="label")
    model = train(problem, params=BoostedParams(learning_rate=0.2, leaves=8, min_rows=5, rounds=10)).model
    return model, problem.validation


def packaged(trained: tuple[Any, pl.DataFrame], folder: Path, runtime: str) -> tuple[Path, list[dict[str, Any]]]:
    """A bundle of that runtime, and raw rows for it."""
    model, validation = trained
    rows = raw_rows(validation, model.signature.inputs)
    shown = validation if runtime == "onnx" else validation[:0]  # no rows to show parity on: native
    manifest = write_bundle(model, folder, name="risk", version=1, example=rows[0], validation_frame=shown, created=0)
    assert manifest.runtime == runtime
    return folder, rows


@pytest.mark.parametrize("runtime", ["onnx", "native"])
def test_the_server_answers_as_the_reference_does(
    serve: Serve, trained: tuple[Any, pl.DataFrame], tmp_path: Path, runtime: str
) -> None:
    folder, rows = packaged(trained, tmp_path / "b", runtime)
    server = serve(table(1, live(folder)))
    answer = call(server.port, "POST", "/predict/risk", rows)
    assert answer.status == 200, answer.body
    expected = predict_rows(folder, rows)
    assert [p["label"] for p in answer.json["predictions"]] == [e["label"] for e in expected]
    np.testing.assert_allclose(
        [p["probability"] for p in answer.json["predictions"]], [e["probability"] for e in expected], rtol=1e-6
    )
    told = f'loopline_model_info{{endpoint="risk",variant="champion",version="1",runtime="{runtime}"}} 1'
    assert told in call(server.port, "GET", "/metrics").body.decode()


def children(pid: int) -> list[int]:
    """The processes that a process started, by any of its threads."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (path / "children").read_text().split())
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_native_model_that_dies_is_started_again_and_one_that_goes_is_ended(
    serve: Serve, trained: tuple[Any, pl.DataFrame], tmp_path: Path, bundle: Callable[..., Path]
) -> None:
    folder, rows = packaged(trained, tmp_path / "b", "native")
    server = serve(table(1, live(folder)))
    (pid,) = server.pids
    (child,) = children(pid)
    os.kill(child, signal.SIGKILL)
    answers = [call(server.port, "POST", "/predict/risk", rows[:1]) for _ in range(3)]
    assert {a.status for a in answers} <= {200, 503}
    assert answers[-1].status == 200
    (successor,) = children(pid)
    assert successor != child
    # Two tables later nobody can come back to it: its process ends.
    server.push(table(2, live(bundle())))
    assert children(pid) == [successor]
    server.push(table(3, live(bundle(bias=1.0))))
    deadline = time.monotonic() + 10
    while children(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_native_model_shadows_and_stalls_nobody(
    serve: Serve, trained: tuple[Any, pl.DataFrame], tmp_path: Path
) -> None:
    folder, rows = packaged(trained, tmp_path / "b", "native")
    shadowed, _ = packaged(trained, tmp_path / "c", "onnx")
    server = serve(table(1, live(shadowed), live(folder, name="native", mode="shadow")))
    (child,) = children(server.pids[0])
    os.kill(child, signal.SIGSTOP)  # it answers nothing
    try:
        for row in rows[:20]:
            assert call(server.port, "POST", "/predict/risk", [row]).status == 200
    finally:
        os.kill(child, signal.SIGCONT)
    wanted = 'loopline_shadow_total{endpoint="risk",variant="native",result="scored"} 20'
    deadline = time.monotonic() + 20
    while wanted not in call(server.port, "GET", "/metrics").body.decode():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.stop()
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_the_version_before_stays_warm_while_its_successor_s_table_changes(
    serve: Serve, trained: tuple[Any, pl.DataFrame], tmp_path: Path, bundle: Callable[..., Path]
) -> None:
    folder, rows = packaged(trained, tmp_path / "b", "native")
    server = serve(table(1, live(folder)))
    (child,) = children(server.pids[0])
    successor = live(bundle(), 2)
    for epoch in range(2, 6):  # a threshold, a weight, a token: none of them is a new model
        server.push(table(epoch, msgspec.structs.replace(successor, threshold=epoch / 10)))
        assert children(server.pids[0]) == [child]
    server.push(table(6, live(folder)))
    assert call(server.port, "POST", "/predict/risk", rows[:1]).status == 200
    assert children(server.pids[0]) == [child], "it was there all the time"

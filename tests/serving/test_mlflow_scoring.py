"""MLflow's own scoring server beside ours, with the same model; and MLflow's clients against ours.

LOOPLINE_GOLDEN=write keeps what MLflow answered in mlflow_scoring.json, which test_invocations holds ours against
without MLflow.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from peers import MLFLOW, environment

from loopline.serving.records import BUCKETS, Endpoint, RouteTable, Variant
from loopline.serving.supervisor import Supervisor

from .conftest import Answer, call, write

pytestmark = pytest.mark.systems
PROGRAM = Path(__file__).with_name("mlflow_scoring.py")
GOLDEN = Path(__file__).with_name("mlflow_scoring.json")
ROWS: list[dict[str, Any]] = [
    {"age": 61.5, "visits": 2, "insured": True, "admitted": "2024-05-31", "ward": "north"},
    {"age": 3.25, "visits": 7, "insured": False, "admitted": "1969-12-31", "ward": "west"},
    {"age": 80.0, "visits": 0, "insured": True, "admitted": "1950-01-31", "ward": "east"},
]
SPLIT = {"columns": [*ROWS[0]], "data": [[*row.values()] for row in ROWS]}
FLIPPED = {"columns": SPLIT["columns"][::-1], "data": [row[::-1] for row in SPLIT["data"]]}
MORE = {"columns": [*SPLIT["columns"], "colour"], "data": [[*row, "red"] for row in SPLIT["data"]]}
LESS = {"columns": SPLIT["columns"][:-1], "data": [row[:-1] for row in SPLIT["data"]]}
CSV = "\n".join(
    [",".join(SPLIT["columns"]), *(",".join(str(cell) for cell in row) for row in SPLIT["data"]), ""],
)
_FILE = io.BytesIO()
pq.write_table(pa.Table.from_pylist(ROWS), _FILE)
PARQUET = "application/vnd.apache.parquet"
REQUESTS: dict[str, tuple[Any, str]] = {
    "records": ({"dataframe_records": ROWS}, "application/json"),
    "split": ({"dataframe_split": SPLIT}, "application/json"),
    "another order": ({"dataframe_split": FLIPPED}, "application/json"),
    "a column more": ({"dataframe_split": MORE}, "application/json"),
    "instances": ({"instances": ROWS}, "application/json"),
    "inputs": ({"inputs": {name: [row[name] for row in ROWS] for name in ROWS[0]}}, "application/json"),
    "params": ({"dataframe_records": ROWS, "params": {"x": 1}}, "application/json"),
    "csv": (CSV, "text/csv"),
    "parquet": (_FILE.getvalue().decode(errors="surrogateescape"), PARQUET),
    "no parquet": ("PAR1", PARQUET),
    "charset": ({"dataframe_records": ROWS}, "application/json; charset=utf-8"),
    "a column less": ({"dataframe_split": LESS}, "application/json"),
    "another charset": ({"dataframe_records": ROWS}, "application/json; charset=latin-1"),
    "another parameter": ({"dataframe_records": ROWS}, "application/json; version=2"),
    "another type": ("x", "text/plain"),
    "no form": ({}, "application/json"),
    "two forms": ({"instances": ROWS, "inputs": ROWS}, "application/json"),
    "a list": ("[1, 2]", "application/json"),
    "no JSON": ("{", "application/json"),
    "not UTF-8": ("\udcff", "application/json"),
    "no number": ({"dataframe_records": [{**ROWS[0], "age": "old"}]}, "application/json"),
}


@pytest.fixture(scope="module", params=MLFLOW)
def python(request: pytest.FixtureRequest) -> Path:
    return environment(request.param)


@pytest.fixture(scope="module")
def saved(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, as MLflow keeps it."""
    place = tmp_path_factory.mktemp("mlflow") / "model"
    subprocess.run([python, PROGRAM, "model", place], check=True, cwd=place.parent)
    return place


@pytest.fixture(scope="module")
def theirs(python: Path, saved: Path) -> Iterator[int]:
    """`mlflow models serve`; its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    child = subprocess.Popen(
        [python, "-m", "mlflow", "models", "serve", "-m", saved, "-p", str(port), "--env-manager", "local"],
        cwd=saved.parent,
        env={**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            if call(port, "GET", "/ping").status == 200:
                break
        except (OSError, http.client.HTTPException):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)
    yield port
    os.killpg(child.pid, signal.SIGTERM)
    child.wait()


@pytest.fixture
def ours(folder: Path, tmp_path: Path) -> Iterator[int]:
    """The same model, served by Loopline; its port."""
    variant = Variant(name="champion", bundle=str(write(tmp_path / "b")), model="model:risk@1", weight=BUCKETS)
    server = Supervisor(folder / "s", log=folder / "log", port=0)
    server.start(RouteTable(epoch=1, endpoints={"risk": Endpoint(name="risk", variants=(variant,))}))
    yield server.port
    server.stop()


def ask(port: int, body: Any, kind: str) -> Answer:
    data = body.encode(errors="surrogateescape") if isinstance(body, str) else body
    return call(port, "POST", "/invocations", data, {"Content-Type": kind})


OLDER_FAILS = {"not UTF-8"}
"""What the server of MLflow 3.6.0 fails at by itself (500), where the newest one refuses it."""


def test_both_servers_answer_alike(theirs: int, ours: int, python: Path) -> None:
    found = {}
    for name, (body, kind) in REQUESTS.items():
        a, b = ask(theirs, body, kind), ask(ours, body, kind)
        if kind == PARQUET and "3.6.0" in str(python):
            assert a.status == 415  # it came later
            continue
        if name in OLDER_FAILS and "3.6.0" in str(python):
            assert (a.status, b.status) == (500, 400)
            continue
        assert a.status == b.status, (name, a.body, b.body)
        predictions = a.json["predictions"] if a.status == 200 else None
        if predictions is not None:
            assert b.json["predictions"] == predictions, name
        elif a.status == 400:
            assert a.json.keys() >= b.json.keys() == {"error_code", "message"}, name
            assert b.json["error_code"] == a.json["error_code"], name
        found[name] = {"body": body, "type": kind, "status": a.status, "predictions": predictions}
        if a.status == 400:
            found[name]["error_code"] = a.json["error_code"]
    if os.environ.get("LOOPLINE_GOLDEN") == "write" and MLFLOW[0].partition("==")[2] in str(python):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


def test_the_example_that_mlflow_writes_beside_a_model(saved: Path, theirs: int, ours: int) -> None:
    body = (saved / "serving_input_example.json").read_text()
    a, b = (ask(port, body, "application/json") for port in (theirs, ours))
    assert (a.status, b.status) == (200, 200), b.body
    assert b.json["predictions"] == a.json["predictions"]


def test_mlflow_s_clients_as_they_are(python: Path, theirs: int, ours: int) -> None:
    def drive(*arguments: object) -> dict[str, Any]:
        said = subprocess.run(
            [python, PROGRAM, "drive", *map(str, arguments)], check=True, stdout=subprocess.PIPE
        ).stdout.splitlines()[-1]
        found: dict[str, Any] = json.loads(said)
        found.pop("version")
        return found

    other, own = drive(theirs), drive(ours, "risk")
    assert own.pop("deployment") == other["frame"]
    assert own == other

"""Real bundles made by hand, real workers on real sockets."""

from __future__ import annotations

import http.client
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from loopline.features.records import Field, Signature
from loopline.hashing import digest_file
from loopline.packaging.records import Manifest
from loopline.packaging.runtime import encode, open_session
from loopline.serving.records import ControlMessage, Endpoint, RouteTable, Variant, WorkerSettings
from loopline.serving.supervisor import Supervisor, listen

FIELDS = (
    Field(name="age", kind="number", nullable=True),
    Field(name="visits", kind="integer", nullable=False),
    Field(name="insured", kind="boolean", nullable=True),
    Field(name="admitted", kind="date", nullable=True),
    Field(name="ward", kind="category", nullable=True, categories=("east", "north", "west")),
)
KINDS = {"age": ("FP64", np.float64), "visits": ("INT64", np.int64), "insured": ("BOOL", np.bool_)}
NUMBERS = ("age", "visits", "insured", "admitted")
EXAMPLE = {"age": 61.5, "visits": 2, "insured": True, "admitted": "2024-05-31", "ward": "north"}
WEIGHTS = [0.02, 0.4, -0.5, 0.0001, 1.0]


def expected(row: dict[str, Any], bias: float = 0.0) -> float:
    """What the hand-made model answers, reckoned in plain Python."""
    from datetime import date

    days = 0 if row["admitted"] is None else (date.fromisoformat(row["admitted"]) - date(1970, 1, 1)).days
    ward = {"east": 0.25, "north": 0.5, "west": -0.75}.get(row["ward"] or "", -0.125)
    values = [row["age"] or 0.0, row["visits"], float(row["insured"] or 0), days, ward]
    return float(1 / (1 + np.exp(-(sum(w * v for w, v in zip(WEIGHTS, values, strict=True)) + bias))))


def graph(task: str, bias: float) -> onnx.ModelProto:
    """Missing numbers are 0; the ward is a number by a table; one linear layer."""
    width = {"binary": 1, "multiclass": 3, "regression": 1}[task]
    weights = np.array([[w * (1 - 0.5 * k) for k in range(width)] for w in WEIGHTS], np.float32)
    nodes = [
        helper.make_node("IsNaN", ["numbers"], ["gaps"]),
        helper.make_node("Where", ["gaps", "zero", "numbers"], ["filled"]),
        helper.make_node(
            "LabelEncoder", ["strings"], ["coded"], domain="ai.onnx.ml",
            keys_strings=["east", "north", "west"], values_floats=[0.25, 0.5, -0.75], default_float=-0.125,
        ),
        helper.make_node("Concat", ["filled", "coded"], ["all"], axis=1),
        helper.make_node("Gemm", ["all", "weights", "bias"], ["scores"]),
    ]  # fmt: skip
    output = "probabilities"
    if task == "binary":
        nodes += [
            helper.make_node("Sigmoid", ["scores"], ["positive"]),
            helper.make_node("Sub", ["one", "positive"], ["negative"]),
            helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
        ]
    elif task == "multiclass":
        nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1))
    else:
        nodes.append(helper.make_node("Identity", ["scores"], ["value"]))
        output = "value"
    constants = {
        "zero": np.zeros(1, np.float32),
        "one": np.ones(1, np.float32),
        "weights": weights,
        "bias": np.full(width, bias, np.float32),
    }
    made = helper.make_graph(
        nodes,
        "hand-made",
        [
            helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, 4]),
            helper.make_tensor_value_info("strings", TensorProto.STRING, [None, 1]),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, 2 if task == "binary" else width])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )
    onnx.checker.check_model(model)
    return model


def write(
    folder: Path,
    *,
    version: int = 1,
    task: str = "binary",
    bias: float = 0.0,
    threshold: float | None = None,
    fields: tuple[Field, ...] = FIELDS,
    numbers: tuple[str, ...] = NUMBERS,
    example: dict[str, Any] = EXAMPLE,
    golden: dict[str, Any] | None = None,
) -> Path:
    """Writes a bundle; its golden row is answered by onnxruntime itself, unless given."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph(task, bias).SerializeToString())
    classes = {"binary": ("no", "yes"), "multiclass": ("a%", 'b"', "c"), "regression": ()}[task]
    manifest = Manifest(
        name="risk",
        version=version,
        task=task,
        classes=classes,
        threshold=threshold,
        signature=Signature(inputs=fields, task=task, classes=classes),
        runtime="onnx",
        numbers=numbers,
        strings=("ward",),
        outputs=("value" if task == "regression" else "probabilities",),
        example=example,
        golden={},
        digests={"model.onnx": digest_file(folder / "model.onnx")},
        created=0,
    )
    session = open_session((folder / "model.onnx").read_bytes())
    row = np.array([[61.5, 2, 1, 19874]], np.float32)
    answer = encode(session.run(None, {"numbers": row, "strings": np.array([["north"]], object)})[0], manifest)[0]
    manifest = msgspec.structs.replace(manifest, golden=golden or answer)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a bundle `bundle(version=3, ...)` and gives its folder."""
    count = iter(range(1000))
    return lambda **given: write(tmp_path / f"bundle-{next(count)}", **given)


def tensors(triton: Any, rows: list[dict[str, Any]], shape: tuple[int, ...], **how: Any) -> list[Any]:
    """Rows as the inputs of one of tritonclient's modules (http, grpc); `how` is for `set_data_from_numpy`."""
    found = []
    for name in EXAMPLE:
        datatype, kind = KINDS.get(name, ("BYTES", np.object_))
        values = [math.nan if r[name] is None else r[name] for r in rows]
        array = np.array([v.encode() for v in values] if kind is np.object_ else values, dtype=kind).reshape(shape)
        tensor = triton.InferInput(name, array.shape, datatype)
        tensor.set_data_from_numpy(array, **how)
        found.append(tensor)
    return found


def table(epoch: int, *variants: Variant, name: str = "risk", **options: Any) -> RouteTable:
    """A routing table with one endpoint."""
    return RouteTable(epoch=epoch, endpoints={name: Endpoint(name=name, variants=variants, **options)})


def live(folder: Path, version: int = 1, weight: int = 10_000, name: str = "champion", mode: str = "live") -> Variant:
    """A variant."""
    return Variant(
        name=name, bundle=str(folder), model=f"model:risk@{version}", weight=weight if mode == "live" else 0, mode=mode
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="ll-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Supervisor]]:
    """Starts workers: `serve(table, ...)`; gives the supervisor."""
    started = []

    def start(first: RouteTable | None = None, tokens: Any = None, **options: Any) -> Supervisor:
        supervisor = Supervisor(folder / f"s{len(started)}", log=folder / "log", port=0, **options)
        started.append(supervisor)
        supervisor.start(first, tokens)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


@pytest.fixture
def plain_asgi(folder: Path) -> Iterator[Callable[..., int]]:
    """Serves a table with uvicorn's own protocol, so that inference takes the ASGI way: `plain_asgi(table)`; gives the port."""
    children = []

    def start(first: RouteTable, **options: Any) -> int:
        settings = WorkerSettings(state=str(folder / "r.json"), log=str(folder / "log"), **options)
        Path(settings.state).write_bytes(msgspec.json.encode(ControlMessage(table=first)))
        (folder / "asgi.json").write_bytes(msgspec.json.encode(settings))
        sock = listen("127.0.0.1", 0)
        program = Path(__file__).with_name("plain_asgi.py")
        child = subprocess.Popen(
            [sys.executable, str(program), str(folder / "asgi.json"), str(sock.fileno())], pass_fds=[sock.fileno()]
        )
        children.append(child)
        port = sock.getsockname()[1]
        sock.close()
        return port

    yield start
    for child in children:
        child.terminate()
        child.wait()


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


def call(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own; a body that is not bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def raw(port: int, data: bytes, *, until: bytes = b"", seconds: float = 5.0) -> bytes:
    """Sends bytes as they are and gives what comes back, up to the end of the connection or to `until`."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock:
        sock.sendall(data)
        found = b""
        try:
            while not (until and until in found):
                part = sock.recv(65536)
                if not part:
                    break
                found += part
        except TimeoutError:
            pass
        return found


class Load:
    """Clients that ask as fast as they are answered, from threads; `answers` are (status, prediction id or error).

    What they ask is one `row` at `path`, or each the next one of `asked`, requests of other protocols: (path, body, headers), or a
    function that raises where it is not answered; there a good answer has no id.
    """

    def __init__(
        self,
        port: int,
        clients: int = 4,
        path: str = "/predict/risk",
        row: dict[str, Any] = EXAMPLE,
        asked: Sequence[tuple[str, Any, dict[str, str]] | Callable[[], None]] = (),
    ) -> None:
        self.port = port
        self.answers: list[tuple[int, str]] = []
        self._halt = threading.Event()
        plain = [(path, [row], {})] * (0 if asked else clients)
        self._threads = [threading.Thread(target=self._send, args=(one, not asked)) for one in (*plain, *asked)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        for thread in self._threads:
            thread.join()

    def wait(self, count: int) -> None:
        """Returns when so many more requests are answered."""
        goal = len(self.answers) + count
        deadline = time.monotonic() + 60
        while len(self.answers) < goal:
            assert time.monotonic() < deadline, self.answers[-3:]
            time.sleep(0.002)

    def _send(self, asked: Any, plain: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self._halt.is_set():
            try:
                if callable(asked):
                    asked()
                    self.answers.append((200, ""))
                    continue
                path, body, headers = asked
                connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), headers)
                response = connection.getresponse()
                said = response.read()
                ok = response.status == 200
                said_id = json.loads(said)["predictions"][0]["id"] if ok and plain else "" if ok else f"{path} {said!r}"
                self.answers.append((response.status, said_id))
            except Exception as e:
                self.answers.append((0, repr(e)))
                return
        connection.close()


os.environ.setdefault("OMP_NUM_THREADS", "2")

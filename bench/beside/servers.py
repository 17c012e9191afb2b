"""Servers that are measured beside each other: how each is made, started, asked and watched."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from models import NAMES, rows

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from peers import environment

HERE = Path(__file__).parent
LEARN = "scikit-learn==1.9.1"
OURS = "loopline"
LIMIT = "bare uvicorn"


class Way(NamedTuple):
    """How a server is reached: where it is asked, the body for some rows, and what it needs to be started."""

    path: str
    body: Callable[[list[list[float]]], Any]
    start: Callable[[str, Path, int], tuple[list[str], dict[str, str]]]
    """Of the model's kind, a folder of its own and a port: the command, and variables of the environment."""
    needs: tuple[str, ...] = ()
    """What its environment holds."""


def records(given: list[list[float]]) -> Any:
    return [dict(zip(NAMES, row, strict=True)) for row in given]


def _pickled(python: Path, kind: str, folder: Path) -> str:
    file = folder / "model.joblib"
    subprocess.run([python, HERE / "models.py", kind, file], check=True)
    return str(file)


def _by_script(name: str) -> Callable[[str, Path, int], tuple[list[str], dict[str, str]]]:
    def start(kind: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
        python = environment(*WAYS[name].needs)
        script = str(HERE / f"serve_{name.lower().replace(' ', '')}.py")
        return [str(python), script, _pickled(python, kind, folder), str(port)], {}

    return start


def _loopline(kind: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    from serve_loopline import write_bundle

    if not (folder / "bundle").exists():
        write_bundle(folder / "bundle", kind)
    return [sys.executable, str(HERE / "serve_loopline.py"), str(folder / "bundle"), str(port), str(folder)], {}


def _mlserver(kind: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    python = environment(*WAYS["MLServer"].needs)
    model = {
        "name": "bench",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": _pickled(python, kind, folder)},
    }
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "debug": False, **ports}))
    return [str(python.with_name("mlserver")), "start", str(folder)], {}


def _bentoml(kind: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    python = environment(*WAYS["BentoML"].needs)
    command = [
        str(python.with_name("bentoml")),
        "serve",
        "serve_bentoml:Bench",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    return [*command, "--working-dir", str(HERE)], {
        "BENCH_MODEL": _pickled(python, kind, folder), "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True",
    }  # fmt: skip


def _mlflow(kind: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    python = environment(*WAYS["MLflow"].needs)
    subprocess.run(
        [python, "-W", "ignore", HERE / "mlflow_model.py", kind, folder / "m"], check=True, capture_output=True
    )
    command = [str(python.with_name("mlflow")), "models", "serve", "-m", str(folder / "m"), "--env-manager", "local"]
    path = f"{python.parent}:{os.environ['PATH']}"
    return [*command, "--port", str(port), "--workers", "1"], {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}


WAYS = {
    OURS: Way("/predict/bench", records, _loopline),
    LIMIT: Way("/", records, lambda kind, folder, port: ([sys.executable, str(HERE / "serve_hello.py"), str(port)], {})),
    "FastAPI": Way(
        "/predict", records, _by_script("FastAPI"), ("fastapi==0.163.2", "uvicorn[standard]", LEARN)
    ),
    "MLServer": Way(
        "/v2/models/bench/infer",
        lambda given: {
            "inputs": [{"name": "x", "shape": [len(given), len(NAMES)], "datatype": "FP32", "data": list(chain(*given))}],
            "outputs": [{"name": "predict_proba"}],
        },
        _mlserver,
        ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop==0.21.0", LEARN),
    ),
    "LitServe": Way("/predict", lambda given: {"rows": given}, _by_script("LitServe"), ("litserve==0.2.19", LEARN)),
    "MLflow": Way(
        "/invocations", lambda given: {"dataframe_split": {"columns": NAMES, "data": given}}, _mlflow, ("mlflow==3.17.2", LEARN)
    ),
    "BentoML": Way("/predict", lambda given: {"rows": given}, _bentoml, ("bentoml==1.4.40", LEARN)),
    "Ray": Way("/", lambda given: {"rows": given}, _by_script("Ray"), ("ray[serve]==2.60.0", LEARN)),
}  # fmt: skip


class Server:
    """A server in a process of its own, with all that it starts. Its output goes to a file in its folder."""

    def __init__(self, name: str, kind: str, folder: Path, bundle: Path | None = None) -> None:
        folder.mkdir(parents=True)
        self.name, self.way, self.port, self._bundle = name, WAYS[name], free_port(), bundle
        if bundle is not None:
            (folder / "bundle").symlink_to(bundle.resolve())
        command, variables = self.way.start(kind, folder, self.port)
        self._log = folder / "output"
        with self._log.open("wb") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **variables}, start_new_session=True
            )
        try:
            self.answer = self._first(self.body(1), began + 180)
        except BaseException:
            self.stop()
            raise
        self.ready = time.perf_counter() - began

    def body(self, count: int) -> bytes:
        """What asks for so many rows; of a given bundle, for its example."""
        if self._bundle is not None:
            return json.dumps([json.loads((self._bundle / "manifest.json").read_bytes())["example"]]).encode()
        return json.dumps(self.way.body(rows(count))).encode()

    def _first(self, body: bytes, until: float) -> Any:
        """Its first right answer."""
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("POST", self.way.path, body, {"Content-Type": "application/json"})
                with contextlib.closing(connection.getresponse()) as answer:
                    said = answer.read()
                    if answer.status == 200:
                        return said
            if self._process.poll() is not None or time.perf_counter() > until:
                raise SystemExit(f"{self.name} does not answer:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.005)

    @property
    def processes(self) -> list[psutil.Process]:
        """Its own and all that it started."""
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of the processor that its processes have used so far, by all threads, user and system."""
        times = [process.cpu_times() for process in self.processes]
        return sum(one.user + one.system for one in times)

    def memory(self) -> float:
        """Megabytes that its processes hold; what they share counts once."""
        return sum(process.memory_full_info().pss for process in self.processes) / 1e6

    def stop(self) -> None:
        """Ends it and all that it started."""
        started = self.processes if self._process.poll() is None else []
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(15)
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # it knows one that has taken over the number of another
        self._process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])

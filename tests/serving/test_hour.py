"""An hour of mixed requests to one server: each is answered as it should be, and memory, files and threads stay where they were."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import statistics
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from .conftest import EXAMPLE, call, tensors, write
from .test_alone import served

http_client = pytest.importorskip("tritonclient.http")

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]

SECONDS = 3600
PAUSE = 0.008
"""Seconds between two requests of one client: four ask some 400 a second, which leaves the machine to others."""
ROOM = 4_000_000
"""Bytes by which the server may be larger at the end than after its first ten minutes: about 3 for each request."""


class Request(NamedTuple):
    """What is sent, and the status that is due."""

    status: int
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] | None = None


class Size(NamedTuple):
    """Of all of a server's processes."""

    memory: int
    files: int
    threads: int


def requests() -> list[Request]:
    """Of every kind: rows, tensors, other systems' forms, pages, and bodies with each sort of fault."""
    rows = json.dumps([EXAMPLE]).encode()
    many = json.dumps([EXAMPLE] * 32).encode()
    inputs, size = http_client.InferenceServerClient.generate_request_body(tensors(http_client, [EXAMPLE] * 8, (8,)))
    binary = {"Inference-Header-Content-Length": str(size), "Content-Type": "application/octet-stream"}
    split = {"dataframe_split": {"columns": list(EXAMPLE), "data": [list(EXAMPLE.values())]}}
    return [
        Request(200, "POST", "/predict/risk", rows),
        Request(200, "POST", "/predict/risk", many),
        Request(200, "POST", "/v2/models/risk/infer", inputs, binary),
        Request(200, "POST", "/v1/models/risk:predict", json.dumps({"instances": [EXAMPLE]}).encode()),
        Request(
            200, "POST", "/endpoints/risk/invocations", json.dumps(split).encode(), {"Content-Type": "application/json"}
        ),
        Request(200, "GET", "/metrics"),
        Request(200, "GET", "/v2/models/risk"),
        Request(200, "GET", "/health"),
        Request(400, "POST", "/predict/risk", b'[{"age": 1'),
        Request(400, "POST", "/predict/risk", json.dumps([{**EXAMPLE, "ward": [1, 2]}]).encode()),
        Request(400, "POST", "/predict/risk?explain=true", rows),
        Request(415, "POST", "/predict/risk", gzip.compress(many), {"Content-Encoding": "gzip"}),
        Request(400, "POST", "/v2/models/risk/infer", inputs[:-5], binary),
        Request(404, "POST", "/predict/nobody", rows),
        Request(413, "POST", "/predict/risk", b" " * 40_000_000),
    ]


def size(root: psutil.Process) -> Size:
    """What the server and its processes hold now."""
    processes = [root, *root.children(recursive=True)]
    return Size(
        memory=sum(p.memory_full_info().pss for p in processes),
        files=sum(p.num_fds() for p in processes),
        threads=sum(p.num_threads() for p in processes),
    )


class Client(threading.Thread):
    """Sends requests of every kind in an order of its own until the end."""

    def __init__(self, port: int, seed: int, until: float) -> None:
        super().__init__()
        self.port = port
        self.chance = np.random.default_rng(seed)
        self.until = until
        self.answered = 0
        self.wrong: list[Any] = []

    def run(self) -> None:
        """A connection is kept for about fifty requests; what is too large is seldom sent."""
        kinds = requests()
        weights = np.array([10, 3, 3, 2, 2, 0.2, 1, 1, 1, 1, 1, 1, 1, 1, 0.02])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while time.monotonic() < self.until:
            kind = kinds[self.chance.choice(len(kinds), p=weights / weights.sum())]
            try:
                connection.request(kind.method, kind.path, kind.body, kind.headers or {})
                response = connection.getresponse()
                said = response.read()
                if response.status != kind.status:
                    self.wrong.append((kind.path, kind.status, response.status, said[:300]))
            except (OSError, http.client.HTTPException) as e:
                if kind.status != 413:  # it hangs up before all of that is sent
                    self.wrong.append((kind.path, kind.status, repr(e)))
                connection.close()
            self.answered += 1
            if self.chance.random() < 0.02:
                connection.close()
            time.sleep(PAUSE)
        connection.close()


def breaks_off(port: int) -> None:
    """Somebody who sends half a request and goes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"POST /predict/risk HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n[{")


def test_an_hour_of_requests_leaves_the_server_as_it_was(folder: Path) -> None:
    models = folder / "models"
    write(models / "risk")
    other = write(models / "other", version=2, bias=0.5)
    manifest = json.loads((other / "manifest.json").read_bytes())
    (other / "manifest.json").write_text(json.dumps({**manifest, "name": "other"}))
    with served(folder, str(models), "--folder", "own") as (process, port, _):
        root = psutil.Process(process.pid)
        until = time.monotonic() + SECONDS
        clients = [Client(port, seed, until) for seed in range(4)]
        for client in clients:
            client.start()
        sizes = []
        while time.monotonic() < until:
            time.sleep(SECONDS / 360)
            sizes.append(size(root))
            breaks_off(port)
            if len(sizes) % 6 == 0:  # a model goes and comes again while the other answers
                for what in ("unload", "load"):
                    answer = call(port, "POST", f"/v2/repository/models/other/{what}", {})
                    assert answer.status == 200, answer.body
        for client in clients:
            client.join()
    wrong = [w for c in clients for w in c.wrong]
    assert not wrong, (len(wrong), wrong[:5])
    early, late = sizes[len(sizes) // 6 : len(sizes) // 3], sizes[-len(sizes) // 6 :]
    medians = [Size(*(int(statistics.median(v)) for v in zip(*part, strict=True))) for part in (early, late)]
    print(f"{sum(c.answered for c in clients):,} requests; after ten minutes {medians[0]}, at the end {medians[1]}")
    assert medians[1].memory - medians[0].memory < ROOM, sizes[::30]
    assert medians[1].files <= medians[0].files + 2
    assert medians[1].threads <= medians[0].threads

"""The MLflow surface against MLflow's own server, side by side: CPU of all server processes for the same bodies over plain HTTP.

Both stand on SQLite. Prints a table and, with --json, a file.

    python bench/mlflow_server.py [--json FILE] [--no-peer]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from mlflow_golden import server as mlflow_server
from peers import MLFLOW

API = "/api/2.0/mlflow/"


class Server:
    """A running server: requests to it, and the CPU seconds of its processes."""

    def __init__(self, url: str, pid: int) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=120)
        self._root = psutil.Process(pid)

    def post(self, path: str, given: Any) -> Any:
        self._connection.request("POST", API + path, json.dumps(given), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        return json.loads(content)

    def cpu(self) -> float:
        total = 0.0
        for process in (self._root, *self._root.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def memory(self) -> tuple[int, float]:
        """How many processes there are, and their memory, shared pages shared out (MB)."""
        processes = (self._root, *self._root.children(recursive=True))
        return len(processes), sum(process.memory_full_info().pss for process in processes) / 1e6

    def cost(self, count: int, work: Callable[[int], object]) -> tuple[float, float]:
        """CPU milliseconds and wall-clock milliseconds of a call."""
        work(-1)
        cpu, began = self.cpu(), time.perf_counter()
        for n in range(count):
            work(n)
        took = time.perf_counter() - began
        used = self.cpu() - cpu
        return 1000 * used / count, 1000 * took / count


def measured(server: Server) -> dict[str, float]:
    """CPU and time of each kind of call."""
    rng = random.Random(1)
    found: dict[str, float] = {}

    def created(n: int) -> str:
        tags = [{"key": f"mlflow.tag{k}", "value": f"v{n % 7}"} for k in range(3)]
        given = {"experiment_id": "0", "start_time": 1_700_000_000_000 + n, "run_name": f"run {n}", "tags": tags}
        return str(server.post("runs/create", given)["run"]["info"]["run_id"])

    def points(n: int, keys: int, each: int) -> list[dict[str, Any]]:
        return [
            {"key": f"m{k}", "value": rng.random(), "timestamp": 1_700_000_000_000 + n, "step": n * each + j}
            for k in range(keys) for j in range(each)
        ]  # fmt: skip

    def small(n: int) -> None:
        run = created(n)
        params = [{"key": f"p{k}", "value": str(k * n)} for k in range(10)]
        server.post("runs/log-batch", {"run_id": run, "metrics": points(n, 10, 1), "params": params})
        server.post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": 1_700_000_000_500 + n})

    run = created(0)
    batches = [{"run_id": run, "metrics": points(n, 10, 100)} for n in range(-1, 20)]
    for name, count, work in (
        ("batch", 20, lambda n: server.post("runs/log-batch", batches[n + 1])),
        ("create", 100, created),
        ("small", 50, small),
        ("metric", 100, lambda n: server.post("runs/log-metric", {"run_id": run, **points(n, 1, 1)[0]})),
        ("search", 30, lambda n: server.post("runs/search", {"experiment_ids": ["0"], "max_results": 100})),
    ):
        found[f"{name}_cpu_ms"], found[f"{name}_ms"] = server.cost(count, work)
    found["processes"], found["memory_mb"] = server.memory()
    return found


@contextmanager
def loopline() -> Iterator[tuple[str, int]]:
    """`loopline up` on a workspace of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "loopline", "--workspace", f"{folder}/w", "up", "--port", "0"]
        env = {**os.environ, "LOOPLINE_CHECKPOINTS": f"{folder}/copies"}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=env)
        try:
            address, end = Path(folder, "w", "server.json"), time.monotonic() + 60
            while not address.exists():
                assert time.monotonic() < end, "the server did not start"
                time.sleep(0.05)
            yield json.loads(address.read_text())["url"], process.pid
        finally:
            process.terminate()
            process.wait(30)


def _listener(url: str) -> int:
    """The process that listens at a URL; MLflow's others, for jobs, are left out."""
    port = int(url.rpartition(":")[2])
    found = next(
        c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"
    )
    return int(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--no-peer", action="store_true")
    given = parser.parse_args()
    with loopline() as (url, pid):
        ours = measured(Server(url, pid))
    theirs: dict[str, float] = {}
    if not given.no_peer:
        with mlflow_server(MLFLOW[0]) as url:
            theirs = measured(Server(url, _listener(url)))
    print(f"{'':40}{'loopline':>12}{'mlflow':>12}{'ratio':>9}  goal")
    for words, name, goal in (
        ("log-batch of 1,000 points, CPU ms", "batch_cpu_ms", "10x"),
        ("  ms", "batch_ms", ""),
        ("runs/create, CPU ms", "create_cpu_ms", "5x"),
        ("  ms", "create_ms", ""),
        ("a whole small run, CPU ms", "small_cpu_ms", "5x"),
        ("  ms", "small_ms", ""),
        ("log-metric, CPU ms", "metric_cpu_ms", ""),
        ("runs/search, 100 runs, CPU ms", "search_cpu_ms", ""),
        ("processes", "processes", ""),
        ("memory, MB", "memory_mb", ""),
    ):
        own, other = ours[name], theirs.get(name)
        shown = "" if other is None else f"{other:12.2f}{other / own:8.1f}x"
        print(f"{words:40}{own:12.2f}{shown:21}  {goal}")
    if given.json:
        Path(given.json).write_text(json.dumps({"loopline": ours, "mlflow": theirs}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The MLflow surface against MLflow's own server, in turns: CPU of all server processes for the same bodies over plain HTTP.

Both stand on SQLite and run at the same time; each kind of call is made in rounds, to one and then to the other, and the medians
are told. CPU is what the kernel's clock of each process says, to the nanosecond. Prints a table with the machine's load and, with
--json, a file.

    python bench/mlflow_server.py [--json FILE] [--no-peer]
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from mlflow_golden import server as mlflow_server
from peers import MLFLOW

API = "/api/2.0/mlflow/"
ROUNDS = 7


class Server:
    """A running server: requests to it, and the CPU seconds of its processes."""

    def __init__(self, url: str, pid: int) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=120)
        root = psutil.Process(pid)
        self._processes = [root, *root.children(recursive=True)]

    def post(self, path: str, given: Any) -> Any:
        self._connection.request("POST", API + path, json.dumps(given), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        return json.loads(content)

    def cpu(self) -> float:
        """CPU seconds of all its processes until now."""
        # Each process's own clock; the times that /proc tells are counted in ticks of 10 ms.
        return sum(time.clock_gettime((~process.pid << 3) | 2) for process in self._processes)

    def memory(self) -> tuple[int, float]:
        """How many processes there are, and their memory, shared pages shared out (MB)."""
        return len(self._processes), sum(process.memory_full_info().pss for process in self._processes) / 1e6

    def cost(self, count: int, work: Callable[[], object]) -> tuple[float, float]:
        """CPU milliseconds and wall-clock milliseconds of a call."""
        cpu, began = self.cpu(), time.perf_counter()
        for _ in range(count):
            work()
        took = time.perf_counter() - began
        return 1000 * (self.cpu() - cpu) / count, 1000 * took / count


def calls(server: Server) -> dict[str, tuple[int, Callable[[], object]]]:
    """Each kind of call, and how many make a round."""
    rng = random.Random(1)
    numbers = itertools.count()

    def created() -> str:
        n = next(numbers)
        tags = [{"key": f"mlflow.tag{k}", "value": f"v{n % 7}"} for k in range(3)]
        given = {"experiment_id": "0", "start_time": 1_700_000_000_000 + n, "run_name": f"run {n}", "tags": tags}
        return str(server.post("runs/create", given)["run"]["info"]["run_id"])

    def points(keys: int, each: int) -> list[dict[str, Any]]:
        n = next(numbers)
        return [
            {"key": f"m{k}", "value": rng.random(), "timestamp": 1_700_000_000_000 + n, "step": n * each + j}
            for k in range(keys) for j in range(each)
        ]  # fmt: skip

    def small() -> None:
        run = created()
        params = [{"key": f"p{k}", "value": str(rng.random())} for k in range(10)]
        server.post("runs/log-batch", {"run_id": run, "metrics": points(10, 1), "params": params})
        server.post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": 1_800_000_000_000})

    run = created()
    return {
        "batch": (4, lambda: server.post("runs/log-batch", {"run_id": run, "metrics": points(10, 100)})),
        "create": (30, created),
        "small": (15, small),
        "metric": (30, lambda: server.post("runs/log-metric", {"run_id": run, **points(1, 1)[0]})),
        "search": (8, lambda: server.post("runs/search", {"experiment_ids": ["0"], "max_results": 100})),
    }


def measured(servers: list[Server]) -> list[dict[str, float]]:
    """CPU and time of each kind of call, of each server; one after the other, round by round."""
    found: list[dict[str, float]] = [{} for _ in servers]
    kinds = [calls(server) for server in servers]
    for name in kinds[0]:
        rounds: list[list[tuple[float, float]]] = [[] for _ in servers]
        for number in range(-1, ROUNDS):
            for server, of, kept in zip(servers, kinds, rounds, strict=True):
                cost = server.cost(*of[name])
                if number >= 0:  # the first warms up
                    kept.append(cost)
        for row, kept in zip(found, rounds, strict=True):
            row[f"{name}_cpu_ms"], row[f"{name}_ms"] = map(statistics.median, zip(*kept, strict=True))
    for server, row in zip(servers, found, strict=True):
        row["processes"], row["memory_mb"] = server.memory()
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
    with ExitStack() as running:
        servers = [Server(*running.enter_context(loopline()))]
        if not given.no_peer:
            url = running.enter_context(mlflow_server(MLFLOW[0]))
            servers.append(Server(url, _listener(url)))
        load = os.getloadavg()[0]
        ours, theirs = [*measured(servers), {}][:2]
    print(f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
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
        Path(given.json).write_text(json.dumps({"load": load, "loopline": ours, "mlflow": theirs}, indent=1) + "\n")


if __name__ == "__main__":
    main()

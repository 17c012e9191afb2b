"""A file of 100 MB up and down through the server, in turns with MLflow's own: both get the same bytes by the same HTTP requests.

Also the same bytes a second time, sent and by their digest, and how far the server's memory grows. Prints a table with the
machine's load and, with --json, a file.

    python bench/artifacts.py [--json FILE] [--no-peer] [--mb 100]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from mlflow_golden import server as peer_server
from peers import MLFLOW

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
ROUNDS = 5


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """A workspace in service: its address, and the number of its process."""
    command = [sys.executable, "-m", "loopline", "--workspace", str(folder / "w"), "up", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        yield next(word for line in server.stdout for word in line.split() if word.startswith("http://")), server.pid
    finally:
        server.terminate()
        server.communicate(timeout=60)


class Client:
    """Sends files by plain requests, a megabyte at a time."""

    def __init__(self, url: str) -> None:
        self._host = url.removeprefix("http://")

    def put(self, path: str, file: Path) -> float:
        """Seconds to bring a file."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection(self._host, blocksize=1 << 20)
        with file.open("rb") as content:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}
            connection.request("PUT", path, content, headers)
            answer = connection.getresponse()
            answer.read()
        assert answer.status == 200, answer.status
        connection.close()
        return time.perf_counter() - began

    def get(self, path: str, size: int) -> float:
        """Seconds to fetch a file."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection(self._host)
        connection.request("GET", path)
        answer = connection.getresponse()
        got = sum(len(piece) for piece in iter(lambda: answer.read(1 << 20), b""))
        assert got == size
        connection.close()
        return time.perf_counter() - began

    def run(self) -> str:
        """The id of a new run, by MLflow's protocol."""
        connection = http.client.HTTPConnection(self._host)
        connection.request(
            "POST", "/api/2.0/mlflow/runs/create", b'{"experiment_id": "0"}', {"Content-Type": "application/json"}
        )
        found: str = json.loads(connection.getresponse().read())["run"]["info"]["run_id"]
        connection.close()
        return found


def median(work: Callable[[int], float]) -> float:
    """The median of some rounds, after one that does not count."""
    return medians([work])[0]


def medians(works: list[Callable[[int], float]]) -> list[float]:
    """The medians of some works that take turns, round by round, after one round that does not count.

    What one left to do, for its disk or in the background, it does before the next begins: each pays for its own.
    """

    def settled(work: Callable[[int], float], n: int) -> float:
        os.sync()
        time.sleep(0.5)
        return work(n)

    rounds = [[settled(work, n) for work in works] for n in range(-1, ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def through_the_proxy(urls: list[str], folder: Path, size: int) -> list[dict[str, float]]:
    """MLflow's protocol: a file that is new each time, up and down, and the same again; of each server."""
    clients = [Client(url) for url in urls]
    roots = [f"{PROXY}/0/{client.run()}/artifacts" for client in clients]
    files = {n: _file(folder / f"file{n}", size) for n in range(-1, ROUNDS)}
    both = list(zip(clients, roots, strict=True))
    found = {
        "up_s": medians([lambda n, c=c, r=r: c.put(f"{r}/{n}", files[n]) for c, r in both]),  # type: ignore[misc]
        "down_s": medians([lambda n, c=c, r=r: c.get(f"{r}/{n}", size) for c, r in both]),  # type: ignore[misc]
        "again_s": medians([lambda n, c=c, r=r: c.put(f"{r}/again/{n}", files[0]) for c, r in both]),  # type: ignore[misc]
    }
    for file in files.values():
        file.unlink()
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def natively(url: str, pid: int, folder: Path, size: int) -> dict[str, float]:
    """The same by the platform's own client, where a digest does for bytes that the project has."""
    import loopline as ll
    from loopline.operations import Body

    files = {n: _file(folder / f"file{n}", size) for n in range(-1, ROUNDS)}
    processes = _below(pid)
    before = {process: _memory(process, "VmRSS") for process in processes}
    with ll.connect(url) as session:
        run = session.runs.create("bench").id

        def timed(call: Callable[[], object]) -> float:
            began = time.perf_counter()
            call()
            return time.perf_counter() - began

        found = {
            "up_s": median(lambda n: timed(lambda: session.runs.put_artifact(run, str(n), Body(files[n])))),
            "down_s": median(lambda n: timed(lambda: session.runs.artifact(run, str(n)))),
            "again_s": median(lambda n: timed(lambda: session.runs.put_artifact(run, f"again/{n}", Body(files[0])))),
        }
        digest = session.runs.artifacts(run)[0].digest
        found["digest_s"] = median(lambda n: timed(lambda: session.runs.copy_artifact(run, f"copy/{n}", digest)))
    found["grown_mb"] = max(_memory(process, "VmHWM") - before[process] for process in processes) / 1e6
    return found


def _file(path: Path, size: int) -> Path:
    block = os.urandom(1 << 20)
    with path.open("wb") as out:
        for n in range(0, size, len(block)):
            out.write(block[: size - n])
    return path


def _memory(pid: int, kind: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))


def _below(pid: int) -> list[int]:
    children = (child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split())
    return [pid, *(found for child in children for found in _below(int(child)))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--mb", type=int, default=100)
    given = parser.parse_args()
    size = given.mb * 1_000_000
    found: dict[str, dict[str, float]] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["LOOPLINE_WORKSPACE"] = str(folder / "w")  # whose local token the client may send
        with ExitStack() as running:
            url, pid = running.enter_context(served(folder))
            found["loopline"] = natively(url, pid, folder, size)
            names, urls = ["loopline, MLflow's protocol"], [url]
            if not given.no_peer:
                names.append(MLFLOW[0])
                urls.append(running.enter_context(peer_server(MLFLOW[0])))
            found |= zip(names, through_the_proxy(urls, folder, size), strict=True)
    print(f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{given.mb} MB{'':24}{'up MB/s':>10}{'down MB/s':>11}{'again s':>9}{'digest s':>10}{'memory MB':>11}")
    for name, row in found.items():
        digest, grown = (f"{row[key]:.3f}" if key in row else "" for key in ("digest_s", "grown_mb"))
        rates = "".join(f"{size / 1e6 / row[key]:10.0f} " for key in ("up_s", "down_s"))
        print(f"{name:30}{rates}{row['again_s']:8.3f}{digest:>10}{grown:>11}")
    if given.json:
        Path(given.json).write_text(json.dumps({"load": load, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

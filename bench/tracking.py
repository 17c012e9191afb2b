"""Tracking against MLflow with its SQLite store in process, side by side, in turns; and what it takes on the disk.

MLflow is installed into an environment of its own at the first call (scripts/peers.py). Prints a table and, with --json, a file.
Searches are in bench/search.py.

    python bench/tracking.py [--json FILE] [--no-peer] [--runs 100000]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from peers import MLFLOW, environment

PEER = r"""
import json, sys, time, random
began = time.perf_counter(); cpu = time.process_time()
import mlflow
from mlflow.entities import Metric, Param, RunTag
found = {"import_s": time.perf_counter() - began, "import_cpu_s": time.process_time() - cpu}
mlflow.set_tracking_uri(f"sqlite:///{sys.argv[1]}/mlflow.db")
client = mlflow.MlflowClient()
experiment = client.create_experiment("bench", artifact_location=sys.argv[1])

def rate(count, work):
    began = time.perf_counter()
    for n in range(count):
        work(n)
    return count / (time.perf_counter() - began)

found["create"] = rate(200, lambda n: client.create_run(experiment))
run = client.create_run(experiment).info.run_id
found["log_metric"] = rate(300, lambda n: client.log_metric(run, "loss", n / 7, step=n))
def batch(n):
    client.log_batch(run, [Metric(f"m{k}", random.random(), 1700000000000 + n, n * 100 + j) for k in range(10) for j in range(100)])
found["log_batch_rows"] = 1000 * rate(20, batch)
def small(n):
    own = client.create_run(experiment).info.run_id
    client.log_batch(own, [Metric(f"m{k}", random.random(), 1700000000000, 0) for k in range(10)],
        [Param(f"p{k}", str(k * n)) for k in range(10)], [RunTag(f"t{k}", f"v{n % 7}") for k in range(3)])
    client.set_terminated(own)
found["small_run"] = rate(100, small)
long = client.create_run(experiment).info.run_id
for n in range(100):
    client.log_batch(long, [Metric("loss", random.random(), 1700000000000, n * 1000 + j) for j in range(1000)])
began = time.perf_counter()
assert len(client.get_metric_history(long, "loss")) == 100_000
found["history_s"] = time.perf_counter() - began
print(json.dumps(found))
"""

ROUNDS = 3


def peer() -> dict[str, float]:
    """What MLflow needs for the same."""
    python = environment(MLFLOW[0])
    subprocess.run([python, "-c", "import mlflow.tracking, mlflow.store.tracking.sqlalchemy_store"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([python, "-c", PEER, folder], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for one measurement."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def rate(count: int, work: Callable[[int], object]) -> float:
    """Calls a second."""
    began = time.perf_counter()
    for n in range(count):
        work(n)
    return count / (time.perf_counter() - began)


def in_process() -> dict[str, float]:
    """The verbs, called in the platform's own process: each call is one durable transaction with its ledger entry."""
    from loopline.app import Platform
    from loopline.tracking.records import Point

    found = {}
    with workspace() as folder:
        platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "copies"))
        runs = platform.session().runs
        runs.create("warm")
        cpu = time.process_time()
        found["create"] = rate(300, lambda n: runs.create("a"))
        found["create_by_cpu"] = 300 / (time.process_time() - cpu)
        run = runs.create("a").id
        found["log_one"] = rate(300, lambda n: runs.log(run, [Point(key="loss", value=n / 7, step=n)]))
        batches = [
            [Point(key=f"m{k}", value=random.random(), step=n * 100 + j) for k in range(10) for j in range(100)]
            for n in range(50)
        ]
        found["log_batch_rows"] = 1000 * rate(50, lambda n: runs.log(run, batches[n]))
        long = runs.create("long").id
        for n in range(100):
            runs.log(long, [Point(key="loss", value=random.random(), step=n * 1000 + j, time=1) for j in range(1000)])
        runs.finish(long)
        for name, points in (("history_s", None), ("plot_s", 2000)):
            times = []
            for _ in range(5):
                began = time.perf_counter()
                runs.history(long, "loss", points)
                times.append(time.perf_counter() - began)
            found[name] = statistics.median(times)
        platform.close()
    return found


SCRIPT = """
import os, sys, time
began = time.perf_counter(); before = len(sys.modules)
import loopline as ll
run = ll.run("bench", workspace=sys.argv[1], url=sys.argv[3], system=None, console=False)
started = time.perf_counter() - began
rss = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
count = int(sys.argv[2])
began = time.perf_counter()
for n in range(count):
    run.log(loss=n / 7, step=n)
accepted = count / (time.perf_counter() - began)
run.finish()
print(started, accepted, count / (time.perf_counter() - began), time.process_time(), len(sys.modules), rss / 1024)
"""


def through_the_journal(count: int = 300_000) -> dict[str, float]:
    """A script that logs one metric at a time to a server: what it is let to do, and until all is acknowledged."""
    with workspace() as folder:
        command = [sys.executable, "-m", "loopline", "--workspace", str(folder / "w"), "up", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            began = time.perf_counter()
            address = folder / "w" / "server.json"
            while not address.exists():
                time.sleep(0.01)
                assert time.perf_counter() - began < 60
            url = json.loads(address.read_text())["url"]
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, str(folder / "client"), str(count), url],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "LOOPLINE_WORKSPACE": str(folder / "w")},
            )
            started, accepted, acknowledged, cpu, modules, memory = map(float, done.stdout.split()[-6:])
            kept = subprocess.run(
                [sys.executable, "-c", COUNTED, url],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "LOOPLINE_WORKSPACE": str(folder / "w")},
            )
            assert int(kept.stdout) == count, f"{kept.stdout} of {count} points are there"
        finally:
            server.terminate()
            server.wait(30)
    return {
        "accepted": accepted,
        "acknowledged": acknowledged,
        "client_start_s": started,
        "client_modules": modules,
        "client_mb": memory,
        "client_cpu_s": cpu,
    }


COUNTED = """
import sys, loopline as ll
with ll.connect(sys.argv[1]) as platform:
    (run,) = platform.runs.list(name="bench").runs
    print(len(platform.runs.history(run.id, "loss")))
"""


def small_runs(count: int) -> dict[str, float]:
    """Whole small runs (10 params, 10 metrics, 5 tags) by the batches of a journal, and what they take on the disk."""
    from loopline.app import Platform
    from loopline.tracking.ids import ulid
    from loopline.tracking.journal_format import KEY_LENGTH, KINDS, POINT, POINTS, frame, pack, run_prefix

    rng = random.Random(1)

    def said(kind: str, run: str, **fields: Any) -> bytes:
        return frame(KINDS.index(kind) + 1, run_prefix(run) + json.dumps(fields).encode())

    def whole(n: int) -> bytes:
        run = ulid(1_700_000_000_000 + n * 1000)
        parts = [
            said(
                "run", run, name=f"fit {n % 50}", created=1_700_000_000_000 + n * 1000,
                params={f"p{k}": rng.random() for k in range(10)},
                tags={f"t{k}": f"value {rng.randrange(20)}" for k in range(5)},
            )
        ]  # fmt: skip
        for k in range(10):
            key = f"m{k}".encode()
            point = POINT.pack(0, 1_700_000_000_000 + n * 1000, rng.random())
            parts.append(frame(POINTS, run_prefix(run) + KEY_LENGTH.pack(len(key)) + key + point))
        parts.append(said("finish", run, status="finished", ended=1_700_000_000_000 + n * 1000 + 500))
        return b"".join(parts)

    with workspace() as folder:
        platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "copies"))
        runs = platform.session().runs
        sender, taken, each = ulid(1), 0.0, 500
        for number in range(1, count // each + 1):
            batch = pack(b"".join(whole(number * each + n) for n in range(each)))
            began = time.perf_counter()
            runs.send(sender, number, batch)  # type: ignore[arg-type]  # a session makes a body of bytes
            taken += time.perf_counter() - began
        platform.close()
        ledger = _size(folder / "w" / "loopline.db", "ledger")
        total = sum((folder / "w" / name).stat().st_size for name in ("loopline.db", "metrics.db"))
    return {"small_run": count / taken, "runs_mb": (total - ledger) / 1e6, "runs": count}


def points_on_disk() -> dict[str, float]:
    """Bytes of a point: as they come, and folded."""
    from loopline.tracking import points

    n = 50_000
    rng = random.Random(1)
    key = points.columns(
        [1] * n, range(n), [1_700_000_000_000 + 40 * k for k in range(n)], [rng.random() for _ in range(n)]
    )
    mixed = points.columns(
        [k % 10 for k in range(n)], [k // 10 for k in range(n)], [1_700_000_000_000 + 4 * k for k in range(n)],
        [rng.random() for _ in range(n)],
    )  # fmt: skip
    return {"hot_bytes": len(points.pack(mixed)) / n, "folded_bytes": len(points.pack(key, closely=True)) / n}


def _size(path: Path, prefix: str) -> int:
    import sqlite3

    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE ? || '%'", (prefix,)).fetchone()
    return int(found[0] or 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--runs", type=int, default=100_000)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    rounds = [(in_process(), {} if given.no_peer else peer()) for _ in range(ROUNDS)]
    ours, theirs = (
        {key: statistics.median(one[key] for one in of) for key in of[0]} for of in zip(*rounds, strict=True)
    )
    ours |= {**through_the_journal(), **small_runs(given.runs), **points_on_disk()}
    print(f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    table = [
        ("log one metric, accepted/s", "accepted", "log_metric", "100,000"),
        ("  until acknowledged by the server/s", "acknowledged", "log_metric", "100,000"),
        ("  one durable call in process/s", "log_one", "log_metric", ""),
        ("log a batch of 1,000, rows/s", "log_batch_rows", "log_batch_rows", "200,000"),
        ("create a run, one durable call/s", "create", "create", "2,000"),
        ("  by the CPU that it takes/s", "create_by_cpu", "", "2,000"),
        ("whole small runs by a journal/s", "small_run", "small_run", "500"),
        ("history of 100,000 points, s", "history_s", "history_s", "0.3"),
        ("  of 2,000 for a plot, s", "plot_s", "", "0.02"),
        ("bytes of a point, hot", "hot_bytes", "", "25"),
        ("  folded", "folded_bytes", "", "8"),
        (f"{ours['runs']:,.0f} runs on the disk, ledger apart, MB", "runs_mb", "", "150 for 100,000"),
        ("client: import and start of a run, s", "client_start_s", "import_s", "0.1"),
        ("  memory, MB", "client_mb", "", "25"),
    ]
    print(f"{'':44}{'loopline':>12}{'mlflow':>12}{'ratio':>9}  goal")
    for words, own, other, goal in table:
        a, b = ours[own], theirs.get(other)
        ratio = "" if b is None else f"{(b / a if own.endswith('_s') else a / b):8.1f}x"
        print(f"{words:44}{a:12,.4g}{'' if b is None else format(b, '12,.4g'):>12}{ratio:>9}  {goal}")
    if given.json:
        Path(given.json).write_text(json.dumps({"load": load, "loopline": ours, "mlflow": theirs}, indent=1) + "\n")


if __name__ == "__main__":
    main()

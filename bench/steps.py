"""A durable step of a pipeline against one synced SQLite commit (limit 3x), and a fully cached run against a durable one (0.1x).

A chain of 20 no-op steps, each a transaction with its ledger entry; medians of five runs.

    python bench/steps.py [--json FILE]
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loopline.app import Platform
from loopline.pipeline.engine import Node, run

STEPS = 20
REPEATS = 5


def chain(run_number: int) -> list[Node]:
    """Twenty steps, each needing the one before; another `run_number` makes all of them new."""
    return [
        Node(
            f"s{n}",
            lambda _: {"value": 1},
            [f"s{n - 1}"] if n else [],
            {"run": run_number},
        )
        for n in range(STEPS)
    ]


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def commits(path: Path) -> float:
    """Milliseconds of a bare commit of a small row, synced."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, body TEXT)")

    def one(n: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 150))
        connection.execute("COMMIT")

    times = [timed(lambda n=n: one(n)) for n in range(STEPS * REPEATS)]  # type: ignore[misc]
    connection.close()
    return statistics.median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        platform = Platform.open(workspace=str(folder / "workspace"), checkpoints=str(folder / "outside"))
        pipelines = platform.session().pipelines
        run("warm", chain(-1), pipelines)
        fresh, cached, bare = [], [], []
        for n in range(REPEATS):
            fresh.append(timed(lambda n=n: run("bench", chain(n), pipelines)) / STEPS)  # type: ignore[misc]
            bare.append(commits(folder / f"bare-{n}.db"))
            cached.append(timed(lambda n=n: run("bench", chain(n), pipelines)) / STEPS)  # type: ignore[misc]
        platform.close()
    durable, again, commit = map(statistics.median, (fresh, cached, bare))
    rows = [
        {"what": "durable step, ms", "value": durable, "limit": commit, "ratio": durable / commit, "goal": 3.0},
        {"what": "cached step, ms", "value": again, "limit": durable, "ratio": again / durable, "goal": 0.1},
    ]
    for row in rows:
        print(
            f"{row['what']:20} {row['value']:8.3f}   against {row['limit']:8.3f}   ratio {row['ratio']:6.2f}   goal {row['goal']}"
        )
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

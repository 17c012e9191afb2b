"""Ten searches over 10,000 and 100,000 runs of 10 params, 10 metrics and 5 tags each, on SQLite and on PostgreSQL.

Run: python bench/search.py [RUNS ...] [--json FILE]. Warm, 100 runs a page (1,000 where it is said): p50 and p95 of 40 calls of
`find`, from the words of the filter to the numbers of the runs. Goals (p95): 20 ms out of 10,000 and 50 ms out of 100,000; tag LIKE
by param 100 ms and 1,000 runs 150 ms out of 10,000.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from loopline.database import Database
from loopline.ports.clock import SystemClock
from loopline.testing import postgres
from loopline.tracking.search.pages import find

CALLS = 40
DAY = 86_400_000
KEYS = [
    "loss",
    "auc",
    *(f"m{i}" for i in range(8)),
    "lr",
    "model",
    *(f"p{i}" for i in range(8)),
    "team",
    "note",
    *(f"t{i}" for i in range(3)),
]
NUMBER = {key: number for number, key in enumerate(KEYS, 1)}

QUERIES: list[tuple[str, str, tuple[str, ...], int]] = [
    ("newest", "", (), 100),
    ("metric, by another metric", "metrics.loss < 0.5", ("metrics.auc DESC",), 100),
    ("metric, by itself from the far end", "metrics.loss < 0.1", ("metrics.loss DESC",), 100),
    ("two metrics and a param, few hits", "metrics.loss < .1 AND metrics.auc > .9 AND params.model = 'gbm'", ("metrics.auc",), 100),
    ("tag LIKE, by a param", "tags.note LIKE '%try 7%'", ("params.lr",), 100),
    ("tag that one run has", "tags.note = 'try 4711'", ("metrics.loss",), 100),
    ("OR and NOT", "(params.p1 IN (3, 5) OR tags.team = 'a') AND NOT status = 'failed'", ("metrics.loss",), 100),
    ("regular expression", "tags.note ~ '7.*7$'", ("created DESC",), 100),
    ("last 7 days, by duration", "created = 'last 7 days' AND status = 'finished'", ("duration DESC", "name"), 100),
    ("1,000 runs by a metric", "metrics.loss < 0.9", ("metrics.loss",), 1000),
]  # fmt: skip


def rows(runs: int, now: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What the tables hold, row by row."""
    rng = random.Random(1)
    for number in range(1, runs + 1):
        created = now - (runs - number) * 30 * DAY // runs
        status = rng.choice(["finished"] * 8 + ["failed", "killed"])
        yield "runs", (
            number, f"{number:026}", "default", f"fit {number % 50}", "run", status, created, "ann",
            created + rng.randrange(1, 3_600_000), "", "", 0, 0, 0,
        )  # fmt: skip
        for key in KEYS[:10]:
            yield "run_series", (number, NUMBER[key], rng.random(), 100, created)
        yield "run_params", (number, NUMBER["lr"], None, 10 ** rng.uniform(-5, 0))
        yield "run_params", (number, NUMBER["model"], json.dumps(rng.choice(["gbm", "linear", "net"])), None)
        for i in range(8):
            yield "run_params", (number, NUMBER[f"p{i}"], None, float(rng.randrange(10)))
        yield "run_tags", (number, NUMBER["team"], rng.choice("abcdefgh"))
        yield "run_tags", (number, NUMBER["note"], f"try {number}")
        for i in range(3):
            yield "run_tags", (number, NUMBER[f"t{i}"], f"value {rng.randrange(1000)}")


COLUMNS = {
    "runs": 'number, id, project, name, kind, status, created, creator, ended, message, note, batches, "group", external',
    "run_series": "run, key, last, step, time",
    "run_params": "run, key, value, number",
    "run_tags": "run, key, value",
}


def fill(database: Database, path: str, runs: int, now: int) -> None:
    database.create()
    kept: dict[str, list[tuple[Any, ...]]] = {"run_words": [(number, key) for key, number in NUMBER.items()]}
    for table, row in rows(runs, now):
        kept.setdefault(table, []).append(row)
    columns = {"run_words": "id, word", **COLUMNS}
    if database.sqlite:
        with sqlite3.connect(path) as connection:
            for table, found in kept.items():
                marks = ", ".join("?" * len(found[0]))
                connection.executemany(f"INSERT INTO {table} ({columns[table]}) VALUES ({marks})", found)
        connection.close()
        return
    import psycopg

    with psycopg.connect(path.replace("postgresql+psycopg", "postgresql")) as connection:
        for table, found in kept.items():
            with connection.cursor().copy(f"COPY {table} ({columns[table]}) FROM STDIN") as copy:
                for row in found:
                    copy.write_row(row)
        connection.execute("ANALYZE")  # as the server does by itself within a minute


def measure(database: Database, where: str, runs: int, now: int) -> Iterator[dict[str, object]]:
    for name, filter, order, limit in QUERIES:
        took = []
        count = 0
        for call in range(CALLS + 3):
            start = time.perf_counter()
            with database.begin(lazy=True) as tx:
                count = len(find(tx, filter, order, limit, None, now)[0])
            if call >= 3:
                took.append((time.perf_counter() - start) * 1000)
        p50, p95 = statistics.median(took), sorted(took)[int(CALLS * 0.95) - 1]
        print(f"{where:10} {runs:7,} {name:38} {count:5} runs  p50 {p50:7.1f} ms  p95 {p95:7.1f} ms", flush=True)
        yield {"database": where, "runs": runs, "what": name, "found": count, "p50_ms": p50, "p95_ms": p95}


def sizes(arguments: Iterable[str]) -> list[int]:
    return [int(argument) for argument in arguments if argument.isdecimal()] or [10_000, 100_000]


def main() -> None:
    lines: list[dict[str, object]] = []
    now = SystemClock().now()
    for runs in sizes(sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "loopline.db"
            database = Database(f"sqlite:///{path}", SystemClock())
            fill(database, str(path), runs, now)
            lines += measure(database, "SQLite", runs, now)
            database.close()
        if not postgres.available():
            print("PostgreSQL's programs are not on PATH")
            continue
        with postgres.server() as server, postgres.database(server, "search") as url:
            database = Database(url, SystemClock())
            fill(database, url, runs, now)
            lines += measure(database, "PostgreSQL", runs, now)
            database.close()
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()

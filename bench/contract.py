"""20 rules on 100,000 rows: `check` (masks, counts, examples) and `partition` against the same rules in raw polars.

Run: python bench/contract.py [--json FILE]. The limit is one select of the 20 conditions' counts and their row mask.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from loopline.quality.contract import column, contract, rule, unique
from loopline.quality.contract_check import check, partition

ROWS, REPEATS, GOAL = 100_000, 31, 3.0


def table() -> pl.DataFrame:
    """15 numbers, 5 categories of up to 500 levels; about one row in a hundred breaks a rule."""
    rng = np.random.default_rng(7)
    numbers = {f"n{i}": rng.normal(50, 20, ROWS) for i in range(12)}
    counts = {"id": np.arange(ROWS), "days": rng.integers(0, 15, ROWS), "age": rng.integers(0, 100, ROWS)}
    words = {f"c{i}": rng.choice([f"level {j}" for j in range(k)], ROWS) for i, k in enumerate((2, 5, 20, 100, 500))}
    return pl.DataFrame({**counts, **numbers, **words})


LEVELS = [f"level {j}" for j in range(20)]
RULES = contract(
    unique("id"),
    column("days").between(1, 14),
    *(column(f"n{i}").between(-20, 120) for i in range(8)),
    *(column(f"n{i}").not_null() for i in range(8, 12)),
    column("c0").one_of(*LEVELS[:2]),
    column("c1").one_of(*LEVELS[:5]),
    column("c2").one_of(*LEVELS),
    column("c3").matches(r"level \d+"),
    column("age").of_type("integer"),
    rule("days below age", "days < age + 20"),
)
RAW = [
    ~pl.col("id").is_first_distinct(),
    ~pl.col("days").is_between(1, 14),
    *(~pl.col(f"n{i}").is_between(-20, 120) for i in range(8)),
    *(pl.col(f"n{i}").is_null() for i in range(8, 12)),
    ~pl.col("c0").is_in(LEVELS[:2]),
    ~pl.col("c1").is_in(LEVELS[:5]),
    ~pl.col("c2").is_in(LEVELS),
    ~pl.col("c3").str.contains(r"\Alevel \d+\z"),
    pl.col("age").is_null(),
    ~(pl.col("days") < pl.col("age") + 20),
]


def raw(frame: pl.DataFrame) -> int:
    masks = frame.lazy().select(e.alias(f"{i}") for i, e in enumerate(RAW)).collect()
    masks.sum()
    return int(masks.select(pl.any_horizontal(pl.all())).to_series().sum())


def main() -> None:
    frame = table()
    assert len(RULES.rules) == len(RAW) == 20
    assert check(frame, RULES).quarantined == raw(frame)
    ways: dict[str, Callable[[], object]] = {
        "raw polars": lambda: raw(frame),
        "check": lambda: check(frame, RULES),
        "partition": lambda: partition(frame, RULES),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):  # interleaved: the machine's moods hit all alike
        for name, way in ways.items():
            start, spent = time.perf_counter(), time.process_time()
            way()
            seconds[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - spent)
    median = {name: statistics.median(s) for name, s in seconds.items()}
    print(f"20 rules on {ROWS:,} rows, medians of {REPEATS}")
    work = {name: statistics.median(s) for name, s in cpu.items()}
    for name, value in median.items():
        times, spent = value / median["raw polars"], work[name] / work["raw polars"]
        print(
            f"  {name:<12} {value * 1000:7.2f} ms  {times:5.2f} x raw polars; cpu {work[name] * 1000:7.2f} ms  {spent:5.2f} x"
        )
    ratio = median["check"] / median["raw polars"]
    print(f"  goal: check <= {GOAL} x raw polars: {'met' if ratio <= GOAL else 'NOT met'}")
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(
            json.dumps({"seconds": median, "cpu": work, "ratio": ratio})
        )


if __name__ == "__main__":
    main()

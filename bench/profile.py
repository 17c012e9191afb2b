"""The profile of 100,000 and 1,000,000 rows of 20 columns against a polars summary; rows as served; bytes a column.

Run: python bench/profile.py [--json FILE]. Medians of three. Goals: 100,000 rows in 0.3 s; a million in at most twice a
polars summary; 5 us a served row of 20 columns; memory at most 100 MB above the table.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from loopline.quality.profile import ProfileBuilder, profile

REPEATS = 3


def table(rows: int) -> pl.DataFrame:
    """15 numbers (normal, skewed, whole) and 5 categories of up to 500 levels."""
    rng = np.random.default_rng(1)
    numbers = {f"n{i}": rng.normal(size=rows) for i in range(7)}
    numbers |= {f"s{i}": rng.lognormal(0, 1.5, rows) for i in range(4)}
    numbers |= {f"w{i}": rng.poisson(3 + i, rows) for i in range(4)}
    words = {f"c{k}": rng.choice([f"level {j}" for j in range(k)], rows) for k in (2, 5, 20, 100, 500)}
    return pl.DataFrame({**numbers, **words})


def timed(work: Callable[[], object]) -> float:
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def summary(frame: pl.DataFrame) -> object:
    """What the limit does: polars' own description, and the counts of the categories."""
    frame.describe()
    return [frame[name].value_counts() for name, kind in frame.schema.items() if kind == pl.String]


def main() -> None:
    lines: list[dict[str, object]] = []

    def line(what: str, value: float, unit: str, limit: float | None, goal: float) -> None:
        ratio = value / limit if limit else None
        lines.append({"what": what, "value": value, "unit": unit, "limit": limit, "ratio": ratio, "goal": goal})
        shown = "" if ratio is None else f"{limit:10.3f} {ratio:6.2f}x"
        print(f"{what:52} {value:10.3f} {unit:4} {shown:18}  goal {goal:g}  {'met' if value <= goal else 'MISSED'}")

    print(f"{'':52} {'measured':>10} {'':4} {'limit':>10} {'ratio':>7}")
    small, big = table(100_000), table(1_000_000)
    line("profile, 100,000 rows", timed(lambda: profile(small)), "s", timed(lambda: summary(small)), 0.3)
    reference = profile(small).freeze()
    line(
        "profile against a reference, 100,000 rows", timed(lambda: profile(small, reference=reference)), "s", None, 0.1
    )
    labelled = small.with_columns(label=pl.col("n0") > 1)
    full = timed(lambda: profile(labelled, label="label"))
    line("profile with label associations, 100,000 rows", full, "s", None, 3.0)
    limit = timed(lambda: summary(big))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line("profile, 1,000,000 rows", timed(lambda: profile(big)), "s", limit, 2 * limit)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    line("memory above the table and polars' summary", grown, "MB", None, 100)
    rows = small.head(32_768).to_dicts()

    def serve() -> None:
        builder = ProfileBuilder(reference)
        for start in range(0, len(rows), 64):
            builder.add(rows[start : start + 64])
        builder.take()

    line("a served row of 20 columns", timed(serve) / len(rows) * 1e6, "us", None, 5.0)
    sizes = [len(profile(small).to_json()) / 20 / 1024, len(reference.to_json()) / 20 / 1024]
    line("JSON of a column", sizes[0], "kB", None, 10)
    line("JSON of a frozen column", sizes[1], "kB", None, 8)
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()

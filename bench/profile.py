"""The profile of 100,000 and 1,000,000 rows of 20 columns against a polars summary; rows as served; bytes a column.

Run: python bench/profile.py [--json FILE]. Medians of three, seconds of the clock and of the processor (all threads): on a
machine that others use, the latter is what can be compared. Goals: 100,000 rows in 0.3 s, in full in 3 s; a million in at
most twice a polars summary; 5 us a served row of 20 columns; memory at most 100 MB above the table.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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


class Took(NamedTuple):
    """Median seconds."""

    clock: float
    cpu: float


def timed(*works: Callable[[], object]) -> list[Took]:
    """The works in turns, so that the machine's moods hit all alike."""
    took: list[list[Took]] = [[] for _ in works]
    for _ in range(REPEATS):
        for mine, work in zip(took, works, strict=True):
            clock, cpu = time.perf_counter(), time.process_time()
            work()
            mine.append(Took(time.perf_counter() - clock, time.process_time() - cpu))
    return [Took(*map(statistics.median, zip(*mine, strict=True))) for mine in took]


def summary(frame: pl.DataFrame) -> object:
    """What the limit does: polars' own description, and the counts of the categories."""
    frame.describe()
    return [frame[name].value_counts() for name, kind in frame.schema.items() if kind == pl.String]


def main() -> None:
    lines: list[dict[str, object]] = []

    def line(
        what: str, value: float, unit: str, goal: float, cpu: float | None = None, ratio: float | None = None
    ) -> None:
        met = (ratio if ratio is not None else value if cpu is None else cpu) <= goal
        lines.append({"what": what, "value": value, "cpu": cpu, "unit": unit, "ratio": ratio, "goal": goal, "met": met})
        more = "" if cpu is None else f"cpu {cpu:8.3f}"
        times = "" if ratio is None else f"{ratio:5.2f}x"
        print(f"{what:46} {value:10.3f} {unit:3} {more:13} {times:7} goal {goal:g}  {'met' if met else 'MISSED'}")

    small, big = table(100_000), table(1_000_000)
    labelled = small.with_columns(label=pl.col("n0") > 1)
    reference = profile(small).freeze()
    plain, against, full, limit = timed(
        lambda: profile(small),
        lambda: profile(small, reference=reference),
        lambda: profile(labelled, label="label", full=True),
        lambda: summary(small),
    )
    line("a polars summary, 100,000 rows", limit.clock, "s", 1, limit.cpu)
    line("profile, 100,000 rows", plain.clock, "s", 0.3, plain.cpu)
    line("profile against a reference, 100,000 rows", against.clock, "s", 0.1, against.cpu)
    line("full profile with a label, 100,000 rows", full.clock, "s", 3.0, full.cpu)
    summary(big)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    profile(big)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    line("memory above the table and polars' summary", grown, "MB", 100)
    plain, limit = timed(lambda: profile(big), lambda: summary(big))
    line("a polars summary, 1,000,000 rows", limit.clock, "s", 10, limit.cpu)
    line("profile, 1,000,000 rows, to that by cpu", plain.clock, "s", 2, plain.cpu, plain.cpu / limit.cpu)
    profile(big, full=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    line("the same, in full", grown, "MB", 300)
    rows = small.head(32_768).to_dicts()

    def serve() -> None:
        builder = ProfileBuilder(reference)
        for start in range(0, len(rows), 64):
            builder.add(rows[start : start + 64])
        builder.take()

    (served,) = timed(serve)
    line("a served row of 20 columns", served.clock / len(rows) * 1e6, "us", 5.0, served.cpu / len(rows) * 1e6)
    sizes = [len(profile(small).to_json()) / 20 / 1024, len(reference.to_json()) / 20 / 1024]
    line("JSON of a column", sizes[0], "kB", 10)
    line("JSON of a frozen column", sizes[1], "kB", 8)
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()

"""What a profile and 20 rules cost as tables grow, by cells (10^4 to 10^8) and by columns (10 to 10,000), beside polars and DuckDB.

Tables of 20 columns grow by rows; tables of 10^6 cells are cut into ever more columns. Numbers alone, so that each column costs
the same. Each system has a process of its own that holds the table; medians of the rounds, by the processor's time (all threads).
10^8 cells take 0.8 GB a process and are measured with --cells 8. Who takes minutes is not asked: polars beyond 100 columns (its
description of 1,000 took a minute), DuckDB beyond 1,000, ydata-profiling and whylogs beyond 100 columns or 10^6 cells.

    python bench/scale.py [--rounds 3] [--cells 7] [--no-peer] [--json FILE] [--plot FILE]

--plot draws FILE, and beside it one with -columns in its name.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).parent / "beside"))
from peers import environment
from profilers import PROFILERS
from turns import OURS, Took, Worker, in_turns, kept, show

COLUMNS = (10, 100, 1_000, 10_000)


def table(rows: int, columns: int) -> pl.DataFrame:
    """Normal numbers."""
    rng = np.random.default_rng(1)
    return pl.DataFrame({f"n{i}": rng.normal(size=rows) for i in range(columns)})


def measured(rows: int, columns: int, folder: Path, rounds: int, peers: bool) -> dict[str, Took]:
    """All systems on one table."""
    file = folder / f"{rows}-{columns}.parquet"
    table(rows, columns).write_parquet(file)
    with ExitStack() as running:
        ours = running.enter_context(Worker(OURS, "scale_loopline.py", file))
        ways = [
            ("loopline profile", ours, "profile"),
            ("loopline, 20 rules", ours, "check"),
        ]
        if columns <= 100:
            ways.append(("polars summary", running.enter_context(Worker(OURS, "profile_polars.py", file)), "profile"))
        for name, (script, needs) in PROFILERS.items() if peers else ():
            if columns <= 1_000 if name.startswith("duckdb") else rows * columns <= 10**6 and columns <= 100:
                ways.append((name, running.enter_context(Worker(environment(*needs), script, file)), "profile"))
        found = in_turns(ways, rounds)
    file.unlink()
    show(f"{rows:,} rows of {columns:,} columns", found, "loopline profile")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=7, help="the largest table, as a power of ten")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        cells = {
            10**power: measured(10**power // 20, 20, Path(name), given.rounds, not given.no_peer)
            for power in range(4, given.cells + 1)
        }
        columns = {
            count: measured(10**6 // count, count, Path(name), given.rounds, not given.no_peer) for count in COLUMNS
        }
    print(f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    kept(given.json, {"load": load, "by cells, 20 columns": cells, "by columns, 1,000,000 cells": columns})
    if given.plot:
        from plots import draw_lines

        beside = given.plot.with_stem(given.plot.stem + "-columns")
        for file, found, title, x in (
            (given.plot, cells, "Tables of 20 columns", "cells"),
            (beside, columns, "Tables of 1,000,000 cells", "columns"),
        ):
            names = dict.fromkeys(name for some in found.values() for name in some)
            lines = {n: [(at, some[n]["cpu"]) for at, some in found.items() if n in some] for n in names}
            draw_lines(file, title, x, "processor time, s", lines)


if __name__ == "__main__":
    main()

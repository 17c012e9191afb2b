"""The profile of 100,000 and 1,000,000 rows of 20 columns beside polars' summary, DuckDB's, ydata-profiling and whylogs, in turns.

Peers are in environments of their own, made at the first call (scripts/peers.py). Prints a table of medians: seconds of the clock
and of the processor (all threads), and how far the process grew above the table that it held. Goals: 100,000 rows in 0.3 s, in
full in 3 s; a million in at most twice a polars summary and 100 MB; 5 us a served row of 20 columns.

    python bench/profile.py [--rounds 3] [--no-peer] [--json FILE]
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

from loopline.quality.profile import profile

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).parent / "beside"))
from peers import environment
from profilers import PROFILERS
from turns import OURS, Took, Worker, in_turns, kept, show


def table(rows: int) -> pl.DataFrame:
    """15 numbers (normal, skewed, whole) and 5 categories of up to 500 levels."""
    rng = np.random.default_rng(1)
    numbers = {f"n{i}": rng.normal(size=rows) for i in range(7)}
    numbers |= {f"s{i}": rng.lognormal(0, 1.5, rows) for i in range(4)}
    numbers |= {f"w{i}": rng.poisson(3 + i, rows) for i in range(4)}
    words = {f"c{k}": rng.choice([f"level {j}" for j in range(k)], rows) for k in (2, 5, 20, 100, 500)}
    return pl.DataFrame({**numbers, **words})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    found: dict[str, dict[str, Took]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        files = [Path(name, "small.parquet"), Path(name, "large.parquet")]
        for file, rows in zip(files, (100_000, 1_000_000), strict=True):
            table(rows).write_parquet(file)
        ours = running.enter_context(Worker(OURS, "profile_loopline.py", *files))
        limit = running.enter_context(Worker(OURS, "profile_polars.py", *files))
        peers = {
            name: running.enter_context(Worker(environment(*needs), script, *files))
            for name, (script, needs) in ({} if given.no_peer else PROFILERS).items()
        }
        found["100,000 rows of 20 columns"] = in_turns(
            [
                ("profile", ours, "profile"),
                ("  against a reference", ours, "against a reference"),
                ("  in full, with a label", ours, "full"),
                ("polars summary", limit, "profile"),
                *((name, worker, "profile") for name, worker in peers.items()),
            ],
            given.rounds,
        )
        found["1,000,000 rows of 20 columns"] = in_turns(
            [
                ("profile", ours, "large"),
                ("  in full", ours, "large full"),
                ("polars summary", limit, "large"),
                *((name, worker, "large") for name, worker in peers.items() if "large" in worker.works),
            ],
            given.rounds,
        )
        found["served rows of 20 columns"] = in_turns([("32,768 rows", ours, "32,768 served rows")], given.rounds)
        small = profile(pl.read_parquet(files[0]))
    goals = {
        "profile": "goal 0.3 s; of a million at most 2 polars summaries, 100 MB",
        "  in full, with a label": "goal 3 s",
        "32,768 rows": "goal 0.164 s, 5 us a row",
    }
    for title, some in found.items():
        show(title, some, next(iter(some)), goals)
    sizes = {
        "JSON of a column, kB": len(small.to_json()) / 20_480,
        "frozen, kB": len(small.freeze().to_json()) / 20_480,
    }
    print("\n" + ", ".join(f"{what} {value:.1f}" for what, value in sizes.items()) + " (goals 10 and 8)")
    print(f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    kept(given.json, {"load": load, **found, **sizes})


if __name__ == "__main__":
    main()

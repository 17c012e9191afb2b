"""20 rules on 100,000 rows: `check` (masks, counts, examples) and `partition` beside the same rules in raw polars, pandera and GX.

Peers are in environments of their own, made at the first call (scripts/peers.py). The limit is one select of the 20 conditions'
counts and their row mask, in raw polars. All take turns; a table of medians is printed. The goal is at most 3 times the limit.

    python bench/contract.py [--rounds 31] [--no-peer] [--json FILE]
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
from turns import OURS, Worker, in_turns, kept, show

ROWS, GOAL = 100_000, 3.0
PEERS = {
    "pandera on polars": ("contract_pandera.py", ("pandera==0.35.0", "polars==2.1.0")),
    "great_expectations": ("contract_gx.py", ("great-expectations==1.24.1", "pyarrow")),
}


def table(rows: int = ROWS) -> pl.DataFrame:
    """15 numbers, 5 categories of up to 500 levels; about one row in a hundred breaks a rule."""
    rng = np.random.default_rng(7)
    numbers = {f"n{i}": rng.normal(50, 20, rows) for i in range(12)}
    counts = {"id": np.arange(rows), "days": rng.integers(0, 15, rows), "age": rng.integers(0, 100, rows)}
    words = {f"c{i}": rng.choice([f"level {j}" for j in range(k)], rows) for i, k in enumerate((2, 5, 20, 100, 500))}
    return pl.DataFrame({**counts, **numbers, **words})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        file = Path(name, "table.parquet")
        table().write_parquet(file)
        ours = running.enter_context(Worker(OURS, "contract_loopline.py", file))
        peers = {} if given.no_peer else PEERS
        ways = [
            ("check", ours, "check"),
            ("partition", ours, "partition"),
            ("raw polars", ours, "raw"),
            *(
                (name, running.enter_context(Worker(environment(*needs), script, file)), "check")
                for name, (script, needs) in peers.items()
            ),
        ]
        found = in_turns(ways, given.rounds)
    show(f"20 rules on {ROWS:,} rows", found, "check")
    ratio = {key: found["check"][key] / found["raw polars"][key] for key in ("seconds", "cpu")}
    met = "met" if ratio["seconds"] <= GOAL else "NOT met"
    print(f"  check to raw polars: {ratio['seconds']:.2f}, by CPU {ratio['cpu']:.2f}; goal {GOAL}: {met}")
    print(f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    kept(given.json, {"load": load, **found, "check to raw polars": ratio})


if __name__ == "__main__":
    main()

"""A CSV file into a version of a dataset, with profile and contract, beside polars' own way from CSV to Parquet.

Run: python bench/ingest.py [--mb 1000] [--folder FOLDER] [--json FILE]. Each way is a process of its own, on one file of 20
columns (identifiers, numbers, days, times, categories, texts in quotes), in a folder on a disk; the limit is twice polars' time.
Both parse each line once; `add` also asks the rules, profiles, and hashes every value.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

GOAL = 2.0
ROWS = 200_000

_TOLD = """
import json, resource, sys, time
from pathlib import Path
def told(began, spent):
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mib": int(peak.split()[1]) >> 10}))
file, folder = Path(sys.argv[1]), Path(sys.argv[2])
"""
POLARS = (
    _TOLD
    + """
import polars as pl
began, spent = time.perf_counter(), time.process_time()
pl.scan_csv(file, try_parse_dates=True).sink_parquet(folder / "table.parquet")
told(began, spent)
"""
)
ADD = (
    _TOLD
    + """
import msgspec
import loopline as ll
from loopline.app import Platform
from loopline.operations import Body
rules = ll.contract(
    ll.column("n0").between(-60, 160), ll.column("n1").not_null(), ll.column("code").matches("P[0-9]+"),
    ll.column("flag").of_type("boolean"), *(ll.column(f"c{i}").not_null() for i in range(4)),
)
platform = Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))
session = platform.session()
began, spent = time.perf_counter(), time.process_time()
session.datasets.add("table", Body(file), contract=msgspec.to_builtins(rules))
told(began, spent)
platform.close()
"""
)


def write(path: Path, size: int) -> int:
    """The file; gives how many rows it has."""
    rng, rows = np.random.default_rng(1), 0
    with path.open("wb") as file:
        while file.tell() < size:
            day = pl.date(2020, 1, 1) + pl.duration(days=pl.Series(rng.integers(0, 2000, ROWS)))
            at = pl.datetime(2021, 1, 1) + pl.duration(seconds=pl.Series(rng.integers(0, 10**8, ROWS)))
            frame = pl.DataFrame(
                {
                    "id": np.arange(rows, rows + ROWS),
                    "code": [f"P{n:09}" for n in rng.integers(0, 10**9, ROWS)],
                    **{f"i{i}": rng.integers(0, 10 ** (i + 1), ROWS) for i in range(5)},
                    **{f"n{i}": np.round(rng.normal(50, 20, ROWS), 2 + i % 3) for i in range(5)},
                    **{f"c{i}": rng.choice([f"level {j}" for j in range(3 + 10 * i)], ROWS) for i in range(4)},
                    "flag": rng.random(ROWS) < 0.3,
                    "note": rng.choice(["fine", "so, so", 'he said "no"', "bad"], ROWS),
                }
            ).with_columns(day=day, at=at.dt.strftime("%Y-%m-%dT%H:%M:%S"))
            file.write(frame.write_csv(include_header=not rows).encode())
            rows += ROWS
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        file = Path(folder) / "table.csv"
        rows = write(file, given.mb * 1_000_000)
        print(f"{rows:,} rows, {file.stat().st_size / 1e6:,.0f} MB")
        for name, code in (("polars", POLARS), ("add", ADD)):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                command = [sys.executable, "-c", code, str(file), place]
                found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            one = found[name]
            print(f"{name:>7}: {one['seconds']:6.1f} s, {one['cpu']:6.1f} s of CPU, peak {one['peak_mib']:,} MiB")
    ratio = {key: found["add"][key] / found["polars"][key] for key in ("seconds", "cpu")}
    print(
        f"add / polars: time {ratio['seconds']:.1f}, CPU {ratio['cpu']:.1f} (limit {GOAL}); load {os.getloadavg()[0]:.1f}"
    )
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "ways": found, "ratio": ratio, "limit": GOAL}, indent=1) + "\n")


if __name__ == "__main__":
    main()

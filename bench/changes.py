"""What a change of 1 % of a table of 1 GB costs in space and time: one run of rows, a hundred runs, and each row by itself.

20 columns, as bench/ingest.py makes them; a CSV file is added, changed, added again. Beside it Delta Lake by itself: delta-rs
merges the changed rows by their key into the table that was written of the same rows, and overwrites it, which is what there is
without a key. Space is what the files of the table grew by, as a share of what they took before; a file with several names counts
once. DVC and git-lfs keep a changed file whole: bench/files.py. The goal is a run of rows for 0.05; the limit is 0.01.

    python bench/changes.py [--mb 1000] [--no-peer] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import deltalake
import polars as pl
from ingest import write

sys.path.insert(0, str(Path(__file__).parent / "beside"))
from turns import kept

PLACES = {"one run of rows": 1, "100 runs of rows": 100, "each row by itself": 0}
GOAL = 0.05
Found = dict[str, tuple[float, float]]
"""The share of space and the seconds, by what was changed."""


def changed(rows: pl.LazyFrame, height: int, places: int) -> pl.LazyFrame:
    """One row of a hundred has another number: in so many runs; 0: each by itself."""
    places = places or height // 100
    step = height // places
    other = pl.col("id") % step >= step - max(1, height // 100 // places)
    return rows.with_columns(n0=pl.when(other).then(pl.col("n0") + 1).otherwise("n0"), other=other)


def space(folder: Path) -> int:
    files = (file.lstat() for file in folder.rglob("*.parquet"))
    return sum({file.st_ino: file.st_blocks * 512 for file in files}.values())


def measured(folder: Path, call: Callable[[], object]) -> tuple[float, float]:
    before, began = space(folder), time.perf_counter()
    call()
    return space(folder) - before, time.perf_counter() - began


def ours(source: Path, height: int, place: Path) -> Found:
    from loopline.app import Platform
    from loopline.operations import Body

    platform = Platform.open(workspace=place / "w", checkpoints=str(place / "copies"))
    datasets, other = platform.session().datasets, place / "changed.csv"
    table = place / "w" / "tables"
    found = {"first": measured(place / "w", lambda: datasets.add("table", Body(source)))}
    whole = space(table)
    for what, places in PLACES.items():
        changed(pl.scan_csv(source), height, places).drop("other").sink_csv(other)
        size, seconds = measured(table, lambda: datasets.add("table", Body(other)))
        found[what] = (size / whole, seconds)
    platform.close()
    return found


def delta(source: Path, height: int, place: Path, *, merge: bool) -> Found:
    table = str(place / "delta")
    rows = pl.scan_csv(source, try_parse_dates=True)
    found = {"first": measured(place, lambda: rows.collect(engine="streaming").write_delta(table))}
    whole = space(place)
    for what, places in PLACES.items():
        new = changed(rows, height, places)

        def merged(new: pl.LazyFrame = new) -> None:
            given = new.filter("other").drop("other").collect(engine="streaming").to_arrow()
            into = deltalake.DeltaTable(table).merge(given, "t.id = s.id", source_alias="s", target_alias="t")
            into.when_matched_update_all().execute()

        def overwritten(new: pl.LazyFrame = new) -> None:
            new.drop("other").collect(engine="streaming").write_delta(table, mode="overwrite")

        size, seconds = measured(place, merged if merge else overwritten)
        found[what] = (size / whole, seconds)
        deltalake.DeltaTable(table).restore(0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to work: the disk that is measured")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    ways: dict[str, Callable[[Path, int, Path], Found]] = {"loopline": ours}
    if not given.no_peer:
        ways["Delta merge"] = lambda *a: delta(*a, merge=True)
        ways["Delta overwrite"] = lambda *a: delta(*a, merge=False)
    load, found = os.getloadavg()[0], dict[str, Found]()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        source = Path(folder) / "table.csv"
        height = write(source, given.mb * 1_000_000)
        print(f"{height:,} rows, {source.stat().st_size / 1e6:,.0f} MB")
        for way, measure in ways.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                found[way] = measure(source, height, Path(place))
    print(f"{'':22}" + "".join(f"{way:>24}" for way in ways))
    first = [f"{by['first'][0] / 1e6:,.0f} MB, {by['first'][1]:.1f} s" for by in found.values()]
    print(f"{'written first':22}" + "".join(f"{text:>24}" for text in first))
    for what in PLACES:
        cells = [f"{by[what][0]:.3f}, {by[what][1]:.1f} s" for by in found.values()]
        print(f"{what:22}" + "".join(f"{text:>24}" for text in cells))
    print(f"goal: one run of rows for {GOAL}; load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    kept(given.json, {"load": load, "rows": height, "goal": GOAL, **found})


if __name__ == "__main__":
    main()

"""Joins of tables that are too large for memory: the same rows in the same order as of those that are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.data import joining
from loopline.data.joining import join
from loopline.data.reconcile import Part
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks

_KEY = st.one_of(st.none(), st.sampled_from([0.0, -0.0, float("nan"), *map(float, range(1, 9))]))
_ROWS = st.lists(st.tuples(_KEY, st.none() | st.integers(1, 2)), min_size=1, max_size=30)


def _part(name: str, rows: list[tuple[Any, Any]], *, once: bool = False) -> Part:
    """Rows of a key, a column that all parts have, and one of its own; `once`: each key one time."""
    if once:
        rows = list(
            {repr(key or 0.0) if key is not None else f"none {n}": (key, v) for n, (key, v) in enumerate(rows)}.values()
        )
    schema = {"k": pl.Float64, "v": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.format(f"{name}{{}}", pl.row_index()).alias(name)
    )

    def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
        yield from frame.select(names).iter_slices(4)

    return Part(name, Blocks(frame.schema, frame.height, read))


@settings(max_examples=40, deadline=None)
@given(_ROWS, _ROWS, _ROWS, st.sampled_from([1, 7, 1000]))
def test_a_join_in_parts_gives_the_rows_of_one_at_once(a: Any, b: Any, c: Any, ahead: int) -> None:
    parts = [_part("a", a), _part("b", b, once=True), _part("c", c, once=True)]
    whole, told = join(parts, ("k",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "_AT_ONCE", 100)
        patch.setattr(joining, "_AHEAD", ahead)
        cut, said = join(parts, ("k",))
    assert said == told
    assert cut.height == whole.height == told[-1].matched + told[-1].only_before + told[-1].only_here
    assert_frame_equal(cut.frame(), whole.frame())
    assert_frame_equal(cut.only(["a"]).frame(), whole.frame().select("a"))  # and once more


def test_keys_that_clash_are_counted_over_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_AT_ONCE", 100)
    rows: list[tuple[Any, Any]] = [(float(n % 20), 1) for n in range(40)]
    with pytest.raises(Invalid, match="20 values of k stand more than once") as caught:
        join([_part("a", rows), _part("b", rows)], ("k",))
    assert caught.value.code == "key-clash"


_JOIN = """
import sys
from pathlib import Path
from loopline.app import Platform
folder, files = Path(sys.argv[1]), sys.argv[2:]
platform = Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))
made = platform.session().sources.collect("both", [{"address": file} for file in files], join=("id",)).version
platform.close()
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(made.rows, int(peak.split()[1]) >> 10)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's peak is read from /proc")
@pytest.mark.soak
def test_a_join_of_two_large_files_is_bounded(tmp_path: Path) -> None:
    """Two files of 1 GB each: less than 1.5 GB of memory."""
    rows = 8_000_000
    for name in ("left", "right"):
        block = 500_000
        with (tmp_path / f"{name}.csv").open("wb") as file:
            for start in range(0, rows, block):
                ids = pl.int_range(start, start + block, eager=True).alias("id")
                frame = pl.DataFrame(ids).with_columns(
                    *(((pl.col("id") * (7 + n)).hash(n) % 10**12).alias(f"{name}{n}") for n in range(9))
                )
                file.write(
                    frame.sample(fraction=1, shuffle=True, seed=start).write_csv(include_header=not start).encode()
                )
    command = [sys.executable, "-c", _JOIN, str(tmp_path), str(tmp_path / "left.csv"), str(tmp_path / "right.csv")]
    env = {**os.environ, "POLARS_MAX_THREADS": "2"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    found, peak = map(int, done.stdout.split())
    assert found == rows
    assert peak < 1536

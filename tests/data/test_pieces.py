"""Rows that a dataset holds already are not written again: what a change costs in space, and that nothing is lost by it."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline import failpoints
from loopline.data import cutting, versions
from loopline.quality.blocks import Blocks
from loopline.quality.profile_frame import row_hashes

ROWS = 60_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 32 KiB rather than 16 MiB: what holds of a table of 2 MB then holds of one of 1 GB."""
    for name, size in (("AVERAGE", 32 << 10), ("_LEAST", 16 << 10), ("_MOST", 128 << 10)):
        monkeypatch.setattr(cutting, name, size)
    monkeypatch.setattr(versions, "AVERAGE", 32 << 10)


def table(rows: int = ROWS) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "x": rng.normal(size=rows),
            "word": pl.Series(["fine", "so so", "bad", None])[rng.integers(0, 4, rows)],
            "code": [f"P{n:09}" for n in rng.integers(0, 10**9, rows)],
        }
    )


def changed(frame: pl.DataFrame, places: int) -> pl.DataFrame:
    """One row of a hundred has another value: in so many runs, evenly spread."""
    length, step = frame.height // 100 // places, frame.height // places
    other = pl.col("id") % step >= step - length
    return frame.with_columns(x=pl.when(other).then(pl.col("x") + 1).otherwise("x"))


def space(folder: Path) -> int:
    """Bytes that the Parquet files of a folder take, each once."""
    return sum({file.stat().st_ino: file.stat().st_size for file in folder.rglob("*.parquet")}.values())


@pytest.fixture
def tables(place: Any) -> Path:
    folder: Path = place.platform.settings.workspace / "tables" / "default" / "visits"
    return folder


def test_a_contiguous_change_of_one_percent_costs_less_than_five(place: Any, tables: Path) -> None:
    before = table()
    place.add(before)
    whole = space(tables)
    place.add(changed(before, 1))
    assert 0 < space(tables) - whole <= 0.05 * whole
    assert_frame_equal(place.rows(), changed(before, 1))
    assert_frame_equal(place.rows(version=1), before)
    assert pl.read_delta(str(tables)).height == ROWS  # by another program


@pytest.mark.parametrize("how", ["put in", "taken out", "put before", "put behind"])
def test_rows_that_come_or_go_move_the_cuts_near_them_alone(place: Any, tables: Path, how: str) -> None:
    before = table()
    place.add(before)
    whole, new = space(tables), table(ROWS + 100).tail(100)
    parts = {
        "put in": [before[:20_000], new, before[20_000:]],
        "taken out": [before[:20_000], before[20_100:]],
        "put before": [new, before],
        "put behind": [before, new],
    }[how]
    place.add(pl.concat(parts))
    assert space(tables) - whole <= 0.05 * whole
    assert_frame_equal(place.rows(), pl.concat(parts))


def test_what_was_there_before_the_newest_version_is_not_written_again_either(place: Any, tables: Path) -> None:
    before = table(20_000)
    place.add(before)
    place.add(before.with_columns(x=-pl.col("x")))
    twice = space(tables)
    place.add(before)
    assert space(tables) == twice
    assert_frame_equal(place.rows(version=3), before)


def cut(blocks: list[pl.DataFrame]) -> list[pl.DataFrame]:
    hashed = [cutting.Hashed(block, row_hashes(block)) for block in [blocks[0].clear(), *blocks]]
    pieces = list(cutting.cut(hashed[1:], hashed[0]))
    assert all(piece.hashes.equals(row_hashes(piece.rows)) for piece in pieces)
    return [piece.rows for piece in pieces]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=30), st.integers(0, 2))
def test_cuts_do_not_depend_on_how_rows_come(heights: list[int], seed: int) -> None:
    frame = table(sum(heights) % 20_000 + 1).with_columns(pl.col("id") + seed)
    ends = [0, *np.minimum(np.cumsum(heights), frame.height), frame.height]
    blocks = [frame[int(a) : int(b)] for a, b in pairwise(ends)]
    pieces = cut(blocks)
    assert_frame_equal(pl.concat(pieces), frame)
    assert [piece.height for piece in pieces] == [piece.height for piece in cut([frame])]


def test_a_field_of_megabytes_and_rows_all_alike_are_cut(tmp_path: Path) -> None:
    long = pl.DataFrame({"text": ["x" * 1_000_000, "y", "z" * 300_000, "w"]})
    assert [piece.height for piece in cut([long])] == [1, 2, 1]
    alike = pl.DataFrame({"text": ["the same"] * 50_000})
    pieces = cut([alike])
    assert {piece.height * 16 >> 10 for piece in pieces[:-1]} in ({16}, {128})
    saved = versions.save(tmp_path / "t", Blocks.of(alike))
    assert versions.read(tmp_path / "t", versions.write(tmp_path / "t", saved)).equals(alike)
    assert len({path.stat().st_ino for path in saved.paths}) == 2  # and the last one


def test_a_file_that_was_damaged_is_not_taken_for_what_it_held(place: Any, tables: Path) -> None:
    before = table(20_000)
    place.add(before)
    for file in tables.glob("*.parquet"):
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 0xFF
        file.write_bytes(data)
    place.add(changed(before, 1))
    assert_frame_equal(place.rows(), changed(before, 1))


def test_where_a_file_takes_no_more_names_it_is_written_again(place: Any, tables: Path) -> None:
    before = table(20_000)
    place.add(before)
    once = space(tables)
    failpoints.arm("data.pieces.before_link=EMLINK")
    place.add(changed(before, 1))
    failpoints.arm("")
    assert once * 1.01 < space(tables) <= once * 1.1  # the first one was, the others were not
    assert_frame_equal(place.rows(), changed(before, 1))


def test_a_version_that_goes_takes_only_what_no_other_has(place: Any, tables: Path) -> None:
    before = table()
    place.add(before)
    whole = space(tables)
    place.add(changed(before, 1))
    alone = space(tables) - whole
    place.session.datasets.purge(versions=("data:visits@1",))
    for path in tables.glob("*.parquet"):
        os.utime(path, (1, 1))
    told = place.session.datasets.vacuum(dry_run=True)
    assert place.session.datasets.vacuum() == told
    assert whole + alone - space(tables) == told.bytes <= 0.05 * whole
    assert_frame_equal(place.rows(), changed(before, 1))


def test_a_large_table_is_gone_on_with_though_it_lies_in_many_files(tmp_path: Path) -> None:
    folder, frame = tmp_path / "table", table(3 * ROWS)
    version = versions.write(folder, versions.save(folder, Blocks.of(frame)))
    files = versions.files_of(folder, version)
    assert len(files) > versions._MOST_FILES
    behind = versions.next_number(folder, version, frame.schema)
    assert behind == len(files)
    version = versions.append(folder, version, versions.save(folder, Blocks.of(frame[:50]), number=behind))
    assert versions.files_of(folder, version)[:-1] == files
    assert_frame_equal(versions.read(folder, version), pl.concat([frame, frame[:50]]))

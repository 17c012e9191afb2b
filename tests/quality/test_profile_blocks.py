"""A profile of blocks: the same as of the frame that they make, and rows that repeat each other counted within bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.quality import profile_blocks as blocks
from loopline.quality.blocks import Blocks
from loopline.quality.profile import profile


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=300), st.integers(1, 50), st.sampled_from([64, 1 << 20]))
def test_rows_that_repeat_each_other_are_counted_over_all_blocks(values: list[int], size: int, memory: int) -> None:
    frame = pl.DataFrame(
        {"x": values, "word": [f"word {v % 7}" for v in values]}, schema={"x": pl.Int64, "word": pl.String}
    )
    table = Blocks(frame.schema, frame.height, lambda names: (part.select(names) for part in frame.iter_slices(size)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_IN_MEMORY", memory)
        patch.setattr(blocks, "_PIECE", 32)
        found = blocks.profile_blocks(table)
    whole = profile(frame)
    assert found.duplicates == whole.duplicates == len(values) - len(set(values))
    assert {name: (c.rows, c.distinct) for name, c in found.columns.items()} == {
        name: (c.rows, c.distinct) for name, c in whole.columns.items()
    }


def test_very_many_rows_that_are_the_same_take_no_memory_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_IN_MEMORY", 1 << 12)
    monkeypatch.setattr(blocks, "_PIECE", 1 << 10)
    repeats, largest = blocks.Repeats(), 0
    concatenated = np.concatenate

    def joined(parts: list[Any]) -> Any:
        nonlocal largest
        found = concatenated(parts)
        largest = max(largest, found.nbytes)
        return found

    monkeypatch.setattr(np, "concatenate", joined)
    repeats.add(pl.Series([7] * 100_000 + list(range(50)), dtype=pl.UInt64))
    assert repeats.count() == 100_050 - 50
    assert 0 < largest < 4 << 12
    repeats.file.close()

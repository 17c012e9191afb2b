"""The profile of a table that is read block by block: the profiles of its blocks, merged, and the rows that repeat each other."""

from __future__ import annotations

import numpy as np
import polars as pl

from loopline.quality.blocks import Blocks
from loopline.quality.profile_column import ColumnProfile
from loopline.quality.profile_frame import columns_of, row_hashes
from loopline.quality.profile_records import Profile
from loopline.quality.profile_sketch import Hashes


class BlockProfiler:
    """Takes one block of rows after the other, each with the columns of `empty`.

    Against a frozen `reference` rows that repeat are not looked for.
    """

    def __init__(self, empty: pl.DataFrame, reference: Profile | None = None) -> None:
        self._reference = reference
        self._rows = 0
        self._columns: dict[str, ColumnProfile] = columns_of(empty, reference)
        self._hashes: list[Hashes] = []

    def add(self, block: pl.DataFrame) -> None:
        """Takes some rows in."""
        found = columns_of(block, self._reference)
        self._columns = {name: one.merge(found[name], name) for name, one in self._columns.items()}
        self._rows += block.height
        if self._reference is None:
            self._hashes.append(np.unique(row_hashes(block)))

    def profile(self) -> Profile:
        """The profile of all rows so far."""
        return Profile(
            rows=self._rows,
            columns=self._columns,
            label=self._reference.label if self._reference is not None else None,
            frozen=self._reference is not None,
            duplicates=self._rows - _distinct(self._hashes) if self._reference is None else None,
        )


def profile_blocks(rows: Blocks, reference: Profile | None = None) -> Profile:
    """The profile of a table, as `profile` makes it of a frame."""
    profiler = BlockProfiler(rows.empty, reference)
    for block in rows:
        profiler.add(block)
    return profiler.profile()


def _distinct(hashes: list[Hashes]) -> int:
    """How many there are in arrays that ascend; of 256 ranges one after the other, so that they are not in memory twice."""
    if len(hashes) < 2:
        return sum(map(len, hashes))
    bounds = np.arange(1, 256, dtype=np.uint64) << np.uint64(56)
    pieces = [np.split(one, np.searchsorted(one, bounds)) for one in hashes]
    return sum(len(np.unique(np.concatenate(of_range))) for of_range in zip(*pieces, strict=True))

"""The profile of a table that is read block by block: the profiles of its blocks, merged, and the rows that repeat each other."""

from __future__ import annotations

import contextlib
import tempfile

import numpy as np
import polars as pl

from loopline.quality.blocks import Blocks
from loopline.quality.profile_column import ColumnProfile
from loopline.quality.profile_frame import columns_of, row_hashes
from loopline.quality.profile_records import Profile

_IN_MEMORY = 32 << 20
_PIECE = 4 << 20


class BlockProfiler:
    """Takes one block of rows after the other, each with the columns of `empty`.

    Against a frozen `reference` rows that repeat are not looked for.
    """

    def __init__(self, empty: pl.DataFrame, reference: Profile | None = None) -> None:
        self._reference = reference
        self._rows = 0
        self._columns: dict[str, ColumnProfile] = columns_of(empty, reference)
        self._repeats = Repeats()

    def add(self, block: pl.DataFrame, hashes: pl.Series | None = None) -> None:
        """Takes some rows in; `hashes` has one of each row (`row_hashes`), where they are known."""
        self._columns = columns_of(block, self._reference, self._columns)
        self._rows += block.height
        if self._reference is None:
            self._repeats.add(row_hashes(block) if hashes is None else hashes)

    def repeat(self, hashes: pl.Series) -> None:
        """Takes rows in that are in another profile, to be merged: of them it is only seen which ones repeat each other."""
        self._repeats.add(hashes)

    def close(self) -> None:
        """Lets go of what was kept to count repeated rows."""
        self._repeats.file.close()

    def profile(self) -> Profile:
        """The profile of all rows so far."""
        return Profile(
            rows=self._rows,
            columns=self._columns,
            label=self._reference.label if self._reference is not None else None,
            frozen=self._reference is not None,
            duplicates=self._repeats.count() if self._reference is None else None,
        )


def profile_blocks(rows: Blocks, reference: Profile | None = None) -> Profile:
    """The profile of a table, as `profile` makes it of a frame."""
    with contextlib.closing(BlockProfiler(rows.empty, reference)) as profiler:
        for block in rows:
            profiler.add(block)
        return profiler.profile()


class Repeats:
    """How many rows repeat another one, by a hash a row. Many of them lie in a file that has no name."""

    def __init__(self) -> None:
        self._rows = 0
        self.file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - as long as it is filled

    def add(self, hashes: pl.Series) -> None:
        """Takes those of some rows in."""
        self._rows += len(hashes)
        self.file.write(hashes.to_numpy().tobytes())

    def count(self) -> int:
        """The number; counted in as many ranges of hashes as it takes for each to fit in memory."""
        ranges = 1 + 8 * self._rows // _IN_MEMORY
        return self._rows - sum(self._distinct(part, ranges) for part in range(ranges))

    def _distinct(self, part: int, ranges: int) -> int:
        self.file.seek(0)
        found, held = [np.zeros(0, np.uint64)], 0
        while piece := self.file.read(_PIECE):
            hashes = np.frombuffer(piece, np.uint64)
            found.append(hashes[(hashes >> np.uint64(32)) * np.uint64(ranges) >> np.uint64(32) == part])
            held += found[-1].nbytes
            if held > 2 * _IN_MEMORY:  # more than a range has as a rule: very many rows are the same
                found = [pl.Series(np.concatenate(found)).unique().to_numpy()]
                held = found[0].nbytes
        return pl.Series(np.concatenate(found)).n_unique()

"""Rows cut into pieces where their content says so: a change moves the cuts near it alone, and other pieces stay what they were.

As files are by FastCDC (Xia et al. 2020), but between rows: a row ends a piece where its hash is small, the likelier the larger the
row is, and never within the first `_LEAST` bytes of a piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from loopline.quality.profile_frame import row_hashes

AVERAGE = 16 << 20
"""Bytes of a piece, as its values are in memory; on the disk it is a third to two thirds of that, as a rule."""

_LEAST, _MOST = AVERAGE // 2, 4 * AVERAGE


def cut(blocks: Iterable[pl.DataFrame], empty: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of all blocks in pieces, one at the least; where they are cut does not depend on where a block ends.

    `empty` is a frame of their columns.
    """
    held, carried, pieces = [empty], 0, 0
    for block in blocks:
        if not block.height:
            continue
        sizes = _sizes(block)
        total = np.cumsum(sizes)
        ends = np.flatnonzero(np.asarray(row_hashes(block)) * 2.0**-64 < sizes / (AVERAGE - _LEAST))
        start, began = 0, -carried
        while True:
            first = np.searchsorted(ends, np.searchsorted(total, began + _LEAST))
            end = min(*ends[first : first + 1], np.searchsorted(total, began + _MOST), block.height)
            if end == block.height:
                break
            yield pl.concat([*held, block[start : end + 1]], rechunk=True)
            held, pieces = [empty], pieces + 1
            start, began = end + 1, total[end]
        held.append(block[start:])
        carried = total[-1] - began
    if carried or not pieces:
        yield pl.concat(held, rechunk=True)


def _sizes(block: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The bytes of each row: eight a value, and those of its texts."""
    sizes = np.full(block.height, 8 * block.width, np.int64)
    for name, kind in block.schema.items():
        more = (
            pl.col(name).str.len_bytes()
            if kind == pl.String
            else pl.col(name).bin.size()
            if kind == pl.Binary
            else 8 * pl.col(name).list.len()
            if isinstance(kind, pl.List)
            else None
        )
        if more is not None:
            sizes += block.select(more.fill_null(0).cast(pl.Int64)).to_series().to_numpy()
    return sizes

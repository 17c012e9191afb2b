"""Rows cut into pieces where their content says so: a change moves the cuts near it alone, and other pieces stay what they were.

As files are by FastCDC (Xia et al. 2020), but between rows: a row ends a piece where its hash is small, the likelier the larger the
row is, and never within the first `_LEAST` bytes of a piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

AVERAGE = 16 << 20
"""Bytes of a piece, as its values are in memory; on the disk it is a third to two thirds of that, as a rule."""

_LEAST, _MOST = AVERAGE // 2, 4 * AVERAGE


class Hashed(NamedTuple):
    """Rows, and a hash of each."""

    rows: pl.DataFrame
    hashes: pl.Series


def cut(blocks: Iterable[Hashed], empty: Hashed) -> Iterator[Hashed]:
    """The rows of all blocks in pieces, one at the least; where they are cut does not depend on where a block ends.

    `empty` has their columns.
    """
    held, carried, pieces = [empty], 0, 0
    for block, hashes in blocks:
        if not block.height:
            continue
        sizes = _sizes(block)
        total = np.cumsum(sizes)
        ends = np.flatnonzero(hashes.to_numpy() * 2.0**-64 < sizes / (AVERAGE - _LEAST))
        start, began = 0, -carried
        while True:
            first = np.searchsorted(ends, np.searchsorted(total, began + _LEAST))
            end = min(*ends[first : first + 1], np.searchsorted(total, began + _MOST), block.height)
            if end == block.height:
                break
            yield _joined([*held, Hashed(block[start : end + 1], hashes[start : end + 1])])
            held, pieces = [empty], pieces + 1
            start, began = end + 1, total[end]
        held.append(Hashed(block[start:], hashes[start:]))
        carried = total[-1] - began
    if carried or not pieces:
        yield _joined(held)


def _joined(parts: list[Hashed]) -> Hashed:
    rows, hashes = zip(*parts, strict=True)
    return Hashed(pl.concat(rows, rechunk=True), pl.concat(hashes, rechunk=True))


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

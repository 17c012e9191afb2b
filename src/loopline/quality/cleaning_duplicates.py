"""Rows that are there more than once: exactly, or by a text that is nearly another's. Which ones go, and the row that stays.

Near duplicates share most of their shingles (runs of five characters of the text in small letters, its spaces as one): MinHash
(Broder 1997) with banding finds the candidates, and the Jaccard similarity of the shingles themselves decides. Texts made from one
template share bands without being alike: each is compared with so many at most, those with which it shares the most bands, so that
the work grows with the rows and not with their square. What two texts share beyond the template puts them into bands of their own.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque

import numpy as np
import polars as pl
import xxhash

from loopline.quality.cleaning_columns import Places, Text

_SHINGLE = 5
_HASHES = 128
_STRICT = (
    0.9  # from here on, of pairs as similar one in eight thousand is overlooked; below, of pairs of 0.5 one in eight
)
_IN_BUCKET = 64  # of the texts that share a band, the newest so many are candidates
_COMPARED = 32  # of the candidates, those that share the most bands are compared
_PRIME = (1 << 31) - 1
_ROW = "_loopline_row"


def winners(frame: pl.DataFrame, columns: tuple[str, ...], keep: str, time: str | None) -> Places:
    """For each row the place of the one that stays of its duplicates: itself where it does. Equal are rows of the same values in
    these columns, or in all; one with a missing value in a named column equals none.

    `keep` is "first" or "last" (by `time`, else as they stand) or "fullest" (the fewest missing values, of equals the first).
    """
    n = frame.height
    rank = pl.col(_ROW)
    if keep == "fullest":
        rank = pl.sum_horizontal(pl.exclude(_ROW).is_null()) * n + rank
    elif time is not None:
        rank = pl.col(time).rank("dense").fill_null(0 if keep == "last" else n + 1).cast(pl.Int64) * n + rank
    if keep == "last":
        rank = -rank
    by = list(columns) or frame.columns
    numbered = frame.with_columns(pl.int_range(n, dtype=pl.Int64).alias(_ROW))
    best = numbered.with_columns(rank.alias("_loopline_rank")).select(
        pl.col(_ROW).sort_by("_loopline_rank").first().over(by)
    )
    found = best.to_series().to_numpy().copy()
    if columns:
        alone = frame.select(pl.any_horizontal(pl.col(c).is_null() for c in columns)).to_series().to_numpy()
        found[alone] = np.flatnonzero(alone)
    return found


def near(column: Text, similarity: float) -> dict[int, tuple[int, float]]:
    """Of each row whose text nearly is that of an earlier one that stays: the place of that row, and how similar they are."""
    in_band = 8 if similarity >= _STRICT else 4
    first: dict[str, int] = {}
    found: dict[int, tuple[int, float]] = {}
    kept: dict[int, frozenset[str]] = {}
    buckets: dict[tuple[int, bytes], deque[int]] = defaultdict(lambda: deque(maxlen=_IN_BUCKET))
    told: dict[str, tuple[int, float]] = {}
    for place, text in enumerate(column.values()):
        plain = " ".join(text.casefold().split())
        if not plain:
            continue
        if plain in first:
            found[place] = told.get(plain, (first[plain], 1.0))
            continue
        first[plain] = place
        shingles = frozenset(plain[i : i + _SHINGLE] for i in range(max(1, len(plain) - _SHINGLE + 1)))
        keys = [(band, part.tobytes()) for band, part in enumerate(_signature(shingles).reshape(-1, in_band))]
        shared = Counter(other for key in keys if key in buckets for other in buckets[key])
        candidates = heapq.nsmallest(_COMPARED, shared, key=lambda other: (-shared[other], other))
        best = max(((_jaccard(shingles, kept[other]), -other) for other in candidates), default=(0.0, 0))
        if best[0] >= similarity:
            found[place] = told[plain] = (-best[1], best[0])
            continue
        kept[place] = shingles
        for key in keys:
            buckets[key].append(place)
    return found


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


_DRAWN = np.random.default_rng(20_000_229)  # any seed will do, as long as it stays
_FACTORS, _OFFSETS = (_DRAWN.integers(1, _PRIME, size=(_HASHES, 1), dtype=np.int64) for _ in range(2))


def _signature(shingles: frozenset[str]) -> np.ndarray:
    """The least values of so many random orders of the shingles."""
    hashes = [xxhash.xxh3_64_intdigest(s.encode("utf-8", "surrogatepass")) % _PRIME for s in shingles]
    values = (np.array(hashes, dtype=np.int64) * _FACTORS + _OFFSETS) % _PRIME
    signature: np.ndarray = values.min(axis=1)
    return signature

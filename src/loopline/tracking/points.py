"""Metric points on the disk: as they came (hot), and packed closely by metric (folded).

Batches of journals are exact: each is taken once, and so is each of its points. Other batches may come again after a lost answer,
so the same point (key, step, time and value) twice is one of theirs. A hot row holds one batch, all keys of it; when a run has
many, they are folded: into one hot row while they are few, else into chunks of one metric each. Columns are kept one after
another: differences of keys, steps and times in as few bytes as the widest needs, then the values (IEEE 754 binary64, NaN and
infinities as they are). A chunk's bytes stand by their place (all first bytes, all second ...) and are deflated (RFC 1950), as
the shuffle filter of HDF5 does.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from loopline.database import Tx
from loopline.hashing import digest_bytes, digest_json
from loopline.tracking.tables import folded_points, hot_points

FEW = 4096
"""Up to so many points a run stays hot; a chunk with fewer is filled up before the next is begun."""

EVERY = 64
"""After so many batches a run's hot rows are folded."""

_PLAIN, _DEFLATED = 0, 1
_WIDTHS = ("", "<i1", "<i2", "<i4", "<i8")  # of differences; the first: all are 0
_HEAD = struct.Struct("<BI")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Points as four columns of one length: keys (numbers of the dictionary), steps, times (ms since 1970 UTC), values."""

    keys: Ints
    steps: Ints
    times: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.values)

    def at(self, places: Any) -> Columns:
        """The points at these places, in their order."""
        return Columns(self.keys[places], self.steps[places], self.times[places], self.values[places])


def columns(keys: npt.ArrayLike, steps: npt.ArrayLike, times: npt.ArrayLike, values: npt.ArrayLike) -> Columns:
    """Points as columns; every NaN is the same one."""
    numbers = np.array(values, np.float64)
    numbers[np.isnan(numbers)] = np.nan
    return Columns(np.asarray(keys, np.int64), np.asarray(steps, np.int64), np.asarray(times, np.int64), numbers)


def digest(run: str, points: Columns, numbers: Mapping[str, int]) -> str:
    """The digest under which the ledger knows a batch: over the run's id and each point as it came, its key spelled out.

    `numbers` are those of the keys in the dictionary.
    """
    names = sorted(numbers)
    place = np.searchsorted(named := np.array(sorted(numbers.values())), points.keys)
    spelled = {number: names.index(name) for name, number in numbers.items()}
    index = np.array([spelled[int(number)] for number in named], "<i4")[place]
    return digest_bytes(
        b"\0".join(
            [run.encode(), digest_json(names).encode(), index.tobytes()]
            + [column.astype("<i8").tobytes() for column in (points.steps, points.times)]
            + [points.values.astype("<f8").tobytes()]
        )
    )


def append(tx: Tx, run: int, batch: int, points: Columns, *, exact: bool, upto: int) -> None:
    """Writes a batch under its number; one that a crash left unacknowledged under the same number gives way.

    From time to time what came before it is folded, up to the batch `upto`, which is acknowledged. `tx` is of the database that
    holds the points.
    """
    row = {"run": run, "batch": batch, "exact": exact, "points": pack(points)}
    tx.upsert(hot_points, ("run", "batch"), row, ("exact", "points"))
    if batch % EVERY == 0 or len(points) >= FEW:
        fold(tx, run, upto)


def fold(tx: Tx, run: int, upto: int) -> None:
    """Packs the hot rows of a run, up to a batch that is acknowledged: into one while they are few points, else by metric."""
    for exact in (True, False):
        mine = (hot_points.c.run == run) & (hot_points.c.batch <= upto) & (hot_points.c.exact == exact)
        rows = tx.rows(sa.select(hot_points).where(mine).order_by(hot_points.c.batch))
        parts = [unpack(row.points) for row in rows]
        if not parts or (len(parts) == 1 and len(parts[0]) <= FEW):
            continue
        points = joined(parts)
        points = distinct(points, np.full(len(points), not exact))
        tx.execute(hot_points.delete().where(mine))
        if len(points) <= FEW:
            # Under the first of their numbers: who has read a smaller number of batches just before is to find them yet.
            row = {"run": run, "batch": rows[0].batch, "exact": exact, "points": pack(points)}
            tx.execute(hot_points.insert(), row)
            continue
        newest = {row.key: row for row in tx.rows(_newest(run, exact))}
        after = {row.key: row.last for row in tx.rows(_last(run))}
        for key in np.unique(points.keys).tolist():
            _add(tx, run, key, newest.get(key), after.get(key, 0), points.at(points.keys == key), exact)


def _newest(run: int, exact: bool) -> sa.Select[Any]:
    """Of each metric the newest chunk of a kind, where it has room."""
    c = folded_points.c
    last = (
        sa.select(c.key, sa.func.max(c.chunk).label("chunk"))
        .where(c.run == run, c.exact == exact)
        .group_by(c.key)
        .subquery()
    )
    same = (c.key == last.c.key) & (c.chunk == last.c.chunk)
    return sa.select(folded_points).join(last, same).where(c.run == run, c.count < FEW)


def _last(run: int) -> sa.Select[Any]:
    c = folded_points.c
    return sa.select(c.key, sa.func.max(c.chunk).label("last")).where(c.run == run).group_by(c.key)


def _add(tx: Tx, run: int, key: int, newest: Any, last: int, points: Columns, exact: bool) -> None:
    """Adds points of one metric to its chunks, of which the newest of their kind is filled up first."""
    if newest is not None:
        points = joined([unpack(newest.points), points])
        points = distinct(points, np.full(len(points), not exact))
        same = (folded_points.c.run == run) & (folded_points.c.key == key) & (folded_points.c.chunk == newest.chunk)
        tx.execute(folded_points.delete().where(same))
    for number, at in enumerate(range(0, len(points), 4 * FEW), last + 1):
        part = points.at(slice(at, at + 4 * FEW))
        row = {"run": run, "key": key, "chunk": number, "exact": exact, "count": len(part)}
        tx.execute(folded_points.insert(), {**row, "points": pack(part, closely=True)})


def read(rows: Callable[[Any], Iterable[Any]], run: int, key: int, upto: int) -> Columns:
    """The points of one metric, by step, then time, then value. `rows` runs a query on the database that holds them.

    One query: between two, folding could show points twice, or hide them.
    """
    hot = sa.select(hot_points.c.exact, hot_points.c.points).where(hot_points.c.run == run, hot_points.c.batch <= upto)
    folded = sa.select(folded_points.c.exact, folded_points.c.points).where(
        folded_points.c.run == run, folded_points.c.key == key
    )
    parts, again = [], []
    for row in rows(sa.union_all(hot, folded)):
        part = unpack(row.points)
        parts.append(part.at(part.keys == key))
        again.append(np.full(len(parts[-1]), not row.exact))
    return distinct(joined(parts), np.concatenate(again) if again else np.empty(0, bool))


def joined(parts: Sequence[Columns]) -> Columns:
    """All points of several parts."""
    if not parts:
        return columns([], [], [], [])
    return Columns(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Columns)))


def distinct(points: Columns, again: npt.NDArray[np.bool_]) -> Columns:
    """The points by key, step, time and value (NaN first); of those that may have come `again`, each that is new."""
    if not np.diff(points.keys).any() and (np.diff(points.steps) > 0).all():
        return points  # as one metric is mostly logged
    ranked = np.nan_to_num(points.values, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    order = np.lexsort((again, points.values.view(np.int64), ranked, points.times, points.steps, points.keys))
    ordered = points.at(order)
    new = ~again[order]
    new[:1] = True
    for column in (ordered.keys, ordered.steps, ordered.times, ordered.values.view(np.int64)):
        new[1:] |= np.diff(column) != 0
    return ordered.at(new)


def fewer(points: Columns, most: int) -> Columns:
    """At most so many points of one metric whose line looks alike (M4: Jugel et al., VLDB 2014).

    They are in order. The first and the last stay, and of each of some equal stretches the least and the greatest.
    """
    n = len(points)
    if n <= most:
        return points
    kept = {0, n - 1} if most > 1 else {n - 1}
    ranked = np.nan_to_num(points.values, nan=0.0, posinf=np.inf, neginf=-np.inf)
    edges = np.linspace(1, n - 1, max(1, most // 2)).astype(np.int64)  # one edge alone bounds no stretch
    for begin, end in itertools.pairwise(edges):
        part = ranked[begin:end]  # never empty: there are fewer stretches than points
        kept.update((int(begin + part.argmin()), int(begin + part.argmax())))
    return points.at(np.array(sorted(kept)))


def pack(points: Columns, *, closely: bool = False) -> bytes:
    """Points as bytes; `closely` takes longer and less room."""
    body = b"".join(_narrow(column) for column in (points.keys, points.steps, points.times))
    values = points.values.astype("<f8", copy=False)
    if not closely:
        return _HEAD.pack(_PLAIN, len(points)) + body + values.tobytes()
    planes = values.view(np.uint8).reshape(-1, 8).T.tobytes()
    return _HEAD.pack(_DEFLATED, len(points)) + zlib.compress(body + planes, 6)


def unpack(packed: bytes) -> Columns:
    """The points again."""
    form, n = _HEAD.unpack_from(packed)
    body = memoryview(packed)[_HEAD.size :]
    if form == _DEFLATED:
        body = memoryview(zlib.decompress(body))
    found, at = [], 0
    for _ in range(3):
        column, at = _wide(body, at, n)
        found.append(column)
    if form == _DEFLATED:
        values = np.frombuffer(body, np.uint8, 8 * n, at).reshape(8, n).T.copy().view("<f8").reshape(n)
    else:
        values = np.frombuffer(body, "<f8", n, at)
    return Columns(found[0], found[1], found[2], values)


def _narrow(column: Ints) -> bytes:
    """The first number, and the differences between neighbours (modulo 2^64) in as few bytes as the widest needs: none if all
    are 0."""
    if not len(column):
        return _first(0, 0)
    with np.errstate(over="ignore"):
        steps = np.diff(column)
    low, high = (int(steps.min()), int(steps.max())) if len(steps) else (0, 0)
    if low == high == 0:
        return _first(0, int(column[0]))
    code = 1 + next(c for c, bits in enumerate((7, 15, 31, 63)) if -(1 << bits) <= low and high < 1 << bits)
    return _first(code, int(column[0])) + steps.astype(_WIDTHS[code]).tobytes()


def _first(code: int, number: int) -> bytes:
    """The width of a column's differences, and its first number behind its own width: one byte and up to eight."""
    size = (number.bit_length() + 8) // 8 if number else 0
    return bytes([code << 4 | size]) + number.to_bytes(size, "little", signed=True)


def _wide(body: memoryview, at: int, n: int) -> tuple[Ints, int]:
    code, size = body[at] >> 4, body[at] & 15
    at += 1 + size
    column = np.full(n, int.from_bytes(body[at - size : at], "little", signed=True), np.int64)
    if code:
        steps = np.frombuffer(body, _WIDTHS[code], n - 1, at)
        at += steps.nbytes
        column[1:] = steps
        with np.errstate(over="ignore"):
            np.cumsum(column, out=column)
    return column, at

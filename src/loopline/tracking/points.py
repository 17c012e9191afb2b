"""Metric points on the disk: append-only batches, packed by key.

A batch is known by its digest, so a batch that is sent again after a lost answer is kept once. One row holds the points of one
key in one batch: all steps, then all values, then all times, 8 bytes each, little-endian (NaN and infinities as they are).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from loopline.database import Database, Tx, metadata
from loopline.failpoints import failpoint
from loopline.hashing import digest_bytes
from loopline.tracking.records import Point
from loopline.tracking.tables import metric_points


def create(database: Database) -> None:
    """Makes the table in a database file of its own, where it is not there yet."""
    with database.engine.connect().execution_options(loopline_write=True) as connection:
        metadata.create_all(connection, tables=[metric_points])
        failpoint("tracking.points.before_create_commit")
        connection.commit()


def digest(points: Sequence[Point]) -> str:
    """The digest under which a batch is known: over key, step, value and time of each point in the order given."""
    return digest_bytes(msgspec.msgpack.encode([(p.key, p.step, p.number, p.time) for p in points]))


def append(tx: Tx, run: str, points: Sequence[Point], batch: str) -> None:
    """Writes a batch, unless it is there already."""
    grouped: dict[str, list[Point]] = {}
    for point in points:
        grouped.setdefault(point.key, []).append(point)
    insert = (sqlite if tx.database.sqlite else postgresql).insert(metric_points)
    tx.execute(
        insert.on_conflict_do_nothing(),
        [
            {
                "run": run,
                "key": key,
                "batch": bytes.fromhex(batch.partition(":")[2])[:16],
                "at": tx.now,
                "points": _packed(some),
            }
            for key, some in grouped.items()
        ],
    )


def history(rows: Iterable[sa.Row[Any]], key: str) -> tuple[Point, ...]:
    """The points of one key out of its rows (in order of arrival), by step, then time, then arrival."""
    found = [point for row in rows for point in _unpacked(bytes(row.points), key)]
    return tuple(sorted(found, key=lambda p: (p.step, p.time)))


def rows_of(run: str, key: str) -> sa.Select[Any]:
    """The query for the rows of one key, in order of arrival."""
    return (
        sa.select(metric_points.c.points)
        .where(metric_points.c.run == run, metric_points.c.key == key)
        .order_by(metric_points.c.at, metric_points.c.batch)
    )


def _packed(points: Sequence[Point]) -> bytes:
    n = len(points)
    return struct.pack(
        f"<{n}q{n}d{n}q", *(p.step for p in points), *(p.number for p in points), *(p.time for p in points)
    )


def _unpacked(packed: bytes, key: str) -> Iterable[Point]:
    n = len(packed) // 24
    numbers = struct.unpack(f"<{n}q{n}d{n}q", packed)
    for step, value, time in zip(numbers[:n], numbers[n : 2 * n], numbers[2 * n :], strict=True):
        yield Point(key=key, value=value, step=step, time=time)

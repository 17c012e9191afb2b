"""What becomes of the record as time goes by: small segments are put together, old ones go with their labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import NotFound
from loopline.hashing import digest_json
from loopline.outcomes import frames
from loopline.outcomes.records import Compacted, Expired
from loopline.outcomes.tables import labels, segments
from loopline.ports.blobs import BlobStore
from loopline.store.service import Store

FEWEST = 16
"""So many small segments beside each other are put together."""
SMALL = 25_000
"""Rows of a segment that is small."""
_BYTES = 16 << 20
"""Bytes of Parquet that are put together at once; memory holds several times as much."""
_AT_ONCE = 500


def ref_of(tx: Tx, endpoint: str, number: int, until: int) -> str:
    """The ref of a segment: `endpoint:risk@log.7`, or `@log.3-7` where it was put together of several."""
    return tx.ref("endpoint", endpoint, f"log.{number}" if number == until else f"log.{number}-{until}")


def compact(tx: Tx, blobs: BlobStore) -> Compacted:
    """Puts small segments of each endpoint of the project together; what is on record stays the same."""
    c = segments.c
    found = tx.rows(sa.select(segments).where(c.project == tx.project).order_by(c.endpoint, c.number))
    made = []
    for group in _groups(found, blobs):
        frame = pl.concat([frames.of_parquet(blobs.read(row.blob)) for row in group])
        made.append((group, frame.height, blobs.put([frames.to_parquet(frame)]).digest))
    if not made:
        tx.recorded = False
        return Compacted(segments=0, rows=0)
    tx.write()
    store, count, digests = Store(tx, blobs), 0, []
    for group, height, digest in made:
        endpoint, first, last = group[0].endpoint, group[0].number, group[-1].number
        here = (c.project == tx.project, c.endpoint == endpoint, c.number >= first, c.number <= last)
        if [row.blob for row in tx.rows(sa.select(c.blob).where(*here).order_by(c.number))] != [r.blob for r in group]:
            continue  # another process was here meanwhile
        tx.execute(segments.delete().where(*here))
        until = group[-1].until
        values = {"first": min(r.first for r in group), "last": max(r.last for r in group), "collected": tx.now}
        place = {"project": tx.project, "endpoint": endpoint, "number": first, "until": until}
        tx.execute(segments.insert().values(**place, blob=digest, rows=height, **values))
        store.retain(digest, ref_of(tx, endpoint, first, until))
        for row in group:
            store.release(row.blob, ref_of(tx, endpoint, row.number, row.until))
        tx.note(
            inputs=[ref_of(tx, endpoint, row.number, row.until) for row in group],
            outputs=[ref_of(tx, endpoint, first, until)],
        )
        digests.append(digest)
        count += len(group)
    tx.note(digests={"segments": digest_json(sorted(digests))})
    tx.count, tx.recorded = count, count > 0
    return Compacted(segments=count, rows=sum(height for _, height, digest in made if digest in digests))


def _groups(found: Iterable[Any], blobs: BlobStore) -> Iterator[list[Any]]:
    """Neighbours that are put together."""
    for _, rows in itertools.groupby(found, key=lambda row: (row.endpoint, row.rows < SMALL)):
        group: list[Any] = []
        size = 0
        for row in rows:
            if row.rows >= SMALL:
                break
            size += blobs.stat(row.blob).size
            if group and size > _BYTES:
                break
            group.append(row)
        if len(group) >= FEWEST:
            yield group


def expire(tx: Tx, blobs: BlobStore, endpoint: str, before: int) -> Expired:
    """Removes the segments whose last answer is older than a moment, with the labels of their answers."""
    c = segments.c
    here = (c.project == tx.project, c.endpoint == endpoint)
    if tx.first(sa.select(c.number).where(*here)) is None:
        raise NotFound(
            f"Nothing that {endpoint!r} answered is on record.",
            code="no-record",
            hint="`loopline deploy` lists endpoints.",
        )
    tx.write()
    store, answers, gone = Store(tx, blobs), 0, 0
    for row in tx.rows(sa.select(segments).where(*here, c.last < before).order_by(c.number)):
        ids = frames.of_parquet(blobs.read(row.blob), ["id"])["id"].unique().to_list()
        for start in range(0, len(ids), _AT_ONCE):
            gone += tx.execute(
                labels.delete().where(
                    labels.c.project == tx.project,
                    labels.c.endpoint == endpoint,
                    labels.c.prediction.in_(ids[start : start + _AT_ONCE]),
                )
            ).rowcount
        tx.execute(segments.delete().where(*here, c.number == row.number))
        ref = ref_of(tx, endpoint, row.number, row.until)
        store.release(row.blob, ref)
        tx.note(inputs=[ref])
        answers += row.rows
    tx.recorded = answers > 0
    tx.count = answers
    return Expired(answers=answers, labels=gone)

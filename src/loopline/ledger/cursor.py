"""Cursors: how a consumer reads the ledger on, at least once and without a gap.

Entries become visible in the order of their numbers (appending is under one lock until the commit), so what lies behind a
cursor can never change. A consumer advances only after its work is done, in the transaction of that work where it has one.
"""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict
from loopline.ledger.records import Entry, decode
from loopline.ledger.tables import cursors, entries, head
from loopline.refs import check_name


def position(tx: Tx, consumer: str) -> int:
    """The number of the last entry that the consumer is done with; -1 at first."""
    found = tx.scalar(sa.select(cursors.c.seq).where(cursors.c.consumer == consumer))
    return -1 if found is None else int(found)


def read(tx: Tx, consumer: str, limit: int = 100) -> list[Entry]:
    """The next entries for the consumer, in order; the same again until it advances."""
    query = sa.select(entries.c.body).where(entries.c.seq > position(tx, consumer)).order_by(entries.c.seq).limit(limit)
    return [decode(row.body) for row in tx.rows(query)]


def advance(tx: Tx, consumer: str, seq: int) -> None:
    """The consumer is done with all entries up to `seq`. A cursor never goes back; raises `Conflict` beyond the ledger's end."""
    check_name(consumer, "consumer")
    tx.write()
    if seq >= (tx.scalar(sa.select(head.c.size)) or 0):
        raise Conflict(
            f"The ledger has no entry {seq} yet, which {consumer} says it is done with.", code="cursor-beyond"
        )
    where = cursors.c.consumer == consumer
    if tx.scalar(sa.select(cursors.c.seq).where(where)) is None:
        tx.execute(sa.insert(cursors).values(consumer=consumer, seq=seq))
    else:
        tx.execute(sa.update(cursors).where(where, cursors.c.seq < seq).values(seq=seq))

"""Rows that many runs share, each there once: what they were executed in, what is said of data that they read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx


def number_of(tx: Tx, table: sa.Table, key: str, row: dict[str, Any]) -> int:
    """The number of the row with this `key`, which is added where it is new; no purge takes it until the transaction ends."""
    query = sa.select(table.c.id).where(table.c[key] == row[key])
    if not tx.database.sqlite:  # SQLite has one writer at a time
        query = query.with_for_update(read=True, key_share=True)
    tx.write()
    while (number := tx.scalar(query)) is None:
        tx.upsert(table, (key,), row)
    return int(number)


def remove_unused(tx: Tx, column: sa.Column[Any], numbers: Collection[int]) -> None:
    """Removes those of the rows that no run refers to any more; `column` is what refers to them."""
    (foreign,) = column.foreign_keys
    table = foreign.column.table
    mine = table.c.id.in_(numbers)
    if not tx.database.sqlite:  # held first: who has just come to share one holds it, too, and is seen after that
        tx.rows(sa.select(table.c.id).where(mine).order_by(table.c.id).with_for_update())
    tx.execute(sa.delete(table).where(mine, ~sa.exists().where(column == table.c.id)))

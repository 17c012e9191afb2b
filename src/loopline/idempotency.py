"""Answers kept under the idempotency keys of calls, so that a call that is sent again does nothing again."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import Tx, metadata
from loopline.errors import Conflict, Unavailable

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("principal", sa.String(256), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("request", sa.String(80), nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
)

KEYS_MILLISECONDS = 24 * 3_600_000
"""So long the answer to a call is kept for when it is sent again under its idempotency key."""


def answered(tx: Tx, key: str, request: str) -> bytes | None:
    """The answer that this principal's call under the key got, where it was made. `request` is the digest of what is asked.

    Raises `Conflict` where the key stands for another call.
    """
    c = idempotency.c
    row = tx.first(sa.select(c.request, c.answer).where(c.principal == tx.principal, c.key == key))
    if row is None:
        return None
    if row.request != request:
        raise Conflict(
            f"The idempotency key {key!r} was used for another call.",
            code="key-reused",
            hint="Use a new key for a new call.",
        )
    return bytes(row.answer)


def keep(tx: Tx, key: str, request: str, answer: bytes) -> None:
    """Keeps the answer in the call's own transaction. Raises `Unavailable` where another call under the key came first."""
    tx.write()
    if answered(tx, key, request) is not None:
        raise _came_first(key)
    values = {"principal": tx.principal, "key": key, "request": request, "answer": answer, "at": tx.now}
    try:
        tx.execute(idempotency.insert().values(values))
    except sa.exc.IntegrityError as e:  # of two at once, PostgreSQL lets the slower one see the other only here
        raise _came_first(key) from e


def forget(tx: Tx) -> None:
    """Removes what was kept long enough."""
    tx.execute(idempotency.delete().where(idempotency.c.at < tx.now - KEYS_MILLISECONDS))


def _came_first(key: str) -> Unavailable:
    return Unavailable(
        f"Another call under the key {key!r} came first.",
        code="key-in-use",
        hint="Call again: the answer of that one is given.",
    )

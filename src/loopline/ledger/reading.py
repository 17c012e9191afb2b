"""Reading the ledger: entries by what they name, inclusion proofs, the export."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, NotFound
from loopline.ledger import notes
from loopline.ledger.log import link_key
from loopline.ledger.merkle import STRIDE, check_inclusion, fold, inclusion, leaf_hash
from loopline.ledger.records import Entry, Proof, decode
from loopline.ledger.tables import checkpoints, head, keys, links, nodes
from loopline.ledger.tables import entries as table
from loopline.refs import parse

_CHUNK = 5_000


def entries(
    tx: Tx,
    *,
    ref: str | None = None,
    operation: str | None = None,
    principal: str | None = None,
    project: str | None = None,
    since: int | None = None,
    after: int = -1,
    limit: int = 100,
) -> list[Entry]:
    """Entries after place `after` in order, all conditions met, `limit` at most."""
    named = _printed(tx, ref) if ref is not None else None
    if since is not None:
        after = max(after, first_since(tx, since) - 1)
    found: list[Entry] = []
    while True:
        query = sa.select(table.c.seq, table.c.body).where(table.c.seq > after).order_by(table.c.seq)
        if named is not None:
            query = query.join(links, links.c.seq == table.c.seq).where(links.c.key == link_key(named))
        # The stored text is canonical, so a field is found by its spelling: the database skips what cannot match.
        for letter, value in (("o", operation), ("p", principal), ("j", project)):
            if value is not None and (letter, value) != ("j", "default"):
                query = query.where(
                    table.c.body.contains(f'"{letter}":{msgspec.json.encode(value).decode()}', autoescape=True)
                )
        rows = tx.rows(query.limit(min(limit * 2, _CHUNK)))
        for row in rows:
            entry = decode(row.body)
            after = entry.seq
            if (
                (named is None or named in entry.inputs or named in entry.outputs)
                and operation in (None, entry.operation)
                and principal in (None, entry.principal)
                and project in (None, entry.project)
            ):
                found.append(entry)
                if len(found) == limit:
                    return found
        if not rows:
            return found


def _printed(tx: Tx, ref: str) -> str:
    return str(parse(ref, project=tx.project))


def first_since(tx: Tx, time: int) -> int:
    """The place of the first entry at or after a time; times never go back, so by halving."""
    low, high = 0, tx.scalar(sa.select(head.c.size)) or 0
    while low < high:
        middle = (low + high) // 2
        if one(tx, middle).time < time:
            low = middle + 1
        else:
            high = middle
    return low


def one(tx: Tx, seq: int) -> Entry:
    """The entry at a place. Raises `NotFound`."""
    return decode(_body(tx, seq))


def _body(tx: Tx, seq: int) -> str:
    body = tx.scalar(sa.select(table.c.body).where(table.c.seq == seq))
    if body is None:
        size = tx.scalar(sa.select(head.c.size)) or 0
        raise NotFound(
            f"The ledger has no entry {seq}.",
            code="entry-not-found",
            hint=f"Its entries are 0 to {size - 1}." if not 0 <= seq < size else "Run `loopline ledger verify`.",
        )
    return str(body)


def subtree(tx: Tx, level: int, place: int) -> bytes:
    """The hash of a complete subtree: kept, or made of what lies below."""
    if level >= STRIDE:
        kept = level - level % STRIDE
        first, count = place << (level - kept), 1 << (level - kept)
        found = tx.rows(
            sa.select(nodes.c.hash)
            .where(nodes.c.level == kept, nodes.c.place >= first, nodes.c.place < first + count)
            .order_by(nodes.c.place)
        )
        if len(found) != count:
            raise _damaged(place << level)
        return fold([bytes(row.hash) for row in found])
    low = place << level
    rows = tx.rows(
        sa.select(table.c.body).where(table.c.seq >= low, table.c.seq < low + (1 << level)).order_by(table.c.seq)
    )
    if len(rows) != 1 << level:
        raise _damaged(low)
    return fold([leaf_hash(row.body.encode()) for row in rows])


def prove(tx: Tx, seq: int) -> Proof:
    """That entry `seq` is in the newest checkpoint's ledger. Raises `Conflict` where none covers it, or the ledger is damaged."""
    body = _body(tx, seq)
    newest = tx.first(sa.select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1))
    if newest is None or newest.size <= seq:
        raise Conflict(
            f"No checkpoint covers entry {seq} yet.",
            code="entry-unsigned",
            hint="Sign one: `loopline ledger checkpoint`.",
        )
    path = inclusion(seq, newest.size, lambda level, place: subtree(tx, level, place))
    if not check_inclusion(leaf_hash(body.encode()), seq, newest.size, path, notes.read(newest.note).root):
        raise _damaged(seq)
    verifier = tx.scalar(
        sa.select(keys.c.verifier).where(keys.c.since < newest.size).order_by(keys.c.since.desc()).limit(1)
    )
    return Proof(
        entry=body,
        seq=seq,
        size=newest.size,
        path=tuple(node.hex() for node in path),
        checkpoint=newest.note,
        key=verifier,
    )


def _damaged(seq: int) -> Conflict:
    return Conflict(
        f"The ledger around entry {seq} is not what was signed.",
        code="ledger-damaged",
        hint="Run `loopline ledger verify`: it names what was changed.",
    )


def export(tx: Tx) -> bytes:
    """One line an entry, its canonical JSON as it was hashed; then the keys and the checkpoints."""
    parts: list[bytes] = []
    last = -1
    while rows := tx.rows(sa.select(table).where(table.c.seq > last).order_by(table.c.seq).limit(_CHUNK)):
        parts.extend(row.body.encode() for row in rows)
        last = rows[-1].seq
    parts.extend(
        msgspec.json.encode({"key": row.verifier, "since": row.since})
        for row in tx.rows(sa.select(keys).order_by(keys.c.since))
    )
    parts.extend(
        msgspec.json.encode({"checkpoint": row.note})
        for row in tx.rows(sa.select(checkpoints).where(checkpoints.c.size <= last + 1).order_by(checkpoints.c.size))
    )
    return b"".join(part + b"\n" for part in parts)

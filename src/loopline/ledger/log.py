"""The ledger itself: appending entries, and signing checkpoints of them."""

from __future__ import annotations

import logging
import secrets
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Row

from loopline.database import Database, Tx
from loopline.errors import LooplineError
from loopline.failpoints import failpoint
from loopline.ledger import notes
from loopline.ledger.copies import Copies
from loopline.ledger.keys import KeyFolder
from loopline.ledger.merkle import Frontier, leaf_hash
from loopline.ledger.records import Checkpoint, Entry, Recorded, check, encode
from loopline.ledger.tables import checkpoints, entries, head, keys, links, nodes
from loopline.prepared import Prepared
from loopline.refs import DEFAULT_PROJECT

_log = logging.getLogger(__name__)

_SEQUENCER = 7164
"""PostgreSQL's advisory lock under which entries get their numbers; SQLite's write lock does the same."""

_LEAF = 8


def link_key(ref: str) -> int:
    """The number under which a ref is found in the table of links."""
    return zlib.crc32(ref.encode()) - (1 << 31)


class Ledger:
    """The append-only record of one workspace.

    `keys`: the workspace's folder for keys; `copies`: a folder outside the workspace, where each checkpoint is copied to.
    A checkpoint is due after `every` entries, or at the first entry after `seconds`.
    """

    def __init__(self, keys: Path, copies: Path, *, every: int = 1000, seconds: int = 600) -> None:
        self.keys = KeyFolder(keys)
        self.copies = Copies(copies)
        self.every = every
        self.milliseconds = seconds * 1000

    def create(self, database: Database) -> None:
        """Begins the ledger where there is none, with its key as entry 0; else brings the outside copies up to date."""
        with database.snapshot() as connection:
            known = connection.execute(sa.select(keys.c.key).order_by(keys.c.since)).scalars().all()
            origin = connection.execute(sa.select(head.c.origin)).scalar()
            signed = connection.execute(sa.select(sa.func.count()).select_from(checkpoints)).scalar_one()
        if known:
            self.keys.forget(known[:-1])  # a crash may have come before that
            if signed == 1 or self.copies.newest(str(origin)) is not None:
                self._try_copy(database)
            # Else all copies are gone, which no crash does: nothing is written over that before a person has seen it.
            return
        with database.begin() as tx:
            _lock(tx)
            if tx.first(sa.select(head.c.id)):
                return
            origin = f"loopline/ledger/{secrets.token_hex(8)}"
            public = notes.public_bytes(self.keys.prepare(origin))
            key, verifier = notes.key_id(origin, public), notes.verifier_key(origin, public)
            tx.execute(
                sa.insert(head).values(
                    id=1, origin=origin, size=0, time=0, frontier=b"", key=key, signed_size=0, signed_time=tx.now
                )
            )
            tx.execute(sa.insert(keys).values(since=0, key=key, verifier=verifier))
            self.append(tx, operation="ledger.created", digests={"key": _digest(verifier)})
            self._sign(tx, _head(tx), self.keys.load(origin, key))
            tx.after_commit.insert(0, lambda: self.keys.enforce(key))

    def append(
        self,
        tx: Tx,
        *,
        operation: str,
        record: Recorded = "entry",
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        digests: Mapping[str, str] | None = None,
        count: int = 0,
        project: str = DEFAULT_PROJECT,
        principal: str = "",
    ) -> Entry:
        """Adds one entry in the transaction (which takes the write lock if it has not), and a checkpoint where one is due.

        Raises ValueError where it is given anything but refs and digests.
        """
        _lock(tx)
        before = _head(tx)
        entry = Entry(
            seq=before.size,
            time=max(tx.now, before.time),
            operation=operation,
            principal=principal,
            project=project or DEFAULT_PROJECT,
            record=record,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            digests=dict(digests or {}),
            count=count,
            behind=max(0, before.time - tx.now),
        )
        check(entry)
        body = encode(entry)
        leaf = leaf_hash(body)
        frontier = Frontier(before.size, before.frontier)
        kept = frontier.append(leaf)
        tx.run(_INSERT, {"seq": entry.seq, "body": body.decode(), "leaf": leaf[:_LEAF]})
        if found := {link_key(ref) for ref in (*entry.inputs, *entry.outputs)}:
            tx.run(_LINK, [{"key": key, "seq": entry.seq} for key in sorted(found)])
        if kept:
            tx.run(_NODE, [{"level": level, "place": place, "hash": node} for level, place, node in kept])
        tx.run(_ADVANCE, {"to_size": frontier.size, "to_time": entry.time, "to_frontier": frontier.to_bytes()})
        if (
            frontier.size - before.signed_size >= self.every or entry.time - before.signed_time >= self.milliseconds
        ) and operation != "ledger.created":
            self.checkpoint(tx)
        return entry

    def checkpoint(self, tx: Tx, *, anew: bool = False) -> Checkpoint:
        """Signs the ledger as it stands in the transaction; copied outside the workspace once that is committed.

        With `anew`, every checkpoint that has no copy there is copied, too.
        """
        if anew:
            tx.after_commit.append(lambda: self._try_copy(tx.database, anew=True))
        _lock(tx)
        now = _head(tx)
        if now.size == now.signed_size:
            found = tx.first(sa.select(checkpoints).where(checkpoints.c.size == now.size))
            if found:
                return self._shown(now.origin, found)
        return self._sign(tx, now, self.keys.load(now.origin, now.key))

    def rotate_key(self, tx: Tx) -> Checkpoint:
        """Puts a new key on the ledger and signs a checkpoint with both; the old key is removed after the commit."""
        _lock(tx)
        before = _head(tx)
        old = self.keys.load(before.origin, before.key)
        new = self.keys.prepare(before.origin)
        public = notes.public_bytes(new)
        key, verifier = notes.key_id(before.origin, public), notes.verifier_key(before.origin, public)
        tx.execute(sa.insert(keys).values(since=before.size, key=key, verifier=verifier))
        tx.execute(sa.update(head).values(key=key))
        former = notes.verifier_key(before.origin, notes.public_bytes(old))
        self.append(
            tx,
            operation="ledger.rotate_key",
            principal=tx.principal,
            digests={"key": _digest(verifier), "former": _digest(former)},
        )
        # append may have signed one already, with the new key alone; this one, of both, takes its place.
        signed = self._sign(tx, _head(tx), old, new)
        tx.after_commit[:0] = [lambda: self.keys.enforce(key), lambda: self.keys.forget([before.key])]
        return signed

    def copy(self, database: Database, *, anew: bool = False) -> None:
        """Copies outside the newest checkpoint, and those that came after the newest copy (a crash or a full disk may have kept
        them from it). Older ones that are missing were removed: only `anew`, a person's own act, writes them again.
        """
        with database.snapshot() as connection:
            origin = connection.execute(sa.select(head.c.origin)).scalar_one()
            newest = connection.execute(sa.select(sa.func.max(checkpoints.c.size))).scalar()
            copied = self.copies.newest(origin)
            since = 0 if anew else newest if copied is None else min(copied + 1, newest or 0)
            query = sa.select(checkpoints.c.size, checkpoints.c.note).where(checkpoints.c.size >= since)
            missing = connection.execute(query.order_by(checkpoints.c.size)).all()
            known = connection.execute(sa.select(keys.c.verifier).order_by(keys.c.since)).scalars().all()
        for row in missing:
            self.copies.put(origin, row.size, row.note, known)

    def _try_copy(self, database: Database, *, anew: bool = False) -> None:
        """Copies where it can: what is committed stays so. The next checkpoint tries again, and verification tells meanwhile."""
        try:
            self.copy(database, anew=anew)
        except (LooplineError, OSError) as e:
            _log.warning("The ledger's checkpoint cannot be copied to %s: %s", self.copies.folder, e)

    def close(self, database: Database) -> None:
        """Signs what is not signed yet; for the end of a program."""
        with database.snapshot() as connection:
            now = connection.execute(sa.select(head)).first()
        if now is not None and now.size > now.signed_size:
            with database.begin() as tx:
                self.checkpoint(tx)

    def _sign(self, tx: Tx, now: Row[Any], *signers: Ed25519PrivateKey) -> Checkpoint:
        root = Frontier(now.size, now.frontier).root()
        note = notes.sign(notes.checkpoint_text(now.origin, now.size, root), now.origin, *signers)
        tx.execute(sa.delete(checkpoints).where(checkpoints.c.size == now.size))
        tx.execute(sa.insert(checkpoints).values(size=now.size, time=tx.now, note=note))
        tx.execute(sa.update(head).values(signed_size=now.size, signed_time=max(tx.now, now.time)))
        failpoint("ledger.checkpoint.signed")
        tx.after_commit.append(lambda: self._try_copy(tx.database))
        return Checkpoint(
            size=now.size,
            root=f"sha256:{root.hex()}",
            time=tx.now,
            note=note,
            copy=str(self.copies.path(now.origin, now.size)),
        )

    def _shown(self, origin: str, row: Row[Any]) -> Checkpoint:
        root = notes.read(row.note).root.hex()
        copy = self.copies.path(origin, row.size)
        return Checkpoint(
            size=row.size, root=f"sha256:{root}", time=row.time, note=row.note, copy=str(copy) if copy.exists() else ""
        )

    def checkpoints(self, tx: Tx, limit: int) -> list[Checkpoint]:
        """The newest checkpoints, newest first."""
        origin = _head(tx).origin
        rows = tx.rows(sa.select(checkpoints).order_by(checkpoints.c.size.desc()).limit(limit))
        return [self._shown(origin, row) for row in rows]


_INSERT = Prepared(sa.insert(entries))
_LINK = Prepared(sa.insert(links))
_NODE = Prepared(sa.insert(nodes))
_ADVANCE = Prepared(
    sa.update(head).values(
        size=sa.bindparam("to_size"), time=sa.bindparam("to_time"), frontier=sa.bindparam("to_frontier")
    )
)
_HEAD = Prepared(sa.select(head))
_ADVISORY = sa.text(f"SELECT pg_advisory_xact_lock({_SEQUENCER})")


def _lock(tx: Tx) -> None:
    """Takes the turn: from here to the commit nobody else appends."""
    tx.write()
    if not tx.database.sqlite:
        tx.execute(_ADVISORY)


def _head(tx: Tx) -> Row[Any]:
    row = tx.first(_HEAD)
    if row is None:
        raise RuntimeError("the ledger was not begun: Ledger.create comes first")
    return row


def _digest(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"

"""References to blobs, and the sweep of those that nothing refers to.

A blob is put first and referenced after, in the transaction of whoever needs it. Between the two it is unreferenced, so a sweep
takes only blobs that were put longer ago than the grace period; `retain` refuses a blob that is not there.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, LooplineError
from loopline.failpoints import failpoint
from loopline.hashing import digest_chunks
from loopline.ports.blobs import Blob, BlobStore, check_digest
from loopline.refs import DEFAULT_PROJECT
from loopline.store.records import Damage, Sweep, Usage
from loopline.store.tables import references
from loopline.store.verbs import StoreVerbs

GRACE_MILLISECONDS = 24 * 3_600_000
"""No transaction stays open that long between putting a blob and referring to it."""

UPLOAD = "upload:"
"""How an owner begins that holds what was sent until a version needs it."""

_AT_ONCE = 500


class StoreService(StoreVerbs):
    """The verbs of the store, within one transaction."""

    def __init__(self, tx: Tx, blobs: BlobStore) -> None:
        self.tx = tx
        self.store = Store(tx, blobs)

    def usage(self) -> Usage:
        return self.store.usage()

    def sweep(self, dry_run: bool = False) -> Sweep:
        swept = self.store.sweep(dry_run=dry_run)
        self.tx.recorded = swept.removed > 0 and not dry_run
        return swept


class Store:
    """Blobs with who refers to them, for one call: `tx` is its transaction."""

    def __init__(self, tx: Tx, blobs: BlobStore) -> None:
        self.tx = tx
        self.blobs = blobs

    def retain(self, digest: str, owner: str) -> None:
        """The blob is needed by `owner` (a printed ref); again is no error. Raises `NotFound` where it is not there."""
        # The row comes before the look: it waits for a sweep that is at work, and makes the next one wait.
        self.tx.upsert(references, ("digest", "owner"), {"digest": digest, "owner": owner, "time": self.tx.now})
        self.blobs.stat(digest)

    def retain_all(self, digests: Iterable[str], owner: str) -> dict[str, int]:
        """As `retain`, for many; gives their sizes."""
        needed = list(dict.fromkeys(digests))
        rows = [{"digest": digest, "owner": owner, "time": self.tx.now} for digest in needed]
        self.tx.upsert(references, ("digest", "owner"), rows, ("time",))
        return {digest: self.blobs.stat(digest).size for digest in needed}

    def release(self, digest: str, owner: str) -> None:
        """The blob is not needed by `owner` any more; where it was not, nothing happens."""
        check_digest(digest)
        self.tx.execute(sa.delete(references).where(references.c.digest == digest, references.c.owner == owner))

    def release_all(self, owner: str) -> int:
        """`owner` needs none of its blobs any more; gives how many it had."""
        return self.tx.execute(sa.delete(references).where(references.c.owner == owner)).rowcount

    def owners(self, digest: str) -> list[str]:
        """The refs that need the blob."""
        check_digest(digest)
        return [
            row.owner for row in self.tx.rows(_OF.where(references.c.digest == digest).order_by(references.c.owner))
        ]

    def needed_by(self, digest: str, kind: str) -> bool:
        """Whether something of this kind, of the transaction's project, needs the blob."""
        check_digest(digest)
        return self.tx.first(_OF.where(references.c.digest == digest, self._mine(kind)).limit(1)) is not None

    def hand_over(self, digests: Iterable[str], owner: str) -> None:
        """These are not needed by `owner` any more, since another one does."""
        gone = sa.delete(references).where(references.c.owner == owner, references.c.digest == sa.bindparam("gone"))
        if rows := [{"gone": digest} for digest in digests]:
            self.tx.execute(gone, rows)

    def among(self, digests: Collection[str], kinds: Iterable[str]) -> set[str]:
        """Those of the digests that something of these kinds, of the transaction's project, needs."""
        ours = sa.select(references.c.digest).where(sa.or_(*map(self._mine, kinds)))
        return {row.digest for row in self.tx.rows_among(ours, references.c.digest, digests)}

    def of(self, owner: str) -> list[str]:
        """The digests of the blobs that `owner` needs."""
        rows = self.tx.rows(
            sa.select(references.c.digest).where(references.c.owner == owner).order_by(references.c.digest)
        )
        return [row.digest for row in rows]

    def usage(self) -> Usage:
        """How much there is, and how much of it nothing refers to."""
        count = size = loose_count = loose_size = 0
        for blobs in _some(self.blobs.list()):
            count, size = count + len(blobs), size + sum(blob.size for blob in blobs)
            loose = self._loose(blobs)
            loose_count, loose_size = loose_count + len(loose), loose_size + sum(blob.size for blob in loose)
        return Usage(blobs=count, bytes=size, unreferenced=loose_count, unreferenced_bytes=loose_size)

    def sweep(self, *, grace: int = GRACE_MILLISECONDS, dry_run: bool = False) -> Sweep:
        """Removes the blobs that nothing refers to and that were put more than `grace` milliseconds ago.

        What may go is found first. Then it holds the write lock, so that nobody can begin to refer to a blob, and looks again at
        each: whoever puts one meanwhile makes it young, and it stays. `dry_run`: it only looks.
        """
        before = self.tx.now - grace
        loose = [blob for blobs in _some(self.blobs.list()) for blob in self._loose(blobs)]
        old = [blob for blob in loose if blob.time < before]
        if dry_run:
            return _swept(old, young=len(loose) - len(old))
        self.tx.write()
        if not self.tx.database.sqlite:
            self.tx.execute(sa.text("LOCK TABLE store_references IN SHARE ROW EXCLUSIVE MODE"))
        # What was sent for a version that never came is held no longer; it goes with the next sweep.
        held = sa.delete(references).where(references.c.owner.startswith(UPLOAD), references.c.time < before)
        self.tx.execute(held)
        gone = []
        for blob in self._loose(old):
            failpoint("store.sweep.before_delete")
            if self.blobs.delete(blob.digest, before):
                gone.append(blob)
        self.tx.count += len(gone)
        return _swept(gone, young=len(loose) - len(old), temporary=self.blobs.tidy())

    def damages(self, digests: Iterable[str] | None = None) -> list[Damage]:
        """Reads every blob that something refers to (or the given ones) and names what is missing or damaged."""
        found = []
        for digest in sorted(self._needed() if digests is None else digests):
            try:
                verify(self.blobs, digest)
            except LooplineError as e:
                found.append(Damage(digest=digest, kind=e.code, owners=tuple(self.owners(digest)), message=e.message))
        return found

    def _mine(self, kind: str) -> sa.ColumnElement[bool]:
        """Owners of a kind that are of the transaction's project."""
        within = self.tx.ref(kind, "")
        mine = sa.func.substr(references.c.owner, 1, len(within)) == within
        if self.tx.project == DEFAULT_PROJECT:  # its refs are printed without it
            mine &= ~references.c.owner.contains("/")
        return mine

    def _needed(self) -> set[str]:
        return {row.digest for row in self.tx.rows(sa.select(references.c.digest).distinct())}

    def _loose(self, blobs: Sequence[Blob]) -> list[Blob]:
        """Those of the blobs that nothing refers to."""
        rows = self.tx.rows_among(sa.select(references.c.digest), references.c.digest, [blob.digest for blob in blobs])
        needed = {row.digest for row in rows}
        return [blob for blob in blobs if blob.digest not in needed]


_OF = sa.select(references.c.owner)


def _some(blobs: Iterator[Blob]) -> Iterator[list[Blob]]:
    """All blobs, so many at a time as one query takes."""
    while some := list(itertools.islice(blobs, _AT_ONCE)):
        yield some


def _swept(gone: Sequence[Blob], *, young: int, temporary: int = 0) -> Sweep:
    return Sweep(removed=len(gone), bytes=sum(blob.size for blob in gone), young=young, temporary=temporary)


def verify(blobs: BlobStore, digest: str) -> None:
    """Reads the whole blob. Raises `Conflict` where its bytes are not those of its digest, `NotFound` where it is missing."""
    found = digest_chunks(blobs.chunks(digest))
    if found != digest:
        raise Conflict(
            f"The blob {digest} is damaged: its bytes are {found}.",
            code="blob-damaged",
            hint="Put the same bytes in again, or restore the file from a backup.",
            digest=digest,
        )

"""Verification: everything recomputed from the rows, and compared with what was signed, here and outside the workspace."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import Any
from zlib import crc32

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from loopline.database import Database
from loopline.ledger import notes
from loopline.ledger.copies import Copies
from loopline.ledger.merkle import STRIDE, Frontier, fold
from loopline.ledger.records import Finding, Verification, read_stored
from loopline.ledger.tables import checkpoints, entries, head, keys, links, nodes

_TILE = 1 << STRIDE
_BACK = 60_000
"""How far, in milliseconds, a clock may go back unnoticed: programs of one machine differ by less."""
_MASK = (1 << 64) - 1
_NAMED = 20
"""So many findings of a kind are named one by one."""


def verify(database: Database, copies: Copies) -> Verification:
    """Recomputes the whole ledger in one pass, in constant memory. It never raises for what it finds; see `Verification`."""
    with database.engine.connect() as connection:
        if not database.sqlite:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        return _Check(connection, copies).run()


class _Check:
    def __init__(self, connection: Connection, copies: Copies) -> None:
        self.connection = connection
        self.copies = copies
        self.findings: list[Finding] = []
        self.counts: dict[str, int] = {}
        self.head: Row[Any] = connection.execute(sa.select(head)).one()
        self.keys = connection.execute(sa.select(keys).order_by(keys.c.since)).all()
        self.roots: dict[int, bytes] = {}
        self.links = 0
        self.key_digests: dict[str, int] = {}
        self.missing = 0
        self.last_time = 0

    def find(self, kind: str, message: str, hint: str, seq: int | None = None, severity: str = "error") -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= _NAMED:
            self.findings.append(Finding(kind=kind, severity=severity, message=message, hint=hint, seq=seq))  # type: ignore[arg-type]

    def run(self) -> Verification:
        inside, outside = self.statements()
        tree = self.walk(sorted({s.size for _, s in inside + outside}))
        self.compare_head(tree)
        self.compare_links()
        agreed = self.compare_statements(inside, outside, tree.size + self.missing)
        covered = max((s.size for s in agreed), default=0)
        copied = {s.size for _, s in outside}
        missing = sorted({s.size for _, s in inside} - copied)
        if tree.size and not outside:
            self.find(
                "no-copies",
                f"No checkpoint is copied to {self.copies.folder}, where {_sizes(missing)} should be: "
                "a cut or replaced database could not be told.",
                _COPY_ANEW,
                severity="warning",
            )
        elif missing:
            self.find(
                "copy-missing",
                f"Of {_sizes(missing)} there is no copy in {self.copies.folder}: it could not be written, or somebody "
                "removed it, and a cut end could not be told by it.",
                _COPY_ANEW,
                severity="warning",
            )
        for kind, count in self.counts.items():
            if count > _NAMED:
                first = next(f for f in self.findings if f.kind == kind)  # all of a kind are as severe
                hint = _MORE if first.severity == "error" else first.hint
                message = f"{count - _NAMED} more of this kind."
                self.findings.append(Finding(kind=kind, severity=first.severity, message=message, hint=hint))
        return Verification(
            ok=all(f.severity != "error" for f in self.findings),
            size=tree.size,
            root=f"sha256:{tree.root().hex()}",
            checkpoints=len({(s.size, s.root) for s in agreed}),
            copies=len({s.size for _, s in outside} & {s.size for s in agreed}),
            unsigned=max(0, tree.size - covered),
            findings=tuple(self.findings),
        )

    def statements(self) -> tuple[list[tuple[str, notes.Statement]], list[tuple[str, notes.Statement]]]:
        """The checkpoints of the database and of the copies, signatures checked later; a broken one is a finding."""
        rows = self.connection.execute(sa.select(checkpoints).order_by(checkpoints.c.size)).all()
        inside = [(f"checkpoint {row.size} in the database", row.note) for row in rows]
        outside = [(f"the copy {path}", note) for path, note in self.copies.notes(self.head.origin).items()]
        return self.read(inside), self.read(outside)

    def read(self, found: list[tuple[str, str]]) -> list[tuple[str, notes.Statement]]:
        read = []
        for name, note in found:
            try:
                read.append((name, notes.read(note)))
            except ValueError:
                self.find("bad-checkpoint", f"{name} is no checkpoint any more.", "Put the file back from a backup.")
        return read

    def walk(self, sizes: list[int]) -> Frontier:
        """Reads all entries in order, a tile at a time; notes the root at each of the sizes."""
        tree = Frontier()
        wanted = iter(sizes)
        next_size = next(wanted, None)
        while next_size == 0:
            self.roots[0] = tree.root()
            next_size = next(wanted, None)
        kept = iter(self.connection.execution_options(stream_results=True).execute(_NODES))
        for tile in self.tiles():
            leaves = self.leaves(tile, tree.size)
            while next_size is not None and next_size <= tree.size + len(leaves):
                part = Frontier(tree.size, tree.to_bytes())
                for leaf in leaves[: next_size - tree.size]:
                    part.append(leaf)
                self.roots[next_size] = part.root()
                next_size = next(wanted, None)
            if len(leaves) == _TILE:
                node = fold(leaves)
                place = tree.size // _TILE
                stored = next(kept, None)
                if (stored is None or (stored.place, bytes(stored.hash)) != (place, node)) and not self.counts:
                    self.find(
                        "edited",
                        f"One of the entries {tree.size} to {tree.size + _TILE - 1} was changed, and its own check with it.",
                        "Compare them with a backup or an export.",
                        tree.size,
                    )
                tree.append_subtree(STRIDE, node)
            else:
                for leaf in leaves:
                    tree.append(leaf)
        return tree

    def tiles(self) -> Iterator[list[tuple[int, str, bytes]]]:
        rows = iter(self.connection.execution_options(stream_results=True, yield_per=_TILE * 16).execute(_ROWS))
        while tile := list(islice(rows, _TILE)):
            yield tile  # type: ignore[misc]

    def leaves(self, tile: list[tuple[int, str, bytes]], start: int) -> list[bytes]:
        """The leaf hashes of a tile; a row that is not what it says or not where it belongs is a finding."""
        leaves = []
        total, last = 0, self.last_time
        expected = start + self.missing
        for seq, body, check in tile:
            if seq != expected:
                self.find(
                    "dropped",
                    f"Entries {expected} to {seq - 1} are missing."
                    if seq > expected + 1
                    else f"Entry {expected} is missing.",
                    "Put the database back from a backup that has it.",
                    expected,
                )
                self.missing += seq - expected
                expected = seq
            expected += 1
            raw = body.encode() if isinstance(body, str) else bytes(body)
            leaf = sha256(b"\x00" + raw).digest()
            leaves.append(leaf)
            if leaf[:8] != check:
                self.find(
                    "edited",
                    f"Entry {seq} was changed after it was written.",
                    "Compare it with a backup or an export.",
                    seq,
                )
            try:
                entry = read_stored(raw)
            except (msgspec.ValidationError, msgspec.DecodeError):
                self.find(
                    "unreadable", f"Entry {seq} is no entry any more.", "Compare it with a backup or an export.", seq
                )
                continue
            if entry.s != seq:
                self.find(
                    "swapped", f"At place {seq} stands entry {entry.s}.", "Put the database back from a backup.", seq
                )
            if entry.t < last:
                self.find(
                    "time-back",
                    f"Entry {seq} says it is {last - entry.t} ms older than the one in front of it.",
                    "No program of ours writes that: look who can write the database.",
                    seq,
                )
            last = entry.t
            if entry.b > _BACK:
                self.find(
                    "clock-back",
                    f"When entry {seq} was written, the machine's clock was {entry.b / 1000:.0f} s behind the entry in front.",
                    "Look at the machine's clock, and at who turned it.",
                    seq,
                    severity="warning",
                )
            if entry.d and entry.o.startswith("ledger.") and "key" in entry.d:
                self.key_digests[entry.d["key"]] = seq
            for key in {crc32(ref.encode()) for ref in entry.i + entry.u}:
                total += _mix(key, seq)
        self.links = (self.links + total) & _MASK
        self.last_time = last
        return leaves

    def compare_head(self, tree: Frontier) -> None:
        """The rows against the stored head: cut off at the end, or added by hand."""
        size, stored = tree.size + self.missing, self.head.size
        if size < stored:
            self.find(
                "truncated",
                f"The ledger's end is missing: entries {size} to {stored - 1}.",
                "Put the database back from a backup that has them.",
                size,
            )
        elif size > stored:
            self.find(
                "appended",
                f"Entries {stored} to {size - 1} were added by hand, past the ledger's head.",
                "Look who can write the database; remove them after a backup.",
                stored,
            )
        elif not self.counts and (tree.to_bytes() != bytes(self.head.frontier) or self.head.time != self.last_time):
            self.find("head", "The ledger's head is not that of its entries.", "Compare the database with a backup.")

    def compare_links(self) -> None:
        """The index of refs against the entries, by an order-free sum of both."""
        total = 0
        for key, seq in self.connection.execution_options(yield_per=4096).execute(_LINKS):
            total += _mix(key + (1 << 31), seq)
        if total & _MASK != self.links and not self.counts:
            self.find(
                "links",
                "The index from refs to entries was changed: lineage may leave something out.",
                "Compare the database with a backup.",
            )

    def compare_statements(
        self, inside: list[tuple[str, notes.Statement]], outside: list[tuple[str, notes.Statement]], size: int
    ) -> list[notes.Statement]:
        """The signed checkpoints against the entries; those that hold."""
        self.compare_keys()
        agreed: list[notes.Statement] = []
        wrong: list[tuple[str, notes.Statement]] = []
        for name, statement in sorted(inside + outside, key=lambda found: found[1].size):
            verifier = next((k.verifier for k in reversed(self.keys) if k.since < max(statement.size, 1)), "")
            if statement.origin != self.head.origin or not verifier or not statement.signed_by(verifier):
                self.find("bad-signature", f"{name} is not signed by this ledger's key of that time.", _FORGED)
            elif statement.size > size:
                self.find(
                    "truncated",
                    f"{name} is signed for {statement.size} entries and the database has {size}: entries {size} to "
                    f"{statement.size - 1} were cut off, or the database was put back to an older state.",
                    "Put the newer database back; what happened since is not on the record.",
                    size,
                )
            elif self.roots.get(statement.size) != statement.root:
                wrong.append((name, statement))
            else:
                agreed.append(statement)
        if wrong:
            name, statement = wrong[0]
            # A copy is narrowed down by copies only: the database may have signed what agrees after the change.
            same = {s.size for _, s in (inside if wrong[0] in inside else outside)}
            low = max((s.size for s in agreed if s.size < statement.size and s.size in same), default=0)
            self.find(
                "rewritten",
                f"{name} is signed for other entries than these: something in {low} to {statement.size - 1} was changed, "
                "or the database was put back to an older state and written on.",
                "Compare these entries with a backup or an export.",
                low,
            )
        return agreed

    def compare_keys(self) -> None:
        """Each key must be on the ledger itself, and known outside."""
        for key in self.keys:
            digest = f"sha256:{sha256(key.verifier.encode()).hexdigest()}"
            if self.key_digests.get(digest) != key.since:
                self.find(
                    "bad-key", f"The key {key.key} is not on the ledger at entry {key.since}.", _FORGED, key.since
                )
        known = {key.verifier for key in self.keys}
        for verifier in self.copies.keys(self.head.origin):
            if verifier not in known:
                self.find("bad-key", f"The key {verifier} is known outside and not to this database.", _FORGED)


def _mix(key: int, seq: int) -> int:
    return (key * 0x9E3779B97F4A7C15 ^ seq * 0xC2B2AE3D27D4EB4F) & _MASK


def _sizes(sizes: list[int]) -> str:
    """The checkpoints of these sizes in words, the last twenty at most by number."""
    shown = ", ".join(f"{size:,}" for size in sizes[-_NAMED:])
    before = f"{len(sizes) - _NAMED:,} more and " if len(sizes) > _NAMED else ""
    return f"{'the checkpoint' if len(sizes) == 1 else 'the checkpoints'} of {before}{shown} entries"


_COPY_ANEW = (
    "Put the copies back from a backup of that folder and verify again; where there is none, compare the ledger's size with what "
    "you know of it, see that `checkpoints` names a folder that can be written, and run `loopline ledger checkpoint`."
)
_MORE = "Look at the first of them; put the database back from a backup."
_FORGED = "Somebody may have forged it: look who can write the workspace, and trust the copies on other machines."
_ROWS = sa.select(entries.c.seq, entries.c.body, entries.c.leaf).order_by(entries.c.seq)
_NODES = sa.select(nodes.c.place, nodes.c.hash).where(nodes.c.level == STRIDE).order_by(nodes.c.place)
_LINKS = sa.select(links.c.key, links.c.seq)

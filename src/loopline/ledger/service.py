"""The ledger's and the lineage's verbs, done."""

from __future__ import annotations

from typing import Literal

import msgspec

from loopline.database import Tx
from loopline.ledger import lineage, reading, verify
from loopline.ledger.log import Ledger
from loopline.ledger.openlineage import Describe, events
from loopline.ledger.records import Checkpoint, Entry, Lineage, Proof, Verification
from loopline.ledger.verbs import LedgerVerbs, LineageVerbs
from loopline.operations import Bytes, check_limit


class LedgerService(LedgerVerbs):
    """For one call: `tx` is its transaction."""

    def __init__(self, tx: Tx, ledger: Ledger) -> None:
        self.tx = tx
        self.ledger = ledger

    def entries(
        self,
        *,
        ref: str | None = None,
        operation: str | None = None,
        principal: str | None = None,
        project: str | None = None,
        since: int | None = None,
        after: int = -1,
        limit: int = 100,
    ) -> list[Entry]:
        check_limit(limit, "entries")
        return reading.entries(
            self.tx,
            ref=ref,
            operation=operation,
            principal=principal,
            project=project,
            since=since,
            after=after,
            limit=limit,
        )

    def verify(self) -> Verification:
        return verify.verify(self.tx.database, self.ledger.copies)

    def prove(self, *, seq: int) -> Proof:
        return reading.prove(self.tx, seq)

    def checkpoint(self) -> Checkpoint:
        return self.ledger.checkpoint(self.tx, anew=True)

    def checkpoints(self, *, limit: int = 100) -> list[Checkpoint]:
        check_limit(limit, "checkpoints")
        return self.ledger.checkpoints(self.tx, limit)

    def export(self) -> Bytes:
        return Bytes(media="application/x-ndjson", data=reading.export(self.tx), name="ledger.ndjson")

    def rotate_key(self) -> Checkpoint:
        return self.ledger.rotate_key(self.tx)


class LineageService(LineageVerbs):
    """For one call: `tx` is its transaction, `describe` tells of dataset versions; the walk stays in the project."""

    def __init__(self, tx: Tx, describe: Describe) -> None:
        self.tx = tx
        self.describe = describe

    def trace(self, *, ref: str, direction: Literal["back", "forward"] = "back", depth: int = 50) -> Lineage:
        return lineage.lineage(self.tx, ref, direction, depth)

    def openlineage(self, *, ref: str, depth: int = 50) -> Bytes:
        found = events(lineage.lineage(self.tx, ref, "back", depth), self.describe, self.tx.project)
        data = b"".join(msgspec.json.encode(event) + b"\n" for event in found)
        return Bytes(media="application/x-ndjson", data=data, name="openlineage.ndjson")

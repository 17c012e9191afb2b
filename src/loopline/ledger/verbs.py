"""What can be asked of the ledger."""

from __future__ import annotations

from typing import Literal, Protocol

from loopline.ledger.records import Checkpoint, Entry, Lineage, Proof, Verification
from loopline.operations import Bytes, operation


class LedgerVerbs(Protocol):
    """The append-only record of what was done, by whom, from what and into what."""

    @operation("GET /ledger/entries", action="audit")
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
        """Entries in order, after place `after`, that meet all conditions; `since` is a time in milliseconds."""
        ...

    @operation("GET /ledger/verify", action="audit")
    def verify(self) -> Verification:
        """Recomputes the whole ledger and compares it with every signed checkpoint, here and outside the workspace."""
        ...

    @operation("GET /ledger/proofs/{seq}", action="audit")
    def prove(self, *, seq: int) -> Proof:
        """That entry `seq` is in the ledger of the newest checkpoint: a file which anybody can check without Loopline."""
        ...

    # No entry of its own: it would be the first one that the new checkpoint does not cover.
    @operation("POST /ledger/checkpoints", action="audit", record="none")
    def checkpoint(self) -> Checkpoint:
        """Signs the ledger as it stands now and copies the statement outside the workspace."""
        ...

    @operation("GET /ledger/checkpoints", action="audit")
    def checkpoints(self, *, limit: int = 100) -> list[Checkpoint]:
        """The signed checkpoints, newest first."""
        ...

    @operation("GET /ledger/export", action="audit")
    def export(self) -> Bytes:
        """All entries, keys and checkpoints as NDJSON, for the stand-alone verifier."""
        ...

    # It writes its entry itself, in front of the checkpoint that it signs with both keys.
    @operation("POST /ledger/key", action="administer", record="none")
    def rotate_key(self) -> Checkpoint:
        """Makes a new signing key, puts it on the ledger, and signs a checkpoint with the old key and the new."""
        ...


class LineageVerbs(Protocol):
    """Where a thing comes from and what came of it, read off the ledger."""

    @operation("GET /projects/{project}/lineage", action="read")
    def trace(self, *, ref: str, direction: Literal["back", "forward"] = "back", depth: int = 50) -> Lineage:
        """The way from a ref back to its sources, or forward to what was made of it."""
        ...

    @operation("GET /projects/{project}/lineage/openlineage", action="read")
    def openlineage(self, *, ref: str, depth: int = 50) -> Bytes:
        """The way from a ref back to its sources as OpenLineage events, one a line, the oldest first.

        What was read and made with its version, of datasets the columns, rows, and rows held back; no value of a row.
        """
        ...

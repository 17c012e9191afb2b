"""The verbs of run bundles, within one transaction."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, Invalid, LooplineError
from loopline.failpoints import failpoint
from loopline.operations import Body, Bytes
from loopline.ports.blobs import Blob, BlobStore
from loopline.tracking import groups, reading
from loopline.tracking.bundle.statement import Bundling
from loopline.tracking.entries import ENDINGS
from loopline.tracking.records import Artifact, Correction, Point, Run
from loopline.tracking.tables import runs
from loopline.tracking.words import Words
from loopline.tracking.writing import Writing

MOST_RUNS = 1000
"""A run and its children, and theirs, in one bundle."""

MOST_FILES = 900
"""Artifacts of different bytes in one bundle."""

_PROOFS = 100  # of the newest entries about the run


class Bundles:
    """The part of the runs' service that gives runs to other instances, and takes theirs."""

    tx: Tx
    blobs: BlobStore
    words: Words
    writing: Writing
    bundling: Callable[[], Bundling] | None
    show: Callable[[str], Run]
    artifacts: Callable[[str], tuple[Artifact, ...]]
    corrections: Callable[[str], tuple[Correction, ...]]
    console: Callable[[str], Bytes]
    history: Callable[[str, str], tuple[Point, ...]]
    _keep: Callable[[Any, str, Blob], Artifact]

    def export_bundle(self, run: str) -> Bytes:
        from loopline.tracking.bundle.writing import Held, bundle

        bundling = self._bundling()
        held = [
            Held(
                run=one,
                group=groups.GroupsService(self.tx).show(one.group).name,
                artifacts=self.artifacts(one.id),
                corrections=self.corrections(one.id),
                console=self.console(one.id).read().decode(),
                points=partial(self.history, one.id),
            )
            for one in self._with_children(run)
        ]
        if (count := len({file.digest for one in held for file in one.artifacts})) > MOST_FILES:
            raise Invalid(
                f"{held[0].run.ref} has {count:,} files.",
                code="too-many-files",
                hint=f"A bundle holds {MOST_FILES}: export its children apart, or pack files into archives.",
            )
        packed = bundle(held, self.blobs, self._proofs(held[0].run.ref), bundling.signer, self.tx.now)
        # Nothing refers to it, so the next sweep but one takes it away again.
        kept = self.blobs.put(packed)
        name, path = f"run-{held[0].run.id}.tar", self.blobs.path(kept.digest)
        if path is not None:
            return Bytes(media="application/x-tar", path=str(path), name=name)
        return Bytes(media="application/x-tar", data=self.blobs.read(kept.digest), name=name)

    def import_bundle(self, content: Body, key: str = "") -> Run:
        from loopline.tracking.bundle.reading import check, opened, written

        bundling = self._bundling()
        bundling.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix="run-bundle-", dir=bundling.scratch) as aside:
            folder = Path(aside) / "bundle"
            try:
                sizes = bundling.unpack(content.chunks(), folder)
            except Invalid as e:
                raise Invalid(e.message, code="bad-bundle", hint="Have the run exported again.") from e
            bundle = opened(folder, sizes, bundling.signer, key)
            needed = check(bundle)
            kept = {
                digest: self.blobs.put(Body(folder / "files" / digest.removeprefix("blake3:")).chunks())
                for digest in sorted(needed)
            }
            failpoint("tracking.bundle.kept")
            groups.hold_group(self.tx, 0)  # of two that bring one bundle the second finds the first one's runs
            id = bundle.id(bundle.first)
            if reading.known(self.tx, id) is not None:
                self.tx.recorded = False
                return self.show(id)
            for one in bundle.runs:
                reading.check_purged(self.tx, bundle.id(one))
            for row, file in written(bundle, self.writing):
                self._keep(reading.row_at(self.tx, row.number), file.fields["path"], kept[file.fields["digest"]])
            failpoint("tracking.bundle.written")
        self.tx.note(
            outputs=[self.tx.ref("run", bundle.id(run)) for run in bundle.runs], digests={"bundle": bundle.digest}
        )
        return self.show(id)

    def _with_children(self, run: str) -> list[Run]:
        """The run, its children and theirs, each behind its parent. Raises `Conflict` where one of them goes on."""
        rows = [reading.row_of(self.tx, run)]
        level = list(rows)
        while level:
            mine = (
                sa.select(runs).where(runs.c.project == self.tx.project, runs.c.deleted.is_(None)).order_by(runs.c.id)
            )
            level = self.tx.rows_among(mine, runs.c.parent, [row.number for row in level])
            rows += level
            if len(rows) > MOST_RUNS:
                raise Invalid(
                    f"The run {run} has more than {MOST_RUNS - 1:,} children.",
                    code="too-many-runs",
                    hint="Export its children apart.",
                )
        found = reading.records(self.tx, self.words, rows)
        for one in found:
            if one.status not in ENDINGS:
                raise Conflict(
                    f"{one.ref} is {one.status}, and what it will hold is not known yet.",
                    code="run-not-ended",
                    hint="Export it when it has ended.",
                )
        return found

    def _proofs(self, ref: str) -> Any:
        """That the entries about a run are in the ledger, as far as a checkpoint covers them."""
        from loopline.ledger import reading as ledger

        found = []
        for entry in ledger.entries(self.tx, ref=ref, limit=_PROOFS):
            try:
                found.append(msgspec.to_builtins(ledger.prove(self.tx, entry.seq)))
            except LooplineError:
                break  # no checkpoint covers it, nor those behind it
        return found

    def _bundling(self) -> Bundling:
        assert self.bundling is not None  # app.py hands it in
        return self.bundling()

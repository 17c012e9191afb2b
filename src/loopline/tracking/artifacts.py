"""The verbs of a run's files. A file is bytes of the store under a path of the run; the same bytes are stored once.

Whether bytes are there already is told, and made use of, only for bytes that are a file of a run in the same project: whoever
may put files there may read those. What another project owns is taken in as if nobody had it.
"""

from __future__ import annotations

import mimetypes
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import LooplineError, NotFound
from loopline.hashing import digest_chunks, digest_json
from loopline.operations import Body, Bytes
from loopline.ports.blobs import Blob, BlobStore, check_digest
from loopline.prepared import Prepared
from loopline.store.service import Store, verify
from loopline.tracking import reading
from loopline.tracking.paths import check_path
from loopline.tracking.records import Artifact
from loopline.tracking.tables import run_artifacts


class Artifacts:
    """The part of the runs' service that keeps their files."""

    tx: Tx
    blobs: BlobStore

    def put_artifact(self, run: str, path: str, content: Body) -> Artifact:
        check_path(path)
        reading.row_of(self.tx, run)
        known = self._known(content)
        blob = known or self._put(content)
        # A file may still come to a deleted run: it was on its way, as what its journal brings.
        row = reading.held(self.tx, run)
        if known:
            try:
                Store(self.tx, self.blobs).retain(known.digest, self.tx.ref("run", row.id))
            except NotFound:  # swept since, with the last run that had it; what is put now, that row keeps
                self._put(content)
        return self._keep(row, path, blob)

    def copy_artifact(self, run: str, path: str, digest: str) -> Artifact:
        check_path(path)
        check_digest(digest)
        row = reading.held_live(self.tx, run)
        if not self._is_here(digest):
            raise NotFound(
                f"No run of project {self.tx.project!r} has a file of the digest {digest}.",
                code="no-such-bytes",
                hint="Put the file itself.",
            )
        return self._keep(row, path, self.blobs.stat(digest))

    def remove_artifact(self, run: str, path: str) -> tuple[Artifact, ...]:
        check_path(path)
        row = reading.held_live(self.tx, run)
        below = f"{path}/"
        here = (run_artifacts.c.run == row.number) & sa.or_(
            run_artifacts.c.path == path, sa.func.substr(run_artifacts.c.path, 1, len(below)) == below
        )
        found = [_kept(row, file) for file in self.tx.rows(sa.select(run_artifacts).where(here))]
        if not found:
            raise _missing(row.id, path)
        self.tx.execute(run_artifacts.delete().where(here))
        for digest in {file.digest for file in found}:
            self._release(row, digest)
        found.sort(key=lambda file: file.path)
        removed = digest_json([[file.path, file.digest] for file in found])
        self.tx.note(outputs=[self.tx.ref("run", row.id)], digests={"removed": removed})
        return tuple(found)

    def artifacts(self, run: str) -> tuple[Artifact, ...]:
        row = reading.row_of(self.tx, run)
        return tuple(_kept(row, file) for file in self.tx.rows(_OF_RUN, {"of": row.number}))

    def artifact(self, run: str, path: str) -> Bytes:
        row = reading.row_of(self.tx, run)
        query = sa.select(run_artifacts).where(run_artifacts.c.run == row.number)
        found = self.tx.first(query.where(run_artifacts.c.path == check_path(path)))
        if found is None:
            raise _missing(row.id, path)
        media = mimetypes.guess_type(path)[0] or "application/octet-stream"
        name = path.rsplit("/", 1)[-1]
        file = self.blobs.path(found.digest)
        if file is not None:  # handed out from the disk, whatever its size
            return Bytes(media=media, path=str(file), name=name, digest=found.digest)
        return Bytes(media=media, data=self.blobs.read(found.digest), name=name, digest=found.digest)

    def _keep(self, row: Any, path: str, blob: Blob) -> Artifact:
        """Makes the bytes the run's file of that path."""
        place = (run_artifacts.c.run == row.number) & (run_artifacts.c.path == path)
        former = self.tx.scalar(sa.select(run_artifacts.c.digest).where(place))
        if former != blob.digest:
            self.tx.execute(run_artifacts.delete().where(place))
            if former is not None:
                self._release(row, former)
            self.tx.execute(
                run_artifacts.insert().values(
                    run=row.number, path=path, digest=blob.digest, size=blob.size, created=self.tx.now
                )
            )
            Store(self.tx, self.blobs).retain(blob.digest, self.tx.ref("run", row.id))
        self.tx.note(outputs=[self.tx.ref("run", row.id)], digests={"artifact": blob.digest})
        return _kept(row, self.tx.first(sa.select(run_artifacts).where(place)))

    def _put(self, content: Body) -> Blob:
        if content.path is not None and content.spooled:
            return self.blobs.take(content.path, content.spooled)
        return self.blobs.put(content.chunks())

    def _known(self, content: Body) -> Blob | None:
        """The blob of these bytes, where it is whole and a file of a run here: they need not be written again."""
        if content.once:
            return None
        digest = content.spooled or digest_chunks(content.chunks())
        if not self._is_here(digest):
            return None
        try:
            verify(self.blobs, digest)
            return self.blobs.stat(digest)
        except LooplineError:  # damaged or lost: the bytes at hand mend it
            return None

    def _is_here(self, digest: str) -> bool:
        """Whether a run of this very project has a file of these bytes."""
        return Store(self.tx, self.blobs).needed_by(digest, "run")

    def _release(self, run: Any, digest: str) -> None:
        """Gives a blob back, unless the run has the same bytes under another path."""
        same = (run_artifacts.c.run == run.number) & (run_artifacts.c.digest == digest)
        if self.tx.first(sa.select(run_artifacts.c.path).where(same)) is None:
            Store(self.tx, self.blobs).release(digest, self.tx.ref("run", run.id))


_OF_RUN = Prepared(
    sa.select(run_artifacts).where(run_artifacts.c.run == sa.bindparam("of")).order_by(run_artifacts.c.path)
)


def _missing(run: str, path: str) -> NotFound:
    return NotFound(
        f"The run {run} has no artifact {path!r}.",
        code="no-artifact",
        hint=f"`loopline runs artifacts {run}` lists them.",
    )


def _kept(run: Any, row: Any) -> Artifact:
    return Artifact(run=run.id, path=row.path, digest=row.digest, size=row.size, created=row.created)

"""The inbox: rows that others post to datasets, kept at once, taken into versions together.

A post is a blob and a row of the database that names it, in one transaction: acknowledged means durable. It leaves the inbox in the
transaction that names the version with its rows, so that each row is in exactly one version's reading, whoever dies when.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from loopline.data.collecting import Read
from loopline.data.posts import check_body, read_post
from loopline.data.readers import ReadTable
from loopline.data.reconcile import Part, reconcile
from loopline.data.records import Posted, SourceState, Taken, Waiting
from loopline.data.sources import SourcesService, set_right
from loopline.data.spooled import Aside
from loopline.data.tables import dataset_inbox, dataset_versions
from loopline.data.uploads import on_disk
from loopline.data.verbs_sources import InboxVerbs
from loopline.data.versions import check_names
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, Unavailable
from loopline.hashing import digest_file
from loopline.operations import Body
from loopline.quality.blocks import Blocks
from loopline.quality.contract import Contract
from loopline.quality.contract_check import REASON
from loopline.store.service import Store
from loopline.tracking.ids import ulid

MOST_ROWS = 10_000
"""As soon as so many rows wait they are taken."""

MILLISECONDS = 60_000
"""So long after a version was made the next post is taken with all that waits."""

_I = dataset_inbox.c


class InboxService(InboxVerbs):
    """The inboxes of a project's datasets. What is taken goes the way of what is collected from `sources`."""

    def __init__(self, tx: Tx, sources: SourcesService) -> None:
        self.tx = tx
        self.sources = sources
        self.datasets = sources.datasets
        self.named = sources.named

    def post(self, name: str, rows: Body) -> Posted:
        base = self._base(name)
        check_body(rows)
        with on_disk(rows, self.datasets.scratch) as path:
            read = self._read(rows, path, base)
            self._check_columns(base, read)
            digest = rows.spooled or digest_file(path)
            problem = ""
            with self._alone(name) as mine:
                if mine and self._due(base, read.facts.rows):
                    try:
                        taken = self._take(base, self._posts(name), (read, digest))
                    except Invalid as e:  # of all that waits, so not of the sender alone: it waits, too
                        problem = str(e)
                    except Conflict:  # another writer's version came first: the next turn goes behind that
                        pass
                    else:
                        return self._posted(name, read, digest, taken=taken)
            kept = self.datasets.blobs.put(Body(path).chunks())
        self.tx.write()
        post = ulid(self.tx.now)
        Store(self.tx, self.datasets.blobs).retain(kept.digest, self._owner(name, post))
        self.tx.execute(
            dataset_inbox.insert().values(
                project=self.tx.project,
                name=name,
                post=post,
                digest=kept.digest,
                file=read.facts.source,
                rows=read.facts.rows,
                bytes=kept.size,
                at=self.tx.now,
                by=self.tx.principal,
            )
        )
        return self._posted(name, read, digest, problem=problem)

    def waiting(self, name: str) -> Waiting:
        self.named.row(name)
        posts = self._posts(name)
        return Waiting(
            dataset=self.tx.ref("data", name),
            posts=len(posts),
            rows=sum(post.rows for post in posts),
            bytes=sum(post.bytes for post in posts),
            since=min((post.at for post in posts), default=None),
        )

    def take(self, name: str) -> Taken | None:
        base = self._base(name)
        with self._alone(name) as mine:
            if not mine:
                raise _busy(name)
            posts = self._posts(name)
            return self._take(base, posts, None) if posts else None

    def _base(self, name: str) -> Any:
        """The newest version, behind which rows go. Raises where there is none that they may go to."""
        try:
            row = self.named.row(name)
        except NotFound as e:
            raise NotFound(
                f"There is no dataset {name!r} to post rows to.",
                code=e.code,
                hint=f"Its first version says what its columns are: loopline data add {name} FILE [--contract FILE]",
            ) from e
        self.named.check_open(row)
        self.named.check_sound([row])
        return row

    def _check_columns(self, base: Any, read: ReadTable) -> None:
        """Raises `Invalid` where no row has the dataset's columns: the sender is to know at once, not a quarantine."""
        known = dict(self.datasets.written.schema(base).schema)
        free = set_right(self._contract(base.name))
        fitted = reconcile([Part(read.facts.source, read.rows)], known, "quarantine", free=free)
        check_names(fitted.rows.columns)
        if not fitted.rows.height:
            why = fitted.held.only([REASON]).rows([0]).item()
            raise Invalid(
                f"No row of {read.facts.source} has the columns of {self.named.ref(base)}: {why}.",
                code="schema-change",
                hint=f"Its columns are {', '.join(list(known)[:20])}.",
            )

    def _due(self, base: Any, rows: int) -> bool:
        aged = bool(base.created + MILLISECONDS <= self.tx.now)
        return aged or rows + self._rows(base.name) >= MOST_ROWS

    def _take(self, base: Any, waiting: Sequence[Any], sent: tuple[ReadTable, str] | None) -> Taken:
        """Makes the next version of all that waits, and of what is just `sent` behind it."""
        name = base.name
        found, aside = Read(SourceState(address=f"posts-to-{name}"), grows=True), Aside(self.datasets.scratch)
        for post in waiting:
            with self._file(post) as path:
                read = self._read(Body(path, name=post.file), path, base)
                _add(found, read, aside.behind_few(read.rows), post.digest)
        if sent is not None:
            read, digest = sent
            _add(found, read, read.rows, digest)
        made, _, quarantined = self.sources.write(
            name, [found], base, (), "quarantine", self._contract(name), "", None, {}, going_on=True
        )
        if not self._remove(name, waiting):
            raise _busy(name)
        self.tx.count = found.rows
        return Taken(version=made.ref, posts=found.pieces, rows=found.rows, quarantined=quarantined, broken=made.broken)

    def _remove(self, name: str, posts: Sequence[Any]) -> bool:
        """Takes posts out of the inbox; False where another call has taken some of them."""
        store = Store(self.tx, self.datasets.blobs)
        gone = 0
        for post in posts:
            here = (_I.project == self.tx.project, _I.name == name, _I.post == post.post)
            gone += self.tx.execute(dataset_inbox.delete().where(*here)).rowcount
            store.release(post.digest, self._owner(name, post.post))
        return gone == len(posts)

    def _posted(
        self, name: str, read: ReadTable, digest: str, *, taken: Taken | None = None, problem: str = ""
    ) -> Posted:
        dataset = self.tx.ref("data", name)
        self.tx.note(outputs=[] if taken else [dataset], digests={"rows": digest})
        return Posted(
            dataset=dataset,
            rows=read.facts.rows,
            digest=digest,
            waiting=0 if taken else self._rows(name),
            taken=taken,
            problem=problem,
        )

    def _rows(self, name: str) -> int:
        """How many rows wait."""
        here = (_I.project == self.tx.project, _I.name == name)
        return int(self.tx.scalar(sa.select(sa.func.coalesce(sa.func.sum(_I.rows), 0)).where(*here)))

    def _read(self, rows: Body, path: Path, base: Any) -> ReadTable:
        return read_post(rows, path, _texts(base), self.datasets.scratch)

    def _posts(self, name: str) -> Sequence[Any]:
        here = sa.select(dataset_inbox).where(_I.project == self.tx.project, _I.name == name)
        return self.tx.rows(here.order_by(_I.post))

    def _contract(self, name: str) -> Contract | None:
        """What a dataset's rows were checked against last, where they ever were: rows released or restored came without."""
        c = dataset_versions.c
        checked = (c.project == self.tx.project, c.name == name, c.contract != "", c.withdrawn.is_(None))
        version = self.tx.scalar(sa.select(sa.func.max(c.version)).where(*checked))
        if version is None:
            return None
        return self.datasets.rules(self.datasets.contract(name, str(version)))

    @contextlib.contextmanager
    def _file(self, post: Any) -> Iterator[Path]:
        blobs = self.datasets.blobs
        body = Body(blobs.path(post.digest) or blobs.read(post.digest), name=post.file)
        with on_disk(body, self.datasets.scratch) as path:
            yield path

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[bool]:
        """Whether nobody else is taking what was posted; then nobody else will, until this is left."""
        folder = self.datasets.written.folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "_inbox", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    def _owner(self, name: str, post: str) -> str:
        return self.tx.ref("data", name, f"posted-{post}")


def _add(found: Read, read: ReadTable, rows: Blocks, digest: str) -> None:
    found.parts.append(Part(read.facts.source, rows))
    found.digests.append(digest)
    found.told += read.facts.warnings
    found.formats.add(read.format)
    found.pieces += 1


def _texts(base: Any) -> frozenset[str]:
    """The columns that hold texts: what a post spells there is not to be read as a number and back."""
    return frozenset(column["name"] for column in base.columns if "string" in column["type"])


def _busy(name: str) -> Unavailable:
    return Unavailable(
        f"Another writer makes a version of {name} just now; nothing of this call was kept.",
        code="inbox-busy",
        hint="Send it again.",
    )

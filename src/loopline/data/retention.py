"""Which versions of datasets are kept, and how the content of the others goes: nothing that somebody needs, and a day later.

Removing a version for good marks it first: no verb reads it any more. A day after, when nobody can be reading it still, what names
it is looked at once more: one that came into use meanwhile is kept after all, of the others the rows, files and profile go. What
stays is the record: number, digest, columns, counts, contract, who and from what; and the ledger's entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from loopline.data.named import Named
from loopline.data.records import LIVE, Vacuumed, VersionNeeded, VersionPurge, VersionRetention
from loopline.data.tables import (
    dataset_contracts,
    dataset_retention,
    dataset_tags,
    dataset_versions,
    quarantine_decisions,
)
from loopline.data.vacuum import GRACE_MILLISECONDS
from loopline.data.windows import Windows
from loopline.data.written import Written
from loopline.database import Tx
from loopline.durations import written as spelled
from loopline.errors import Conflict, Invalid, LooplineError
from loopline.pipeline.service import forget
from loopline.pipeline.tables import pipeline_runs, steps
from loopline.ports.blobs import BlobStore
from loopline.refs import parse
from loopline.store.service import Store
from loopline.tracking.purge import naming
from loopline.tracking.tables import run_refs, runs

_C = dataset_versions.c
_REF = re.compile(r"(?<![\w-])data:(?:[\w.-]+/)?[\w.-]+@[\w-]+(?:\.[\w-]+)*")
Rows = dict[str, Any]
"""The rows of versions whose content is there, by their refs, the newest of each dataset first."""


class Retained:
    """The part of the datasets' service that removes versions for good."""

    tx: Tx
    blobs: BlobStore
    named: Named
    written: Written

    def _windows(self, name: str) -> Windows:
        return Windows(self.tx, self.blobs, name, self.written.rows)

    def retention(self) -> VersionRetention:
        row = self.tx.first(sa.select(dataset_retention).where(dataset_retention.c.project == self.tx.project))
        return VersionRetention() if row is None else VersionRetention(age=row.age, last=row.last, by=row.by, at=row.at)

    def set_retention(self, age: int | None, last: int | None = None) -> VersionRetention:
        _check(age, last)
        row = {"project": self.tx.project, "age": age, "last": last, "by": self.tx.principal, "at": self.tx.now}
        self.tx.upsert(dataset_retention, ("project",), row, ("age", "last", "by", "at"))
        return self.retention()

    def purge(
        self,
        versions: tuple[str, ...] = (),
        older_than: int | None = None,
        last: int | None = None,
        dry_run: bool = False,
    ) -> VersionPurge:
        _check(older_than, last)
        asked = {self.named.ref(row): row for row in map(self.named.of_ref, versions)}
        for row in asked.values():
            self.named.check_there(row)
        if not dry_run:
            self.tx.write()  # what is looked at from here on is the newest
        rows = self._there()
        why: dict[str, str] = {}
        if not asked:
            why = self._young(rows, older_than, last)
        going = set(asked) or rows.keys() - why.keys()
        why |= self._needed(rows, going)
        for ref in asked:
            if ref in why:
                raise Conflict(
                    f"{ref} cannot be removed: {why[ref]}.",
                    code="version-needed",
                    hint="It stays as it is; what needs it has to go first.",
                )
        gone = [ref for ref in rows if ref in going and ref not in why]
        if dry_run or not gone:
            self.tx.recorded = False
        else:
            for ref in gone:
                if rows[ref].sealed and self.named.looks(rows[ref]):
                    self._windows(rows[ref].name.removesuffix(".test")).mark(rows[ref])
                self._set(rows[ref], purged=self.tx.now)
            forget(self.tx, gone)
            self.tx.note(outputs=gone)
        kept = [] if asked else [VersionNeeded(version=ref, by=why[ref]) for ref in rows if ref in why]
        return VersionPurge(versions=tuple(gone), kept=tuple(kept))

    def vacuum(self, dry_run: bool = False) -> Vacuumed:
        if not dry_run and self._marked():
            self.tx.write()
        marked = {self.named.ref(row): row for row in self._marked()}
        needed = self._needed(self._there() | marked, set(marked)) if marked else {}
        going = {ref: row for ref, row in marked.items() if ref not in needed}
        found, remove = self.written.unneeded([(row.name, row.version) for row in going.values()])
        if not dry_run and (found.files or marked):
            self.tx.write()
            for ref, row in marked.items():
                if ref in going:
                    self._set(row, emptied=self.tx.now)
                    Store(self.tx, self.blobs).release_all(ref)
                else:
                    self._set(row, purged=None)
            self.tx.note(outputs=[*going])
            self.tx.count = found.files
            self.tx.after_commit.append(remove)
        return found

    def _there(self) -> Rows:
        query = sa.select(dataset_versions).where(_C.project == self.tx.project, _C.purged.is_(None))
        return {self.named.ref(row): row for row in self.tx.rows(query.order_by(_C.name, _C.version.desc()))}

    def _marked(self) -> Sequence[Any]:
        """The versions whose content is to go by now."""
        old = _C.purged <= self.tx.now - GRACE_MILLISECONDS
        return self.tx.rows(sa.select(dataset_versions).where(_C.project == self.tx.project, old, _C.emptied.is_(None)))

    def _set(self, row: Any, **values: Any) -> None:
        here = (_C.project == row.project, _C.name == row.name, _C.version == row.version)
        self.tx.execute(dataset_versions.update().where(*here).values(**values))

    def _young(self, rows: Rows, age: int | None, last: int | None) -> dict[str, str]:
        """The versions that the age given, or the retention of the project, keeps, and why."""
        if age is None and last is None:
            rule = self.retention()
            age, last = rule.age, rule.last
        if age is None and last is None:
            raise Invalid(
                f"The project {self.tx.project!r} keeps all versions for ever, and no age was given.",
                code="no-retention",
                hint="Say which versions, or which to keep (`--older-than 30d`, `--last 10`); `loopline data retention 30d` sets "
                "it for good.",
            )
        why: dict[str, str] = {}
        seen: dict[str, int] = {}
        for ref, row in rows.items():
            seen[row.name] = seen.get(row.name, 0) + 1
            if last is not None and seen[row.name] <= last:
                why[ref] = "it is the last one" if last == 1 else f"it is one of the last {last}"
            elif age is not None and row.created > self.tx.now - age:
                why[ref] = f"it is younger than {spelled(age)}"
        return why

    def _needed(self, rows: Rows, going: set[str]) -> dict[str, str]:
        """Those of the versions that are to go which something needs, and what; what goes itself needs nothing."""
        why = dict(self._by_themselves(rows))
        for ref, by in self._elsewhere():
            # Of an opened window nothing can be measured again: its evaluation is the record that stays.
            if ref in rows and not (rows[ref].opened is not None and by.startswith("evaluation:")):
                why.setdefault(ref, f"{by} names it")
        staying = [ref for ref in rows if ref in why or ref not in going]
        bodies = self._contracts(rows)
        for ref in staying:  # grows: what one that stays was made from stays, too
            row = rows[ref]
            # A version holds its rows itself: what it went behind in its own dataset is not needed for them.
            made_from = [one for one in row.inputs if one in rows and rows[one].name != row.name]
            asked = [one for one in bodies.get(row.contract, ()) if one in rows]
            for needed in (*made_from, *asked):
                if needed not in why:
                    why[needed] = (
                        f"{ref} was made from it" if needed in made_from else f"the contract of {ref} names it"
                    )
                    staying += [needed] if needed in going else []
        return {ref: reason for ref, reason in why.items() if ref in going}

    def _by_themselves(self, rows: Rows) -> Iterator[tuple[str, str]]:
        """The versions that stay for what they are."""
        t, q = dataset_tags.c, quarantine_decisions.c
        tagged = sa.select(t.name, t.version, t.tag).where(t.project == self.tx.project)
        tags = {(one.name, one.version): one.tag for one in self.tx.rows(tagged)}
        decided = {
            (one.name, one.version): int(one.rows)
            for one in self.tx.rows(
                sa.select(q.name, q.version, sa.func.sum(q.rows).label("rows"))
                .where(q.project == self.tx.project)
                .group_by(q.name, q.version)
            )
        }
        newest, sound, base = set[str](), set[str](), set[str]()
        for ref, row in rows.items():
            key = (row.name, row.version)
            held = row.quarantined - decided.get(key, 0)
            if row.name not in newest:
                yield ref, "it is the newest"
            elif row.withdrawn is None and row.name not in sound:
                yield ref, "it is the newest that is not withdrawn"
            elif key in tags:
                yield ref, f"it is tagged {tags[key]}"
            elif row.withdrawn is not None:
                yield ref, "it is withdrawn, and stays to be looked at"
            elif row.sealed and row.opened is None:
                yield ref, "its rows are sealed for evaluation"
            elif held:
                yield ref, f"{held:,} of its quarantined rows are held still: release or drop them"
            elif LIVE not in row.facts and row.name not in base:
                yield ref, "it is what the loop learns on"
            newest.add(row.name)
            sound |= {row.name} if row.withdrawn is None else set()
            base |= {row.name} if LIVE not in row.facts else set()

    def _elsewhere(self) -> Iterator[tuple[str, str]]:
        """The versions that other rooms and projects name, and by what."""
        for project, by, held in naming(self.tx, "data"):
            if not (project == self.tx.project and by.startswith("data:")):
                yield from ((ref, by) for ref in self._refs(held))
        under_way = (pipeline_runs.c.project == steps.c.project) & (pipeline_runs.c.id == steps.c.run)
        query = sa.select(steps.c.run, sa.cast(steps.c.outputs, sa.Text).label("held")).join(pipeline_runs, under_way)
        for row in self.tx.rows(query.where(steps.c.project == self.tx.project, pipeline_runs.c.status == "running")):
            yield from (
                (ref, f"{self.tx.ref('pipeline', row.run)}, which is not ended,") for ref in self._refs(row.held)
            )
        query = sa.select(run_refs.c.ref, runs.c.id, runs.c.project).join(runs, runs.c.number == run_refs.c.run)
        for row in self.tx.rows(query.where(run_refs.c.ref.like("data:%"))):
            by = self.tx.ref("run", row.id) if row.project == self.tx.project else "a run of another project"
            yield from ((ref, by) for ref in self._refs(row.ref))

    def _contracts(self, rows: Rows) -> dict[str, list[str]]:
        """The versions that contracts name, by the digest of the contract."""
        c = dataset_contracts.c
        query = sa.select(c.digest, sa.cast(c.body, sa.Text).label("body")).where(c.project == self.tx.project)
        wanted = {row.contract for row in rows.values()}
        found = self.tx.rows(query.where(sa.cast(c.body, sa.Text).like("%data:%")))
        return {row.digest: [*self._refs(row.body)] for row in found if row.digest in wanted}

    def _refs(self, text: str) -> Iterator[str]:
        """The versions of the project that a text names, each by its number."""
        for found in _REF.findall(text):
            named = parse(found, "data")
            if named.project != self.tx.project:
                continue
            try:
                yield found if named.number is not None else self.named.ref(self.named.of_ref(found))
            except LooplineError:  # a tag that was taken away, a day without a version
                continue


def _check(age: int | None, last: int | None) -> None:
    if age is not None and not 0 <= age < 2**53:
        raise Invalid(f"{age} ms is no age.", code="bad-value", hint="Give milliseconds, 0 or more, or none: for ever.")
    if last is not None and not 1 <= last < 2**31:
        raise Invalid(f"The last {last} versions cannot be kept.", code="bad-value", hint="Give 1 or more.")

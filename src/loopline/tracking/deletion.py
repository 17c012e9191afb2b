"""The verbs that delete runs, bring them back, and remove them for good.

Deleting sets a time in the run's row and nothing else. Removing for good (a purge) takes its rows and its points; its id stays, so
that what its journal may still bring is known to be of it, and so do the entries of the ledger, which hold refs and digests only.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.database import Database, Tx
from loopline.errors import Conflict, Invalid
from loopline.ports.blobs import BlobStore
from loopline.tracking import purge, reading
from loopline.tracking.groups import check_live, hold_group
from loopline.tracking.paths import check_key
from loopline.tracking.purge import Selected
from loopline.tracking.records import Purge, Retention, Run, TagRetention
from loopline.tracking.tables import run_groups, run_retention, runs
from loopline.tracking.words import Words

AT_ONCE = 500
"""So many runs are removed in one call, which holds the database's writer meanwhile."""

_MOST_RULES = 100


class Deletions:
    """The part of the runs' service that deletes."""

    tx: Tx
    blobs: BlobStore
    words: Words
    metrics: Database | None

    def delete(self, run: str) -> Run:
        row = reading.held(self.tx, run)
        if row.deleted is not None:
            self.tx.recorded = False
            return self._run(row)
        return self._set(row, self.tx.now)

    def restore(self, run: str) -> Run:
        row = reading.held(self.tx, run)
        if row.deleted is None:
            self.tx.recorded = False
            return self._run(row)
        check_live(self.tx, row.group)
        return self._set(row, None)

    def purge(
        self,
        runs: tuple[str, ...] = (),
        groups: tuple[int, ...] = (),
        older_than: int | None = None,
        dry_run: bool = False,
    ) -> Purge:
        purge.remove_points(self.tx, self.metrics)  # of a purge that was cut off
        if not (runs or groups):
            before = self.tx.now - self._age(older_than)
            found = purge.older(self.tx, before, self.retention().tags, AT_ONCE)
            return self._removed(found, purge.emptied(self.tx, run_groups.c.deleted <= before, found.rows), dry_run)
        for group in groups:
            self._check_deleted(group)
        named = [self._deleted(run) for run in sorted(set(runs))]
        self._check_kept([row.number for row in named], groups)
        found = purge.those(self.tx, named, groups, AT_ONCE)
        if found.needed:
            first = found.needed[0]
            raise Conflict(
                f"The run {first.run} cannot be removed: {first.by} names it.",
                code="run-needed",
                hint="It stays deleted as it is; what names it has to go first.",
            )
        return self._removed(found, purge.emptied(self.tx, run_groups.c.number.in_(groups), found.rows), dry_run)

    def retention(self) -> Retention:
        row = self.tx.first(sa.select(run_retention).where(run_retention.c.project == self.tx.project))
        if row is None:
            return Retention()
        tags = msgspec.convert(row.tags, tuple[TagRetention, ...])
        return Retention(deleted=row.deleted, tags=tags, by=row.by, at=row.at)

    def set_retention(self, deleted: int | None, tags: tuple[TagRetention, ...] = ()) -> Retention:
        for time in (deleted, *(rule.kept for rule in tags)):
            if time is not None and not 0 <= time < 2**53:
                raise Invalid(
                    f"Deleted runs cannot be kept for {time} ms.",
                    code="bad-value",
                    hint="Give 0 or more, or none: for ever.",
                )
        for rule in tags:
            check_key(rule.key, "key of a tag")
        if len(tags) > _MOST_RULES or len({(rule.key, rule.value) for rule in tags}) < len(tags):
            raise Invalid(
                "A tag stands twice among those that keep runs, or there are too many of them.",
                code="bad-value",
                hint=f"Give each tag once, and at most {_MOST_RULES}.",
            )
        row = {"project": self.tx.project, "deleted": deleted, "by": self.tx.principal, "at": self.tx.now}
        row["tags"] = msgspec.to_builtins(tags)
        self.tx.upsert(run_retention, ("project",), row, ("deleted", "tags", "by", "at"))
        return self.retention()

    def _age(self, given: int | None) -> int:
        age = self.retention().deleted if given is None else given
        if age is None:
            raise Invalid(
                f"The project {self.tx.project!r} keeps deleted runs for ever, and no age was given.",
                code="no-retention",
                hint="Say which runs, or how long ago they were deleted (`--older-than 30d`); `loopline runs retention 30d` "
                "sets it for good.",
            )
        if not 0 <= age < 2**53:
            raise Invalid(f"{age} ms is no age.", code="bad-value", hint="Give milliseconds, 0 or more.")
        return age

    def _deleted(self, run: str) -> Any:
        row = reading.held(self.tx, run)
        if row.deleted is None:
            raise Conflict(
                f"The run {row.id} is live and cannot be removed.",
                code="run-live",
                hint=f"Delete it first: `loopline runs delete {row.id}`.",
            )
        return row

    def _check_kept(self, numbers: list[int], groups: tuple[int, ...]) -> None:
        """Raises `Conflict` where a tag keeps one of these deleted runs, or one of these groups."""
        mine = sa.and_(runs.c.project == self.tx.project, runs.c.group.in_(groups))
        for rule in self.retention().tags:
            query = sa.select(runs.c.id).where(runs.c.number.in_(numbers) | mine, purge.keeps(self.tx, rule))
            if (row := self.tx.first(query.limit(1))) is not None:
                raise Conflict(
                    f"The run {row.id} cannot be removed yet: the project keeps runs with its tag {rule.key!r}.",
                    code="run-kept",
                    hint="It stays deleted as it is. `loopline runs retention` shows how long; admins set it.",
                )

    def _check_deleted(self, group: int) -> None:
        if hold_group(self.tx, group).deleted is None:
            raise Conflict(
                f"The group {group} is live and cannot be removed.",
                code="group-live",
                hint=f"Delete it first: `loopline groups delete {group}`.",
            )

    def _removed(self, found: Selected, empty: list[int], dry_run: bool) -> Purge:
        refs = tuple(self.tx.ref("run", row.id) for row in found.rows)
        emptied = tuple(self.tx.ref("group", str(number)) for number in empty)
        if dry_run or not (refs or emptied):
            self.tx.recorded = False
        else:
            purge.remove(self.tx, self.blobs, found.rows)
            mine = run_groups.c.project == self.tx.project
            self.tx.execute(run_groups.delete().where(mine, run_groups.c.number.in_(empty)))
            self.tx.note(outputs=[*refs, *emptied])
            self.tx.after_commit.append(partial(purge.after_commit, self.tx.database, self.metrics))
        return Purge(runs=refs, groups=emptied, needed=tuple(found.needed), more=found.more)

    def _set(self, row: Any, deleted: int | None) -> Run:
        self.tx.execute(runs.update().where(runs.c.number == row.number).values(deleted=deleted))
        found = self._run(reading.row_of(self.tx, row.id))
        self.tx.note(outputs=[found.ref])
        return found

    def _run(self, row: Any) -> Run:
        return reading.records(self.tx, self.words, [row])[0]

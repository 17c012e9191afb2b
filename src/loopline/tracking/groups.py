"""Groups of runs: the verbs, and what creating and restoring runs asks of a group.

Number 0 is there in every project without anybody having made it: as long as nothing was said of it, it has no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.access.tables import projects
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound
from loopline.operations import check_limit
from loopline.prepared import Prepared
from loopline.tracking.entries import check_count
from loopline.tracking.paths import check_group, check_key, check_text
from loopline.tracking.records import DEFAULT_GROUP, Lifecycle, RunGroup, RunGroupPage
from loopline.tracking.tables import run_groups, runs
from loopline.tracking.verbs import GroupsVerbs

_LARGEST_PAGE = 1000


class GroupsService(GroupsVerbs):
    """Groups, in one transaction."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def create(self, name: str, tags: dict[str, str] | None = None, note: str = "") -> RunGroup:
        number = _make(self.tx, check_group(name), _with({}, tags or {}), check_text(note, "The note"))
        return self._made(number)

    def show(self, group: int) -> RunGroup:
        return group_of(self.tx, group)

    def list(
        self, name: str | None = None, lifecycle: Lifecycle = "live", limit: int = 100, after: int | None = None
    ) -> RunGroupPage:
        check_limit(limit, "groups", _LARGEST_PAGE)
        query = sa.select(run_groups).where(run_groups.c.project == self.tx.project)
        if lifecycle != "all":
            there = run_groups.c.deleted
            query = query.where(there.is_(None) if lifecycle == "live" else there.is_not(None))
        if name is not None:
            query = query.where(run_groups.c.name == name)
        if after is not None:
            query = query.where(run_groups.c.number > after)
        rows = self.tx.rows(query.order_by(run_groups.c.number).limit(limit + 1))
        found = [_record(self.tx, row) for row in rows]
        if after is None and lifecycle != "deleted" and (not found or found[0].number):
            default = group_of(self.tx, 0)
            found[:0] = [default] if name in (None, default.name) and default.deleted is None else []
        shown = tuple(found[:limit])
        return RunGroupPage(groups=shown, after=shown[-1].number if len(found) > limit else None)

    def change(self, group: int, name: str | None = None, note: str | None = None) -> RunGroup:
        if name is not None:
            _name_alone(self.tx)
        former = check_live(self.tx, group, alone=True)
        given: dict[str, Any] = {}
        if name is not None and name != former.name:
            _check_free(self.tx, check_group(name))
            given["name"] = name
        if note is not None:
            given["note"] = check_text(note, "The note")
        return self._changed(group, given)

    def tag(self, group: int, tags: dict[str, str | None]) -> RunGroup:
        former = check_live(self.tx, group, alone=True)
        return self._changed(group, {"tags": _with(former.tags, tags)})

    def delete(self, group: int) -> RunGroup:
        row = hold_group(self.tx, group)
        if row.deleted is not None:
            self.tx.recorded = False
            return row
        mine = (runs.c.project == self.tx.project) & (runs.c.group == group)
        # Later than any run that was deleted by itself, so that restoring the group tells them apart.
        before = self.tx.scalar(sa.select(sa.func.max(runs.c.deleted)).where(mine)) or 0
        at = max(self.tx.now, before + 1)
        self.tx.execute(runs.update().where(mine, runs.c.deleted.is_(None)).values(deleted=at))
        return self._changed(group, {"deleted": at})

    def restore(self, group: int) -> RunGroup:
        _name_alone(self.tx)
        row = hold_group(self.tx, group)
        if row.deleted is None:
            self.tx.recorded = False
            return row
        _check_free(self.tx, row.name)
        mine = (runs.c.project == self.tx.project) & (runs.c.group == group)
        self.tx.execute(runs.update().where(mine, runs.c.deleted == row.deleted).values(deleted=None))
        return self._changed(group, {"deleted": None})

    def _changed(self, group: int, values: Mapping[str, Any]) -> RunGroup:
        where = _is(self.tx, group)
        self.tx.execute(run_groups.update().where(where).values(changed=self.tx.now, **values))
        return self._made(group)

    def _made(self, group: int) -> RunGroup:
        found = self.show(group)
        self.tx.note(outputs=[found.ref])
        return found


def check_live(tx: Tx, group: int, *, alone: bool = False) -> RunGroup:
    """A live group, which stays live until the transaction ends; `alone`: and nobody else changes it.

    Raises `NotFound`, and `Conflict` where it is deleted.
    """
    row = hold_group(tx, group, alone=alone)
    if row.deleted is not None:
        raise Conflict(
            f"The group {group} ({row.name!r}) of project {tx.project!r} is deleted and takes no more.",
            code="group-deleted",
            hint=f"`loopline groups restore {group}` makes it live again, with its runs.",
        )
    return row


def entered(tx: Tx, name: str | None) -> int:
    """The number of the live group of this name, which is made where there is none; None: of the default one's."""
    if name is None:
        default = group_of(tx, 0)
        if default.deleted is None:
            return 0
        name = default.name
    number = _named(tx, name)
    if number is None:
        _name_alone(tx)
        number = _named(tx, name)  # somebody may have made it meanwhile
    return _make(tx, name, {}, "") if number is None else number


def _make(tx: Tx, name: str, tags: dict[str, str], note: str) -> int:
    _name_alone(tx)
    _check_free(tx, name)
    counted = run_groups.update().where(_is(tx, 0)).values(last=run_groups.c.last + 1).returning(run_groups.c.last)
    number: int = tx.execute(counted).scalar_one()
    row = {"project": tx.project, "number": number, "name": name, "note": note, "tags": tags, "last": 0}
    tx.execute(run_groups.insert(), {**row, "created": tx.now, "creator": tx.principal, "changed": tx.now})
    return number


def _name_alone(tx: Tx) -> None:
    """Holds number 0, so that one transaction at a time gives names in a project."""
    hold_group(tx, 0)


def _ensure_default(tx: Tx) -> None:
    default = msgspec.to_builtins(group_of(tx, 0))
    row = {name: value for name, value in default.items() if name != "ref"}
    tx.upsert(run_groups, (), {"project": tx.project, "last": 0, **row})


def _named(tx: Tx, name: str) -> int | None:
    """The number of the live group of a name."""
    live = (run_groups.c.project == tx.project) & (run_groups.c.name == name) & run_groups.c.deleted.is_(None)
    query = sa.select(run_groups.c.number).where(live)
    number: int | None = tx.scalar(query if tx.database.sqlite else query.with_for_update(read=True))
    if number is None and name == DEFAULT_GROUP:
        default = group_of(tx, 0)  # it may have no row yet
        return 0 if default.name == name and default.deleted is None else None
    return number


def _check_free(tx: Tx, name: str) -> None:
    known = _named(tx, name)
    if known is not None:
        raise Conflict(
            f"There is a group {name!r} in project {tx.project!r} already: number {known}.",
            code="group-taken",
            hint="Choose another name, or use that one.",
        )


def hold_group(tx: Tx, group: int, *, alone: bool = True) -> RunGroup:
    """A group, which nobody else changes (`alone`), or deletes, until the transaction ends. Raises `NotFound`."""
    tx.write()
    if group == 0 and (alone or not tx.database.sqlite):
        _ensure_default(tx)
    if not tx.database.sqlite:  # SQLite has one writer at a time
        tx.rows(sa.select(run_groups.c.number).where(_is(tx, group)).with_for_update(read=not alone))
    return group_of(tx, group)


def group_of(tx: Tx, group: int) -> RunGroup:
    """A group by its number, deleted or not."""
    _check_number(group)
    row = tx.first(_BY_NUMBER, {"project": tx.project, "of": group})
    if row is not None:
        return _record(tx, row)
    if group == 0:
        made = tx.first(_PROJECT, {"project": tx.project})
        assert made is not None, "the authority has seen the project"
        return RunGroup(
            number=0,
            ref=tx.ref("group", "0"),
            name=DEFAULT_GROUP,
            note="",
            tags={},
            created=made.created,
            creator=made.created_by,
            changed=made.created,
        )
    raise NotFound(
        f"There is no group {group} in project {tx.project!r}.",
        code="no-group",
        hint="`loopline groups ls` shows the groups.",
    )


_BY_NUMBER = Prepared(
    sa.select(run_groups).where(
        run_groups.c.project == sa.bindparam("project"), run_groups.c.number == sa.bindparam("of")
    )
)
_PROJECT = Prepared(sa.select(projects).where(projects.c.name == sa.bindparam("project")))


def _is(tx: Tx, group: int) -> sa.ColumnElement[bool]:
    _check_number(group)
    return sa.and_(run_groups.c.project == tx.project, run_groups.c.number == group)


def _check_number(group: int) -> None:
    if not 0 <= group < 2**31:
        raise Invalid(f"{group} is no number of a group.", code="bad-group", hint="They count from 0.")


def _with(former: Mapping[str, str], tags: Mapping[str, str | None]) -> dict[str, str]:
    """The tags with others set; None removes one."""
    check_count(tags, "tags")
    for key, value in tags.items():
        check_key(key, "key of a tag")
        if value is not None:
            check_text(value, f"The tag {key!r}")
    return {key: value for key, value in {**former, **tags}.items() if value is not None}


def _record(tx: Tx, row: Any) -> RunGroup:
    return RunGroup(
        number=row.number,
        ref=tx.ref("group", str(row.number)),
        name=row.name,
        note=row.note,
        tags=row.tags,
        created=row.created,
        creator=row.creator,
        changed=row.changed,
        deleted=row.deleted,
    )

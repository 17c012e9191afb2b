"""Aliases: names for one version of a model, moved and moved back, every move kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, did_you_mean
from loopline.hashing import digest_json
from loopline.prepared import Prepared
from loopline.refs import check_name
from loopline.registry.card_sections import when
from loopline.registry.records import Alias, AliasMove
from loopline.registry.tables import alias_moves, model_aliases, model_versions

LATEST = "latest"


def check_alias(alias: str) -> str:
    """The alias itself. Raises `Invalid` where it could be taken for a number or for "latest"."""
    check_name(alias, "alias")
    if alias.lstrip("vV").isdecimal() or alias.casefold() == LATEST:
        raise Invalid(
            f"{alias!r} cannot be an alias: it reads like a version.", code="bad-alias", hint="For example 'champion'."
        )
    return alias


def way_back(moves: Sequence[AliasMove]) -> list[int | None]:
    """The versions that an alias named, oldest first, without those that it was rolled back from; the last one is in force.

    None stands for the time after it was removed.
    """
    stack: list[int | None] = []
    for move in moves:
        if move.how != "roll_back":
            stack.append(move.version)
            continue
        stack.pop()
        while stack[-1] != move.version:  # versions withdrawn meanwhile were left out
            stack.pop()
    return stack


class Aliases:
    """The aliases of one project's models. Writing calls hold the lock on the model (`Versions.lock`)."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def current(self, name: str | None = None) -> list[Alias]:
        """Where the aliases of a model (or of all) point now."""
        query = _CURRENT if name is None else _CURRENT_OF
        rows = self.tx.rows(query, {"in_project": self.tx.project, "of_model": name})
        return [_alias(_moved(row)) for row in rows]

    def history(self, name: str, alias: str) -> list[AliasMove]:
        """All moves of an alias, oldest first."""
        rows = self.tx.rows(
            sa.select(alias_moves)
            .where(alias_moves.c.project == self.tx.project, alias_moves.c.name == name, alias_moves.c.alias == alias)
            .order_by(alias_moves.c.number)
        )
        return [_moved(row) for row in rows]

    def at(self, name: str, alias: str, time: int | None) -> Alias:
        """Where the alias pointed at a time. Raises `NotFound` where it did not point anywhere."""
        move = self._last(name, alias, time)
        if move is not None and move.version is not None:
            return _alias(move)
        known = [found.alias for found in self.current(name)]
        first = None if time is None or move is not None else self.history(name, alias)[:1]
        if first:
            hint = f"Its first move was at {when(first[0].at)}."
        elif move is not None:
            hint = f"{move.by} removed it at {when(move.at)}; `loopline models history {name} {alias}` tells all its moves."
        else:
            hint = did_you_mean(alias, known)
        raise NotFound(
            f"The model {name!r} has no alias {alias!r}{'' if time is None else ' at that time'}.",
            code="no-alias",
            hint=hint,
        )

    def point(self, name: str, alias: str, version: int, reason: str) -> Alias:
        """Moves an alias to a registered version; where it points there already, nothing changes."""
        last = self._last(name, check_alias(alias), None)
        self._check_usable(name, alias, version)
        if last is not None and last.version == version:
            return _alias(last)
        return _alias(self._move(name, alias, version, last, "set", reason))

    def roll_back(self, name: str, alias: str, reason: str, sound: Callable[[int], bool]) -> Alias:
        """Moves an alias back to what it named before, past versions that were withdrawn since or are not `sound`."""
        moves = self.history(name, alias)
        if not moves:
            return self.at(name, alias, None)  # raises
        usable = self._registered(name)
        before = [version for version in way_back(moves)[:-1] if version is not None and version in usable]
        while before and not sound(before[-1]):
            before.pop()
        if not before:
            raise Conflict(
                f"There is nothing to roll {name}@{alias} back to.",
                code="no-way-back",
                hint=f"Point it to a version: loopline models alias {name}@VERSION {alias}",
            )
        return _alias(self._move(name, alias, before[-1], moves[-1], "roll_back", reason))

    def remove(self, name: str, alias: str, reason: str) -> AliasMove:
        """Takes an alias away; its history stays. Raises `NotFound` where it points nowhere."""
        self.at(name, alias, None)
        return self._move(name, alias, None, self._last(name, alias, None), "remove", reason)

    def _last(self, name: str, alias: str, time: int | None) -> AliasMove | None:
        """The last move of an alias, of those up to a time."""
        given = {"in_project": self.tx.project, "of_model": name, "of_alias": alias}
        if time is None:
            row = next(iter(self.tx.rows(_LAST, given)), None)
        else:
            row = next(iter(self.tx.rows(_LAST_BY, {**given, "by_time": time})), None)
        return None if row is None else _moved(row)

    def _move(
        self,
        name: str,
        alias: str,
        version: int | None,
        last: AliasMove | None,
        how: Literal["set", "roll_back", "remove"],
        reason: str,
    ) -> AliasMove:
        made = AliasMove(
            number=last.number + 1 if last else 1,
            name=name,
            alias=alias,
            version=version,
            previous=last.version if last else None,
            how=how,
            # Two moves keep their order in time, also where a clock was set back in between.
            at=max(self.tx.now, last.at if last else 0),
            by=self.tx.principal,
            reason=reason,
        )
        self.tx.run(_NEW, {"project": self.tx.project, **msgspec.structs.asdict(made)})
        place = {"project": self.tx.project, "name": name, "alias": alias}
        if version is None:
            at = model_aliases.c
            here = (at.project == self.tx.project, at.name == name, at.alias == alias)
            self.tx.execute(model_aliases.delete().where(*here))
        else:
            keys = ("project", "name", "alias")
            pointing = {**place, "number": made.number, "version": version}
            self.tx.upsert(model_aliases, keys, pointing, ("number", "version"))
        read = [self.tx.ref("model", name, v) for v in (version, made.previous) if v is not None]
        digests = {"reason": digest_json(reason)} if reason else {}
        self.tx.note(inputs=read, outputs=[self.tx.ref("model", name, alias)], digests=digests)
        return made

    def _check_usable(self, name: str, alias: str, version: int) -> None:
        given = {"in_project": self.tx.project, "of_model": name, "of_version": version}
        status = next((row.status for row in self.tx.rows(_STATUS, given)), None)
        if status is None:
            raise NotFound(f"There is no version {version} of the model {name!r}.", code="no-model-version")
        if status != "registered":
            raise Conflict(
                f"Version {version} of {name} is {'a draft' if status == 'draft' else status}, so it cannot become @{alias}.",
                code="not-registered",
                hint="Register it first." if status == "draft" else "A withdrawn version is never named again.",
            )

    def _registered(self, name: str) -> set[int]:
        rows = self.tx.rows(
            sa.select(model_versions.c.version).where(
                model_versions.c.project == self.tx.project,
                model_versions.c.name == name,
                model_versions.c.status == "registered",
                model_versions.c.deleted.is_(None),
            )
        )
        return {row.version for row in rows}


_HERE = (alias_moves.c.project == sa.bindparam("in_project"), alias_moves.c.name == sa.bindparam("of_model"))

_CURRENT = (
    sa.select(alias_moves)
    .join(
        model_aliases,
        sa.and_(*(alias_moves.c[key] == model_aliases.c[key] for key in ("project", "name", "alias", "number"))),
    )
    .where(model_aliases.c.project == sa.bindparam("in_project"))
    .order_by(alias_moves.c.name, alias_moves.c.alias)
)
_CURRENT_OF = _CURRENT.where(model_aliases.c.name == sa.bindparam("of_model"))
_MOVES = (
    sa.select(alias_moves)
    .where(*_HERE, alias_moves.c.alias == sa.bindparam("of_alias"))
    .order_by(alias_moves.c.number.desc())
    .limit(1)
)
_NEW = Prepared(alias_moves.insert())
_LAST = Prepared(_MOVES)
_LAST_BY = Prepared(_MOVES.where(alias_moves.c.at <= sa.bindparam("by_time")))
_STATUS = Prepared(
    sa.select(model_versions.c.status).where(
        model_versions.c.project == sa.bindparam("in_project"),
        model_versions.c.name == sa.bindparam("of_model"),
        model_versions.c.version == sa.bindparam("of_version"),
        model_versions.c.deleted.is_(None),
    )
)


def _alias(move: AliasMove) -> Alias:
    assert move.version is not None  # who calls has looked
    return Alias(name=move.name, alias=move.alias, version=move.version, since=move.at, by=move.by, reason=move.reason)


def _moved(row: Any) -> AliasMove:
    return AliasMove(**{key: value for key, value in row._asdict().items() if key != "project"})

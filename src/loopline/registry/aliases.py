"""Aliases: names for one version of a model, moved and moved back, every move kept."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, did_you_mean
from loopline.hashing import digest_json
from loopline.refs import check_name
from loopline.registry.records import Alias, AliasMove
from loopline.registry.tables import alias_moves, model_versions

LATEST = "latest"


def check_alias(alias: str) -> str:
    """The alias itself. Raises `Invalid` where it could be taken for a number or for "latest"."""
    check_name(alias, "alias")
    if alias.lstrip("vV").isdecimal() or alias.casefold() == LATEST:
        raise Invalid(
            f"{alias!r} cannot be an alias: it reads like a version.", code="bad-alias", hint="For example 'champion'."
        )
    return alias


def way_back(moves: Sequence[AliasMove]) -> list[int]:
    """The versions that an alias named, oldest first, without those that it was rolled back from; the last one is in force."""
    stack: list[int] = []
    for move in moves:
        if move.how == "set":
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
        columns = alias_moves.c
        last = (
            sa.select(columns.name, columns.alias, sa.func.max(columns.number).label("number"))
            .where(columns.project == self.tx.project, *([columns.name == name] if name is not None else []))
            .group_by(columns.name, columns.alias)
            .subquery()
        )
        rows = self.tx.rows(
            sa.select(alias_moves)
            .join(
                last,
                (columns.name == last.c.name) & (columns.alias == last.c.alias) & (columns.number == last.c.number),
            )
            .where(columns.project == self.tx.project)
            .order_by(columns.name, columns.alias)
        )
        return [
            Alias(name=row.name, alias=row.alias, version=row.version, since=row.at, by=row.by, reason=row.reason)
            for row in rows
        ]

    def history(self, name: str, alias: str) -> list[AliasMove]:
        """All moves of an alias, oldest first."""
        rows = self.tx.rows(
            sa.select(alias_moves)
            .where(alias_moves.c.project == self.tx.project, alias_moves.c.name == name, alias_moves.c.alias == alias)
            .order_by(alias_moves.c.number)
        )
        return [AliasMove(**{k: v for k, v in row._mapping.items() if k != "project"}) for row in rows]

    def at(self, name: str, alias: str, time: int | None) -> Alias:
        """Where the alias pointed at a time. Raises `NotFound` where it did not point anywhere."""
        moves = [move for move in self.history(name, alias) if time is None or move.at <= time]
        if not moves:
            known = [found.alias for found in self.current(name)]
            when = "" if time is None or alias not in known else " at that time"
            raise NotFound(
                f"The model {name!r} has no alias {alias!r}{when}.",
                code="no-alias",
                hint="Its first move came later." if when else did_you_mean(alias, known),
            )
        return _alias(moves[-1])

    def point(self, name: str, alias: str, version: int, reason: str) -> Alias:
        """Moves an alias to a registered version; where it points there already, nothing changes."""
        moves = self.history(name, check_alias(alias))
        self._check_usable(name, alias, version)
        if moves and moves[-1].version == version:
            return _alias(moves[-1])
        return self._move(name, alias, version, moves, "set", reason)

    def roll_back(self, name: str, alias: str, reason: str) -> Alias:
        """Moves an alias back to what it named before, past versions that were withdrawn since."""
        moves = self.history(name, alias)
        if not moves:
            return self.at(name, alias, None)  # raises
        usable = self._registered(name)
        before = [version for version in way_back(moves)[:-1] if version in usable]
        if not before:
            raise Conflict(
                f"There is nothing to roll {name}@{alias} back to.",
                code="no-way-back",
                hint=f"It points to version {moves[-1].version}; point it to another: loopline models alias {name}@VERSION {alias}",
            )
        return self._move(name, alias, before[-1], moves, "roll_back", reason)

    def _move(self, name: str, alias: str, version: int, moves: list[AliasMove], how: str, reason: str) -> Alias:
        previous = moves[-1].version if moves else None
        self.tx.execute(
            alias_moves.insert().values(
                project=self.tx.project,
                name=name,
                alias=alias,
                number=len(moves) + 1,
                version=version,
                previous=previous,
                how=how,
                # Two moves keep their order in time, also where a clock was set back in between.
                at=max(self.tx.now, moves[-1].at if moves else 0),
                by=self.tx.principal,
                reason=reason,
            )
        )
        read = [self.tx.ref("model", name, v) for v in (version, previous) if v is not None]
        digests = {"reason": digest_json(reason)} if reason else {}
        self.tx.note(inputs=read, outputs=[self.tx.ref("model", name, alias)], digests=digests)
        return _alias(self.history(name, alias)[-1])

    def _check_usable(self, name: str, alias: str, version: int) -> None:
        status = self.tx.scalar(
            sa.select(model_versions.c.status).where(
                model_versions.c.project == self.tx.project,
                model_versions.c.name == name,
                model_versions.c.version == version,
            )
        )
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
            )
        )
        return {row.version for row in rows}


def _alias(move: AliasMove) -> Alias:
    return Alias(name=move.name, alias=move.alias, version=move.version, since=move.at, by=move.by, reason=move.reason)

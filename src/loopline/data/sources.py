"""The verbs about sources: datasets collected from where their rows come from, once and again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl
import sqlalchemy as sa

from loopline.access import authority
from loopline.data.asked import Asked
from loopline.data.collecting import OpenSource, Read, acknowledge, log, opened, read, unreadable
from loopline.data.joining import join as join_parts
from loopline.data.quarantine import all_held
from loopline.data.reconcile import OnChange, Part, reconcile, widened
from loopline.data.records import Collected, Collection, DatasetVersion, LabelColumn, Schedule, SourceState
from loopline.data.schedules import Schedules
from loopline.data.secrets import check_no_secret
from loopline.data.service import DatasetsService
from loopline.data.tables import dataset_sources, dataset_versions
from loopline.data.uploads import told
from loopline.data.verbs_sources import SourcesVerbs
from loopline.data.written import moved
from loopline.database import Tx
from loopline.errors import Invalid, NotFound, Refused, did_you_mean
from loopline.ports.source import Source
from loopline.quality.blocks import Blocks
from loopline.quality.contract import Contract
from loopline.quality.contract_check import REASON, RULE, parted
from loopline.quality.contract_rules import OfType
from loopline.refs import check_name

SCHEMA = "columns"
"""The rule that a row has broken whose columns are not those of the dataset, as a quarantine names it."""

_SQLITE = "sqlite:///"
_S = dataset_sources.c


class SourcesService(SourcesVerbs):
    """What datasets are collected from; `open_source` opens a source by its address; `kept` is a folder for what sources keep
    that is nowhere else. `tell` is told of a dataset whose turn failed, and why, or ("") that it fails no more."""

    def __init__(
        self,
        tx: Tx,
        datasets: DatasetsService,
        open_source: Callable[..., Source],
        kept: Path,
        tell: Callable[[str, str], None] = lambda name, problem: None,
    ) -> None:
        self.tx = tx
        self.datasets = datasets
        self.named = datasets.named
        self._open = open_source
        self._scratch = datasets.scratch
        self._kept = kept
        self._schedules = Schedules(tx)
        self._tell = tell

    def collect(
        self,
        name: str,
        sources: tuple[SourceState, ...],
        contract: dict[str, Any] | None = None,
        message: str = "",
        join: tuple[str, ...] = (),
        on_change: Literal["widen", "quarantine", "refuse"] = "widen",
        labels: tuple[LabelColumn, ...] | None = None,
        facts: dict[str, str] | None = None,
    ) -> Collected:
        check_name(name, "name of a dataset")
        self._check_own_user(name)
        if not sources:
            raise Invalid("No source is named.", code="bad-source", hint="loopline data add NAME SOURCE")
        if join and len(sources) == 1:
            raise Invalid("One source has nothing to be joined to.", code="bad-source", hint="Name two or more.")
        given = tuple(_normal(source) for source in sources)
        row = self._state(name)
        rules, other = self.datasets.rules(contract) if contract else None, False
        if row is not None and (_places(row.sources), tuple(row.join)) == (_places(msgspec.to_builtins(given)), join):
            given = _states(row)
            other = rules is not None and rules.digest != self.named.row(name, str(row.version)).contract
            rules = rules or self._contract(name, row.version)
        return self._collect(
            name, row, given, join, on_change, rules, message, 1, labels, facts or {}, other_rules=other
        )

    def sync(self, name: str, message: str = "", waiting: int = 1, facts: dict[str, str] | None = None) -> Collected:
        row = self._needed(name)
        rules, states, join, told = self._contract(name, row.version), _states(row), tuple(row.join), facts or {}
        return self._collect(name, row, states, join, row.on_change, rules, message, waiting, None, told, by_hand=False)

    def list(self) -> tuple[Collection, ...]:
        planned = self._schedules.planned()
        return tuple(self._record(row, planned.get(row.name, {})) for row in self._newest())

    def show(self, name: str) -> Collection:
        return self._planned(self._needed(name))

    def schedule(
        self, name: str, every: str | None = None, cron: str | None = None, waiting: int | None = None
    ) -> Collection:
        row = self._needed(name)
        self._schedules.set(name, Schedule(every=every, cron=cron, waiting=waiting))
        return self._planned(row)

    def unschedule(self, name: str) -> Collection:
        row = self._needed(name)
        self._schedules.remove(name)
        self._tell(name, "")
        return self._planned(row)

    def turn(self, name: str, problem: str = "") -> Collection:
        row = self._needed(name)
        self._schedules.turn(name, problem)
        self._tell(name, problem[:2000])
        return self._planned(row)

    def _collect(
        self,
        name: str,
        row: Any,
        states: tuple[SourceState, ...],
        join: tuple[str, ...],
        on_change: OnChange,
        rules: Contract | None,
        message: str,
        waiting: int,
        labels: tuple[LabelColumn, ...] | None,
        facts: dict[str, str],
        *,
        other_rules: bool = False,
        by_hand: bool = True,
    ) -> Collected:
        before = self.named.newest(name)
        going_on = row is not None and any(state.position is not None for state in states)
        open_source = partial(self._open, kept=self._kept / self.tx.project / name)
        found, grows = self._read(states, join, open_source, whole=other_rules)
        came = sum(one.rows for one in found)
        after = tuple(one.state for one in found)
        if not any(one.pieces for one in found) or (grows and going_on and came == 0):
            if not going_on:
                raise _empty(states)
            if other_rules:
                raise Invalid(
                    f"Nothing came for {name} that the other contract could be asked of; it is not on record.",
                    code="contract-unasked",
                    hint="Rows that were taken before are not asked again: give it when more have come.",
                )
            if after != states:
                self._enter(name, row, row.version, after, join, on_change)
                self.tx.recorded = False  # how far nothing was read is nothing to record
            return self._nothing(name)
        if came == 0:
            raise _empty(states)
        if going_on and came < waiting:
            return self._nothing(name)
        base = self.named.row(name) if grows and going_on else None
        if base is not None:
            self.named.check_open(base)
        made, changes, quarantined = self.write(
            name, found, base, join, on_change, rules, message, labels, facts, going_on=going_on, by_hand=by_hand
        )
        expected = before.version if before is not None else 0
        if made.version > expected + 1:
            raise moved(name)
        self._enter(name, row, made.version, after, join, on_change)
        self.tx.after_commit.append(lambda: acknowledge(after if grows else (), open_source, self._scratch))
        return Collected(
            version=made,
            new=made.version > expected,
            read=came,
            quarantined=quarantined,
            changes=tuple(changes),
        )

    def _read(
        self, states: Sequence[SourceState], join: tuple[str, ...], open_source: OpenSource, *, whole: bool
    ) -> tuple[Sequence[Read], bool]:
        """What the sources give, and whether that goes behind what is there. `whole`: else all, though it is as it was."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            sources = [stack.enter_context(opened(state, open_source, self._scratch)) for state in states]
            grows = not join and all(source.grows for source in sources)
            for source in sources:
                if source.once and not grows:
                    raise Invalid(
                        f"{source.name} gives each message once; what is {'joined' if join else 'read beside it'} is read whole "
                        "each time.",
                        code="bad-source",
                        hint="Collect it into a dataset of its own.",
                    )
            after = grows or (len(states) == 1 and not whole)
            found = [
                read(source, state, self._scratch, after=after) for source, state in zip(sources, states, strict=True)
            ]
        return found, grows

    def write(
        self,
        name: str,
        found: Sequence[Read],
        base: Any,
        join: tuple[str, ...],
        on_change: OnChange,
        rules: Contract | None,
        message: str,
        labels: tuple[LabelColumn, ...] | None,
        facts: dict[str, str],
        *,
        going_on: bool,
        by_hand: bool = True,
    ) -> tuple[DatasetVersion, Sequence[str], int]:
        written = self.datasets.written
        earlier = written.stored(base) if base is not None else None
        known = dict((written.schema(base or self.named.row(name))).schema) if going_on else {}
        free = set_right(rules)
        parts = [part for one in found for part in one.parts]
        if base is None and len(found) > 1:
            parts = [_one(one, on_change, free) for one in found if one.parts]
        if join:
            whole, joined = join_parts(parts, join, self._scratch)
            facts = facts | {f"joined {number}": one.said(join) for number, one in enumerate(joined, 2)}
            parts = [Part(" and ".join(part.name for part in parts), whole)]
        came = sum(part.rows.height for part in parts)
        fitted = reconcile(parts, known, on_change, free=free, earlier=earlier)
        good = fitted.rows
        inputs = [self.named.ref(base)] if base is not None else []
        held, broken, warned = list[Blocks](), dict[str, int](), dict[str, int]()
        if rules is not None:
            log.debug("checking %s: %s rows", name, f"{fitted.rows.height:,}")
            asked = Asked(self.named, self.datasets.blobs, self.datasets.readable)
            before = earlier.mapped(lambda block: widened(block, fitted.rows.schema)) if earlier is not None else None
            good, aside, report = parted(fitted.rows, rules, beyond=asked.beyond, earlier=before)
            inputs += asked.refs
            held.append(aside)
            broken, warned = report.counts("quarantine"), report.counts("warn")
        refused = [refusal for one in found for refusal in one.refused]
        if fitted.held.height:
            named = pl.lit(SCHEMA).alias(RULE)
            held.append(fitted.held.mapped(lambda block: block.select(pl.exclude(REASON), named, REASON)))
            broken[SCHEMA] = fitted.held.height
        if refused:
            rows = unreadable(refused)
            held.append(Blocks.of(rows))
            broken[rows[RULE][0]] = len(refused)
        quarantined = _together(held) if held else None
        aside_rows = quarantined.height if quarantined is not None else 0
        assert came + len(refused) == good.height + aside_rows, "rows in are rows taken and rows held back"
        if good.height == 0 and (base is None or base.rows == 0):
            raise all_held(", ".join(one.state.address for one in found), name, broken)
        said = [text for one in found for text in one.told] + fitted.changes
        made = written.write(
            name,
            good,
            quarantined=quarantined,
            broken=broken,
            warned=warned,
            contract=rules,
            source=found[0].ref,
            inputs=[*inputs, *(one.ref for one in found[1:])],
            facts={"format": ", ".join(sorted(set().union(*(one.formats for one in found)))), **told(said), **facts},
            message=message,
            behind=base,
            labels=labels,
            by_hand=by_hand,
        )
        return made, fitted.changes, aside_rows

    def _enter(
        self,
        name: str,
        row: Any,
        version: int,
        states: Sequence[SourceState],
        join: Sequence[str],
        on_change: OnChange,
    ) -> None:
        """Puts on record how far the sources were read, unless another reading came first."""
        self.tx.write()
        again = self._state(name)
        if (row is None) != (again is None) or (
            row is not None and (row.version, row.sources) != (again.version, again.sources)
        ):
            raise moved(name)
        values = {
            "sources": msgspec.to_builtins(list(states)),
            "join": [*join],
            "on_change": on_change,
            "read": self.tx.now,
        }
        key = {"project": self.tx.project, "name": name, "version": version}
        self.tx.upsert(dataset_sources, ("project", "name", "version"), {**key, **values}, tuple(values))

    def _nothing(self, name: str) -> Collected:
        version = self.named.record(self.named.row(name))
        return Collected(version=version, new=False, read=0, quarantined=0)

    def _check_own_user(self, name: str) -> None:
        me = authority.caller(self.tx)
        if me.token:
            raise Refused(
                f"{me.name} by the token {me.token} may not name a source: the server reads it as its own user.",
                code="forbidden",
                hint=f"Send a file (loopline data add {name} FILE), or add the source on the server's own machine, as its user; "
                f"from then on: loopline data sync {name}",
            )

    def _contract(self, name: str, version: int) -> Contract | None:
        if not self.named.row(name, str(version)).contract:
            return None
        return self.datasets.rules(self.datasets.contract(name, str(version)))

    def _state(self, name: str) -> Any:
        """What is on record of a dataset's sources, as the newest version has it that is not withdrawn."""
        return next(iter(self._newest(name)), None)

    def _newest(self, name: str | None = None) -> Sequence[Any]:
        """The same of a dataset, or of each one, by name, in one query."""
        d = dataset_versions.c
        chosen = (_S.project == self.tx.project,) if name is None else (_S.project == self.tx.project, _S.name == name)
        newest = (
            sa.select(_S.name, sa.func.max(_S.version).label("version"))
            .join(
                dataset_versions,
                (d.project == _S.project) & (d.name == _S.name) & (d.version == _S.version) & d.withdrawn.is_(None),
            )
            .where(*chosen)
            .group_by(_S.name)
            .subquery()
        )
        here = (_S.name == newest.c.name) & (_S.version == newest.c.version)
        return self.tx.rows(sa.select(dataset_sources).join(newest, here).where(*chosen).order_by(_S.name))

    def _needed(self, name: str) -> Any:
        row = self._state(name)
        if row is None:
            known = [one.name for one in self._newest()]
            raise NotFound(
                f"No source of {name!r} is on record.",
                code="no-source",
                hint=did_you_mean(name, known) if known else "Add it from its source: loopline data add NAME SOURCE",
            )
        return row

    def _planned(self, row: Any) -> Collection:
        return self._record(row, self._schedules.planned(row.name).get(row.name, {}))

    def _record(self, row: Any, planned: dict[str, Any]) -> Collection:
        return Collection(
            name=row.name,
            ref=self.tx.ref("data", row.name, row.version),
            sources=_states(row),
            join=tuple(row.join),
            on_change=row.on_change,
            read=row.read,
            **planned,
        )


def set_right(rules: Contract | None) -> set[str]:
    """The columns whose types a contract sets right, whatever they come as."""
    return {rule.column for rule in rules.rules if isinstance(rule, OfType)} if rules is not None else set()


def _together(held: Sequence[Blocks]) -> Blocks:
    """What was held back for several reasons, in all its columns."""
    empty = pl.concat([one.empty for one in held], how="diagonal_relaxed")

    def spread(block: pl.DataFrame) -> pl.DataFrame:
        return pl.concat([empty, block], how="diagonal_relaxed")

    return Blocks.chained([one.mapped(spread) for one in held])


def _one(found: Read, on_change: OnChange, free: set[str]) -> Part:
    """All that a source gave as one table, to be joined. What does not fit cannot be held back before it is joined."""
    fitted = reconcile(found.parts, {}, on_change if on_change != "quarantine" else "widen", free=free)
    return Part(
        Path(found.state.address).name if "://" not in found.state.address else found.state.address, fitted.rows
    )


def _normal(source: SourceState) -> SourceState:
    check_no_secret(source.address, source.options)
    before, address = "", source.address
    if address.startswith(_SQLITE):
        before, address = _SQLITE, address.removeprefix(_SQLITE)
    if "://" not in address:  # a file of this machine, whatever folder the next reader works in
        address = str(Path(address).absolute())
    return SourceState(address=f"{before}{address}", options=source.options)


def _places(sources: Sequence[dict[str, Any]]) -> Sequence[tuple[str, dict[str, str]]]:
    return [(source["address"], source["options"]) for source in sources]


def _states(row: Any) -> tuple[SourceState, ...]:
    return msgspec.convert(row.sources, tuple[SourceState, ...])


def _empty(states: Sequence[SourceState]) -> Invalid:
    names = ", ".join(state.address for state in states)
    return Invalid(
        f"{names} gave no rows.", code="source-empty", hint="Nothing was changed; look at where it is filled."
    )

"""What is written of runs, within one transaction: by the verbs, and by the batches of journals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from loopline.access import authority
from loopline.database import Database, Tx
from loopline.failpoints import failpoint
from loopline.hashing import digest_json
from loopline.prepared import Prepared
from loopline.tracking import params as values
from loopline.tracking import reading
from loopline.tracking.entries import plain_json
from loopline.tracking.paths import LONGEST_TEXT, check_text, check_title
from loopline.tracking.records import Ending, Run, RunKind, RunStatus
from loopline.tracking.shared import number_of
from loopline.tracking.tables import environments, run_console, run_refs, runs
from loopline.tracking.words import Words

if TYPE_CHECKING:  # numpy comes only with the first point
    from loopline.tracking.points import Columns


_LONGEST_CONSOLE = 16_000_000
"""Characters of a run's console that are kept; its own program keeps less (`client/console.py`)."""


class Writing:
    """Changes of runs. `metrics`: the database of metric points, where it is not the transaction's own (SQLite: `metrics.db`)."""

    def __init__(self, tx: Tx, words: Words, metrics: Database | None = None) -> None:
        self.tx = tx
        self.words = words
        self.metrics = metrics
        self._points: list[tuple[int, int, Columns, bool]] = []  # run, batch, columns and whether exact, to be written
        self._settled: dict[int, int] = {}  # batches of runs that were acknowledged before this transaction
        self._ended: dict[int, int] = {}  # runs whose points are folded, with how many batches they have

    def begin(
        self,
        run: str,
        name: str,
        kind: RunKind,
        parent: str | None,
        params: dict[str, Any],
        tags: dict[str, str],
        inputs: Sequence[str],
        environment: dict[str, Any],
        created: int,
        group: int,
        journal: int | None = None,
    ) -> tuple[int, Run]:
        """Adds a run under an id that is given, with what is known of it; gives its number and its record.

        `group`: the number of one that is there; `journal`: that of its sender.
        """
        check_title(name, "name of a run")
        above = reading.row_of(self.tx, parent) if parent is not None else None
        body, place = self._environment(environment)
        row = {
            "id": run,
            "project": self.tx.project,
            "group": group,
            "name": name,
            "kind": kind,
            "status": "running",
            "created": created,
            "creator": self.tx.principal,
            "message": "",
            "note": "",
            "parent": above.number if above is not None else None,
            "environment": place,
            "sender": journal,
            "batches": 0,
            "external": 0,
        }
        number: int = self.tx.run(_INSERT, row)[0].number
        set_ = values.set_params(self.tx, self.words, number, params, run, new=True)
        values.set_tags(self.tx, self.words, number, tags)
        read = self.add_refs(number, 0, inputs)
        ref = self.tx.ref("run", run)
        self.tx.note(inputs=read, outputs=[ref])
        return number, Run(
            id=run,
            ref=ref,
            name=name,
            kind=kind,
            status="running",
            created=created,
            creator=self.tx.principal,
            group=group,
            parent=above.id if above is not None else None,
            params=dict(sorted(set_.items())),
            tags=dict(sorted(tags.items())),
            inputs=tuple(read),
            environment=body,
        )

    def add_refs(self, number: int, side: int, refs: Sequence[str]) -> Sequence[str]:
        """Adds what a run read (side 0) or made (side 1), each once; gives the refs as printed in full."""
        found = list(dict.fromkeys(authority.readable(self.tx, refs)))
        if not found:
            return found
        mine = (run_refs.c.run == number) & (run_refs.c.side == side)
        known = [row.ref for row in self.tx.rows(sa.select(run_refs.c.ref).where(mine).order_by(run_refs.c.place))]
        new = [ref for ref in found if ref not in known]
        if new:
            rows = [
                {"run": number, "side": side, "place": place, "ref": ref} for place, ref in enumerate(new, len(known))
            ]
            self.tx.execute(run_refs.insert(), rows)
        return found

    def _environment(self, given: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
        """An environment as it is kept, and its number; it is added where it is new."""
        if not given:
            return {}, None
        body = plain_json(given, "The environment")
        return body, number_of(self.tx, environments, "digest", {"digest": digest_json(body), "body": body})

    def set_note(self, number: int, text: str) -> None:
        """Sets what people say of a run."""
        self.tx.execute(runs.update().where(runs.c.number == number).values(note=check_text(text, "The note")))

    def add_console(self, number: int, text: str, at: int) -> None:
        """Keeps a piece of what a run printed, as long as it has not printed too much."""
        kept = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(run_console.c.text)), 0))
        if self.tx.scalar(kept.where(run_console.c.run == number)) + len(text) > _LONGEST_CONSOLE:
            return
        self.tx.execute(run_console.insert().values(run=number, at=at, text=text))

    def change(self, row: Any, name: str | None, status: RunStatus | None, ended: int | None) -> Any:
        """Gives a run another name, or another status and end, as far as they are given; gives its row as it is then."""
        changed = self.tx.run(_CHANGE, {"of": row.number, "called": name, "as": status, "at": ended})[0]
        if status not in (None, "scheduled", "running") and row.batches > 1:
            self._ended[row.number] = row.batches
        return changed

    def end(self, number: int, status: Ending, message: str, ended: int) -> None:
        """Writes down how a run ended."""
        kept = message[:LONGEST_TEXT]
        batches: int = self.tx.run(_END, {"of": number, "as": status, "at": ended, "why": kept})[0].batches
        if batches > 1:
            self._ended[number] = batches

    def add_points(self, number: int, columns: Columns, *, exact: bool) -> None:
        """Adds points to a run; `write_points` writes them. What metrics say in short is up to date at once.

        `exact`: they come once, so that each is one, be it the same as another or not.
        """
        from loopline.tracking import series

        self.tx.count += len(columns)
        batch, journalled = self._next_batch(number)
        first = batch == series.ALONE
        if first and exact == journalled and series.tells(columns):
            series.update(self.tx, number, columns, first=True)
            return
        if first:
            batch, _ = self._next_batch(number)
        elif batch == series.ALONE + 1:  # now there are more of them than their series can tell
            self._points.append((number, series.ALONE, series.told(self.tx, number, batch), journalled))
        self._settled.setdefault(number, batch - 1 if batch > series.ALONE + 1 else 0)
        series.update(self.tx, number, columns, first=first)
        self._points.append((number, batch, columns, exact))

    def _next_batch(self, number: int) -> tuple[int, bool]:
        """The number of a run's next batch, and whether a journal began the run.

        It locks the run's row, so that two batches of one run come one after the other.
        """
        row = self.tx.run(_NEXT_BATCH, {"of": number})[0]
        return row.batches, row.sender is not None

    def write_points(self) -> None:
        """Writes the points that were added, the last thing before the transaction's end, or before more are.

        Where they have a file of their own they are committed there first: until the transaction itself is, with the numbers of
        their batches, nobody reads them, and after a crash in between other points take their place.
        """
        if not self._points and not self._ended:
            return
        from loopline.tracking import points

        def write(tx: Tx) -> None:
            for number, batch, columns, exact in self._points:
                points.append(tx, number, batch, columns, exact=exact, upto=self._settled[number])
            for number, batches in self._ended.items():
                points.fold(tx, number, self._settled.get(number, batches))  # never what is not acknowledged yet

        if self.metrics is None:
            write(self.tx)
        else:
            with self.metrics.begin(principal=self.tx.principal, project=self.tx.project) as tx:
                write(tx)
            failpoint("tracking.points.written")
        self._points, self._ended = [], {}


_INSERT = Prepared(runs.insert().returning(runs.c.number))

_END = Prepared(
    runs.update()
    .where(runs.c.number == sa.bindparam("of"))
    .values(status=sa.bindparam("as"), ended=sa.bindparam("at"), message=sa.bindparam("why"))
    .returning(runs.c.batches)
)

_CHANGE = Prepared(
    runs.update()
    .where(runs.c.number == sa.bindparam("of"))
    .values(
        name=sa.func.coalesce(sa.bindparam("called", type_=runs.c.name.type), runs.c.name),
        status=sa.func.coalesce(sa.bindparam("as", type_=runs.c.status.type), runs.c.status),
        ended=sa.func.coalesce(sa.bindparam("at", type_=runs.c.ended.type), runs.c.ended),
    )
    .returning(*runs.c)
)

_NEXT_BATCH = Prepared(
    runs.update()
    .where(runs.c.number == sa.bindparam("of"))
    .values(batches=runs.c.batches + 1)
    .returning(runs.c.batches, runs.c.sender)
)

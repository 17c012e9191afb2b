"""When datasets are collected by themselves: the rule of each, when it is due, and what became of its last turn."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.data.cron import following
from loopline.data.records import Schedule
from loopline.data.tables import dataset_schedules
from loopline.database import Tx
from loopline.durations import milliseconds
from loopline.errors import Invalid, NotFound

_LOOK = 10_000  # milliseconds between two looks at whether something waits
_FIRST_PAUSE = 60_000  # after a turn that failed; each further one doubles it
_LONGEST_PAUSE = 6 * 3_600_000
_D = dataset_schedules.c


class Schedules:
    """The schedules of one project."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def set(self, name: str, rule: Schedule) -> None:
        """Gives a dataset a rule, in place of any that it had. Raises `Invalid` for what is none."""
        if sum(part is not None for part in (rule.every, rule.cron, rule.waiting)) != 1:
            raise Invalid(
                f"{name} is to be collected by no rule or by several.",
                code="bad-schedule",
                hint="Give one: --every 15min, --cron '0 2 * * *', --on-arrival, --when-rows N.",
            )
        if rule.waiting is not None and rule.waiting < 1:
            raise Invalid(f"{rule.waiting} rows never wait.", code="bad-schedule", hint="Give one row or more.")
        if rule.every is not None and milliseconds(rule.every, "every") < 1000:
            raise Invalid(f"{rule.every} is too often.", code="bad-schedule", hint="Give a second or more.")
        values = {"rule": msgspec.to_builtins(rule), "due": _due(rule, self.tx.now), "failures": 0, "problem": ""}
        key = {"project": self.tx.project, "name": name}
        self.tx.upsert(dataset_schedules, ("project", "name"), {**key, **values}, tuple(values))
        self.tx.note(inputs=[self.tx.ref("data", name)])

    def remove(self, name: str) -> None:
        """Takes the rule of a dataset away."""
        self.tx.execute(dataset_schedules.delete().where(*self._of(name)))
        self.tx.note(inputs=[self.tx.ref("data", name)])

    def turn(self, name: str, problem: str) -> None:
        """Says that a turn was taken, or why it failed: then the next one comes later each time. Raises `NotFound`."""
        known = self._row(name)
        if known is None:
            raise NotFound(
                f"{name} is not collected by itself.", code="no-schedule", hint=f"loopline data sync {name} --every 1h"
            )
        failures = known.failures + 1 if problem else 0
        due = _due(msgspec.convert(known.rule, Schedule), self.tx.now)
        if problem:
            due = max(due, self.tx.now + min(_FIRST_PAUSE * 2 ** min(failures - 1, 20), _LONGEST_PAUSE))
        values = {"due": due, "failures": failures, "problem": problem[:2000]}
        self.tx.execute(dataset_schedules.update().where(*self._of(name)).values(**values))
        self.tx.recorded = bool(problem) != bool(known.problem)  # that it fails, and that it works again; not each turn
        self.tx.note(inputs=[self.tx.ref("data", name)])

    def planned(self, name: str | None = None) -> dict[str, dict[str, Any]]:
        """What the `Collection` of a dataset, or of each one, says of its schedule, by its name, where it has one."""
        chosen = self._of(name) if name is not None else (_D.project == self.tx.project,)
        return {
            row.name: {
                "schedule": msgspec.convert(row.rule, Schedule),
                "due": row.due,
                "failures": row.failures,
                "problem": row.problem,
            }
            for row in self.tx.rows(sa.select(dataset_schedules).where(*chosen))
        }

    def _row(self, name: str) -> Any:
        return self.tx.first(sa.select(dataset_schedules).where(*self._of(name)))

    def _of(self, name: str) -> tuple[Any, Any]:
        return _D.project == self.tx.project, _D.name == name


def _due(rule: Schedule, now: int) -> int:
    if rule.cron is not None:
        return following(rule.cron, now)
    return now + (milliseconds(rule.every, "every") if rule.every is not None else _LOOK)

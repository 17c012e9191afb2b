"""The loop room's verbs, within one transaction."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from loopline.access import authority
from loopline.database import Tx
from loopline.errors import Conflict, NotFound, Refused, did_you_mean
from loopline.hashing import digest_json
from loopline.ledger import cursor
from loopline.loop.records import Heeded, LoopRecord, LoopRequest, RequestStatus
from loopline.loop.tables import loop_requests, loops
from loopline.loop.verbs import LoopsVerbs
from loopline.monitoring.records import Alert
from loopline.monitoring.verbs import AlertsVerbs
from loopline.operations import check_limit
from loopline.refs import check_name, parse

_OPEN = ("asked", "running")


class LoopsService(LoopsVerbs):
    """Loops, and the runs that were asked for."""

    def __init__(self, tx: Tx, alerts: AlertsVerbs) -> None:
        self.tx = tx
        self.alerts = alerts

    def declare(self, name: str, path: str, declaration: dict[str, Any]) -> LoopRecord:
        check_name(name, "name of a loop")
        me = authority.caller(self.tx)
        if me.token:
            # The controller runs this file as the server's own user, so only who is that user already may name it.
            raise Refused(
                f"{me.name} by the token {me.token} may not say which file a loop is: the server runs it as its own user.",
                code="forbidden",
                hint=f"On the server's own machine, as its user: loopline run {name}",
            )
        values: dict[str, Any] = {
            "path": path,
            "declaration": declaration,
            "digest": digest_json(declaration),
            "declared": self.tx.now,
        }
        if self._row(name) is None:
            self.tx.execute(loops.insert().values(project=self.tx.project, name=name, **values))
        else:
            self.tx.execute(
                loops.update().where(loops.c.project == self.tx.project, loops.c.name == name).values(**values)
            )
        self.tx.note(outputs=[self.tx.ref("loop", name)], digests={"declaration": values["digest"]})
        return self.show(name)

    def list(self) -> list[LoopRecord]:
        found = self.tx.rows(sa.select(loops).where(loops.c.project == self.tx.project).order_by(loops.c.name))
        return [self._record(row) for row in found]

    def show(self, name: str) -> LoopRecord:
        row = self._row(name)
        if row is None:
            known = [loop.name for loop in self.list()]
            raise NotFound(f"There is no loop {name!r} on record.", code="no-loop", hint=did_you_mean(name, known))
        return self._record(row)

    def request(self, name: str, reason: str = "") -> LoopRequest:
        self.show(name)
        row = self._open(name)
        if row is not None and row.status == "asked" and row.alert:
            # The alert's run waits, for labels as a rule; who asks in person wants one now, and it answers the alert as well.
            self.settle(row.id, "withdrawn", "a person asked for a run at once")
        elif row is not None:
            since = datetime.fromtimestamp(row.asked / 1000, UTC).isoformat(" ", "minutes")
            if row.status == "running":
                says, hint = "is under way", "Follow it: loopline status"
            else:
                says = f"waits for its turn: {row.message or 'a running `loopline up` begins it'}"
                hint = f"Withdraw it: loopline run {name} --cancel"
            raise Conflict(f"A run of {name}, asked for at {since}, {says}.", code="loop-running", hint=hint)
        return self._ask(name, reason, "")

    def requests(self, status: RequestStatus | None = None, limit: int = 50) -> tuple[LoopRequest, ...]:
        check_limit(limit, "requests")
        query = sa.select(loop_requests).where(loop_requests.c.project == self.tx.project)
        if status is not None:
            query = query.where(loop_requests.c.status == status)
        found = self.tx.rows(query.order_by(loop_requests.c.asked.desc(), loop_requests.c.id.desc()).limit(limit))
        return tuple(_request(row) for row in found)

    def heed(self) -> Heeded:
        consumer = f"loop.{self.tx.project}"
        asked, passed_over = [], []
        entries = cursor.read(self.tx, consumer)
        if not entries and not self._deferred():
            return Heeded(asked=(), passed_over=())
        self.tx.write()
        entries = cursor.read(self.tx, consumer)  # again, under the lock: no two readers act on one entry
        told = [
            self.alerts.show(parse(ref, "alert", self.tx.project).name)
            for entry in entries
            if (entry.project, entry.record, entry.operation) == (self.tx.project, "entry", "monitors.look")
            for ref in entry.outputs
            if ref.startswith("alert:")
        ]
        for alert in {alert.id: alert for alert in (*told, *self._deferred())}.values():
            why = self._against(alert)
            if why is None:
                asked.append(self._ask(alert.endpoint, alert.summary, alert.ref))
            else:
                passed_over.append(f"{alert.ref}: {why}")
        if entries:
            cursor.advance(self.tx, consumer, entries[-1].seq)
        self.tx.recorded = bool(asked)  # that a cursor went on is nothing to record, and would be read again
        return Heeded(asked=tuple(asked), passed_over=tuple(passed_over))

    def settle(self, request: str, status: RequestStatus, message: str = "") -> LoopRequest:
        where = (loop_requests.c.project == self.tx.project, loop_requests.c.id == request)
        row = self.tx.first(sa.select(loop_requests).where(*where))
        if row is None:
            raise NotFound(
                f"There is no request {request!r}.", code="no-request", hint="`loopline status` shows what runs."
            )
        if row.status == "withdrawn" or (status == "withdrawn" and row.status != "asked"):
            raise Conflict(
                f"The request {request} is {row.status}.",
                code="request-ended",
                hint="Only what waits can be withdrawn. `loopline status` shows what runs.",
            )
        ended = None if status in _OPEN else self.tx.now
        self.tx.execute(loop_requests.update().where(*where).values(status=status, message=message, ended=ended))
        self.tx.note(inputs=[self.tx.ref("loop", row.loop)])
        return _request(self.tx.first(sa.select(loop_requests).where(*where)))

    def _deferred(self) -> tuple[Alert, ...]:
        """Alerts that are open still and ask for a run by now: a run or the cool-down was in their way when they came."""
        return tuple(a for a in reversed(self.alerts.list(status="open", limit=100)) if self._against(a) is None)

    def _against(self, alert: Alert) -> str | None:
        """Why an alert asks for no run now, if it does not."""
        row = self._row(alert.endpoint) if alert.endpoint else None
        if row is None:
            return f"no loop serves {alert.endpoint or alert.dataset}"
        rule = row.declaration.get("retrain")
        if not rule or alert.kind not in rule["on"]:
            return f"the loop {row.name} does not retrain on {alert.kind}"
        newest = self.tx.scalar(sa.select(sa.func.max(loop_requests.c.asked)).where(loop_requests.c.alert == alert.ref))
        if newest is not None and newest >= alert.last:
            return "asked for already"
        if self._open(row.name) is not None:
            return f"a run of {row.name} is under way"
        last = self.tx.scalar(
            sa.select(sa.func.max(loop_requests.c.asked)).where(
                loop_requests.c.project == self.tx.project,
                loop_requests.c.loop == row.name,
                loop_requests.c.alert != "",
            )
        )
        if last is not None and self.tx.now - last < rule["cool_down"]:
            return f"{row.name} cools down until {last + rule['cool_down']}"
        return None

    def _ask(self, name: str, reason: str, alert: str) -> LoopRequest:
        request = f"{self.tx.now:012x}{secrets.token_hex(5)}"
        self.tx.execute(
            loop_requests.insert().values(
                project=self.tx.project,
                id=request,
                loop=name,
                reason=reason,
                alert=alert,
                status="asked",
                asked=self.tx.now,
                message="",
            )
        )
        self.tx.note(inputs=[ref for ref in (alert, self.tx.ref("loop", name)) if ref])
        return _request(self.tx.first(sa.select(loop_requests).where(loop_requests.c.id == request)))

    def _open(self, name: str) -> Any:
        c = loop_requests.c
        return self.tx.first(
            sa.select(loop_requests).where(c.project == self.tx.project, c.loop == name, c.status.in_(_OPEN))
        )

    def _row(self, name: str) -> Any:
        return self.tx.first(sa.select(loops).where(loops.c.project == self.tx.project, loops.c.name == name))

    def _record(self, row: Any) -> LoopRecord:
        return LoopRecord(
            ref=self.tx.ref("loop", row.name),
            name=row.name,
            path=row.path,
            declaration=row.declaration,
            digest=row.digest,
            declared=row.declared,
        )


def _request(row: Any) -> LoopRequest:
    return LoopRequest(
        id=row.id,
        loop=row.loop,
        reason=row.reason,
        alert=row.alert,
        status=row.status,
        asked=row.asked,
        ended=row.ended,
        message=row.message,
    )

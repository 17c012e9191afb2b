"""Alerts: findings of monitors, each with a life."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Invalid, NotFound
from loopline.monitoring.records import Alert, AlertStatus
from loopline.monitoring.tables import alerts
from loopline.monitoring.verbs import AlertsVerbs
from loopline.operations import check_limit


class AlertsService(AlertsVerbs):
    """Alerts, within one transaction."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def list(self, endpoint: str | None = None, status: AlertStatus | None = None, limit: int = 50) -> list[Alert]:
        check_limit(limit, "alerts")
        query = self._query()
        if endpoint is not None:
            query = query.where(alerts.c.endpoint == endpoint)
        if status is not None:
            query = query.where(self._status() == status)
        found = self.tx.rows(query.order_by(alerts.c.raised.desc(), alerts.c.id.desc()).limit(limit))
        return [self._record(row) for row in found]

    def show(self, alert: str) -> Alert:
        row = self.tx.first(self._query().where(alerts.c.id == alert))
        if row is None:
            raise NotFound(f"There is no alert {alert!r}.", code="no-alert", hint="`loopline alerts ls` lists them.")
        return self._record(row)

    def change(self, alert: str, status: AlertStatus, comment: str = "", until: int | None = None) -> Alert:
        self.show(alert)
        if (until is not None) != (status == "silenced"):
            raise Invalid(
                "An alert is silenced until a time, and only then has one.",
                code="bad-alert",
                hint="Give `until`, in milliseconds since 1970.",
            )
        self.tx.execute(
            alerts.update()
            .where(alerts.c.project == self.tx.project, alerts.c.id == alert)
            .values(status=status, comment=comment, silent_until=until, changed=self.tx.now, by=self.tx.principal)
        )
        self.tx.note(inputs=[self.tx.ref("alert", alert)])
        return self.show(alert)

    def collecting(self, dataset: str, problem: str) -> None:
        """Raises an alert of a dataset that could not be collected, or closes it once it was ("")."""
        if problem:
            text = f"data:{dataset} is not collected any more: {problem}"
            self.tx.note(outputs=[self.raise_alert("", "collecting", text, (), self.tx.now, dataset=dataset)])
        elif (standing := self._standing("", "collecting", dataset)) is not None:
            self._close(alerts.c.id == standing.id, "closed: it is collected again")
            self.tx.note(outputs=[self.tx.ref("alert", standing.id)])

    def raise_alert(
        self, endpoint: str, kind: str, summary: str, columns: Sequence[str], since: int, *, dataset: str = ""
    ) -> str:
        """Puts what a monitor's look found on record; gives the alert's ref.

        One that is not closed takes it in, so that a person has one alert of a kind for an endpoint, however many looks tell of
        the same change, column by column.
        """
        standing = self._standing(endpoint, kind, dataset)
        if standing is not None:
            self.tx.execute(
                alerts.update()
                .where(alerts.c.project == self.tx.project, alerts.c.id == standing.id)
                .values(
                    summary=summary,  # the newest look has seen the most rows
                    columns=list(dict.fromkeys([*standing.columns, *columns])),
                    since=min(standing.since, since),
                    found=standing.found + 1,
                    last=self.tx.now,
                )
            )
            return self.tx.ref("alert", standing.id)
        alert = f"{self.tx.now:012x}{secrets.token_hex(5)}"
        self.tx.execute(
            alerts.insert().values(
                project=self.tx.project,
                id=alert,
                endpoint=endpoint,
                dataset=dataset,
                kind=kind,
                status="open",
                summary=summary,
                columns=[*columns],
                since=since,
                raised=self.tx.now,
                found=1,
                last=self.tx.now,
                changed=self.tx.now,
                by=self.tx.principal,
                comment="",
            )
        )
        return self.tx.ref("alert", alert)

    def close_all(self, endpoint: str, comment: str) -> None:
        """Closes the alerts of an endpoint whose monitor begins anew."""
        self._close(alerts.c.endpoint == endpoint, comment)

    def _close(self, which: sa.ColumnElement[bool], comment: str) -> None:
        self.tx.execute(
            alerts.update()
            .where(alerts.c.project == self.tx.project, which, alerts.c.status != "closed")
            .values(status="closed", comment=comment, silent_until=None, changed=self.tx.now, by=self.tx.principal)
        )

    def _standing(self, endpoint: str, kind: str, dataset: str) -> Any:
        c = alerts.c
        of = (c.project == self.tx.project, c.endpoint == endpoint, c.dataset == dataset, c.kind == kind)
        return self.tx.first(sa.select(alerts).where(*of, c.status != "closed"))

    def _status(self) -> sa.ColumnElement[str]:
        """An alert's status now: one that was silenced until a time is open again after it."""
        over = (alerts.c.status == "silenced") & (alerts.c.silent_until <= self.tx.now)
        return sa.case((over, "open"), else_=alerts.c.status)

    def _query(self) -> sa.Select[Any]:
        return sa.select(alerts, self._status().label("now")).where(alerts.c.project == self.tx.project)

    def _record(self, row: Any) -> Alert:
        return Alert(
            ref=self.tx.ref("alert", row.id),
            id=row.id,
            endpoint=row.endpoint,
            kind=row.kind,
            status=row.now,
            summary=row.summary,
            columns=tuple(row.columns),
            since=row.since,
            raised=row.raised,
            found=row.found,
            last=row.last,
            changed=row.changed,
            by=row.by,
            comment=row.comment,
            dataset=row.dataset,
        )

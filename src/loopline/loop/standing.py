"""What of a workspace there is to look after, at a glance: a server with nothing to do does nothing, and loads nothing for it."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from loopline.access.tables import tokens
from loopline.data.tables import dataset_schedules
from loopline.database import Tx
from loopline.deployment.tables import rollouts
from loopline.ledger.tables import entries
from loopline.loop.tables import loop_requests
from loopline.monitoring.tables import alerts, monitors
from loopline.prepared import Prepared

_OPEN = ("asked", "running", "waiting")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Of all projects: the number of the ledger's last entry, since every change has one, and what time alone moves.

    `logged`: how many bytes the prediction log has. `monitored`: there is a monitor, or an alert that is not closed. `asked`: a run
    was asked for and has not ended. `rolling`: a rollout is under way. `scheduled`: a dataset is collected by itself. `expires`:
    when the next token ends, in milliseconds.
    """

    last: int | None
    logged: int
    monitored: bool
    asked: bool
    rolling: bool
    scheduled: bool
    expires: int | None

    @property
    def moves(self) -> bool:
        """Whether time alone may bring the controller something to do."""
        return self.monitored or self.asked or self.rolling


def standing(tx: Tx, logged: int) -> Standing:
    """What there is, by one query."""
    row = tx.first(_ALL, {"now": tx.now})
    assert row is not None
    return Standing(
        last=row.last,
        logged=logged,
        monitored=bool(row.monitored or row.alerted),
        asked=bool(row.asked),
        rolling=bool(row.rolling),
        scheduled=bool(row.scheduled),
        expires=row.expires,
    )


def _any(column: sa.ColumnElement[str], *which: sa.ColumnElement[bool]) -> sa.ScalarSelect[str]:
    return sa.select(column).where(*which).limit(1).scalar_subquery()


_ALL = Prepared(
    sa.select(
        sa.select(sa.func.max(entries.c.seq)).scalar_subquery().label("last"),
        _any(monitors.c.endpoint).label("monitored"),
        _any(alerts.c.id, alerts.c.status != "closed").label("alerted"),
        _any(loop_requests.c.id, sa.or_(*(loop_requests.c.status == status for status in _OPEN))).label("asked"),
        _any(rollouts.c.id, rollouts.c.status == "running").label("rolling"),
        _any(dataset_schedules.c.name).label("scheduled"),
        sa.select(sa.func.min(tokens.c.expires))
        .where(tokens.c.revoked.is_(None), tokens.c.expires > sa.bindparam("now", type_=sa.BigInteger))
        .scalar_subquery()
        .label("expires"),
    )
)

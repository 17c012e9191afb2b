"""The policies that endpoints have."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.deployment.tables import endpoints
from loopline.outcomes.tables import segments
from loopline.serving.records import Policy


def policy_of(tx: Tx, endpoint: str) -> Policy:
    """The policy of an endpoint; the default one where there is no such endpoint any more."""
    query = sa.select(endpoints.c.policy).where(endpoints.c.project == tx.project, endpoints.c.name == endpoint)
    return msgspec.convert(tx.scalar(query) or {}, Policy)


def retentions(tx: Tx) -> list[tuple[str, str, float]]:
    """The endpoints of all projects whose answers do not stay for good and are on record: project, name, days."""
    kept = sa.exists().where(segments.c.project == endpoints.c.project, segments.c.endpoint == endpoints.c.name)
    found = tx.rows(sa.select(endpoints.c.project, endpoints.c.name, endpoints.c.policy).where(kept))
    policies = [(row.project, row.name, msgspec.convert(row.policy, Policy)) for row in found]
    return [(project, name, policy.days) for project, name, policy in policies if policy.days]

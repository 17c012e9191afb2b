"""Which endpoint serves a model version."""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import Tx
from loopline.deployment.tables import endpoints, rollouts


def serving(tx: Tx, model: str, version: int) -> str | None:
    """The name of an endpoint that serves this version of a model, or rolls it out; None where none does."""
    here = (endpoints.c.project == tx.project, endpoints.c.model == model)
    champion: str | None = tx.scalar(sa.select(endpoints.c.name).where(*here, endpoints.c.champion == version))
    if champion is not None:
        return champion
    under_way = (
        (rollouts.c.project == endpoints.c.project)
        & (rollouts.c.endpoint == endpoints.c.name)
        & (rollouts.c.status == "running")
    )
    query = sa.select(endpoints.c.name).join(rollouts, under_way)
    found: str | None = tx.scalar(query.where(*here, rollouts.c.challenger == version))
    return found

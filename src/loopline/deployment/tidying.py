"""The record of predictions as time goes by: put together, removed where an endpoint's policy says so, its segments with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from loopline.database import Database
from loopline.deployment.policy import retentions
from loopline.outcomes.tables import log_cursors, segments
from loopline.serving.log import remove_read


def tidy(database: Database, by_itself: Callable[..., Any], folder: Path, now: int, hours: float) -> None:
    """Runs the operations that are due; `by_itself` runs one for a project.

    Then the workers' own segments in `folder` go that are on record whole and older than so many hours.
    """
    with database.begin(lazy=True) as tx:
        projects = [row.project for row in tx.rows(sa.select(segments.c.project).distinct())]
        due = [(project, name, int(now - days * 86_400_000)) for project, name, days in retentions(tx)]
        read = {row.segment: row.offset for row in tx.rows(sa.select(log_cursors))}
    for project in projects:
        by_itself("predictions.compact", project)
    for project, name, before in due:
        by_itself("predictions.expire", project, endpoint=name, before=before)
    remove_read(folder, read, int(now - hours * 3_600_000))
    if gone := [name for name in read if not (folder / name).exists()]:  # some of them before a crash, perhaps
        with database.begin() as tx:
            for name in gone:
                tx.execute(log_cursors.delete().where(log_cursors.c.segment == name))

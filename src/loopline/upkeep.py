"""What a platform does without being asked, about every hour: it removes what nobody needs, and takes what waits."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from loopline.data.tables import dataset_inbox, dataset_retention, dataset_versions
from loopline.database import Database
from loopline.deployment import tidying
from loopline.errors import LooplineError
from loopline.idempotency import forget
from loopline.settings import Settings
from loopline.tracking.tables import run_retention
from loopline.tracking.uploads import expire

log = logging.getLogger("loopline.upkeep")

LEFT_MILLISECONDS = 24 * 3_600_000
"""No call works so long on a file that it writes nothing."""


def upkeep(database: Database, by_itself: Callable[..., Any], settings: Settings, now: int) -> None:
    """Removes what nobody needs: answers to calls of more than a day ago, deleted runs and old dataset versions as each project's
    retention says, answers that are older than their endpoint's policy says, files of tables that no version has needed for a day,
    uploads that got no part for a day, what calls that were killed a day ago left under way, and blobs that nothing has referred
    to for a day. Takes what was posted to datasets.

    `by_itself` runs an operation in a project, and records it as any other.
    """
    with database.begin() as tx:
        forget(tx)
    with database.begin(lazy=True) as tx:
        of_runs = tx.rows(sa.select(run_retention.c.project).where(run_retention.c.deleted.is_not(None)))
        kept = sa.or_(dataset_retention.c.age.is_not(None), dataset_retention.c.last.is_not(None))
        of_versions = tx.rows(sa.select(dataset_retention.c.project).where(kept))
        holding = tx.rows(sa.select(dataset_versions.c.project).distinct())
        waiting = tx.rows(sa.select(dataset_inbox.c.project, dataset_inbox.c.name).distinct())
    for row in of_runs:
        while by_itself("runs.purge", row.project).more:
            pass
    for row in of_versions:
        by_itself("datasets.purge", row.project)
    for row in holding:
        by_itself("datasets.vacuum", row.project)
    expire(settings.workspace / "uploads", now)
    tidy(settings.workspace / "scratch", now)
    for row in waiting:
        try:
            by_itself("inbox.take", row.project, name=row.name)
        except LooplineError as e:  # it waits on
            log.warning("What was posted to data:%s/%s is not taken: %s", row.project, row.name, e)
    tidying.tidy(database, by_itself, settings.workspace / "serving" / "log", now, settings.log_hours)
    by_itself("store.sweep", settings.project)


def tidy(scratch: Path, now: int) -> None:
    """Removes the files and folders under way into which nothing was written for a day: whoever made them was killed."""
    for place in scratch.glob("*"):
        with suppress(FileNotFoundError):  # its maker is done with it
            within = () if place.is_symlink() else place.rglob("*")  # what a link leads to is somebody else's
            newest = max(one.lstat().st_mtime_ns for one in (place, *within))
            if newest // 1_000_000 >= now - LEFT_MILLISECONDS:
                continue
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink()

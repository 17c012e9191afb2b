"""What each metric of a run says in short: its last, least and greatest value, kept up to date as points come.

Many runs say each metric once, at their end. Such a first batch, of one point a metric, is in the rows of its series as a whole and
is written nowhere else: the number of batches of its run is `ALONE` then. It is of the journal that began the run, or came as the
run did, without one, so that it is known whether its points are exact (see `points.py`). The next batch writes it down as points,
too, before it changes the series; a first batch of another kind counts as the second.
"""

from __future__ import annotations

import math

import numpy as np
import sqlalchemy as sa

from loopline.database import Tx
from loopline.tracking.points import Columns, columns
from loopline.tracking.tables import run_series, runs

ALONE = 1
"""The number of batches of a run whose points stand in its series alone."""


def tells(points: Columns) -> bool:
    """Whether the rows of their series would tell all of a run's first points: one a metric, and no -0.0, which is 0 to SQLite."""
    return len(np.unique(points.keys)) == len(points) and not (np.signbit(points.values) & (points.values == 0)).any()


def told(tx: Tx, run: int, batches: int = ALONE, key: int | None = None) -> Columns:
    """The points that stand in the series of a run (or of one metric of it); none where it has not so many batches, any more."""
    query = _TOLD if key is None else _TOLD.where(run_series.c.key == key)
    rows = tx.rows(query, {"of": run, "batches": batches})
    values = [math.nan if row.last is None else row.last for row in rows]
    return columns([row.key for row in rows], [row.step for row in rows], [row.time for row in rows], values)


def update(tx: Tx, run: int, points: Columns, *, first: bool) -> None:
    """Takes new points into the rows of a run, whose own row the transaction holds (so that nobody else does this meanwhile).

    `first`: they are the first of the run.
    """
    ranked = np.where(np.isnan(points.values), -np.inf, points.values)
    order = np.lexsort((ranked, points.times, points.steps, points.keys))
    keys = points.keys[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    ends = np.r_[starts[1:], len(keys)] - 1
    last = points.at(order[ends])
    values = points.values[order]
    low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
    wanted = [int(key) for key in keys[starts]]
    known = {row.key: row for row in tx.rows_among(_MINE, run_series.c.key, [] if first else wanted, {"of": run})}
    changed = []
    for place, key in enumerate(wanted):
        new = (int(last.steps[place]), int(last.times[place]), float(last.values[place]))
        least, most = float(low[place]), float(high[place])
        before = known.get(key)
        if before is not None:
            former = math.nan if before.last is None else before.last
            new = max(new, (before.step, before.time, former), key=_rank)
            least = float(np.fmin(least, former if before.low is None else before.low))
            most = float(np.fmax(most, former if before.high is None else before.high))
        changed.append(
            {
                "run": run,
                "key": key,
                "last": None if math.isnan(new[2]) else new[2],
                "low": None if math.isnan(least) or least == new[2] else least,
                "high": None if math.isnan(most) or most == new[2] else most,
                "step": new[0],
                "time": new[1],
            }
        )
    tx.upsert(run_series, ("run", "key"), changed, ("last", "low", "high", "step", "time"))


def _rank(point: tuple[int, int, float]) -> tuple[int, int, float]:
    step, time, value = point
    return step, time, -math.inf if math.isnan(value) else value


_TOLD = (
    sa.select(run_series)
    .join(runs, runs.c.number == run_series.c.run)
    .where(run_series.c.run == sa.bindparam("of"), runs.c.batches == sa.bindparam("batches"))
    .order_by(run_series.c.key)
)
_MINE = sa.select(run_series).where(run_series.c.run == sa.bindparam("of"))

"""What runs measured of a model that was logged, and on which data: one row for each value."""

from __future__ import annotations

import math
from collections.abc import Sequence

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict
from loopline.hashing import digest_json
from loopline.operations import check_limit
from loopline.tracking.paths import check_key, check_text
from loopline.tracking.records import Measure, real
from loopline.tracking.tables import run_measures, runs
from loopline.tracking.words import Words

_MOST = 1_000


def add(tx: Tx, words: Words, model: int, by: int, measures: Sequence[Measure]) -> str:
    """Adds what the run `by` measured of a model (both by number); gives the digest of it. The same value again is the same."""
    check_limit(len(measures), "values", _MOST)
    for measure in measures:
        check_key(measure.key, "key of a metric")
        check_text(measure.dataset, "The name of a dataset")
        check_text(measure.digest, "The digest of a dataset")
    numbers = words.numbers(tx, {measure.key for measure in measures})
    keys = ("model", "key", "time", "step", "run")
    rows = {
        (measure.key, measure.time or tx.now, measure.step): {
            "model": model,
            "key": numbers[measure.key],
            "time": measure.time or tx.now,
            "step": measure.step,
            "run": by,
            "value": None if math.isnan(measure.number) else measure.number,
            "dataset": measure.dataset,
            "digest": measure.digest,
        }
        for measure in measures
    }
    tx.upsert(run_measures, keys, [rows[place] for place in sorted(rows)])  # in no ring with another writer
    tx.count += len(rows)
    return digest_json([[m.key, m.value, m.step, m.time, m.dataset, m.digest] for m in measures])


def of_models(tx: Tx, words: Words, models: Sequence[str]) -> tuple[Measure, ...]:
    """What was measured of some models (by the ids of their runs), in the order in which it was."""
    measuring = runs.alias("measuring")
    query = (
        sa.select(run_measures, runs.c.id.label("of"), measuring.c.id.label("by"))
        .join(runs, run_measures.c.model == runs.c.number)
        .join(measuring, run_measures.c.run == measuring.c.number)
        .where(runs.c.project == tx.project)
    )
    rows = tx.rows_among(query, runs.c.id, models)
    spelled = words.spelled(tx, {row.key for row in rows})
    found = [
        Measure(
            model=row.of,
            run=row.by,
            key=spelled[row.key],
            value="NaN" if row.value is None else real(row.value),
            step=row.step,
            time=row.time,
            dataset=row.dataset,
            digest=row.digest,
        )
        for row in rows
    ]
    return tuple(sorted(found, key=lambda one: (one.model, one.time, one.step, one.key, one.run)))


def check_model(run: str, kind: str) -> None:
    """Raises `Conflict` where a run is no model that was logged."""
    if kind != "model":
        raise Conflict(
            f"The run {run} is a {kind}, not a model that was logged.",
            code="not-a-model",
            hint="Create one: its kind is 'model'.",
        )

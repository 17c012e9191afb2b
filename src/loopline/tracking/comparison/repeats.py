"""More than one value of a metric: folds of a run, and runs that are the same but for their seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.hashing import digest_json
from loopline.tracking import reading
from loopline.tracking.comparison.aspects import code
from loopline.tracking.records import Run
from loopline.tracking.tables import runs
from loopline.tracking.words import Words

MOST = 1000
"""So many children of a run, and so many runs of its name, are looked at: the newest."""

_SEED = re.compile(r"(.*[^a-z])?(seed|random_state)", re.IGNORECASE)
_FOLD = re.compile(r"(?:.*[^a-z])?(?:fold|split)[ _/#:.=-]*(\d+)(?:\D.*)?", re.IGNORECASE)
_BY_FOLD = re.compile(r"(?:.*[/_. -])?(?:folds?|cv)(?:[/_. -].*)?", re.IGNORECASE)


def is_by_fold(key: str) -> bool:
    """Whether the steps of a metric are folds, as its key says: `fold/auc`, `auc_per_fold`, `cv_score`."""
    return _BY_FOLD.fullmatch(key) is not None


class Repeats:
    """The folds and the repeats of some runs, read once. `of` holds, by id, those of each."""

    def __init__(self, tx: Tx, words: Words, given: Sequence[Run], rows: Sequence[Any]) -> None:
        self._tx = tx
        self._words = words
        self.folds = {run.id: self._folds(row.number) for run, row in zip(given, rows, strict=True)}
        known: dict[str, list[Run]] = {}
        for name in dict.fromkeys(run.name for run in given):
            known[name] = self._runs(runs.c.name == name)
        self.of = {run.id: _repeats(run, [*given, *known[run.name]]) for run in given}

    def keys(self) -> set[str]:
        """The metrics that folds of the runs have."""
        return {key for folds in self.folds.values() for fold in folds.values() for key in fold.metrics}

    def _folds(self, number: int) -> dict[int, Run]:
        """The child runs that are folds, by the number that their param, tag or name gives; of two the newer."""
        found: dict[int, Run] = {}
        for child in self._runs(runs.c.parent == number):
            if (fold := _fold(child)) is not None:
                found.setdefault(fold, child)
        return dict(sorted(found.items()))

    def _runs(self, condition: sa.ColumnElement[bool]) -> list[Run]:
        mine = sa.select(runs).where(runs.c.project == self._tx.project, runs.c.deleted.is_(None), condition)
        return reading.records(self._tx, self._words, self._tx.rows(mine.order_by(runs.c.id.desc()).limit(MOST)))


def values(found: Sequence[Run], key: str) -> list[float]:
    """The last values of a metric of some runs, as far as they are finite."""
    numbers = (float(run.metrics[key]) for run in found if key in run.metrics)
    return [number for number in numbers if math.isfinite(number)]


def _fold(run: Run) -> int | None:
    for said in (run.params.get("fold"), run.tags.get("fold")):
        if isinstance(said, int) and not isinstance(said, bool):
            return said
        if isinstance(said, str) and said.isascii() and said.isdecimal() and len(said) < 10:
            return int(said)
    named = _FOLD.fullmatch(run.name)
    return int(named[1]) if named and named[1].isascii() and len(named[1]) < 10 else None


def _repeats(run: Run, others: Sequence[Run]) -> list[Run]:
    """The run and those that differ from it in their seeds alone, one a seed; without a seed it has none but itself.

    The same seed again is the same experiment again, and shows nothing of chance.
    """
    seeds = _seeds(run)
    if not seeds:
        return [run]
    mine = _without_seeds(run)
    found = {digest_json(seeds): run}
    for other in others:
        if (theirs := _seeds(other)) and theirs.keys() == seeds.keys() and _without_seeds(other) == mine:
            found.setdefault(digest_json(theirs), other)
    return list(found.values())


def _seeds(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.params.items() if _SEED.fullmatch(key)}


def _without_seeds(run: Run) -> str:
    said = {key: value for key, value in run.params.items() if not _SEED.fullmatch(key)}
    made_with = {key: value for key, value in code(run).items() if key != "argv"}  # where a seed may stand, too
    return digest_json([run.kind, said, made_with, sorted(run.inputs)])

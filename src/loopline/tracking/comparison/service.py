"""The comparison of runs, within one transaction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Invalid, NotFound, did_you_mean
from loopline.operations import Bytes
from loopline.ports.drawing import Drawing, Line, PlotForm
from loopline.tracking import reading
from loopline.tracking.comparison.records import ComparedRun, Summary
from loopline.tracking.comparison.result import Comparison
from loopline.tracking.records import SYSTEM, Point, Run, real
from loopline.tracking.tables import run_series
from loopline.tracking.words import Words

MOST = 100
"""So many runs stand beside each other."""

MOST_METRICS = 1000
"""So many metrics are compared at once; `metrics` names those that are wanted."""

_PLOTTED = 1000  # points of a line


class Comparisons:
    """The part of the runs' service that holds them side by side."""

    tx: Tx
    words: Words
    draw: Drawing | None
    group_name: Callable[[int], str]
    history: Callable[[str, str, int | None], tuple[Point, ...]]

    def compare(self, runs: tuple[str, ...], metrics: tuple[str, ...] = (), all: bool = False) -> Comparison:
        from loopline.tracking.comparison.aspects import differences
        from loopline.tracking.comparison.deltas import Deltas
        from loopline.tracking.comparison.repeats import Repeats

        rows = self._compared(runs, least=2)
        given = reading.records(self.tx, self.words, rows)
        repeats = Repeats(self.tx, self.words, given, rows)
        known = {key for run in given for key in run.metrics} | repeats.keys()
        use = set() if all or metrics else {key for key in known if key.startswith(SYSTEM)}  # which always differs
        keys = _keys(known - use, metrics)
        deltas = Deltas(given, repeats, self._by_fold)
        summaries = self._summaries(rows)
        compared = [deltas.compare(key, [summaries.get((row.number, key)) for row in rows]) for key in keys]
        named = {number: self.group_name(number) for number in {run.group for run in given}}
        found = differences(given, named)
        shown, told = (
            [one for one in found if all or not one.same],
            [one for one in compared if all or metrics or not one.same],
        )
        return Comparison(
            runs=tuple(
                ComparedRun(
                    id=run.id,
                    ref=run.ref,
                    name=run.name,
                    status=run.status,
                    created=run.created,
                    repeats=len(repeats.of[run.id]) - 1,
                    folds=len(repeats.folds[run.id]),
                )
                for run in given
            ),
            differences=tuple(shown),
            metrics=tuple(told),
            alike=len(found) - len(shown) + len(compared) - len(told),
            system=len(use),
        )

    def plot(self, runs: tuple[str, ...], metric: str, form: PlotForm = "png") -> Bytes:
        given = reading.records(self.tx, self.words, self._compared(runs, least=1))
        _keys({key for run in given for key in run.metrics}, (metric,))
        assert self.draw is not None  # app.py hands it in
        lines = []
        for run in given:
            points = self.history(run.id, metric, _PLOTTED)
            pairs = [(float(point.step), point.number) for point in points if math.isfinite(point.number)]
            label = f"{run.name} ({run.id[-6:]})"
            lines.append(Line(label=label, x=[x for x, _ in pairs], y=[y for _, y in pairs]))
        data = self.draw(metric, "step", lines, form)
        return Bytes(media="image/png" if form == "png" else "image/svg+xml", data=data, name=f"runs.{form}")

    def _compared(self, runs: Sequence[str], *, least: int) -> list[Any]:
        rows = list({row.number: row for row in (reading.row_of(self.tx, run) for run in runs[: MOST + 1])}.values())
        if not least <= len(rows) <= MOST:
            count = len(runs) if len(rows) > MOST else len(rows)
            raise Invalid(
                "One run cannot stand beside itself."
                if count == 1
                else f"{count} runs cannot stand beside each other.",
                code="bad-comparison",
                hint=f"Name {least} to {MOST} runs that are not the same; `loopline runs ls` shows them.",
            )
        return rows

    def _summaries(self, rows: Sequence[Any]) -> dict[tuple[int, str], Summary]:
        found: list[Any] = self.tx.rows_among(sa.select(run_series), run_series.c.run, [row.number for row in rows])
        spelled = self.words.spelled(self.tx, {row.key for row in found})
        return {(row.run, spelled[row.key]): _summary(row) for row in found}

    def _by_fold(self, run: Run, key: str) -> dict[int, float]:
        points = self.history(run.id, key, None)
        return {point.step: point.number for point in points if math.isfinite(point.number)}


def _keys(known: Set[str], wanted: Sequence[str]) -> list[str]:
    """The metrics to compare: those that are wanted, each of which must be known, or else all that are."""
    for key in wanted:
        if key not in known:
            raise NotFound(
                f"None of these runs has the metric {key!r}.", code="no-metric", hint=did_you_mean(key, sorted(known))
            )
    keys = list(dict.fromkeys(wanted)) or sorted(known)
    if len(keys) > MOST_METRICS:
        raise Invalid(
            f"These runs have {len(keys):,} metrics, too many to compare at once.",
            code="bad-comparison",
            hint=f"Name those that matter (at most {MOST_METRICS:,}): --metric KEY.",
        )
    return keys


def _summary(row: Any) -> Summary:
    last = math.nan if row.last is None else row.last
    low, high = (last if value is None else value for value in (row.low, row.high))
    return Summary(last=real(last), low=real(low), high=real(high), step=row.step)

"""Metrics of runs beside the first one's, and what is known of chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from loopline.statistics.records import MeanDifference
from loopline.statistics.repeats import corrected_t, welch
from loopline.tracking.comparison.records import Delta, Finding, MetricComparison, Summary
from loopline.tracking.comparison.repeats import Repeats, is_by_fold, values
from loopline.tracking.records import Real, Run, real

CONFIDENCE = 0.95
"""Of all deltas of one metric together: where several runs are held against the first, each one's interval is wider for it."""

ByFold = Callable[[Run, str], dict[int, float]]
"""The values of a metric of a run by step."""


class Deltas:
    """Compares metrics of runs. `by_fold` reads the points of one whose steps are folds."""

    def __init__(self, runs: Sequence[Run], repeats: Repeats, by_fold: ByFold) -> None:
        self._runs = runs
        self._repeats = repeats
        self._by_fold = by_fold
        self._confidence = 1 - (1 - CONFIDENCE) / max(1, len(runs) - 1)  # Bonferroni over the runs

    def compare(self, key: str, summaries: Sequence[Summary | None]) -> MetricComparison:
        """One metric of all runs."""
        first = summaries[0]
        deltas = [self._delta(key, run, first, one) for run, one in zip(self._runs[1:], summaries[1:], strict=True)]
        by_fold = [self._children(run, key) for run in self._runs]
        if any(summaries):
            same = all(one is not None and first is not None and _alike(one, first) for one in summaries)
        else:
            same = all(folds == by_fold[0] for folds in by_fold)
        return MetricComparison(
            key=key,
            values=tuple(summaries),
            deltas=(None, *deltas),
            same=same,
            folds=tuple(fmean(folds.values()) if folds else None for folds in by_fold),
        )

    def _delta(self, key: str, run: Run, before: Summary | None, after: Summary | None) -> Delta:
        value: Real | None = None
        if before is not None and after is not None:
            value = real(float(after.last) - float(before.last))
        found, n, m, basis = self._tested(key, self._runs[0], run)
        if found is None:
            return Delta(value=value, finding="not known", basis=basis, n=n, m=m)
        finding: Finding = "higher" if found.low > 0 else "lower" if found.high < 0 else "not told apart"
        return Delta(
            value=value,
            finding=finding,
            basis=basis,
            mean=found.value,
            low=found.low,
            high=found.high,
            confidence=found.confidence,
            p_value=found.p_value,
            n=found.n,
            m=found.m,
            method=found.method,
        )

    def _tested(self, key: str, a: Run, b: Run) -> tuple[MeanDifference | None, int, int, str]:
        """The test that the values at hand allow, how many there are of each side, and of what they are."""
        for folds_of, what in ((self._children, "folds as child runs"), (self._steps, "folds as steps")):
            left, right = folds_of(a, key), folds_of(b, key)
            both = sorted(left.keys() & right.keys())
            if len(both) > 1 and left.keys() == right.keys():
                found = corrected_t(
                    [left[n] for n in both],
                    [right[n] for n in both],
                    test_share=1 / (len(both) - 1),  # k folds: one is held out, k - 1 are trained on
                    confidence=self._confidence,
                )
                basis = f"{len(both)} {what}" if found else "the folds all differ alike, which shows nothing of chance"
                return found, len(both), len(both), basis
            if left and right and left.keys() != right.keys():
                return None, len(left), len(right), "the two runs have other folds, and no pairs"
        if a.id in (run.id for run in self._repeats.of[b.id]):
            return None, 1, 1, "they are repeats of one another"
        left_values, right_values = values(self._repeats.of[a.id], key), values(self._repeats.of[b.id], key)
        n, m = len(left_values), len(right_values)
        if n > 1 and m > 1:
            found = welch(left_values, right_values, confidence=self._confidence)
            return (
                found,
                n,
                m,
                "runs with other seeds" if found else "all repeats say the same, which shows nothing of chance",
            )
        few = "the runs have" if n < 2 and m < 2 else "the first run has" if n < 2 else "the other run has"
        return None, n, m, f"{few} no second finite value; repeat it with other seeds, or by folds"

    def _children(self, run: Run, key: str) -> dict[int, float]:
        folds = self._repeats.folds[run.id]
        found = {number: float(fold.metrics[key]) for number, fold in folds.items() if key in fold.metrics}
        return {number: value for number, value in found.items() if math.isfinite(value)}

    def _steps(self, run: Run, key: str) -> dict[int, float]:
        return self._by_fold(run, key) if is_by_fold(key) and key in run.metrics else {}


def _alike(a: Summary, b: Summary) -> bool:
    return (a.last, a.low, a.high) == (b.last, b.low, b.high)

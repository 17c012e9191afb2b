"""Measures a prediction against the truth: metrics with intervals, slices, fairness, the data of the plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import Invalid, did_you_mean
from loopline.evaluation.catalogue import METRICS, kind
from loopline.evaluation.curves import curves
from loopline.evaluation.fairness import fairness
from loopline.evaluation.metrics import LEAST_ROWS, areas, resampled, values, with_intervals
from loopline.evaluation.records import Difference, Fairness, Measurement, Slice
from loopline.evaluation.scored import Scored, Truth, scored
from loopline.evaluation.slicing import Groups, groups
from loopline.statistics.bootstrap import Bootstrap, standard_error
from loopline.statistics.intervals import confidence_at, on_scale
from loopline.statistics.ranking import paired_difference
from loopline.statistics.records import Interval

FEW_ROWS = 30
FEW_OF_A_CLASS = 10
"""With fewer rows in all, or of either class, a slice's intervals say little and the slice says so."""


def measure(
    y_true: Truth,
    prediction: NDArray[Any],
    *,
    task: str,
    classes: Sequence[str] = (),
    threshold: float | None = None,
    frame_of_slices: pl.DataFrame | None = None,
    protected: Sequence[str] = (),
    seed: int,
    looks: int = 1,
) -> Measurement:
    """Everything that is known of one prediction: metrics with intervals, slices, fairness, curves.

    `y_true` and `prediction` are as in `scored` (n rows). Each column of `frame_of_slices` (n rows) is sliced by;
    for a binary task, columns in `protected` are compared for fairness too. `looks` is the number of this look at
    the window, from 1: later looks widen all intervals (`statistics.intervals.confidence_at`). Slices are not
    corrected for their number. Raises Invalid as `scored` does, and `no-column`, `other-rows`.
    """
    rows = scored(y_true, prediction, task=task, classes=classes, threshold=threshold)
    confidence = confidence_at(looks)
    frame = _slicing(frame_of_slices, protected, rows.n)
    bootstrap = Bootstrap(seed=seed)
    columns = [groups(column) for column in frame.get_columns()]
    found: list[Fairness] = []
    if rows.task == "binary":
        for column in columns:
            if column.column in protected:
                found += fairness(rows, column, confidence=confidence, seed=seed)
    return Measurement(
        task=rows.task,
        n=rows.n,
        metrics=with_intervals(rows, bootstrap=bootstrap, confidence=confidence),
        slices=tuple(one for column in columns for one in _slices(rows, column, bootstrap, confidence)),
        fairness=tuple(found),
        curves=curves(rows, confidence=confidence),
        confidence=confidence,
        looks=looks,
        threshold=rows.threshold if rows.task == "binary" else None,
    )


def difference(
    y_true: Truth,
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    metric: str,
    task: str,
    classes: Sequence[str] = (),
    thresholds: tuple[float | None, float | None] = (None, None),
    seed: int,
    looks: int = 1,
) -> Difference:
    """The metric of prediction a minus that of b, paired on the same rows, with its interval.

    Areas by the difference of the rows' influences (for ROC: paired DeLong), all else by the bootstrap over the
    same resampled rows. Raises Invalid as `scored` does, `unknown-metric`, and `undefined-metric` where either side
    has none on these rows.
    """
    kind(metric)
    found = differences(
        y_true, a, b, task=task, classes=classes, thresholds=thresholds, seed=seed, looks=looks, only=(metric,)
    )
    if not found:
        defined = ", ".join(values(scored(y_true, a, task=task, classes=classes, threshold=thresholds[0])))
        raise Invalid(
            f"{metric} is not defined for both {task} predictions on these {len(y_true):,} rows.",
            code="undefined-metric",
            hint=f"Here are defined: {defined}.",
        )
    return found[0]


def differences(
    y_true: Truth,
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    task: str,
    classes: Sequence[str] = (),
    thresholds: tuple[float | None, float | None] = (None, None),
    seed: int,
    looks: int = 1,
    only: Sequence[str] = tuple(METRICS),
    opponent: str = "",
) -> tuple[Difference, ...]:
    """`difference` for every metric of `only` that is defined for both predictions, from one set of resampled rows.

    `opponent` names side b in the records. Raises Invalid as `scored` does.
    """
    left, right = (
        scored(y_true, side, task=task, classes=classes, threshold=threshold)
        for side, threshold in zip((a, b), thresholds, strict=True)
    )
    confidence = confidence_at(looks)
    bootstrap = Bootstrap(seed=seed)
    intervals: dict[str, tuple[float, float, Interval]] = {}
    areas_a, areas_b = areas(left), areas(right)
    for name in set(only) & set(areas_a):
        method = "delong-paired" if name == "roc_auc" else "influence-paired"
        interval = paired_difference(areas_a[name], areas_b[name], confidence=confidence, method=method)
        intervals[name] = (areas_a[name].value, areas_b[name].value, interval)
    if left.n >= LEAST_ROWS and set(only) - set(areas_a):
        (points_a, drawn_a), (points_b, drawn_b) = (resampled(side, bootstrap) for side in (left, right))
        for name in set(only) & set(points_a):
            error = standard_error(drawn_a[name] - drawn_b[name])
            value = points_a[name] - points_b[name]
            if math.isfinite(value + error):
                interval = on_scale(
                    value, error, scale="real", n=left.n, confidence=confidence, method="bootstrap-paired"
                )
                intervals[name] = (points_a[name], points_b[name], interval)
    return tuple(
        Difference(
            metric=name,
            a=intervals[name][0],
            b=intervals[name][1],
            value=intervals[name][2].value,
            low=intervals[name][2].low,
            high=intervals[name][2].high,
            n=left.n,
            opponent=opponent,
            method=intervals[name][2].method,
        )
        for name in METRICS
        if name in intervals
    )


def _slicing(frame: pl.DataFrame | None, protected: Sequence[str], n: int) -> pl.DataFrame:
    frame = pl.DataFrame() if frame is None else frame
    for name in protected:
        if name not in frame.columns:
            raise Invalid(
                f"There is no column {name!r} to compare groups by.",
                code="no-column",
                hint=did_you_mean(name, frame.columns),
            )
    if frame.width and frame.height != n:
        raise Invalid(
            f"The columns to slice by have {frame.height:,} rows, the prediction {n:,}.",
            code="other-rows",
            hint="Give the same rows in the same order.",
        )
    return frame


def _slices(rows: Scored, column: Groups, bootstrap: Bootstrap, confidence: float) -> list[Slice]:
    found = []
    for name, members in zip(column.names, column.members, strict=True):
        part = rows.take(members)
        positives = int(part.positive.sum()) if rows.task == "binary" else None
        found.append(
            Slice(
                column=column.column,
                group=name,
                n=part.n,
                metrics=with_intervals(part, bootstrap=bootstrap, confidence=confidence),
                positives=positives,
                note=_note(part, positives),
            )
        )
    return found


def _note(part: Scored, positives: int | None) -> str:
    if part.n < FEW_ROWS:
        return f"too few rows to tell ({part.n})"
    if part.task == "multiclass" and int((np.bincount(part.truth) > 0).sum()) < 2:
        return "one class only: no ranking to measure"
    if positives is None:
        return ""
    rarer, which = min((positives, "positive"), (part.n - positives, "negative"))
    if rarer == 0:
        return f"no {which} rows: no ranking to measure"
    return f"few {which} rows ({rarer})" if rarer < FEW_OF_A_CLASS else ""

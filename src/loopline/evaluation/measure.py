"""Measures a prediction against the truth: metrics with intervals, slices, fairness, the data of the plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import Invalid, did_you_mean
from loopline.evaluation.catalogue import kind
from loopline.evaluation.curves import curves
from loopline.evaluation.fairness import fairness
from loopline.evaluation.metrics import areas, resampled, values, with_intervals
from loopline.evaluation.records import Difference, Fairness, Measurement, Slice
from loopline.evaluation.scored import Scored, Truth, scored
from loopline.evaluation.slicing import Groups, groups
from loopline.statistics.bootstrap import Bootstrap, standard_error
from loopline.statistics.intervals import confidence_at, on_scale
from loopline.statistics.ranking import paired_difference

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
    left, right = (
        scored(y_true, side, task=task, classes=classes, threshold=threshold)
        for side, threshold in zip((a, b), thresholds, strict=True)
    )
    confidence = confidence_at(looks)
    if metric in (areas_a := areas(left)):
        area_a, area_b = areas_a[metric], areas(right)[metric]
        value_a, value_b = area_a.value, area_b.value
        method = "delong-paired" if metric == "roc_auc" else "influence-paired"
        interval = paired_difference(area_a, area_b, confidence=confidence, method=method)
    else:
        bootstrap = Bootstrap(seed=seed)
        (points_a, replicates_a), (points_b, replicates_b) = (resampled(side, bootstrap) for side in (left, right))
        value_a, value_b = points_a.get(metric, math.nan), points_b.get(metric, math.nan)
        error = standard_error(replicates_a[metric] - replicates_b[metric]) if metric in points_a else math.nan
        if not math.isfinite(value_a - value_b + error):
            raise Invalid(
                f"{metric} is not defined for this {task} prediction on these {left.n:,} rows.",
                code="undefined-metric",
                hint=f"Here are defined: {', '.join(values(left))}.",
            )
        interval = on_scale(
            value_a - value_b, error, scale="real", n=left.n, confidence=confidence, method="bootstrap-paired"
        )
    return Difference(
        metric=metric,
        a=value_a,
        b=value_b,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=left.n,
        method=interval.method,
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

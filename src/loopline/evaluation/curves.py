"""The data of the plots: curves thinned to what an eye can see, and counts in place of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loopline.evaluation.metrics import areas, bin_of
from loopline.evaluation.records import CalibrationBin, Confusion, Curve, Curves, Grid
from loopline.evaluation.scored import Scored
from loopline.statistics.intervals import wilson

Floats = NDArray[np.float64]

POINTS = 200
CELLS = 40


def curves(rows: Scored, *, confidence: float = 0.95) -> Curves:
    """The data of all plots of a task; parts that are not defined on these rows are left out."""
    if rows.task == "regression":
        predicted, actual = rows.prediction, rows.truth.astype(np.float64)
        return Curves(agreement=_grid(predicted, actual), residuals=_grid(predicted, actual - predicted))
    if rows.task == "multiclass":
        return Curves(confusion=_confusion(rows))
    area = areas(rows)
    roc, precision_recall = (
        _roc_and_precision(rows, area["roc_auc"].value, area["pr_auc"].value) if area else (None, None)
    )
    return Curves(
        roc=roc,
        precision_recall=precision_recall,
        positive_share=float(rows.positive.mean()),
        calibration=_calibration(rows, confidence),
        confusion=_confusion(rows),
    )


def _roc_and_precision(rows: Scored, roc_area: float, pr_area: float) -> tuple[Curve, Curve]:
    order = np.argsort(-rows.prediction, kind="stable")
    score, positive = rows.prediction[order], rows.positive[order]
    # One point for each distinct score: rows of equal score are taken together.
    last = np.flatnonzero(np.append(np.diff(score) != 0, True))
    found, taken = np.cumsum(positive)[last].astype(np.float64), (last + 1).astype(np.float64)
    recall, false = found / found[-1], (taken - found) / max(1.0, taken[-1] - found[-1])
    # Evenly along both axes, so that neither a steep start nor a flat end loses its shape.
    even = np.linspace(0, 1, POINTS // 2)
    keep = np.unique(
        np.clip(np.concatenate([np.searchsorted(recall, even), np.searchsorted(false, even)]), 0, len(last) - 1)
    )
    roc = Curve(x=(0.0, *_floats(false[keep])), y=(0.0, *_floats(recall[keep])), area=roc_area)
    return roc, Curve(x=_floats(recall[keep]), y=_floats((found / taken)[keep]), area=pr_area)


def _calibration(rows: Scored, confidence: float) -> tuple[CalibrationBin, ...]:
    inside = bin_of(rows.prediction)
    found = []
    for i in range(int(inside.max()) + 1):
        members = inside == i
        n, hits = int(members.sum()), int(rows.positive[members].sum())
        interval = wilson(hits, n, confidence=confidence)
        found.append(
            CalibrationBin(
                predicted=float(rows.prediction[members].mean()),
                observed=interval.value,
                low=interval.low,
                high=interval.high,
                n=n,
            )
        )
    return tuple(found)


def _confusion(rows: Scored) -> Confusion:
    k = len(rows.classes)
    counts = np.bincount(rows.truth * k + rows.decided, minlength=k * k).reshape(k, k)
    return Confusion(classes=rows.classes, counts=tuple(tuple(int(c) for c in row) for row in counts))


def _grid(x: Floats, y: Floats) -> Grid:
    # The outermost rows of a long tail would leave one cell for all others: they count in the edge cells.
    ends = [_ends(side) for side in (x, y)]
    counts, x_edges, y_edges = np.histogram2d(
        np.clip(x, *ends[0]), np.clip(y, *ends[1]), bins=CELLS, range=[list(e) for e in ends]
    )
    return Grid(x=_floats(x_edges), y=_floats(y_edges), counts=tuple(tuple(int(c) for c in row) for row in counts))


def _ends(values: Floats) -> tuple[float, float]:
    low, high = (float(v) for v in np.quantile(values, [0.002, 0.998]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(v), 12) for v in values)

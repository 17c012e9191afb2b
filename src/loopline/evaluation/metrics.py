"""The metrics: their values, and their intervals from one set of resampled means.

Each metric but the areas is a function of means of columns (precision is mean of true positives over mean of
predicted positives), so the bootstrap resamples the columns' means once and computes every metric from them.
Proportions of a known count take Wilson's interval, areas that of their influence (DeLong's for ROC).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loopline.evaluation.catalogue import METRICS
from loopline.evaluation.records import Metric
from loopline.evaluation.scored import Scored
from loopline.statistics.bootstrap import Bootstrap, standard_error
from loopline.statistics.intervals import on_scale, wilson
from loopline.statistics.ranking import Area, area_interval, mean_area_interval, precision_recall_area, roc_area
from loopline.statistics.records import Interval

Floats = NDArray[np.float64]
Combine = Callable[[Floats], dict[str, Floats]]

CALIBRATION_BINS = 10
LEAST_ROWS = 10
TINY = float(np.finfo(np.float64).eps)
"""Probabilities are kept so far from 0 and 1 in a logarithm, as scikit-learn does."""


class Columns(NamedTuple):
    """(n, q) columns, and how their means (..., q) make metrics (...); NaN where a metric is not defined."""

    values: Floats
    combine: Combine


def values(rows: Scored) -> dict[str, float]:
    """Every metric of the task that is defined on these rows, without intervals.

    A precision without predicted positives, or an area with one class only, is not defined and left out.
    """
    columns = _columns(rows)
    found = {name: float(value) for name, value in columns.combine(columns.values.mean(axis=0)).items()}
    found |= {name: area.value for name, area in areas(rows).items()}
    return {name: found[name] for name in METRICS if name in found and np.isfinite(found[name])}


def resampled(rows: Scored, bootstrap: Bootstrap) -> tuple[dict[str, float], dict[str, Floats]]:
    """Values and replicates of every metric but the areas (NaN where one is not defined).

    Replicates of two predictions of the same rows are paired.
    """
    columns = _columns(rows)
    points = columns.combine(columns.values.mean(axis=0))
    return {name: float(v) for name, v in points.items()}, columns.combine(bootstrap.means(columns.values))


def with_intervals(rows: Scored, *, bootstrap: Bootstrap, confidence: float = 0.95) -> tuple[Metric, ...]:
    """Every metric that is defined on these rows, with its interval, in the catalogue's order.

    Under 10 rows a bootstrap would show a spread that is no spread: only proportions and areas are given.
    """
    points, replicates = resampled(rows, bootstrap)
    counted = _proportions(rows)
    intervals: dict[str, Interval] = {}
    for name, value in points.items():
        if not np.isfinite(value):
            continue
        if name in counted:
            intervals[name] = wilson(*counted[name], confidence=confidence)
        elif rows.n < LEAST_ROWS:
            continue
        elif name == "calibration_error":
            intervals[name] = _without_bias(value, replicates[name], confidence)
        else:
            error = standard_error(replicates[name])
            if np.isfinite(error):
                intervals[name] = on_scale(
                    value,
                    error,
                    scale=METRICS[name].scale,
                    n=_carriers(name, rows),
                    confidence=confidence,
                    method="bootstrap",
                )
    for name, area in areas(rows).items():
        method = "delong-logit" if name == "roc_auc" else "influence-logit"
        if rows.task == "binary":
            intervals[name] = area_interval(area, rows.positive, confidence=confidence, method=method)
        else:
            _, shares = _ranked(rows)
            weights = shares if name == "roc_auc_ovr_weighted" else np.full(len(shares), 1 / len(shares))
            known = np.minimum(shares, 1 - shares) * rows.n
            intervals[name] = mean_area_interval(area, weights, known, confidence=confidence, method=method)
    return tuple(
        Metric(name=name, value=found.value, low=found.low, high=found.high, n=rows.n, method=found.method)
        for name in METRICS
        if (found := intervals.get(name)) is not None
    )


def areas(rows: Scored) -> dict[str, Area]:
    """The areas under curves with the influence of each row; none where only one class is there."""
    if rows.task == "binary":
        if not 0 < rows.positive.sum() < rows.n:
            return {}
        return {
            "roc_auc": roc_area(rows.positive, rows.prediction),
            "pr_auc": precision_recall_area(rows.positive, rows.prediction),
        }
    if rows.task == "multiclass":
        return _one_against_rest(rows)
    return {}


def _one_against_rest(rows: Scored) -> dict[str, Area]:
    present, shares = _ranked(rows)
    if not present:
        return {}
    each = [roc_area(rows.truth == c, rows.prediction[:, c]) for c in present]
    mean = Area(float(np.mean([a.value for a in each])), np.mean([a.influence for a in each], axis=0))
    weighted = float(shares @ [a.value for a in each])
    # A row also moves the weights: its own class gains.
    pull = np.zeros(rows.n)
    for c, share, area in zip(present, shares, each, strict=True):
        pull += share * area.influence + ((rows.truth == c) - share) * area.value
    return {"roc_auc_ovr": mean, "roc_auc_ovr_weighted": Area(weighted, pull)}


def _ranked(rows: Scored) -> tuple[list[int], Floats]:
    """The classes that can be ranked against the rest, and their shares of the rows."""
    counts = np.bincount(rows.truth, minlength=len(rows.classes))
    present = np.flatnonzero((counts > 0) & (counts < rows.n))
    return present.tolist(), counts[present] / rows.n


def _rarest(rows: Scored) -> int:
    counts = np.bincount(rows.truth, minlength=len(rows.classes))
    return int(np.where(counts > 0, counts, rows.n + 1).argmin())


def _carriers(name: str, rows: Scored) -> int:
    """How many rows carry a metric: what is known of a perfect F1 depends on the few positives, not on all rows."""
    if name == "f1":
        return int((rows.positive | (rows.decided == 1)).sum())
    if name.endswith("_macro"):
        return int((rows.truth == _rarest(rows)).sum())
    return rows.n


def _columns(rows: Scored) -> Columns:
    return {"binary": _binary, "multiclass": _multiclass, "regression": _regression}[rows.task](rows)


def _proportions(rows: Scored) -> dict[str, tuple[float, float]]:
    """Successes and trials of the metrics that are proportions of a count."""
    if rows.task == "regression":
        return {}
    decided = rows.decided
    found = {"accuracy": (float((decided == rows.truth).sum()), float(rows.n))}
    if rows.task == "binary":
        hits = float((rows.positive & (decided == 1)).sum())
        found["precision"] = (hits, float((decided == 1).sum()))
        found["recall"] = (hits, float(rows.positive.sum()))
    return found


def _binary(rows: Scored) -> Columns:
    y, p, decided = rows.positive.astype(np.float64), rows.prediction, rows.decided.astype(np.float64)
    bins = bin_of(p)
    inside = np.zeros((rows.n, int(bins.max()) + 1))
    inside[np.arange(rows.n), bins] = p - y
    columns = np.column_stack([y * decided, y, decided, (p - y) ** 2, _surprise(np.where(y == 1, p, 1 - p)), inside])

    def combine(m: Floats) -> dict[str, Floats]:
        hits, positive, called = m[..., 0], m[..., 1], m[..., 2]
        return {
            "accuracy": 1 - positive - called + 2 * hits,
            "precision": _ratio(hits, called),
            "recall": _ratio(hits, positive),
            "f1": _ratio(2 * hits, positive + called),
            "brier": m[..., 3],
            "log_loss": m[..., 4],
            "calibration_error": np.abs(m[..., 5:]).sum(axis=-1),
        }

    return Columns(columns, combine)


def _multiclass(rows: Scored) -> Columns:
    k = len(rows.classes)
    truth, decided = np.eye(k)[rows.truth], np.eye(k)[rows.decided]
    surprise = _surprise(rows.prediction[np.arange(rows.n), rows.truth])
    columns = np.column_stack([truth * decided, truth, decided, surprise])
    # A class in neither truth nor decisions has no precision or recall to average.
    seen = (truth + decided).any(axis=0)

    def combine(m: Floats) -> dict[str, Floats]:
        hits, share, called = m[..., :k], m[..., k : 2 * k], m[..., 2 * k : 3 * k]
        precision, recall = (np.nan_to_num(_ratio(hits, base)) for base in (called, share))
        f1 = np.nan_to_num(_ratio(2 * hits, share + called))
        found = {"accuracy": hits.sum(axis=-1), "log_loss": m[..., 3 * k]}
        for name, each in (("precision", precision), ("recall", recall), ("f1", f1)):
            found[f"{name}_macro"] = each[..., seen].mean(axis=-1)
            found[f"{name}_weighted"] = (each * share).sum(axis=-1)
        return found

    return Columns(columns, combine)


def _regression(rows: Scored) -> Columns:
    y = rows.truth.astype(np.float64)
    error, centred = np.abs(y - rows.prediction), y - y.mean()
    columns = np.column_stack([error, error**2, centred, centred**2, np.abs(y)])

    def combine(m: Floats) -> dict[str, Floats]:
        return {
            "mae": m[..., 0],
            "rmse": np.sqrt(m[..., 1]),
            "wape": _ratio(m[..., 0], m[..., 4]),
            "r2": 1 - _ratio(m[..., 1], m[..., 3] - m[..., 2] ** 2),
        }

    return Columns(columns, combine)


def bin_of(prediction: Floats, bins: int = CALIBRATION_BINS) -> NDArray[np.int64]:
    """The bin of each prediction: bins of equally many rows, equal predictions always together."""
    edges = np.unique(np.quantile(prediction, np.linspace(0, 1, bins + 1)[1:-1]))
    _, inside = np.unique(np.searchsorted(edges, prediction, side="right"), return_inverse=True)
    return inside.astype(np.int64)


def _surprise(probability: Floats) -> Floats:
    return -np.log(np.clip(probability, TINY, 1 - TINY))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(bottom) > 0, top / bottom, np.nan)


def _without_bias(value: float, replicates: Floats, confidence: float) -> Interval:
    """The basic bootstrap interval (Davison and Hinkley 1997, 5.2).

    A calibration error sums distances, so noise alone lifts it; replicates are lifted once more by as much, and the
    basic interval takes most of that off again (it covers 87 to 93 % where the others cover 95 %). It is widened to
    hold the point, which keeps the lift.
    """
    tail = (1 - confidence) / 2
    seen = replicates[np.isfinite(replicates)]
    upper, lower = np.quantile(seen, [1 - tail, tail])
    low, high = float(np.clip(2 * value - upper, 0.0, value)), float(np.clip(2 * value - lower, value, 1.0))
    return Interval(value=value, low=low, high=high, confidence=confidence, method="bootstrap-basic")

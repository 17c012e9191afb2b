"""The one table of metrics: for which task, which way is better, within which ends."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from loopline.errors import Invalid, did_you_mean

TASKS = ("binary", "multiclass", "regression")


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric is: `scale` is where its estimate is nearly normal (see statistics.intervals.on_scale)."""

    title: str
    tasks: tuple[str, ...]
    higher_is_better: bool
    low: float
    high: float
    scale: str


def _share(title: str, *tasks: str, higher: bool = True) -> Kind:
    return Kind(title=title, tasks=tasks, higher_is_better=higher, low=0.0, high=1.0, scale="unit")


def _loss(title: str, *tasks: str) -> Kind:
    return Kind(title=title, tasks=tasks, higher_is_better=False, low=0.0, high=math.inf, scale="positive")


METRICS: dict[str, Kind] = {
    "roc_auc": _share("ROC-AUC", "binary"),
    "pr_auc": _share("PR-AUC", "binary"),
    "accuracy": _share("Accuracy", "binary", "multiclass"),
    "precision": _share("Precision", "binary"),
    "recall": _share("Recall", "binary"),
    "f1": _share("F1", "binary"),
    "brier": _share("Brier score", "binary", higher=False),
    "log_loss": _loss("Log loss", "binary", "multiclass"),
    "calibration_error": _share("Calibration error", "binary", higher=False),
    "roc_auc_ovr": _share("ROC-AUC, one against the rest, mean", "multiclass"),
    "roc_auc_ovr_weighted": _share("ROC-AUC, one against the rest, weighted", "multiclass"),
    "precision_macro": _share("Precision, mean of classes", "multiclass"),
    "recall_macro": _share("Recall, mean of classes", "multiclass"),
    "f1_macro": _share("F1, mean of classes", "multiclass"),
    "precision_weighted": _share("Precision, weighted", "multiclass"),
    "recall_weighted": _share("Recall, weighted", "multiclass"),
    "f1_weighted": _share("F1, weighted", "multiclass"),
    "mae": _loss("Mean absolute error", "regression"),
    "rmse": _loss("Root mean squared error", "regression"),
    "wape": _loss("Absolute error over absolute total", "regression"),
    "r2": Kind(title="R²", tasks=("regression",), higher_is_better=True, low=-math.inf, high=1.0, scale="below_one"),
}

FAIRNESS: dict[str, str] = {
    "demographic_parity_difference": "Difference of selection rates",
    "equal_opportunity_difference": "Difference of true positive rates",
    "equalized_odds_difference": "Difference of true or false positive rates",
}


def kind(name: str) -> Kind:
    """The table's row for a metric. Raises Invalid (`unknown-metric`) with the nearest name."""
    known(name, METRICS, "metric")
    return METRICS[name]


def known(name: str, names: Iterable[str], what: str) -> None:
    """Raises Invalid (`unknown-metric`, `unknown-task` ...) with the nearest name unless the name is known."""
    names = tuple(names)
    if name not in names:
        raise Invalid(
            f"There is no {what} {name!r}.", code=f"unknown-{what.replace(' ', '-')}", hint=did_you_mean(name, names)
        )

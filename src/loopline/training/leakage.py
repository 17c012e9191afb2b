"""Columns that alone tell the label: nearly always they were filled in after it was known (leakage, Kaufman et al. 2012)."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.training.estimators import Doubles
from loopline.training.problem import Problem, Side, sampled

TOLD = 0.99
"""From so much on, of a measure that ends at 1, a single column is taken to tell the label."""
_ROWS = 20_000
_LEAVES = 32


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """A column that alone tells the label, and how well on validation rows: AUC, balanced accuracy (several classes) or R2."""

    column: str
    metric: str
    value: float

    def said(self) -> str:
        """For people."""
        return (
            f"{self.column!r} alone tells the label ({self.metric} {self.value:.3f}): is it known before the label is?"
        )


def telling(problem: Problem) -> tuple[Telling, ...]:
    """The columns that alone tell the label, the most telling first.

    Each gets one small tree, which is fitted on training rows (at most some 20,000) and measured on validation rows. Categories
    count by their means out of fold, so that one which only names its row tells nothing.
    """
    transform, train, held = problem.boosted
    classes = len(problem.signature.classes)
    train, held = (sampled(side, _ROWS, classes=classes, seed=problem.seed) for side in (train, held))
    plan = transform.plan
    fields = [n.field for n in plan.numbers] + [c.field for c in plan.categories for _ in plan.suffixes]
    found = []
    for name in dict.fromkeys(fields):
        places = [place for place, field in enumerate(fields) if field == name]
        metric, value = _alone(problem.signature.task, train, held, places)
        if value >= TOLD:
            found.append(Telling(column=name, metric=metric, value=value))
    return tuple(sorted(found, key=lambda one: -one.value))


def _alone(task: str, train: Side, held: Side, places: list[int]) -> tuple[str, float]:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeRegressor if task == "regression" else DecisionTreeClassifier
    tree = kind(max_leaf_nodes=_LEAVES, min_samples_leaf=5, random_state=0)
    tree.fit(train.features[:, places], train.labels)
    return _measured(task, tree, held.features[:, places], held.labels)


def _measured(task: str, tree: object, features: npt.NDArray[np.float32], labels: Doubles) -> tuple[str, float]:
    from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

    if len(np.unique(labels)) < 2:
        return "", 0.0  # nothing to tell apart
    if task == "binary":
        return "AUC", float(roc_auc_score(labels, tree.predict_proba(features)[:, 1]))  # type: ignore[attr-defined]
    given = tree.predict(features)  # type: ignore[attr-defined]
    if task == "regression":
        return "R2", float(r2_score(labels, given))
    return "balanced accuracy", float(balanced_accuracy_score(labels, given))

"""What each column added to a model's raw score, row by row.

Trees: LightGBM's own contributions, which are exact Shapley values of the trees (Lundberg, Erion and Lee 2018, "Consistent
Individualized Feature Attribution for Tree Ensembles"). Linear models: coefficient by standardised value. Features made of one
column (the parts of a date, the levels of a category) are added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loopline.features.transform import TableTransform
from loopline.training.estimators import Doubles, Linear
from loopline.training.model import Model


@dataclass(frozen=True)
class Contributions:
    """For n rows and k scores (1, or one a class): `base` [n, k], and `values` [n, k, columns], in the order of `columns`.

    Base and values of a row sum to its raw score: log-odds of the positive class (binary), the class's score before the softmax
    (multiclass), or the value itself (regression).
    """

    columns: tuple[str, ...]
    base: Doubles
    values: Doubles

    @property
    def scores(self) -> Doubles:
        """The raw scores [n, k]."""
        return np.asarray(self.base + self.values.sum(axis=2))


def contributions(model: Model, numbers: npt.NDArray[np.float32], strings: npt.NDArray[np.object_]) -> Contributions:
    """The contributions for rows decoded by `features.boundary.Boundary`."""
    features = model.transform.apply_arrays(numbers, strings)
    n = len(features)
    if isinstance(model.estimator, Linear):
        k = len(model.estimator.intercepts)
        each = features[:, None, :].astype(np.float64) * model.estimator.coefficients[None]
        base = np.broadcast_to(model.estimator.intercepts, (n, k))
    else:
        raw = np.asarray(model.estimator.booster.predict(features, pred_contrib=True, num_threads=1), dtype=np.float64)
        parts = raw.reshape(n, -1, features.shape[1] + 1)
        each, base = parts[:, :, :-1], parts[:, :, -1]
    columns, place = _columns(model.transform)
    return Contributions(columns, base, each @ np.eye(len(columns))[place])


def _columns(transform: TableTransform) -> tuple[tuple[str, ...], list[int]]:
    """The columns that features are made of, and the place of each feature's own among them; see `transform._names`."""
    plan = transform.plan
    made = [number.field for number in plan.numbers]
    if plan.style == "linear":
        made += [number.field for number in plan.numbers if number.indicator]
        made += [c.field for c in plan.categories for _ in range(len(c.levels) + 2)]
    else:
        made += [c.field for c in plan.categories for _ in plan.suffixes]
    columns = tuple(field.name for field in plan.fields if field.name in made)
    return columns, [columns.index(name) for name in made]

"""Fitted estimators in their native, readable forms: they score, they do not learn (see linear.py and boosted.py for that).

Importable with numpy and msgspec alone, so that a server without polars and scikit-learn can score the native form.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.features.records import Task
from loopline.training import tree_text

Doubles = npt.NDArray[np.float64]


class LinearForm(msgspec.Struct, frozen=True, kw_only=True):
    """Coefficients [k, features] and intercepts [k]; k is 1 for binary and regression, else one a class."""

    family: str = "linear"
    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]


class Linear:
    """A linear model: the identity, logistic or softmax of a weighted sum."""

    file = "linear.json"

    def __init__(self, form: LinearForm) -> None:
        self.form = form
        self.coefficients = np.asarray(form.coefficients, dtype=np.float64).reshape(len(form.intercepts), -1)
        self.intercepts = np.asarray(form.intercepts, dtype=np.float64)

    def score(self, features: npt.NDArray[np.float32], task: Task) -> Doubles:
        """[n] for binary (probability) and regression, [n, k] probabilities for multiclass."""
        raw = features.astype(np.float64) @ self.coefficients.T + self.intercepts
        return link(raw if task == "multiclass" else raw[:, 0], task)

    def to_text(self) -> str:
        return msgspec.json.encode(self.form).decode()

    @classmethod
    def from_text(cls, text: str) -> Linear:
        return cls(msgspec.json.decode(text.encode(), type=LinearForm))


class Boosted:
    """Gradient-boosted trees in LightGBM's own text form."""

    file = "trees.txt"

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def booster(self) -> Any:
        """The LightGBM booster; the library is loaded here, where trees are scored natively."""
        from loopline.training.threads import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def score(self, features: npt.NDArray[np.float32], task: Task, threads: int = 2) -> Doubles:
        """[n] for binary (probability) and regression, [n, k] probabilities for multiclass."""
        if not len(features):
            return np.empty((0, self.booster.num_model_per_iteration()) if task == "multiclass" else 0)
        # More threads cost more than they give for a few rows.
        few = features.size < 50_000
        return np.asarray(self.booster.predict(features, num_threads=1 if few else threads), dtype=np.float64)

    def to_text(self) -> str:
        return self.text

    @classmethod
    def from_text(cls, text: str) -> Boosted:
        tree_text.check(text)
        return cls(text)


Estimator = Linear | Boosted
FAMILIES: dict[str, type[Linear] | type[Boosted]] = {"linear": Linear, "boosted": Boosted}


def link(raw: Doubles, task: Task) -> Doubles:
    """Raw scores as what the task wants: probabilities, or values as they are."""
    if task == "regression":
        return raw
    if task == "binary":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * raw)))  # the logistic function, without overflow
    shifted = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

"""Truth and prediction side by side, checked once, so that all that follows can rely on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import Invalid
from loopline.evaluation.catalogue import TASKS, known
from loopline.features.labels import class_texts

Floats = NDArray[np.float64]
Truth = Sequence[Any] | NDArray[Any] | pl.Series

SUM_TOLERANCE = 1e-3
"""By how much the probabilities of a row may miss 1 (they come from 32-bit floats)."""


class Scored(NamedTuple):
    """Rows of truth and prediction.

    `truth` is the index of the class (float for a regression), `prediction` the probability of the positive class
    (binary, (n,)), the probabilities of the classes (multiclass, (n, k)) or the value (regression, (n,)).
    """

    task: str
    classes: tuple[str, ...]
    truth: NDArray[Any]
    prediction: Floats
    threshold: float

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.truth)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which rows are of the positive class (binary)."""
        return np.asarray(self.truth == 1)

    @property
    def decided(self) -> NDArray[np.int64]:
        """The index of the class that the prediction comes to."""
        if self.task == "binary":
            return np.asarray(self.prediction >= self.threshold, dtype=np.int64)
        return np.asarray(np.argmax(self.prediction, axis=1), dtype=np.int64)

    def take(self, rows: NDArray[Any]) -> Scored:
        """The same over some of the rows (a mask or positions)."""
        return self._replace(truth=self.truth[rows], prediction=self.prediction[rows])


def scored(
    y_true: Truth, prediction: NDArray[Any], *, task: str, classes: Sequence[str] = (), threshold: float | None = None
) -> Scored:
    """Truth and prediction, checked and in one form.

    A numpy array of numbers holds the places of the classes, as `features.labels.encode_labels` gives them; a series or
    a sequence holds labels, compared with `classes` by their text (True is "true", 1.0 is "1"). Binary classes are
    (negative, positive); without a threshold, 0.5 decides.
    Raises Invalid: `unknown-task`, `bad-classes`, `no-rows`, `missing-labels`, `unknown-label`,
    `bad-label`, `bad-prediction`, `bad-threshold`.
    """
    known(task, TASKS, "task")
    names = tuple(str(name) for name in classes)
    if task != "regression" and (
        len(set(names)) != len(names) or len(names) < 2 or (task == "binary") != (len(names) == 2)
    ):
        raise Invalid(
            f"A {task} task cannot have the classes {list(names)}.",
            code="bad-classes",
            hint="Binary: (negative, positive). Multiclass: three names or more, each once.",
        )
    threshold = 0.5 if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise Invalid(f"A threshold of {threshold} is no probability.", code="bad-threshold", hint="Say 0.5.")
    if len(y_true) == 0:
        raise Invalid("There are no rows to measure.", code="no-rows", hint="Measure on a window that holds rows.")
    if task != "regression" and isinstance(y_true, np.ndarray) and y_true.dtype.kind in "fiub":
        truth: NDArray[Any] = _places(y_true, names)
        return Scored(task, names, truth, _prediction(prediction, task, len(truth), len(names)), threshold)
    series = y_true if isinstance(y_true, pl.Series) else pl.Series("label", y_true, strict=False)
    if missing := series.null_count():
        raise Invalid(
            f"The label is missing in {missing:,} of {len(series):,} rows.",
            code="missing-labels",
            hint="Measure on rows with mature labels only.",
        )
    truth = _values(series) if task == "regression" else _indices(series, names)
    return Scored(task, names, truth, _prediction(prediction, task, len(series), len(names)), threshold)


def _values(series: pl.Series) -> Floats:
    if not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        raise Invalid(f"The label holds {series.dtype} values.", code="bad-label", hint="A regression needs numbers.")
    values = series.cast(pl.Float64).to_numpy()
    if not np.all(np.isfinite(values)):
        raise Invalid("The label holds NaN or infinite values.", code="bad-label", hint="Leave those rows out.")
    return np.asarray(values, dtype=np.float64)


def _places(array: NDArray[Any], classes: tuple[str, ...]) -> NDArray[np.int64]:
    if array.ndim != 1 or not np.isin(array, np.arange(len(classes))).all():
        raise Invalid(
            f"The labels are no places among {len(classes)} classes.",
            code="unknown-label",
            hint="Numbers in an array count from 0; give labels themselves as a series.",
        )
    return array.astype(np.int64)


def _indices(series: pl.Series, classes: tuple[str, ...]) -> NDArray[np.int64]:
    texts = class_texts(series)
    index = texts.replace_strict(list(classes), list(range(len(classes))), default=None, return_dtype=pl.Int64)
    if index.null_count():
        strange = texts.filter(index.is_null()).unique().sort().head(3).to_list()
        raise Invalid(
            f"The label holds {', '.join(repr(s) for s in strange)}, which is none of the classes.",
            code="unknown-label",
            hint=f"The classes are {', '.join(repr(name) for name in classes[:10])}.",
        )
    return index.to_numpy().astype(np.int64)


def _prediction(prediction: NDArray[Any], task: str, n: int, k: int) -> Floats:
    try:
        array = np.asarray(prediction, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Invalid("The predictions are not numbers.", code="bad-prediction", hint=f"The task is {task}.") from error
    shape = (n, k) if task == "multiclass" else (n,)
    if array.shape != shape:
        raise Invalid(
            f"The predictions have the shape {array.shape}, not {shape}.",
            code="bad-prediction",
            hint="Give one probability or value a row; for many classes one column each.",
        )
    if not np.all(np.isfinite(array)):
        bad = int((~np.isfinite(array)).sum())
        raise Invalid(
            f"{bad:,} predictions are NaN or infinite.",
            code="bad-prediction",
            hint="The model is broken on these rows.",
        )
    if task != "regression" and (array.min() < 0 or array.max() > 1):
        raise Invalid(
            f"Predictions run from {array.min():.4g} to {array.max():.4g}, beyond 0 to 1.",
            code="bad-prediction",
            hint="Give probabilities, not scores.",
        )
    if task == "multiclass" and np.abs(array.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        raise Invalid("The probabilities of a row do not add up to 1.", code="bad-prediction", hint="Use a softmax.")
    return array

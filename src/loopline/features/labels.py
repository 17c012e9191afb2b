"""What a label column asks for (the task and its classes), and its values as numbers to learn from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.readers_label import MOST_CLASSES
from loopline.data.readers_label import infer_task as task_of
from loopline.errors import Invalid, did_you_mean
from loopline.features.records import Task

_POSITIVE = (
    "1",
    "yes",
    "true",
    "y",
    "t",
    "positive",
    "pos",
    "churn",
    "churned",
    "fraud",
    "default",
    "bad",
    "fail",
    "failed",
)
_NEGATIVE = ("0", "no", "false", "n", "f", "negative", "neg", "none", "normal", "ok", "good", "stayed")


def infer_task(frame: pl.DataFrame, label: str, task: Task | None = None) -> tuple[Task, tuple[str, ...]]:
    """The task and its classes: (task, classes); no classes for regression, (negative, positive) for binary.

    The task is inferred as everywhere (`data.readers.infer_task`) where none is given. Raises `Invalid`: the column is absent,
    values are missing, there is one value only, or strings that look like an identifier.
    """
    values = checked(frame, label)
    texts = class_texts(values).unique().to_list()
    if len(texts) < 2:
        raise Invalid(
            f"The label {label!r} has one value only ({texts[0]!r} in all {len(values)} rows): there is nothing to learn.",
            code="constant-label",
            hint="Choose another label, or data in which it varies.",
        )
    numeric = values.dtype.is_numeric()
    if task is None and not numeric and len(texts) > min(MOST_CLASSES, max(2, len(values) // 2)):
        raise Invalid(
            f"The label {label!r} has {len(texts)} distinct texts in {len(values)} rows: too many for classes.",
            code="too-many-classes",
            hint=f"At most {MOST_CLASSES} classes; choose another label, or group its values.",
        )
    task = task or task_of(values)
    if task == "regression":
        return task, ()
    if len(texts) == 2:
        return "binary", _ordered(texts)
    return "multiclass", tuple(sorted(texts, key=lambda t: (float(t), t) if numeric else t))


def checked(frame: pl.DataFrame, label: str) -> pl.Series:
    """The label's values, none of them missing. Raises `Invalid` otherwise."""
    if label not in frame.columns:
        raise Invalid(f"There is no label column {label!r}.", code="no-label", hint=did_you_mean(label, frame.columns))
    if not frame.height:
        raise Invalid("There are no rows to learn from.", code="no-rows", hint="Give at least a few dozen rows.")
    values = frame[label]
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise Invalid(
            f"The label {label!r} holds {values.dtype} values.", code="bad-label", hint="Numbers, booleans or strings."
        )
    missing = values.is_null()
    if values.dtype.is_float():
        missing = missing | ~values.is_finite().fill_null(False)
    elif not values.dtype.is_numeric() and values.dtype != pl.Boolean:
        missing = missing | (values.cast(pl.String) == "").fill_null(True)
    if count := int(missing.sum()):
        raise Invalid(
            f"The label {label!r} is missing in {count} of {len(values)} rows (the first is row {missing.arg_max()}).",
            code="missing-label",
            hint="Leave out the rows without a label, or wait until they are mature.",
            rows=count,
        )
    return values


def class_texts(values: pl.Series) -> pl.Series:
    """Label values as the strings that stand in `classes`: true and false, whole numbers without a point."""
    if values.dtype.is_float() and _whole(values):
        values = values.cast(pl.Int64)
    return values.cast(pl.String)


def encode_labels(frame: pl.DataFrame, label: str, task: Task, classes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Labels as numbers [n]: the class's place for binary (1 = positive) and multiclass, the value for regression.

    Raises `Invalid` for missing labels and for a class that is not among `classes`.
    """
    values = checked(frame, label)
    if task == "regression":
        if not values.dtype.is_numeric():
            raise Invalid(
                f"The label {label!r} holds {values.dtype} values, and regression wants numbers.", code="bad-label"
            )
        return values.cast(pl.Float64).to_numpy()
    texts = class_texts(values)
    codes = texts.replace_strict(list(classes), list(range(len(classes))), default=-1, return_dtype=pl.Int32).to_numpy()
    if (codes < 0).any():
        stranger = texts[int(np.argmax(codes < 0))]
        raise Invalid(
            f"The label {label!r} holds {stranger!r}, which is no class of this model.",
            code="unknown-class",
            hint=did_you_mean(str(stranger), classes),
        )
    return codes.astype(np.float64)


def _whole(values: pl.Series) -> bool:
    return values.dtype.is_integer() or bool((values.cast(pl.Float64) % 1 == 0).all())


def _ordered(texts: list[str]) -> tuple[str, str]:
    """(negative, positive) of two class texts: by their meaning where it is known, else in sorted order."""
    first, second = sorted(texts)
    try:
        return (first, second) if float(first) <= float(second) else (second, first)
    except ValueError:
        swapped = first.casefold() in _POSITIVE or second.casefold() in _NEGATIVE
        return (second, first) if swapped else (first, second)

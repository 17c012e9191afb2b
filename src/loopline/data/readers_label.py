"""The label of a table: whether it can be learned, and what task it makes."""

from __future__ import annotations

from typing import Literal

import msgspec
import polars as pl

from loopline.errors import Invalid, did_you_mean

Task = Literal["binary", "multiclass", "regression"]
TASKS = ("binary", "multiclass", "regression")
_FEW = 10  # as many distinct whole numbers are classes; more are amounts
MOST_CLASSES = 100
"""More distinct texts are names, not classes."""
_SHOWN = 5
LARGEST = 3e38
"""Amounts beyond it are no 32-bit floats, in which models count."""


class LabelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A label that can be learned. `classes` as texts, sorted (binary: negative, positive); empty for regression."""

    label: str
    task: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    rows: int
    missing: int
    all_null: tuple[str, ...]


def infer_task(series: pl.Series) -> Task:
    """The task that a label makes: "binary", "multiclass" or "regression".

    Two distinct values are binary. Texts and booleans are classes; so are up to ten distinct whole numbers, each seen five
    times on average. Other numbers are a regression. Raises Invalid for one value, none, dates, and texts that look like
    names (over a hundred distinct, or more than half of all rows).
    """
    present = _present(series)
    distinct = present.n_unique()
    if distinct < 2:
        raise _constant(series, present)
    if series.dtype.is_temporal() or series.dtype.is_nested() or series.dtype == pl.Binary:
        raise Invalid(
            f"The label {series.name!r} holds {series.dtype}, which cannot be learned.",
            code="label-type",
            hint="Make it a number (days until then) or a class first.",
        )
    if distinct == 2:
        return "binary"
    if not series.dtype.is_numeric():
        if distinct > MOST_CLASSES or distinct > len(present) / 2:
            raise Invalid(
                f"The label {series.name!r} has {distinct} distinct texts in {len(present)} rows: names, not classes.",
                code="label-classes",
                hint="Name another column as the label, or join rare classes.",
            )
        return "multiclass"
    whole = series.dtype.is_integer() or bool((present == present.floor()).all())
    return "multiclass" if whole and distinct <= _FEW and len(present) >= 5 * distinct else "regression"


def check_label(frame: pl.DataFrame, label: str, task: str | None = None, *, allow_missing: bool = False) -> LabelFacts:
    """The facts of a label that can be learned from this frame; the task is inferred where none is given.

    Raises Invalid when the column is absent (the nearest name is suggested), has one value only, does not suit the task,
    or is missing in rows (counted; `allow_missing` only counts them: labels that come later), or is an amount that is not finite.
    """
    if label not in frame.columns:
        raise Invalid(
            f"The table has no column {label!r} to be the label.",
            code="no-label",
            hint=did_you_mean(label, frame.columns),
        )
    if task is not None and task not in TASKS:
        raise Invalid(f"There is no task {task!r}.", code="label-task", hint=did_you_mean(task, TASKS))
    series = frame[label]
    present = _present(series)
    missing = frame.height - len(present)
    if missing and not allow_missing and len(present):
        rows, shown = _places(missing_in(series))
        raise Invalid(
            f"The label {label!r} is missing in {missing} of {frame.height} rows ({shown}).",
            code="label-missing",
            hint=f"Leave those rows out, or let the contract quarantine them: ll.column({label!r}).not_null().",
            missing=missing,
            rows=rows,
        )
    inferred = infer_task(series)
    _check_task(series, present, task)
    chosen = task or inferred
    if chosen == "regression" and (boundless := beyond(series)).any():
        rows, shown = _places(boundless)
        raise Invalid(
            f"The label {label!r} is infinite or beyond 3e38 in {int(boundless.sum())} of {frame.height} rows ({shown}).",
            code="label-infinite",
            hint="Leave those rows out, or let the contract quarantine them: "
            f"ll.column({label!r}).between(-3e38, 3e38).",
            rows=rows,
        )
    counted = [] if chosen == "regression" else _classes(present)
    return LabelFacts(
        label=label,
        task=chosen,
        classes=tuple(c for c, _ in counted),
        counts=tuple(n for _, n in counted),
        rows=frame.height,
        missing=missing,
        all_null=tuple(c for c in frame.columns if frame[c].null_count() == frame.height),
    )


def missing_in(series: pl.Series) -> pl.Series:
    """In which rows there is no value: null, or no number where there should be one."""
    return series.is_null() | series.is_nan().fill_null(value=False) if series.dtype.is_float() else series.is_null()


def beyond(series: pl.Series) -> pl.Series:
    """In which rows there is a number that models cannot count with."""
    if not series.dtype.is_float():
        return series.is_null() & False
    return ((series.abs() > LARGEST) & ~series.is_nan()).fill_null(value=False)


def _places(rows: pl.Series) -> tuple[list[int], str]:
    """The first rows that are marked, counted from 1, and how they are shown."""
    first = [n + 1 for n in rows.arg_true().head(_SHOWN)]
    count = int(rows.sum())
    return first, f"row{'s' if count > 1 else ''} {', '.join(map(str, first))}{', ...' if count > _SHOWN else ''}"


def _present(series: pl.Series) -> pl.Series:
    present = series.drop_nulls()
    return present.drop_nans() if present.dtype.is_float() else present


def _constant(series: pl.Series, present: pl.Series) -> Invalid:
    if not len(present):
        return Invalid(
            f"The label {series.name!r} has no value in any of {len(series)} rows.",
            code="label-missing",
            hint="Name another column as the label, or wait for the labels.",
        )
    return Invalid(
        f"The label {series.name!r} has one value only, in all of its {len(present)} rows: there is nothing to learn.",
        code="label-constant",
        hint="Give rows of at least two classes, or name another column as the label.",
    )


def _check_task(series: pl.Series, present: pl.Series, task: str | None) -> None:
    if task == "regression" and not series.dtype.is_numeric():
        raise Invalid(
            f"The label {series.name!r} holds {series.dtype}, a regression needs numbers.",
            code="label-task",
            hint="Leave the task out: it is inferred.",
        )
    distinct = present.n_unique()
    if task == "binary" and distinct != 2:
        raise Invalid(
            f"The label {series.name!r} has {distinct} distinct values, a binary task needs two.",
            code="label-task",
            hint="Leave the task out: it is inferred.",
        )
    if task == "multiclass" and distinct > MOST_CLASSES:
        raise Invalid(
            f"The label {series.name!r} has {distinct} distinct values, too many for classes.",
            code="label-task",
            hint="Use task='regression', or join rare classes.",
        )


def _classes(present: pl.Series) -> list[tuple[str, int]]:
    """Each class with its count; numbers in their order, false before true, texts in theirs."""
    counted = present.alias("class").value_counts(name="n")
    if counted.schema["class"] in (pl.Categorical, pl.Enum):
        counted = counted.with_columns(pl.col("class").cast(pl.String))
    counted = counted.sort("class")
    return list(zip((str(v) for v in counted["class"]), counted["n"], strict=True))

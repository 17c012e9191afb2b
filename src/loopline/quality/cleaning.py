"""Cleaning: declared steps, fitted on training rows alone, replayed on every later row, at training and at serving alike.

    fitted = Cleaning.fit(train, [placeholders(), repair(), clip("dose"), impute("age", how="median")], keep=("label",))
    clean, report = fitted.apply(validation)

Missing values stay missing unless a step fills them: the models handle them. Nothing is pickled; `to_dict` is JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.quality.cleaning_rows import SPACE, Fill, FittedStep, Limit, Respell, RowCleaning, ToMissing, Value

PLACEHOLDERS = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "Unknown/Invalid")


class Placeholders(msgspec.Struct, frozen=True, kw_only=True, tag="placeholders"):
    """Texts that stand for "not known"."""

    columns: tuple[str, ...] = ()
    tokens: tuple[str, ...] = PLACEHOLDERS


class Repair(msgspec.Struct, frozen=True, kw_only=True, tag="repair"):
    """Categories that differ by case or by the space around them are one, in training's most frequent spelling."""

    columns: tuple[str, ...] = ()


class Clip(msgspec.Struct, frozen=True, kw_only=True, tag="clip"):
    """Numbers are held between two quantiles of training (values that were really seen)."""

    columns: tuple[str, ...] = ()
    low: float = 0.001
    high: float = 0.999


class Impute(msgspec.Struct, frozen=True, kw_only=True, tag="impute"):
    """Missing values are filled by a median, mean or mode of training, or by a constant."""

    columns: tuple[str, ...] = ()
    how: Literal["median", "mean", "mode", "constant"] = "median"
    value: Value | None = None


class Deduplicate(msgspec.Struct, frozen=True, kw_only=True, tag="deduplicate"):
    """Of rows that are equal in every column the first stays; training only."""


Step = Placeholders | Repair | Clip | Impute | Deduplicate


def placeholders(*columns: str, tokens: Iterable[str] = PLACEHOLDERS) -> Placeholders:
    """Texts such as "?" become missing, in these columns or in all of text."""
    return Placeholders(columns=columns, tokens=tuple(t.strip(SPACE) for t in tokens))


def repair(*columns: str) -> Repair:
    """Categories get training's spelling, in these columns or in all of text."""
    return Repair(columns=columns)


def clip(*columns: str, low: float = 0.001, high: float = 0.999) -> Clip:
    """Numbers are held between two quantiles of training, in these columns or in all of numbers."""
    if not 0 <= low < high <= 1:
        raise Invalid(
            f"Quantiles to clip at are {low} and {high}.", code="cleaning-step", hint="Need 0 <= low < high <= 1."
        )
    return Clip(columns=columns, low=low, high=high)


def impute(*columns: str, how: str = "median", value: Value | None = None) -> Impute:
    """Missing values are filled: `impute("age")`, `impute("sex", how="mode")`, `impute("dose", value=0)`."""
    how = "constant" if value is not None else how
    if how not in ("median", "mean", "mode", "constant") or (how == "constant" and (value is None or not columns)):
        raise Invalid(
            f"impute(how={how!r}) cannot be done.",
            code="cleaning-step",
            hint="how is median, mean or mode; a constant needs columns and value=.",
        )
    return Impute(columns=columns, how=how, value=value)  # type: ignore[arg-type]


def deduplicate() -> Deduplicate:
    """Exact duplicates are left out of training."""
    return Deduplicate()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How many values of a column one step changed."""

    step: str
    column: str
    count: int


class CleaningReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an application of a cleaning did; steps that changed nothing are not listed."""

    rows: int
    duplicates: int
    changes: tuple[Change, ...]


class Cleaning(RowCleaning, frozen=True, kw_only=True):
    """Fitted steps that know frames as well as rows."""

    @classmethod
    def fit(cls, frame: pl.DataFrame, steps: Sequence[Step], *, keep: Sequence[str] = ()) -> Cleaning:
        """The steps fitted on training rows, each on what the ones before it leave; columns of `keep` are never touched.

        Raises Invalid for a column that is not there, of the wrong type, or without any value to learn from.
        """
        fitted: list[FittedStep] = []
        distinct = False
        work = _without_nan(frame)
        for step in steps:
            if isinstance(step, Deduplicate):
                distinct = True
                work = work.unique(keep="first", maintain_order=True)
                continue
            for column in _columns(work, step, keep):
                made = _fit(work, column, step)
                if made is not None:
                    fitted.append(made)
                    work = work.with_columns(_applied(work, made))
        return cls(steps=tuple(fitted), distinct=distinct, fitted_on=frame.height)

    def apply(self, frame: pl.DataFrame, *, training: bool = False) -> tuple[pl.DataFrame, CleaningReport]:
        """The cleaned frame and what changed. Rows are dropped only as duplicates, and only with `training`.

        Raises Invalid when a column that a step speaks of is not there or of another type.
        """
        work = _without_nan(frame)
        changes = [
            Change(step="nan", column=c, count=count)
            for c, count in ((c, int(frame[c].is_nan().sum())) for c in frame.columns if frame.schema[c].is_float())
            if count
        ]
        for step in self.steps:
            _require(work, (step.column,))
            new = work.select(_applied(work, step)).to_series()
            count = int(new.ne_missing(work[step.column]).sum())
            if count:
                changes.append(Change(step=str(step.__struct_config__.tag), column=step.column, count=count))
            work = work.with_columns(new)
        before = work.height
        if training and self.distinct:
            work = work.unique(keep="first", maintain_order=True)
        return work, CleaningReport(rows=work.height, duplicates=before - work.height, changes=tuple(changes))


def _without_nan(frame: pl.DataFrame) -> pl.DataFrame:
    floats = [c for c, t in frame.schema.items() if t.is_float()]
    return frame.with_columns(pl.col(floats).fill_nan(None)) if floats else frame


def _require(frame: pl.DataFrame, columns: Iterable[str]) -> None:
    for name in columns:
        if name not in frame.columns:
            raise Invalid(
                f"The cleaning speaks of a column {name!r} that the table does not have.",
                code="cleaning-column",
                hint=did_you_mean(name, frame.columns),
            )


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)


def _suits(dtype: pl.DataType, step: Any) -> bool:
    if isinstance(step, Placeholders | Repair | ToMissing | Respell):
        return _is_text(dtype)
    if isinstance(step, Clip | Limit) or (isinstance(step, Impute) and step.how in ("median", "mean")):
        return dtype.is_numeric() or dtype == pl.Null
    if isinstance(step, Impute) and step.value is None:
        return _is_text(dtype) or dtype.is_numeric() or dtype == pl.Boolean
    filling = step.value if isinstance(step, Impute) else step.filling
    if isinstance(filling, bool):
        return dtype in (pl.Boolean, pl.Null)
    return _is_text(dtype) if isinstance(filling, str) else dtype.is_numeric() or dtype == pl.Null


def _columns(frame: pl.DataFrame, step: Step, keep: Sequence[str]) -> list[str]:
    named = getattr(step, "columns", ())
    _require(frame, named)
    for name in named:
        if name in keep:
            raise Invalid(f"The cleaning may not touch the column {name!r}.", code="cleaning-column")
        if not _suits(frame.schema[name], step):
            raise _unsuited(frame, name, step)
    if named:
        return list(named)
    fits = [c for c, t in frame.schema.items() if c not in keep and t != pl.Null and _suits(t, step)]
    if isinstance(step, Impute) and step.how == "mode":
        fits = [c for c in fits if not frame.schema[c].is_numeric()]
    return [c for c in fits if frame[c].null_count() < frame.height]


def _unsuited(frame: pl.DataFrame, name: str, step: Any) -> Invalid:
    return Invalid(
        f"The step {step.__struct_config__.tag!r} does not suit the column {name!r}, which holds {frame.schema[name]}.",
        code="cleaning-type",
        hint="Name other columns, or repair the column's type first.",
    )


def _fit(frame: pl.DataFrame, column: str, step: Placeholders | Repair | Clip | Impute) -> FittedStep | None:
    if isinstance(step, Placeholders):
        return ToMissing(column=column, tokens=step.tokens)
    series = frame[column].drop_nulls()
    if series.dtype.is_float():  # nothing is learned from an infinity
        series = series.filter(series.is_finite())
    if isinstance(step, Repair):
        return Respell(column=column, spelling=_spelling(series.cast(pl.String)))
    if isinstance(step, Impute) and step.value is not None:
        return Fill(column=column, filling=step.value)
    if not len(series):
        raise Invalid(
            f"The column {column!r} has no value in {frame.height} training rows to learn from.",
            code="cleaning-empty",
            hint="Leave the column out, or impute a constant: impute(column, value=...).",
        )
    if isinstance(step, Clip):
        low, high = series.quantile(step.low, "nearest"), series.quantile(step.high, "nearest")
        return Limit(column=column, low=_number(low, series), high=_number(high, series))
    if step.how == "mode":
        counts = (series.cast(pl.String) if _is_text(series.dtype) else series).value_counts(sort=True, name="_n")
        top = counts.filter(pl.col("_n") == counts["_n"][0])
        return Fill(column=column, filling=top[column].sort()[0])
    centre = series.quantile(0.5, "nearest") if step.how == "median" else series.mean()
    return Fill(column=column, filling=_number(centre, series))


def _number(value: Any, series: pl.Series) -> int | float:
    """A statistic as a value that the column could hold: whole for integers, of single precision for Float32."""
    if series.dtype.is_integer():
        whole: int = round(value)
        return whole
    typed = float(pl.Series([value], dtype=series.dtype)[0])
    if not math.isfinite(typed):
        raise Invalid(
            f"The column {series.name!r} has values too large for a mean.",
            code="cleaning-type",
            hint="Impute its median, or clip it first.",
        )
    return typed


def _spelling(series: pl.Series) -> dict[str, str]:
    counted = series.alias("v").value_counts(name="n").sort(["n", "v"], descending=[True, False])
    spelling: dict[str, str] = {}
    for value in counted["v"]:
        trimmed = value.strip(SPACE)
        spelling.setdefault(trimmed.casefold(), trimmed)
    return dict(sorted(spelling.items()))


def _applied(frame: pl.DataFrame, step: FittedStep) -> pl.Expr:
    dtype, value = frame.schema[step.column], pl.col(step.column)
    if not _suits(dtype, step):
        raise _unsuited(frame, step.column, step)
    if dtype == pl.Null:
        value = value.cast(pl.String if isinstance(step, ToMissing | Respell) else pl.Float64)
    elif _is_text(dtype):
        value = value.cast(pl.String)
    if isinstance(step, ToMissing):
        known = ~value.str.strip_chars(SPACE).is_in(step.tokens)
        return pl.when(known).then(value).alias(step.column)
    if isinstance(step, Respell):  # by the rows' own function, once for each distinct value
        distinct = frame.select(value).to_series().drop_nulls().unique()
        return value.replace(distinct, pl.Series([step.value(v) for v in distinct], dtype=pl.String))
    if isinstance(step, Limit):
        if isinstance(step.low, float) or isinstance(step.high, float):
            value = value if dtype.is_float() else value.cast(pl.Float64)
        return value.clip(step.low, step.high)
    if dtype == pl.Null:
        return pl.lit(step.filling).alias(step.column) if frame.height else pl.col(step.column)
    if dtype.is_integer() and isinstance(step.filling, float):
        value = value.cast(pl.Float64)
    return value.fill_null(pl.lit(step.filling))

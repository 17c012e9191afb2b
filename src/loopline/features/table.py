"""From a frame to arrays: the columns of a polars frame as the numbers and level codes that a transform works on.

It agrees with `boundary` value by value, with two leniencies, since an evaluation has to take the data as they are: rows of a
frame may be missing in a column that is not nullable, and a text that is no number or date, among others that are, is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.features import boundary
from loopline.features.records import Field

_DAY = 86_400_000_000


def column(frame: pl.DataFrame, field: Field) -> pl.Series:
    """The field's column; all null where it is absent and nullable. Raises `Invalid` where it is absent and needed."""
    if field.name in frame.columns:
        return frame[field.name]
    if field.nullable:
        return pl.Series(field.name, [None] * frame.height, dtype=pl.String if field.kind != "number" else pl.Float64)
    raise Invalid(
        f"Column {field.name!r} is missing.",
        code="missing-column",
        hint=did_you_mean(field.name, frame.columns),
        column=field.name,
    )


def numbers(frame: pl.DataFrame, fields: Sequence[Field], precision: type = np.float32) -> npt.NDArray[Any]:
    """float32 (or float64) [n, a] of all fields that are not strings, in their order; missing and infinite values are NaN."""
    chosen = [f for f in fields if f.kind not in boundary.STRING_KINDS]
    out: npt.NDArray[Any] = np.empty((frame.height, len(chosen)), dtype=precision, order="F")
    with np.errstate(over="ignore"):
        for place, field in enumerate(chosen):
            out[:, place] = _floats(column(frame, field), field).fill_null(float("nan")).to_numpy()
    out[~np.isfinite(out)] = np.nan
    return out


def strings(frame: pl.DataFrame, field: Field) -> pl.Series:
    """The field's values as strings, missing ones as ""."""
    series = column(frame, field)
    if series.dtype.is_nested() or series.dtype == pl.Binary:
        raise _wrong(field, series)
    return series.cast(pl.String).fill_null("")


def codes(frame: pl.DataFrame, field: Field, levels: Sequence[str]) -> npt.NDArray[np.int32]:
    """The place of each value among the levels: int32 [n]; len(levels) for missing, len(levels) + 1 for unknown."""
    series = strings(frame, field)
    known = ["", *levels]
    places = [len(levels), *range(len(levels))]
    coded = series.replace_strict(known, places, default=len(levels) + 1, return_dtype=pl.Int32)
    return coded.to_numpy()


def raw_rows(frame: pl.DataFrame, fields: Sequence[Field]) -> list[dict[str, Any]]:
    """The frame's rows as raw JSON rows of the fields alone, as a client would send them: dates as ISO texts, missing as None.

    A number that is not finite, or too large for a model, is missing.
    """
    columns = {}
    for field in fields:
        values = column(frame, field)
        if field.kind in boundary.STRING_KINDS:
            columns[field.name] = [text or None for text in strings(frame, field).to_list()]
        elif field.kind == "date" and values.dtype.is_temporal():
            columns[field.name] = [None if value is None else value.isoformat() for value in values.to_list()]
        elif values.dtype == pl.String:
            columns[field.name] = _readable(values, field)
        elif values.dtype.is_float():
            columns[field.name] = [
                None if value is None or not abs(value) <= boundary.LARGEST else value for value in values.to_list()
            ]
        else:
            columns[field.name] = [None if value == "" else _exact(value) for value in values.to_list()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _readable(series: pl.Series, field: Field) -> list[Any]:
    """Texts as a client would send them for a field that is no string: those that cannot be read are missing."""
    read = [None if v is None or not abs(v) <= boundary.LARGEST else v for v in _floats(series, field).to_list()]
    if field.kind == "date":
        return [None if v is None else text for text, v in zip(series.to_list(), read, strict=True)]
    return [bool(v) if field.kind == "boolean" and v is not None else v for v in read]


def _exact(value: Any) -> Any:
    """A whole number that JSON does not carry exactly, as the float that a model makes of it anyway."""
    return float(value) if type(value) is int and abs(value) > 2**53 else value


def _floats(series: pl.Series, field: Field) -> pl.Series:
    kind = series.dtype
    if kind == pl.Null or series.null_count() == len(series):
        return pl.Series(series.name, [None] * len(series), dtype=pl.Float64)
    if field.kind == "date":
        if kind == pl.Date:
            return series.to_physical().cast(pl.Float64)
        if isinstance(kind, pl.Datetime):
            return series.dt.timestamp("us").cast(pl.Float64) / _DAY
    elif kind.is_numeric() or kind == pl.Boolean:
        return series.cast(pl.Float64)
    if kind == pl.String:
        read = _read(series, field)
        if read.null_count() < len(series) or not (series.drop_nulls() != "").any():
            return read
    raise _wrong(field, series)


def _read(series: pl.Series, field: Field) -> pl.Series:
    """Texts as numbers: what cannot be read is missing."""
    if field.kind == "date":  # each distinct text is read once, by the very function that the server uses
        distinct = series.drop_nulls().unique().to_list()
        return series.replace_strict(
            distinct, [_days(text) for text in distinct], default=None, return_dtype=pl.Float64
        )
    text = series.str.strip_chars()
    if field.kind == "boolean":
        return text.str.to_lowercase().replace_strict(
            ["false", "true"], [0.0, 1.0], default=None, return_dtype=pl.Float64
        )
    return text.cast(pl.Float64, strict=False)


def _days(text: str) -> float | None:
    try:
        return boundary.days(text)
    except ValueError:
        return None


def _wrong(field: Field, series: pl.Series) -> Invalid:
    return Invalid(
        f"Column {field.name!r} holds {series.dtype} values that cannot be read as {field.kind}.",
        code="wrong-type",
        hint="Give the column the type it had in training.",
        column=field.name,
    )

"""The boundary between raw JSON values and arrays: the same conversion at training, in tests and in the server.

A raw row is an object of column -> JSON value. Out come `numbers` float32 [n, a] (missing = NaN, booleans 0/1, dates = days
since 1970-01-01 UTC) and `strings` [n, b] (missing = ""), the two inputs of a model's ONNX graph. Columns stand in the order of
the fields. Nothing is guessed: a value of another type is refused with its row (from 0) and column, never shown itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from loopline.errors import Invalid, did_you_mean
from loopline.features.records import Field

STRING_KINDS = frozenset({"category", "text"})
_T = TypeVar("_T")
LARGEST = float(np.finfo(np.float32).max)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000  # microseconds
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?")
_WANTED = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "category": "a string",
    "text": "a string",
    "date": "an ISO 8601 date as a string, for example 2024-03-31 or 2024-03-31T08:15:00Z",
}
_WRITE = {
    "number": 'Write it as a number without quotes, as in {"column": 4.5}.',
    "integer": 'Write it as a whole number without quotes, as in {"column": 4}.',
    "boolean": "Write true or false without quotes.",
    "category": 'Write the category as a string, as in {"column": "4"}.',
    "text": 'Write it as a string, as in {"column": "4"}.',
    "date": "Write an ISO 8601 date as a string, as in 2024-03-31.",
}
_JSON_NAMES = ((bool, "a boolean"), (int, "a number"), (float, "a number"), (str, "a string"), (dict, "an object"))


class Boundary:
    """The conversion for the fields of one signature; cheap to call, safe to share between threads."""

    def __init__(self, fields: Iterable[Field], precision: type = np.float32) -> None:
        """`precision` is the type of `numbers`: float32, as graphs take them, or float64, where they are cleaned before."""
        self.fields = tuple(fields)
        self._precision = precision
        self.numbers = tuple(f.name for f in self.fields if f.kind not in STRING_KINDS)
        self.strings = tuple(f.name for f in self.fields if f.kind in STRING_KINDS)
        self._names = frozenset(f.name for f in self.fields)
        self._number_plan = [(f.name, f, _NUMBERS[f.kind]) for f in self.fields if f.kind not in STRING_KINDS]
        self._string_plan = [(f.name, f) for f in self.fields if f.kind in STRING_KINDS]

    def decode(self, rows: Sequence[Mapping[str, Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[np.object_]]:
        """Raw rows -> (numbers, strings). A column left out counts as null. Raises `Invalid`, also for no rows at all."""
        if not isinstance(rows, Sequence) or isinstance(rows, str | bytes) or not rows:
            raise Invalid("There are no rows to score.", code="no-rows", hint="Send at least one row.")
        numbers: npt.NDArray[Any] = np.empty((len(rows), len(self._number_plan)), dtype=self._precision)
        strings = np.empty((len(rows), len(self._string_plan)), dtype=np.object_)
        for index, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise Invalid(
                    f"Row {index} is {_json_name(row)}, and an object is wanted.", code="wrong-type", row=index
                )
            if not row.keys() <= self._names:
                self._refuse_unknown(row.keys(), index)
            numbers[index] = [_take(field, row.get(name), index, read) for name, field, read in self._number_plan]
            strings[index] = [_take_string(field, row.get(name), index) for name, field in self._string_plan]
        return numbers, strings

    def decode_columns(self, columns: Mapping[str, Sequence[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[np.object_]]:
        """Columns of raw values, all of one length -> (numbers, strings). Raises `Invalid`."""
        lengths = {len(values) for values in columns.values()}
        if lengths in (set(), {0}):
            raise Invalid("There are no rows to score.", code="no-rows", hint="Send at least one row.")
        if len(lengths) > 1:
            raise Invalid("The columns are not of one length.", code="ragged-columns", lengths=sorted(lengths))
        self._refuse_unknown(columns.keys(), None)
        nulls = (None,) * lengths.pop()
        numbers: npt.NDArray[Any] = np.empty((len(nulls), len(self._number_plan)), dtype=self._precision)
        strings = np.empty((len(nulls), len(self._string_plan)), dtype=np.object_)
        for place, (name, field, read) in enumerate(self._number_plan):
            numbers[:, place] = [_take(field, value, row, read) for row, value in enumerate(columns.get(name, nulls))]
        for place, (name, field) in enumerate(self._string_plan):
            strings[:, place] = [_take_string(field, value, row) for row, value in enumerate(columns.get(name, nulls))]
        return numbers, strings

    def _refuse_unknown(self, names: Iterable[str], row: int | None) -> None:
        for name in names:
            if name not in self._names:
                where = "" if row is None else f"Row {row}: "
                raise Invalid(
                    f"{where}{name!r} is no column of this model.",
                    code="unknown-column",
                    hint=did_you_mean(str(name), self._names),
                    column=str(name),
                    **({} if row is None else {"row": row}),
                )


def days(text: str) -> float:
    """Days since 1970-01-01 UTC of an ISO 8601 date or date with time (no zone counts as UTC). Raises ValueError."""
    if not _DATE.fullmatch(text):
        raise ValueError("not an ISO 8601 date")
    # Python keeps microseconds; what is finer is cut off, as a float32 of days would do anyway.
    return days_of(datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)))


def days_of(moment: date) -> float:
    """Days since 1970-01-01 UTC of a date or datetime (one without zone counts as UTC)."""
    if not isinstance(moment, datetime):
        return float(moment.toordinal() - 719163)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    passed = aware - _EPOCH
    return ((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds) / _DAY


def _take(field: Field, value: Any, row: int, read: Callable[[Field, Any, int], float]) -> float:
    if value is None or value != value:  # NaN is the one value that is not itself
        return _missing(field, row, math.nan)
    return read(field, value, row)


def _take_string(field: Field, value: Any, row: int) -> str:
    if value is None or value == "":
        return _missing(field, row, "")
    if type(value) is not str:
        raise _wrong(field, value, row)
    return value


def _missing(field: Field, row: int, stands_for: _T) -> _T:
    if not field.nullable:
        raise Invalid(
            f"Row {row}, column {field.name!r}: the value is missing.",
            code="missing-value",
            hint=f"This column never was null in training; give {_WANTED[field.kind]}.",
            row=row,
            column=field.name,
        )
    return stands_for


def _number(field: Field, value: Any, row: int) -> float:
    if type(value) is not float and type(value) is not int:
        raise _wrong(field, value, row)
    return _in_range(field, value, row)


def _integer(field: Field, value: Any, row: int) -> float:
    if type(value) is int or (type(value) is float and value.is_integer()):
        if not -(1 << 63) <= value < 1 << 64:
            raise _too_large(field, row, "Whole numbers have 64 bits at most, as in a table.")
        return float(value)
    raise _wrong(field, value, row)


def _boolean(field: Field, value: Any, row: int) -> float:
    if type(value) is bool or (type(value) is int and value in (0, 1)):
        return float(value)
    raise _wrong(field, value, row)


def _date(field: Field, value: Any, row: int) -> float:
    if isinstance(value, date):  # rows of a frame in process; JSON has strings only
        return days_of(value)
    if type(value) is str:
        try:
            return days(value)
        except ValueError:
            pass
    raise _wrong(field, value, row)


def _in_range(field: Field, value: float, row: int) -> float:
    if not -LARGEST <= value <= LARGEST:
        raise _too_large(field, row, "Models count in 32-bit floats, up to 3.4e38.")
    return float(value)


def _too_large(field: Field, row: int, hint: str) -> Invalid:
    return Invalid(
        f"Row {row}, column {field.name!r}: the number is too large.",
        code="out-of-range",
        hint=hint,
        row=row,
        column=field.name,
    )


def _wrong(field: Field, value: Any, row: int) -> Invalid:
    return Invalid(
        f"Row {row}, column {field.name!r}: {_json_name(value)}, and {_WANTED[field.kind]} is wanted.",
        code="wrong-type",
        hint=_WRITE[field.kind] + (" A missing value is null." if field.nullable else ""),
        row=row,
        column=field.name,
    )


def _json_name(value: Any) -> str:
    return next((name for kind, name in _JSON_NAMES if isinstance(value, kind)), "a list")


_NUMBERS: dict[str, Callable[[Field, Any, int], float]] = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "date": _date,
}

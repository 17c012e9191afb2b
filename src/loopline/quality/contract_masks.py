"""What each rule asks of a frame, as a polars expression that is true where a row breaks it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, cast

import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.quality.contract import Contract
from loopline.quality.contract_answers import breach_function
from loopline.quality.contract_beyond import Beyond
from loopline.quality.contract_rules import (
    Between,
    Expression,
    Function,
    Matches,
    NotNull,
    OfType,
    OneOf,
    RefersTo,
    Rising,
    Rule,
    Unique,
)

_EXACT = 2.0**53  # beyond it a float no longer holds every integer
_ISO_DAY = r"\A\d{4}-\d{2}-\d{2}\z"
_SPELLINGS = {  # what a text must look like to count as a value of the type
    "integer": r"\A[+-]?\d+\z",
    "number": r"\A[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\z",
    "boolean": r"\A([tT]rue|TRUE|[fF]alse|FALSE)\z",
    "date": _ISO_DAY,
    "datetime": r"\A\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?\z",
}


def cannot(rule: Rule, frame: pl.DataFrame, why: str, hint: str = "") -> Invalid:
    """The error of a rule that does not fit the frame."""
    kinds = ", ".join(f"{c} is {kind_of(frame[c].dtype)}" for c in rule.columns_named if c in frame.columns)
    return Invalid(
        f"The rule {rule.title!r} cannot be asked of this table: {why}.", code="contract-rule", hint=hint or kinds
    )


def said(error: Exception) -> str:
    """The first line of what polars says, without the values it may list."""
    return str(error).partition("\n")[0].partition(": [")[0]


def kind_of(dtype: pl.DataType) -> str:
    """The word for a type."""
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric():
        return "number"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype == pl.Date:
        return "date"
    return "datetime" if dtype == pl.Datetime else "text" if _is_text(dtype) else str(dtype)


def fits(kind: str, wanted: str) -> bool:
    """Whether every value of a column of a kind is of the type that is wanted: whole numbers are numbers, and days are times."""
    return kind == wanted or (wanted, kind) in (("number", "integer"), ("datetime", "date"))


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)


def _text(frame: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name) if frame[name].dtype == pl.String else pl.col(name).cast(pl.String)


def _breach_unique(frame: pl.DataFrame, rule: Unique) -> pl.Expr:
    key = pl.col(rule.columns[0]) if len(rule.columns) == 1 else pl.struct(rule.columns)
    there = [pl.col(c).is_not_null() for c in rule.columns]
    return ~key.is_first_distinct() & pl.all_horizontal(there)


def _breach_not_null(frame: pl.DataFrame, rule: NotNull) -> pl.Expr:
    return pl.col(rule.column).is_null()


def _breach_between(frame: pl.DataFrame, rule: Between) -> pl.Expr:
    dtype, value = frame[rule.column].dtype, pl.col(rule.column)
    low, high = rule.low, rule.high
    wants = "text" if isinstance(low if low is not None else high, str) else "number"
    if wants == "number" and _is_text(dtype):
        text = _text(frame, rule.column).str.strip_chars()
        value = text.cast(pl.Float64, strict=False).fill_nan(None)
        return (text.is_not_null() & value.is_null()) | _out(value, low, high)
    if wants == "number" and dtype.is_numeric():
        return _out(value, low, high)
    if wants == "text" and dtype.is_temporal():
        return _out(value, _moment(dtype, low), _moment(dtype, high))
    if wants == "text" and _is_text(dtype):
        text = _text(frame, rule.column)
        value = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False) if _days_only(low, high) else _times(text)
        kind = pl.Date() if _days_only(low, high) else pl.Datetime("us")
        return (text.is_not_null() & value.is_null()) | _out(value, _moment(kind, low), _moment(kind, high))
    raise cannot(rule, frame, f"the range is of {'dates' if wants == 'text' else 'numbers'}")


def _times(text: pl.Expr) -> pl.Expr:
    return text.str.replace("T", " ", literal=True).str.to_datetime(time_unit="us", strict=False)


def moments(frame: pl.DataFrame, rule: Rule, column: str) -> pl.Expr:
    """The days or times of a column, those of a text that spells them included. Raises Invalid where it can hold none."""
    dtype = frame[column].dtype
    if dtype in (pl.Date, pl.Datetime):
        return pl.col(column)
    if not _is_text(dtype):
        raise cannot(rule, frame, f"{column} holds no times")
    return _typed(_text(frame, column).str.strip_chars(), "datetime")


def _days_only(*bounds: Any) -> bool:
    return all(b is None or len(b) == len("2020-01-31") for b in bounds)


def _moment(dtype: pl.DataType, bound: Any) -> pl.Expr | None:
    if bound is None:
        return None
    moment = datetime.fromisoformat(bound)
    if dtype == pl.Date:
        return pl.lit(date(moment.year, moment.month, moment.day))
    zone = getattr(dtype, "time_zone", None)
    literal = pl.lit(moment.replace(tzinfo=None))
    return literal.dt.replace_time_zone(zone) if zone else literal


def _out(value: pl.Expr, low: Any, high: Any) -> pl.Expr:
    if low is None:
        return ~value.le(high)
    if high is None:
        return ~value.ge(low)
    return ~value.is_between(low, high)


def _breach_one_of(frame: pl.DataFrame, rule: OneOf) -> pl.Expr:
    dtype, first = frame[rule.column].dtype, rule.values[0]
    if _is_text(dtype):
        return ~_text(frame, rule.column).is_in([str(v) for v in rule.values])
    if isinstance(first, bool) and dtype == pl.Boolean:
        return ~pl.col(rule.column).is_in(list(rule.values))
    if not isinstance(first, bool | str) and dtype.is_numeric():
        value = pl.col(rule.column)
        if dtype.is_float() or any(isinstance(v, float) for v in rule.values):
            return ~value.cast(pl.Float64).is_in([float(v) for v in rule.values])
        return ~value.cast(pl.Int64, strict=False).is_in(list(rule.values))
    raise cannot(rule, frame, "the values listed are of another type")


def _breach_matches(frame: pl.DataFrame, rule: Matches) -> pl.Expr:
    if not (_is_text(frame[rule.column].dtype) or frame[rule.column].dtype.is_integer()):
        raise cannot(rule, frame, "a pattern needs text or whole numbers")
    pattern = rf"\A(?:{rule.pattern})\z"
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        raise cannot(
            rule, frame, "the pattern does not parse", "Patterns are linear in time: no look-around, no \\1."
        ) from error
    return ~_text(frame, rule.column).str.contains(pattern)


def _breach_of_type(frame: pl.DataFrame, rule: OfType) -> pl.Expr:
    dtype, value = frame[rule.column].dtype, pl.col(rule.column)
    kind = kind_of(dtype)
    if fits(kind, rule.type):
        return pl.repeat(value=False, n=pl.len())
    if rule.type == "integer" and kind == "number":
        whole = value.floor()
        return value.ne(whole) | (value.abs() > _EXACT)
    if _is_text(dtype):
        text = _text(frame, rule.column).str.strip_chars()
        broken = ~text.str.contains(_SPELLINGS[rule.type])
        if rule.type in ("date", "datetime"):  # 2024-02-30 looks like a day and is none
            broken = broken | (text.is_not_null() & _typed(text, rule.type).is_null())
        if rule.type == "integer":
            broken = broken | (text.is_not_null() & text.cast(pl.Int64, strict=False).is_null())
        return broken
    return value.is_not_null()


def _typed(text: pl.Expr, kind: str) -> pl.Expr:
    if kind == "date":
        return text.str.to_date("%Y-%m-%d", strict=False)
    if kind == "datetime":
        return pl.coalesce(_times(text), text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    if kind == "boolean":
        return text.str.to_lowercase().eq("true")
    return text.cast(pl.Int64 if kind == "integer" else pl.Float64, strict=False)


def retyped(good: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """The good rows, their texts turned into the types that `of_type` holds of every one of them."""
    casts = [
        _typed(_text(good, r.column).str.strip_chars(), r.type).alias(r.column)
        for r in contract.rules
        if isinstance(r, OfType) and r.type != "text" and r.severity != "warn" and _is_text(good[r.column].dtype)
    ]
    casts += [
        pl.col(r.column).fill_nan(None).cast(pl.Int64).alias(r.column)
        for r in contract.rules
        if isinstance(r, OfType) and r.type == "integer" and r.severity != "warn" and good[r.column].dtype.is_float()
    ]
    return good.with_columns(casts) if casts else good


def _breach_rising(frame: pl.DataFrame, rule: Rising) -> pl.Expr:
    """Compared with the highest value before, not with the one before: what is left once these rows are out does rise."""
    given, numeric = pl.col(rule.column), frame[rule.column].dtype.is_numeric()
    value = given if numeric else moments(frame, rule, rule.column)
    unread = given.is_not_null() & value.is_null()
    before = value.cum_max().forward_fill().shift(1)
    there = pl.lit(value=True)
    if rule.by is not None:
        before, there = before.over(rule.by), pl.col(rule.by).is_not_null()
    return unread | ((value.le(before) if rule.strict else value.lt(before)) & there)


def _breach_refers_to(frame: pl.DataFrame, rule: RefersTo, beyond: Beyond) -> pl.Expr:
    dtype, known = frame[rule.column].dtype, beyond.column(rule.dataset, rule.to)
    if _is_text(dtype) and _is_text(known.dtype):
        return ~_text(frame, rule.column).is_in(known.cast(pl.String).unique().implode())
    if dtype.is_integer() and known.dtype.is_integer():
        return ~pl.col(rule.column).cast(pl.Int64).is_in(known.cast(pl.Int64).unique().implode())
    if dtype == known.dtype and not dtype.is_nested():
        return ~pl.col(rule.column).is_in(known.unique().implode())
    raise cannot(rule, frame, f"{rule.to!r} of {rule.dataset} is {kind_of(known.dtype)}")


def _breach_expression(frame: pl.DataFrame, rule: Expression) -> pl.Expr:
    try:
        expr = pl.sql_expr(rule.sql)
        missing = [c for c in expr.meta.root_names() if c not in frame.columns]
        if missing:
            raise Invalid(
                f"The rule {rule.name!r} speaks of a column {missing[0]!r} that the table does not have.",
                code="contract-column",
                hint=did_you_mean(missing[0], frame.columns),
            )
        sample = frame.clear().select(expr.alias("_"))
    except pl.exceptions.PolarsError as error:
        raise cannot(rule, frame, said(error)) from error
    if sample.height:
        raise cannot(
            rule, frame, "it speaks of the whole table, not of a row", "Use SUM(...) OVER (...) for a sum of a group."
        )
    if sample.schema["_"] not in (pl.Boolean, pl.Null):
        raise cannot(rule, frame, f"it gives {kind_of(sample.schema['_'])}, not true or false")
    return ~expr


_BREACH = cast(
    dict[type, Callable[[pl.DataFrame, Any], pl.Expr]],
    {
        Unique: _breach_unique,
        NotNull: _breach_not_null,
        Between: _breach_between,
        OneOf: _breach_one_of,
        Matches: _breach_matches,
        OfType: _breach_of_type,
        Rising: _breach_rising,
        Expression: _breach_expression,
        Function: breach_function,
    },
)


def breach(frame: pl.DataFrame, rule: Rule, beyond: Callable[[], Beyond]) -> pl.Expr:
    """True where a row breaks the rule, null or false where not. Raises Invalid where the rule does not fit the frame."""
    if isinstance(rule, RefersTo):
        return _breach_refers_to(frame, rule, beyond())
    return _BREACH[type(rule)](frame, rule)

"""A contract applied to a frame: one pass of polars over all rules, then good rows and quarantined rows.

Reports hold counts and row numbers, never values: the quarantined rows themselves are the place where values are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, cast

import msgspec
import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.quality.contract import (
    Between,
    Contract,
    Expression,
    Matches,
    NotNull,
    OfType,
    OneOf,
    Rows,
    Rule,
    Unique,
)

RULE = "_rule"
REASON = "_reason"
_EXAMPLES = 5
_EXACT = 2.0**53  # beyond it a float no longer holds every integer
_ISO_DAY = r"\A\d{4}-\d{2}-\d{2}\z"
_SPELLINGS = {  # what a text must look like to count as a value of the type
    "integer": r"\A[+-]?\d+\z",
    "number": r"\A[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\z",
    "boolean": r"\A([tT]rue|TRUE|[fF]alse|FALSE)\z",
    "date": _ISO_DAY,
    "datetime": r"\A\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?\z",
}


class RuleResult(msgspec.Struct, frozen=True, kw_only=True):
    """One rule's outcome: how many rows break it, and the numbers of the first five (rows count from 1)."""

    name: str
    severity: str
    broken: int
    examples: tuple[int, ...] = ()


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a contract found in a table. `mask` is true where a row breaks a rule that quarantines or stops."""

    contract: str
    rows: int
    quarantined: int
    rules: tuple[RuleResult, ...]
    mask: pl.Series

    @property
    def outcome(self) -> str:
        """The gravest severity among the broken rules, or "pass"."""
        broken = {r.severity for r in self.rules if r.broken}
        return next((s for s in ("stop", "quarantine", "warn") if s in broken), "pass")

    @property
    def broken(self) -> tuple[RuleResult, ...]:
        """The rules that at least one row breaks, in the contract's order."""
        return tuple(r for r in self.rules if r.broken)

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON: everything but the mask."""
        return {
            "contract": self.contract,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "outcome": self.outcome,
            "rules": msgspec.to_builtins(self.rules),
        }


def check(frame: pl.DataFrame, contract: Contract) -> CheckReport:
    """How a frame keeps a contract, all rules in one pass.

    Raises Invalid when a rule cannot be asked of this frame: a column that is not there (the nearest name is suggested),
    a range over values of another type, a pattern or an SQL condition that does not parse.
    """
    return _check(frame, contract)[0]


def partition(frame: pl.DataFrame, contract: Contract) -> tuple[pl.DataFrame, pl.DataFrame, CheckReport]:
    """The good rows, the quarantined rows and the report; every row of the frame is in exactly one of the two frames.

    Quarantined rows keep all their values as they came and gain `_rule` (the first rule broken, in the contract's order)
    and `_reason` (all of them). A text column that `of_type` declares to be something else gets that type in the good rows.
    Raises Invalid as `check` does, and when a rule of severity `stop` is broken: then no row is taken.
    """
    taken = [c for c in (RULE, REASON) if c in frame.columns]
    if taken:
        raise Invalid(
            f"The table has a column {taken[0]!r}, which is a quarantine's own.",
            code="contract-columns",
            hint="Leave _rule and _reason out before these rows are taken again.",
        )
    report, masks = _check(frame, contract)
    stopping = [r for r in report.rules if r.severity == "stop" and r.broken]
    if stopping:
        said = "; ".join(f"{r.name}: {_count(r)}" for r in stopping)
        raise Invalid(
            f"The contract stops at {said}; nothing was taken.",
            code="contract-stop",
            hint="Mend the source, or give the rule severity='quarantine' to set such rows aside.",
            rules=[r.name for r in stopping],
            rows=[list(r.examples) for r in stopping],
        )
    aside = frame.filter(report.mask)
    names = {f"{i}": r.name for i, r in enumerate(report.rules) if r.severity == "quarantine" and r.broken}
    if names:
        said_all = [pl.when(pl.col(i)).then(pl.lit(name)) for i, name in names.items()]
        reasons = masks.filter(report.mask).select(
            pl.coalesce(said_all).alias(RULE), pl.concat_str(said_all, separator="; ", ignore_nulls=True).alias(REASON)
        )
    else:
        reasons = pl.DataFrame(schema={RULE: pl.String, REASON: pl.String})
    good = _retyped(frame.filter(~report.mask), contract)
    return good, aside.hstack(reasons), report


def _count(result: RuleResult) -> str:
    return f"{result.broken} row{'s' if result.broken != 1 else ''}" if result.examples else "the number of rows"


def _check(frame: pl.DataFrame, contract: Contract) -> tuple[CheckReport, pl.DataFrame]:
    rules = contract.rules
    exprs: dict[str, pl.Expr] = {}
    for i, rule in enumerate(rules):
        for name in rule.columns_named:
            if name not in frame.columns:
                raise Invalid(
                    f"The rule {rule.title!r} speaks of a column {name!r} that the table does not have.",
                    code="contract-column",
                    hint=did_you_mean(name, frame.columns),
                )
        if not isinstance(rule, Rows):
            exprs[f"{i}"] = _BREACH[type(rule)](frame, rule)
    masks = _masks(frame, rules, exprs)
    counts = masks.sum().row(0, named=True) if masks.width else {}
    results = []
    for i, rule in enumerate(rules):
        if isinstance(rule, Rows):
            outside = _outside(rule, frame.height)
            results.append(RuleResult(name=rule.title, severity=rule.severity, broken=int(outside)))
            continue
        broken = counts[f"{i}"] or 0
        examples = tuple(n + 1 for n in masks[f"{i}"].arg_true().head(_EXAMPLES)) if broken else ()
        results.append(RuleResult(name=rule.title, severity=rule.severity, broken=broken, examples=examples))
    aside = [f"{i}" for i, r in enumerate(results) if r.severity != "warn" and r.examples]
    if aside:
        mask = masks.select(pl.any_horizontal(aside)).to_series().alias("broken")
    else:
        mask = pl.Series("broken", [False], dtype=pl.Boolean).new_from_index(0, frame.height)
    report = CheckReport(
        contract=contract.digest,
        rows=frame.height,
        quarantined=int(mask.sum()),
        rules=tuple(results),
        mask=mask,
    )
    return report, masks


def _masks(frame: pl.DataFrame, rules: tuple[Rule, ...], exprs: dict[str, pl.Expr]) -> pl.DataFrame:
    """A frame of booleans, one column a rule: true where the row breaks it."""
    if not exprs:
        return pl.DataFrame()
    read = {c for e in exprs.values() for c in e.meta.root_names()}
    floats = [c for c in frame.columns if c in read and frame.schema[c].is_float()]
    table = frame.lazy().with_columns(pl.col(floats).fill_nan(None)) if floats else frame.lazy()  # NaN is missing
    try:
        return table.select(e.fill_null(value=False).alias(i) for i, e in exprs.items()).collect()
    except pl.exceptions.PolarsError:
        for i, expr in exprs.items():  # which of them is it?
            try:
                frame.select(expr)
            except pl.exceptions.PolarsError as error:
                raise _cannot(rules[int(i)], frame, _said(error)) from error
        raise


def _cannot(rule: Rule, frame: pl.DataFrame, why: str, hint: str = "") -> Invalid:
    kinds = ", ".join(f"{c} is {_kind(frame.schema[c])}" for c in rule.columns_named if c in frame.columns)
    return Invalid(
        f"The rule {rule.title!r} cannot be asked of this table: {why}.", code="contract-rule", hint=hint or kinds
    )


def _said(error: Exception) -> str:
    """The first line of what polars says, without the values it may list."""
    return str(error).partition("\n")[0].partition(": [")[0]


def _outside(rule: Rows, height: int) -> bool:
    return (rule.at_least is not None and height < rule.at_least) or (
        rule.at_most is not None and height > rule.at_most
    )


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric():
        return "number"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype == pl.Date:
        return "date"
    return "datetime" if dtype == pl.Datetime else "text" if _is_text(dtype) else str(dtype)


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)


def _text(frame: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name) if frame.schema[name] == pl.String else pl.col(name).cast(pl.String)


def _breach_unique(frame: pl.DataFrame, rule: Unique) -> pl.Expr:
    key = pl.col(rule.columns[0]) if len(rule.columns) == 1 else pl.struct(rule.columns)
    there = [pl.col(c).is_not_null() for c in rule.columns]
    return ~key.is_first_distinct() & pl.all_horizontal(there)


def _breach_not_null(frame: pl.DataFrame, rule: NotNull) -> pl.Expr:
    return pl.col(rule.column).is_null()


def _breach_between(frame: pl.DataFrame, rule: Between) -> pl.Expr:
    dtype, value = frame.schema[rule.column], pl.col(rule.column)
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
    raise _cannot(rule, frame, f"the range is of {'dates' if wants == 'text' else 'numbers'}")


def _times(text: pl.Expr) -> pl.Expr:
    return text.str.replace("T", " ", literal=True).str.to_datetime(time_unit="us", strict=False)


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
    dtype, first = frame.schema[rule.column], rule.values[0]
    if _is_text(dtype):
        return ~_text(frame, rule.column).is_in([str(v) for v in rule.values])
    if isinstance(first, bool) and dtype == pl.Boolean:
        return ~pl.col(rule.column).is_in(list(rule.values))
    if not isinstance(first, bool | str) and dtype.is_numeric():
        value = pl.col(rule.column)
        if dtype.is_float() or any(isinstance(v, float) for v in rule.values):
            return ~value.cast(pl.Float64).is_in([float(v) for v in rule.values])
        return ~value.cast(pl.Int64, strict=False).is_in(list(rule.values))
    raise _cannot(rule, frame, "the values listed are of another type")


def _breach_matches(frame: pl.DataFrame, rule: Matches) -> pl.Expr:
    if not (_is_text(frame.schema[rule.column]) or frame.schema[rule.column].is_integer()):
        raise _cannot(rule, frame, "a pattern needs text or whole numbers")
    pattern = rf"\A(?:{rule.pattern})\z"
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        raise _cannot(
            rule, frame, "the pattern does not parse", "Patterns are linear in time: no look-around, no \\1."
        ) from error
    return ~_text(frame, rule.column).str.contains(pattern)


def _breach_of_type(frame: pl.DataFrame, rule: OfType) -> pl.Expr:
    dtype, value = frame.schema[rule.column], pl.col(rule.column)
    kind = _kind(dtype)
    fits = kind == rule.type or (rule.type, kind) in (("number", "integer"), ("datetime", "date"))
    if fits:
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


def _retyped(good: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """The good rows, their texts turned into the types that `of_type` holds of every one of them."""
    casts = [
        _typed(_text(good, r.column).str.strip_chars(), r.type).alias(r.column)
        for r in contract.rules
        if isinstance(r, OfType) and r.type != "text" and r.severity != "warn" and _is_text(good.schema[r.column])
    ]
    casts += [
        pl.col(r.column).fill_nan(None).cast(pl.Int64).alias(r.column)
        for r in contract.rules
        if isinstance(r, OfType) and r.type == "integer" and r.severity != "warn" and good.schema[r.column].is_float()
    ]
    return good.with_columns(casts) if casts else good


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
        raise _cannot(rule, frame, _said(error)) from error
    if sample.height:
        raise _cannot(
            rule, frame, "it speaks of the whole table, not of a row", "Use SUM(...) OVER (...) for a sum of a group."
        )
    if sample.schema["_"] not in (pl.Boolean, pl.Null):
        raise _cannot(rule, frame, f"it gives {_kind(sample.schema['_'])}, not true or false")
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
        Expression: _breach_expression,
    },
)

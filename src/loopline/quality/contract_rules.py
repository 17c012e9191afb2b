"""The rules that a contract is made of, as plain records: each says what it asks, how it is spelled, and what makes it no rule.

`quality.contract` has the words that people write; `quality.contract_masks` asks a frame. Only msgspec is imported here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Literal, cast

import msgspec

from loopline.durations import milliseconds
from loopline.errors import Invalid
from loopline.refs import parse

Severity = Literal["warn", "quarantine", "stop"]
Type = Literal["integer", "number", "boolean", "text", "date", "datetime"]
SEVERITIES: tuple[str, ...] = ("warn", "quarantine", "stop")
TYPES: tuple[str, ...] = ("integer", "number", "boolean", "text", "date", "datetime")
_NAME_LENGTH = 60


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="rule"):
    """What every rule has: a name of its own (else one made from its spelling) and a severity."""

    spelled_default: ClassVar[str] = "quarantine"

    name: str = ""
    severity: str = "quarantine"

    @property
    def columns_named(self) -> tuple[str, ...]:
        """The columns the rule reads, as far as its declaration names them."""
        return ()

    def _call(self) -> tuple[str, list[Any]]:
        """The function's spelling and its arguments, without name and severity."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The name by which reports and the quarantine speak of the rule."""
        if self.name:
            return self.name
        function, arguments = self._call()
        text = f"{function}({', '.join(str(a) for a in arguments)})"
        return text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 4]}...)"

    def spelled(self) -> tuple[str, list[str]]:
        """The rule as Python source: the function, without the `ll.` in front, and its arguments."""
        function, arguments = self._call()
        column, dot, verb = function.rpartition(".")
        extra = [f"severity={quoted(self.severity)}"] if self.severity != self.spelled_default else []
        extra += [f"name={quoted(self.name)}"] if self.name else []
        return f"column({quoted(column)}).{verb}" if dot else function, [*map(quoted, arguments), *extra]


class Unique(Rule, frozen=True, kw_only=True, omit_defaults=True, tag="unique"):
    """No two rows share the values of these columns."""

    columns: tuple[str, ...]

    @property
    def columns_named(self) -> tuple[str, ...]:
        return self.columns

    def _call(self) -> tuple[str, list[Any]]:
        return "unique", list(self.columns)


class OfColumn(Rule, frozen=True, kw_only=True, omit_defaults=True):
    """A rule about the values of one column."""

    column: str

    @property
    def columns_named(self) -> tuple[str, ...]:
        return (self.column,)

    def _verb(self) -> tuple[str, list[Any]]:
        raise NotImplementedError

    def _call(self) -> tuple[str, list[Any]]:
        verb, arguments = self._verb()
        return f"{self.column}.{verb}", arguments


class Between(OfColumn, frozen=True, kw_only=True, omit_defaults=True, tag="between"):
    """Both bounds belong to the range; None is no bound. A text bound is an ISO date or time."""

    low: int | float | str | None = None
    high: int | float | str | None = None

    def _verb(self) -> tuple[str, list[Any]]:
        return "between", [self.low, self.high]


class OneOf(OfColumn, frozen=True, kw_only=True, omit_defaults=True, tag="one_of"):
    """The value is one of these."""

    values: tuple[bool | int | float | str, ...]

    def _verb(self) -> tuple[str, list[Any]]:
        return "one_of", list(self.values)


class NotNull(OfColumn, frozen=True, kw_only=True, omit_defaults=True, tag="not_null"):
    """The value is there (neither null nor NaN)."""

    def _verb(self) -> tuple[str, list[Any]]:
        return "not_null", []


class Matches(OfColumn, frozen=True, kw_only=True, omit_defaults=True, tag="matches"):
    """The whole text matches a regular expression (linear time: no look-around, no back-references)."""

    pattern: str

    def _verb(self) -> tuple[str, list[Any]]:
        return "matches", [self.pattern]


class OfType(OfColumn, frozen=True, kw_only=True, omit_defaults=True, tag="of_type"):
    """The value is of this type, or is a text that spells one. `partition` gives the good rows this type."""

    type: str

    def _verb(self) -> tuple[str, list[Any]]:
        return "of_type", [self.type]


class RefersTo(OfColumn, frozen=True, kw_only=True, omit_defaults=True, tag="refers_to"):
    """The value stands in a column of another dataset: of the version that is named, else of its newest."""

    dataset: str
    to: str

    def _verb(self) -> tuple[str, list[Any]]:
        return "refers_to", [self.dataset, self.to]


class Rising(OfColumn, frozen=True, kw_only=True, omit_defaults=True, tag="rising"):
    """No value lies below one of an earlier row (of the same `by`); `strict`: nor is equal to one."""

    strict: bool = False
    by: str | None = None

    @property
    def columns_named(self) -> tuple[str, ...]:
        return (self.column,) if self.by is None else (self.column, self.by)

    def _verb(self) -> tuple[str, list[Any]]:
        extra = [_Named("strict=True")] if self.strict else []
        return "rising", [*extra, *([_Named(f"by={quoted(self.by)}")] if self.by is not None else [])]


class Expression(Rule, frozen=True, kw_only=True, omit_defaults=True, tag="expression"):
    """A condition over the columns of one row, in SQL; a condition that is null passes."""

    sql: str

    @property
    def title(self) -> str:
        return self.name

    def spelled(self) -> tuple[str, list[str]]:
        extra = [f"severity={quoted(self.severity)}"] if self.severity != self.spelled_default else []
        return "rule", [quoted(self.name), quoted(self.sql), *extra]


class Function(Rule, frozen=True, kw_only=True, omit_defaults=True, tag="function"):
    """A function of Python says of each row whether it keeps the rule. `code` is the digest of its source; "": of whatever source.

    It is given `columns` alone, where they are named. `whole`: what it says of a row rests on the other rows, too.
    """

    function: str
    code: str = ""
    columns: tuple[str, ...] = ()
    whole: bool = False

    @property
    def columns_named(self) -> tuple[str, ...]:
        return self.columns

    @property
    def title(self) -> str:
        return self.name or self.function

    def spelled(self) -> tuple[str, list[str]]:
        """As where it is declared: `visits.short`, which is the rule itself."""
        return self.function.replace(":", "."), []


class OfTable(Rule, frozen=True, kw_only=True, omit_defaults=True):
    """A rule about the table as a whole: no row is to blame, so it warns or stops."""

    spelled_default: ClassVar[str] = "stop"

    severity: str = "stop"


class Rows(OfTable, frozen=True, kw_only=True, omit_defaults=True, tag="rows"):
    """How many rows the table has."""

    at_least: int | None = None
    at_most: int | None = None

    def _call(self) -> tuple[str, list[Any]]:
        bounds = {"at_least": self.at_least, "at_most": self.at_most}
        return "rows", [_Named(f"{k}={v}") for k, v in bounds.items() if v is not None]


class Schema(OfTable, frozen=True, kw_only=True, omit_defaults=True, tag="schema"):
    """The table has these columns, each of its type ("any": of whatever type), in any order; with `others` it may have more."""

    columns: dict[str, str]
    others: bool = False

    def _call(self) -> tuple[str, list[Any]]:
        pairs = [f"{quoted(name)}: {quoted(kind)}" for name, kind in self.columns.items()] or [""]
        pairs[0] = f"{{{pairs[0]}"  # one argument a column: a long line is broken between two
        pairs[-1] += "}"
        return "schema", [*map(_Named, pairs), *([_Named("others=True")] if self.others else [])]


class Fresh(OfTable, frozen=True, kw_only=True, omit_defaults=True, tag="fresh"):
    """The newest time of a column is at most so old ("2d") when the table is taken; a time without a zone is UTC."""

    column: str
    within: str

    @property
    def columns_named(self) -> tuple[str, ...]:
        return (self.column,)

    def _call(self) -> tuple[str, list[Any]]:
        return "fresh", [self.column, _Named(f"within={quoted(self.within)}")]


class Like(OfTable, frozen=True, kw_only=True, omit_defaults=True, tag="like"):
    """The columns are distributed as in a version of a dataset (without any named: all that both have).

    `false_alarms` is the probability that rows from the same source break it all the same.
    """

    spelled_default: ClassVar[str] = "warn"

    severity: str = "warn"
    dataset: str
    columns: tuple[str, ...] = ()
    false_alarms: float = 0.05

    @property
    def columns_named(self) -> tuple[str, ...]:
        return self.columns

    def _call(self) -> tuple[str, list[Any]]:
        extra = [_Named(f"columns=[{', '.join(map(quoted, self.columns))}]")] if self.columns else []
        if self.false_alarms != 0.05:
            extra.append(_Named(f"false_alarms={quoted(self.false_alarms)}"))
        return "like", [self.dataset, *extra]


class _Named(str):
    """An argument that is spelled already."""


AnyRule = (
    Unique
    | Between
    | OneOf
    | NotNull
    | Matches
    | OfType
    | RefersTo
    | Rising
    | Expression
    | Function
    | Rows
    | Schema
    | Fresh
    | Like
)


def quoted(value: Any) -> str:
    """A value as Python source, spelled as ruff would: any text comes back equal, whatever signs it holds."""
    if isinstance(value, _Named):
        return str(value)
    if not isinstance(value, str):
        return repr(value).replace("e+", "e")
    if "\\" in value and '"' not in value and value.isprintable() and not value.endswith("\\"):
        return f'r"{value}"'  # patterns stay readable
    quote = "'" if value.count('"') > value.count("'") else '"'
    escaped = value.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return quote + "".join(c if c.isprintable() else repr(c)[1:-1] for c in escaped) + quote


def check_rule(one: AnyRule) -> None:
    """Raises Invalid where the rule cannot hold or be asked of any table."""
    for field in one.columns_named:
        if not isinstance(field, str) or not field:
            raise Invalid(f"The rule {one.title!r} names no column.", code="contract-rule")
    if one.severity not in SEVERITIES:
        raise Invalid(
            f"The rule {one.title!r} has the severity {one.severity!r}.",
            code="contract-severity",
            hint=f"Severities are {', '.join(SEVERITIES)}.",
        )
    check = _CHECKS.get(type(one))
    problem = check(one) if check else ""
    if not problem and isinstance(one, OfTable) and one.severity == "quarantine":
        problem = "is about the whole table: its severity is warn or stop."
    if problem:
        raise Invalid(f"The rule {one.title!r} {problem}", code="contract-rule")


def _check_between(one: Between) -> str:
    bounds = [b for b in (one.low, one.high) if b is not None]
    if not bounds:
        return "has no bound: give it a lower or an upper one."
    if any(isinstance(b, bool) or (isinstance(b, float) and not math.isfinite(b)) for b in bounds):
        return "has a bound that is no finite number; None means no bound."
    if len({isinstance(b, str) for b in bounds}) > 1:
        return "has one bound of text and one of number."
    for bound in (b for b in bounds if isinstance(b, str)):
        try:
            datetime.fromisoformat(bound)
        except ValueError:
            return f"has the bound {bound!r}, which is neither a number nor an ISO date."
    if len(bounds) == 2 and cast(Any, bounds[0]) > cast(Any, bounds[1]):
        return "has a lower bound above its upper bound: no value passes."
    return ""


def _check_one_of(one: OneOf) -> str:
    if not one.values:
        return "lists no value."
    if any(isinstance(v, float) and not math.isfinite(v) for v in one.values):
        return "lists a value that is no finite number."
    if len({"text" if isinstance(v, str) else "boolean" if isinstance(v, bool) else "number" for v in one.values}) > 1:
        return "mixes texts, numbers or booleans."
    return ""


def _check_rows(one: Rows) -> str:
    if one.at_least is None and one.at_most is None:
        return "has no bound: give at_least or at_most."
    if one.at_least is not None and one.at_most is not None and one.at_least > one.at_most:
        return "asks for more rows than it allows."
    return ""


def _check_schema(one: Schema) -> str:
    if not one.columns or "" in one.columns:
        return "names no column."
    odd = next((f"{name!r} to be {kind!r}" for name, kind in one.columns.items() if kind not in (*TYPES, "any")), "")
    return f"asks {odd}; types are {', '.join(TYPES)}, any." if odd else ""


def _check_fresh(one: Fresh) -> str:
    try:
        return "" if milliseconds(one.within, "within") else "allows no age at all."
    except Invalid as error:
        return f"has the age {one.within!r}, which is none: {error.hint}"


def _check_function(one: Function) -> str:
    module, colon, name = one.function.partition(":")
    if not (module and colon and name.isidentifier()):
        return f"asks the function {one.function!r}; write it as module:name."
    if one.code and not re.fullmatch(r"sha256:[0-9a-f]{64}", one.code):
        return "has a code that is no digest; leave it out where any source will do."
    return "" if len(set(one.columns)) == len(one.columns) else "names a column twice."


def _check_dataset(one: RefersTo | Like) -> str:
    try:
        parse(one.dataset, "data")
    except Invalid as error:
        return f"names no dataset: {error.message}"
    if isinstance(one, RefersTo):
        return "" if one.to else "names no column of the other dataset."
    if len(set(one.columns)) != len(one.columns):
        return "names a column twice."
    return "" if 0 < one.false_alarms < 1 else f"has a rate of false alarms of {one.false_alarms}, which is none."


_CHECKS: dict[type, Callable[[Any], str]] = {
    Unique: lambda one: (
        "" if one.columns and len(set(one.columns)) == len(one.columns) else "names no column, or one twice."
    ),
    Between: _check_between,
    OneOf: _check_one_of,
    Matches: lambda one: "" if one.pattern else "has an empty pattern.",
    OfType: lambda one: "" if one.type in TYPES else f"asks for {one.type!r}; types are {', '.join(TYPES)}.",
    Expression: lambda one: "" if one.name and one.sql.strip() else "needs a name and an SQL condition.",
    Function: _check_function,
    RefersTo: _check_dataset,
    Rising: lambda one: "" if one.by != one.column else "goes by its own column.",
    Rows: _check_rows,
    Schema: _check_schema,
    Fresh: _check_fresh,
    Like: _check_dataset,
}

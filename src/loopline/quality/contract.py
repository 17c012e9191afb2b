"""The contract of a dataset: what must hold for its rows, as its owner declares it.

    contract(
        unique("encounter_id"),
        column("time_in_hospital").between(1, 14),
        column("gender").one_of("Female", "Male"),
        rule("the dead leave", "discharge_disposition_id <> 11"),
        rows(at_least=1_000),
    )

A rule is about one row and has a severity: `warn` (the row passes, the breach is counted), `quarantine` (the row is set
aside with the rule's name) or `stop` (nothing is taken as long as one row breaks it). `rows` is about the whole table.

A missing value (null or NaN) passes every rule but `not_null`, as in an SQL CHECK; a `unique` group with a missing member
is not compared. Of several rows with the same unique values the first in the table's order passes.

Only msgspec is imported here: a loop's file declares its contract without loading polars. `quality.contract_check` applies
a contract to a frame, `quality.contract_suggest` drafts one from a frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, ClassVar, Literal, cast

import msgspec

from loopline.errors import Invalid
from loopline.hashing import canonical_json, digest_json

Severity = Literal["warn", "quarantine", "stop"]
Type = Literal["integer", "number", "boolean", "text", "date", "datetime"]
SEVERITIES: tuple[str, ...] = ("warn", "quarantine", "stop")
TYPES: tuple[str, ...] = ("integer", "number", "boolean", "text", "date", "datetime")
_NAME_LENGTH = 60
_LINE_LENGTH = 120


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


class Expression(Rule, frozen=True, kw_only=True, omit_defaults=True, tag="expression"):
    """A condition over the columns of one row, in SQL; a condition that is null passes."""

    sql: str

    @property
    def title(self) -> str:
        return self.name

    def spelled(self) -> tuple[str, list[str]]:
        extra = [f"severity={quoted(self.severity)}"] if self.severity != self.spelled_default else []
        return "rule", [quoted(self.name), quoted(self.sql), *extra]


class Rows(Rule, frozen=True, kw_only=True, omit_defaults=True, tag="rows"):
    """How many rows the table has; the one rule about a table, so it warns or stops."""

    spelled_default: ClassVar[str] = "stop"

    severity: str = "stop"
    at_least: int | None = None
    at_most: int | None = None

    def _call(self) -> tuple[str, list[Any]]:
        bounds = {"at_least": self.at_least, "at_most": self.at_most}
        return "rows", [_Named(f"{k}={v}") for k, v in bounds.items() if v is not None]


class _Named(str):
    """An argument that is spelled already."""


AnyRule = Unique | Between | OneOf | NotNull | Matches | OfType | Expression | Rows


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules of a dataset, in the order of their declaration; the order decides which rule a row is blamed on."""

    rules: tuple[AnyRule, ...] = ()

    @property
    def digest(self) -> str:
        """The SHA-256 digest of the contract's canonical JSON."""
        return digest_json(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rules name, each once."""
        return tuple(dict.fromkeys(c for r in self.rules for c in r.columns_named))

    def to_json(self) -> bytes:
        """The canonical JSON (RFC 8785) of the contract."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> Contract:
        """The contract again, checked like a freshly declared one. Raises Invalid on anything else."""
        try:
            return contract(*map(_exact, msgspec.json.decode(data, type=cls).rules))
        except msgspec.MsgspecError as error:
            raise Invalid(f"This is not a contract: {error}.", code="contract-json") from error


def contract(*rules: AnyRule) -> Contract:
    """A contract of these rules.

    Raises Invalid for something that is not a rule, an unknown severity, an empty or NaN bound, and two rules of one name.
    """
    seen: dict[str, int] = {}
    for position, one in enumerate(rules, 1):
        if not isinstance(one, Rule):
            raise Invalid(
                f"Item {position} of the contract is {type(one).__name__}, not a rule.",
                code="contract-rule",
                hint='Write, say, ll.column("age").between(0, 120) or ll.unique("id").',
            )
        _check(one)
        if one.title in seen:
            raise Invalid(
                f"Two rules of the contract are called {one.title!r} (items {seen[one.title]} and {position}).",
                code="contract-names",
                hint='Leave one out, or give it a name of its own: name="...".',
            )
        seen[one.title] = position
    made = Contract(rules=rules)
    try:
        made.to_json()
    except ValueError as error:
        raise Invalid(f"The contract cannot be written down: {error}.", code="contract-value") from error
    return made


def unique(*columns: str, severity: str = "quarantine", name: str = "") -> Unique:
    """No two rows share the values of these columns: one column, or several taken together."""
    return Unique(columns=columns, severity=severity, name=name)


def rule(name: str, sql: str, *, severity: str = "quarantine") -> Expression:
    """A condition over the columns of one row, as a polars SQL expression: `rule("ends later", "stop >= start")`."""
    return Expression(name=name, sql=sql, severity=severity)


def rows(*, at_least: int | None = None, at_most: int | None = None, severity: str = "stop", name: str = "") -> Rows:
    """The table has so many rows; by default nothing is taken when it has not."""
    return Rows(at_least=at_least, at_most=at_most, severity=severity, name=name)


class column:  # a word of the declaration: ll.column("age").between(0, 120)
    """The rules about one column: `column("age").between(0, 120)`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def between(
        self,
        low: int | float | str | date | None = None,
        high: int | float | str | date | None = None,
        *,
        severity: str = "quarantine",
        name: str = "",
    ) -> Between:
        """The value lies between two bounds (both included; None is no bound); dates as ISO text or `datetime.date`."""
        return Between(column=self._name, low=_bound(low), high=_bound(high), severity=severity, name=name)

    def one_of(self, *values: bool | int | float | str, severity: str = "quarantine", name: str = "") -> OneOf:
        """The value is one of these."""
        return OneOf(column=self._name, values=values, severity=severity, name=name)

    def not_null(self, *, severity: str = "quarantine", name: str = "") -> NotNull:
        """The value is there."""
        return NotNull(column=self._name, severity=severity, name=name)

    def matches(self, pattern: str, *, severity: str = "quarantine", name: str = "") -> Matches:
        """The whole text matches a regular expression in Rust's syntax, which is always linear in time."""
        return Matches(column=self._name, pattern=pattern, severity=severity, name=name)

    def of_type(self, type: str, *, severity: str = "quarantine", name: str = "") -> OfType:
        """The value is an integer, number, boolean, text, date or datetime."""
        return OfType(column=self._name, type=type, severity=severity, name=name)


def spell(contract: Contract, *, prefix: str = "ll.", indent: str = "") -> str:
    """The contract as Python source, one rule a line; running it gives an equal contract."""
    if not contract.rules:
        return f"{prefix}contract()"
    lines = "".join(_spelled_line(one, prefix, f"{indent}    ") for one in contract.rules)
    return f"{prefix}contract(\n{lines}{indent})"


def _spelled_line(one: AnyRule, prefix: str, indent: str) -> str:
    function, arguments = one.spelled()
    line = f"{indent}{prefix}{function}({', '.join(arguments)}),\n"
    if len(line) <= _LINE_LENGTH + 1:
        return line
    inner: list[str] = [""]
    for argument in arguments:
        if inner[-1] and len(indent) + 5 + len(inner[-1]) + len(argument) > _LINE_LENGTH:
            inner.append("")
        inner[-1] += f" {argument}," if inner[-1] else f"{argument},"
    return f"{indent}{prefix}{function}(\n" + "".join(f"{indent}    {i}\n" for i in inner) + f"{indent}),\n"


def _exact(one: AnyRule) -> AnyRule:
    """JSON writes 1e16 as a whole number: what lies beyond 2**53 was a float."""

    def back(value: Any) -> Any:
        return float(value) if isinstance(value, int) and abs(value) > 2**53 else value

    if isinstance(one, Between):
        return msgspec.structs.replace(one, low=back(one.low), high=back(one.high))
    return msgspec.structs.replace(one, values=tuple(map(back, one.values))) if isinstance(one, OneOf) else one


def _bound(value: int | float | str | date | None) -> int | float | str | None:
    return value.isoformat() if isinstance(value, date | datetime) else value


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


def _check(one: AnyRule) -> None:
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
    if one.severity == "quarantine":
        return "is about the whole table: its severity is warn or stop."
    if one.at_least is None and one.at_most is None:
        return "has no bound: give at_least or at_most."
    if one.at_least is not None and one.at_most is not None and one.at_least > one.at_most:
        return "asks for more rows than it allows."
    return ""


_CHECKS: dict[type, Callable[[Any], str]] = {
    Unique: lambda one: (
        "" if one.columns and len(set(one.columns)) == len(one.columns) else "names no column, or one twice."
    ),
    Between: _check_between,
    OneOf: _check_one_of,
    Matches: lambda one: "" if one.pattern else "has an empty pattern.",
    OfType: lambda one: "" if one.type in TYPES else f"asks for {one.type!r}; types are {', '.join(TYPES)}.",
    Expression: lambda one: "" if one.name and one.sql.strip() else "needs a name and an SQL condition.",
    Rows: _check_rows,
}

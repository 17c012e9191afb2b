"""The contract of a dataset: what must hold for its rows, as its owner declares it.

    contract(
        unique("encounter_id"),
        column("time_in_hospital").between(1, 14),
        column("gender").one_of("Female", "Male"),
        rule("the dead leave", "discharge_disposition_id <> 11"),
        rows(at_least=1_000),
    )

A rule is about one row and has a severity: `warn` (the row passes, the breach is counted), `quarantine` (the row is set
aside with the rule's name) or `stop` (nothing is taken as long as one row breaks it). `rows`, `schema`, `fresh` and `like` are
about the whole table: they warn or stop.

A missing value (null or NaN) passes every rule but `not_null`, as in an SQL CHECK; a `unique` group with a missing member
is not compared. Of several rows with the same unique values the first in the table's order passes.

Only msgspec is imported here: a loop's file declares its contract without loading polars. `quality.contract_check` applies
a contract to a frame, `quality.contract_suggest` drafts one from a frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, get_args, overload

import msgspec

from loopline.errors import Invalid, did_you_mean
from loopline.hashing import canonical_json, digest_json
from loopline.quality.contract_functions import Judge, declare, settled
from loopline.quality.contract_rules import (
    AnyRule,
    Between,
    Expression,
    Fresh,
    Function,
    Like,
    Matches,
    NotNull,
    OfType,
    OneOf,
    RefersTo,
    Rising,
    Rows,
    Rule,
    Schema,
    Unique,
    check_rule,
    quoted,
)

_LINE_LENGTH = 120
_KINDS: dict[str, Any] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyRule)}
"""The kinds of rules, by what JSON and TOML call them."""


class Contract(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The rules of a dataset, in the order of their declaration; the order decides which rule a row is blamed on.

    `personal` are the columns whose values no report shows.
    """

    rules: tuple[AnyRule, ...] = ()
    personal: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The SHA-256 digest of the contract's canonical JSON."""
        return digest_json(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rules name, each once."""
        return tuple(dict.fromkeys(c for r in self.rules for c in r.columns_named))

    @property
    def looks_beyond(self) -> bool:
        """Whether it asks for more than the table: what the same rows are told may differ from day to day."""
        return any(isinstance(r, RefersTo | Fresh | Like | Function) for r in self.rules)

    def settled(self, look: Callable[[], None]) -> Contract:
        """The contract with the code of every function that it names, as this process has it (`contract_functions.settled`)."""
        return msgspec.structs.replace(self, rules=settled(self.rules, look))

    def to_json(self) -> bytes:
        """The canonical JSON (RFC 8785) of the contract."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> Contract:
        """The contract again, checked like a freshly declared one. Raises Invalid on anything else."""
        try:
            read = msgspec.json.decode(data, type=cls)
        except msgspec.ValidationError as error:
            raise _no_contract(msgspec.json.decode(data), error) from error
        except msgspec.MsgspecError as error:
            raise Invalid(f"This is not a contract: {error}.", code="contract-json") from error
        return contract(*map(_exact, read.rules), personal=read.personal)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Contract:
        """As `from_json`, of what its JSON was read to."""
        return cls.from_json(json.dumps(body).encode())


def contract(*rules: AnyRule, personal: Sequence[str] = ()) -> Contract:
    """A contract of these rules. `personal` are columns about a person: reports of the contract show no value of theirs.

    Raises Invalid for something that is not a rule, an unknown severity, an empty or NaN bound, and two rules of one name.
    """
    if isinstance(personal, str) or not all(isinstance(one, str) and one for one in personal):
        raise Invalid(
            "personal wants a list of columns.", code="contract-rule", hint='Write, say, personal=["name", "address"].'
        )
    seen: dict[str, int] = {}
    for position, one in enumerate(rules, 1):
        if not isinstance(one, Rule):
            raise Invalid(
                f"Item {position} of the contract is {type(one).__name__}, not a rule.",
                code="contract-rule",
                hint='Put @ll.rule("what holds") above the function.'
                if callable(one)
                else 'Write, say, ll.column("age").between(0, 120) or ll.unique("id").',
            )
        check_rule(one)
        if one.title in seen:
            raise Invalid(
                f"Two rules of the contract are called {one.title!r} (items {seen[one.title]} and {position}).",
                code="contract-names",
                hint='Leave one out, or give it a name of its own: name="...".',
            )
        seen[one.title] = position
    made = Contract(rules=rules, personal=tuple(dict.fromkeys(personal)))
    try:
        made.to_json()
    except ValueError as error:
        raise Invalid(f"The contract cannot be written down: {error}.", code="contract-value") from error
    return made


def unique(*columns: str, severity: str = "quarantine", name: str = "") -> Unique:
    """No two rows share the values of these columns: one column, or several taken together."""
    return Unique(columns=columns, severity=severity, name=name)


@overload
def rule(name: str, sql: str, *, severity: str = "quarantine") -> Expression: ...
@overload
def rule(
    name: str, *, severity: str = "quarantine", columns: Sequence[str] = (), whole: bool = False
) -> Callable[[Judge], Function]: ...
def rule(
    name: str,
    sql: str | None = None,
    *,
    severity: str = "quarantine",
    columns: Sequence[str] = (),
    whole: bool = False,
) -> Expression | Callable[[Judge], Function]:
    """A condition over the columns of one row, as a polars SQL expression: `rule("ends later", "stop >= start")`.

    Without SQL it stands above a function, and makes it the rule: given rows as a `polars.DataFrame` (of `columns` alone, where
    they are named), the function gives a Boolean column, true where a row keeps the rule, or an expression for one; a missing
    answer passes. It may be called block by block, unless `whole` says that its answers rest on all rows together.
    """
    if isinstance(columns, str):
        raise Invalid("columns wants a list.", code="contract-rule", hint=f"Write columns=[{quoted(columns)}].")
    if sql is None:
        return partial(declare, name=name, severity=severity, columns=columns, whole=whole)
    if not isinstance(sql, str) or columns or whole:
        raise Invalid(
            f"The rule {name!r} is a condition in SQL or a function, not both.",
            code="contract-rule",
            hint=f'Write ll.rule("{name}", "stop >= start"), or @ll.rule("{name}") above a function.',
        )
    return Expression(name=name, sql=sql, severity=severity)


def rows(*, at_least: int | None = None, at_most: int | None = None, severity: str = "stop", name: str = "") -> Rows:
    """The table has so many rows; by default nothing is taken when it has not."""
    return Rows(at_least=at_least, at_most=at_most, severity=severity, name=name)


def schema(columns: Mapping[str, str], *, others: bool = False, severity: str = "stop", name: str = "") -> Schema:
    """The table has these columns, in any order: `schema({"visit": "integer", "age": "number"})`; and no other, unless `others`.

    Types are integer, number, boolean, text, date, datetime, and any. A column without a value fits each.
    """
    return Schema(columns=dict(columns), others=others, severity=severity, name=name)


def fresh(column: str, *, within: str, severity: str = "stop", name: str = "") -> Fresh:
    """The newest time of a column is at most so old ("2d") when the table is taken; by default nothing is taken else."""
    return Fresh(column=column, within=within, severity=severity, name=name)


def like(
    dataset: str, *, columns: Sequence[str] = (), false_alarms: float = 0.05, severity: str = "warn", name: str = ""
) -> Like:
    """The columns are distributed as in a version of a dataset: `like("data:visits@1", columns=["age"])`.

    All columns that both have, where none is named. `false_alarms` is the probability that rows from the same source break it
    all the same; the tests are those of a monitor (`quality.drift.compare`).
    """
    if isinstance(columns, str):
        raise Invalid("columns wants a list.", code="contract-rule", hint=f"Write columns=[{quoted(columns)}].")
    return Like(dataset=dataset, columns=tuple(columns), false_alarms=false_alarms, severity=severity, name=name)


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

    def refers_to(self, dataset: str, to: str, *, severity: str = "quarantine", name: str = "") -> RefersTo:
        """The value stands in the column `to` of another dataset: `column("code").refers_to("data:codes", "code")`."""
        return RefersTo(column=self._name, dataset=dataset, to=to, severity=severity, name=name)

    def rising(
        self, *, strict: bool = False, by: str | None = None, severity: str = "quarantine", name: str = ""
    ) -> Rising:
        """No value lies below one of an earlier row; `by`: of an earlier row with the same value there."""
        return Rising(column=self._name, strict=strict, by=by, severity=severity, name=name)


def spell(contract: Contract, *, prefix: str = "ll.", indent: str = "") -> str:
    """The contract as Python source, one rule a line; running it gives an equal contract."""
    if not contract.rules and not contract.personal:
        return f"{prefix}contract()"
    lines = "".join(
        f"{indent}    {one.spelled()[0]},\n"  # the rule as it is declared; its file has to be imported
        if isinstance(one, Function)
        else _spelled_line(*one.spelled(), prefix, f"{indent}    ")
        for one in contract.rules
    )
    if contract.personal:
        lines += f"{indent}    personal=[{', '.join(map(quoted, contract.personal))}],\n"
    return f"{prefix}contract(\n{lines}{indent})"


def _spelled_line(function: str, arguments: list[str], prefix: str, indent: str) -> str:
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


def _no_contract(body: Any, error: msgspec.ValidationError) -> Invalid:
    """What is wrong with the first rule that is none, by its number; where it is something else, what the decoder says."""
    rules = body.get("rules") if isinstance(body, dict) else None
    for number, one in enumerate(rules if isinstance(rules, list) else (), 1):
        word = str(one.get("rule", "")) if isinstance(one, dict) else ""
        if word not in _KINDS:
            what = f"is a {word!r}, which there is not" if word else "does not say what kind it is"
            hint = did_you_mean(word, _KINDS) if word else 'Say, for example, rule = "between".'
            return Invalid(f"Rule {number} of the contract {what}.", code="contract-rule", hint=hint)
        fields = msgspec.structs.fields(_KINDS[word])
        names = [field.name for field in fields]
        which = f"Rule {number} of the contract ({word})"
        if unknown := [name for name in one if name not in ("rule", *names)]:
            return Invalid(
                f"{which} has no {unknown[0]!r}.", code="contract-rule", hint=did_you_mean(unknown[0], names)
            )
        if lacking := [field.name for field in fields if field.required and field.name not in one]:
            return Invalid(f"{which} lacks {lacking[0]!r}.", code="contract-rule", hint=f"It has: {', '.join(names)}.")
    return Invalid(f"This is not a contract: {error}.", code="contract-json")


def _bound(value: int | float | str | date | None) -> int | float | str | None:
    return value.isoformat() if isinstance(value, date | datetime) else value

"""A contract applied to a frame: one pass of polars over all rules, then good rows and quarantined rows.

A report names rows, counts and a few examples; of the columns that the contract calls personal it shows no value. Errors
show none at all: the quarantined rows themselves are the place where values are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.quality.contract import Contract
from loopline.quality.contract_beyond import Beyond
from loopline.quality.contract_masks import breach, cannot, retyped, said
from loopline.quality.contract_rules import OfTable, Rule
from loopline.quality.contract_whole import fault

RULE = "_rule"
REASON = "_reason"
PERSONAL = "(personal)"  # in place of a value that is not shown
_EXAMPLES = 5
_LONGEST = 60  # characters of a value in an example


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A row that breaks a rule, by its number (from 1), and what stands in the columns that the rule reads."""

    row: int
    values: dict[str, str]


class RuleResult(msgspec.Struct, frozen=True, kw_only=True):
    """One rule's outcome: how many rows break it, and the first five; of a rule about the table, 0 or 1 and what is wrong."""

    name: str
    severity: str
    broken: int
    examples: tuple[Example, ...] = ()
    said: str = ""


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

    def counts(self, severity: str) -> dict[str, int]:
        """How many rows break each rule of a severity, by the rule's name; those that none breaks are left out."""
        return {r.name: r.broken for r in self.broken if r.severity == severity}

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON: everything but the mask."""
        return {
            "contract": self.contract,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "outcome": self.outcome,
            "rules": msgspec.to_builtins(self.rules),
        }


def check(frame: pl.DataFrame, contract: Contract, *, beyond: Beyond | None = None) -> CheckReport:
    """How a frame keeps a contract, all rules about rows in one pass; `beyond` for the rules that ask more than the table.

    Raises Invalid when a rule cannot be asked of this frame: a column that is not there (the nearest name is suggested),
    a range over values of another type, a pattern or an SQL condition that does not parse.
    """
    return _check(frame, contract, beyond)[0]


def partition(
    frame: pl.DataFrame, contract: Contract, *, beyond: Beyond | None = None, behind: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame, CheckReport]:
    """The good rows, the quarantined rows and the report; every row of the frame is in exactly one of the two frames.

    The first `behind` rows were taken before: the others are held against them, and only those can break a rule about rows.
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
    report, masks, good = _check(frame, contract, beyond, behind)
    stopping = [r for r in report.rules if r.severity == "stop" and r.broken]
    if stopping:
        faults = "; ".join(f"{r.name}: {_count(r)}" for r in stopping)
        raise Invalid(
            f"The contract stops at {faults}; nothing was taken.",
            code="contract-stop",
            hint="Mend the source, or give the rule severity='quarantine' to set such rows aside."
            if any(r.examples for r in stopping)
            else "Mend the source, or give the rule severity='warn'.",
            rules=[r.name for r in stopping],
            rows=[[e.row for e in r.examples] for r in stopping],
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
    return good(), aside.hstack(reasons), report


def _count(result: RuleResult) -> str:
    return result.said or f"{result.broken} row{'s' if result.broken != 1 else ''}"


def _check(
    frame: pl.DataFrame, contract: Contract, beyond: Beyond | None, behind: int = 0
) -> tuple[CheckReport, pl.DataFrame, Callable[[], pl.DataFrame]]:
    """The report, each rule's mask, and what gives the good rows."""
    rules = contract.rules
    known = dict.fromkeys(frame.columns)
    for title, names in ((f"rule {r.title!r}", r.columns_named) for r in rules):
        _there(known, title, names)
    _there(known, "list of personal columns", contract.personal)

    def handed() -> Beyond:
        if beyond is None:
            raise Invalid(
                "The contract asks more than the table: the time, or another dataset.",
                code="contract-beyond",
                hint="Hand it in: check(frame, contract, beyond=Beyond(...)).",
            )
        return beyond

    exprs = {i: breach(frame, rule, handed) for i, rule in enumerate(rules) if not isinstance(rule, OfTable)}
    masks = _masks(frame, rules, {f"{i}": expr for i, expr in exprs.items()})
    if behind and masks.width:
        masks = masks.select(pl.all() & (pl.int_range(pl.len()) >= behind))
    counts = masks.sum().row(0) if masks.width else ()
    broken = {i: count or 0 for i, count in zip(exprs, counts, strict=True)}
    aside = [f"{i}" for i, count in broken.items() if count and rules[i].severity != "warn"]
    if aside:
        mask = masks.select(pl.any_horizontal(aside)).to_series().alias("broken")
    else:
        mask = pl.Series("broken", [False], dtype=pl.Boolean).new_from_index(0, frame.height)

    @cache
    def good() -> pl.DataFrame:
        return retyped(frame.filter(~mask) if aside else frame, contract)

    examples = _examples(frame, contract, masks, {i: exprs[i] for i, count in broken.items() if count})
    results = []
    for i, rule in enumerate(rules):
        wrong = fault(frame, good, rule, handed) if isinstance(rule, OfTable) else ""
        results.append(
            RuleResult(
                name=rule.title,
                severity=rule.severity,
                broken=broken.get(i, int(bool(wrong))),
                examples=examples.get(i, ()),
                said=wrong,
            )
        )
    report = CheckReport(
        contract=contract.digest,
        rows=frame.height,
        quarantined=int(mask.sum()),
        rules=tuple(results),
        mask=mask,
    )
    return report, masks, good


def _there(known: dict[str, None], what: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise Invalid(
                f"The {what} speaks of a column {name!r} that the table does not have.",
                code="contract-column",
                hint=did_you_mean(name, known),
            )


def _examples(
    frame: pl.DataFrame, contract: Contract, masks: pl.DataFrame, exprs: dict[int, pl.Expr]
) -> dict[int, tuple[Example, ...]]:
    """The first rows that break each of these rules, in one gathering."""
    places = {i: masks[f"{i}"].arg_true().head(_EXAMPLES).to_list() for i in exprs}
    read = {i: list(dict.fromkeys([*contract.rules[i].columns_named, *e.meta.root_names()])) for i, e in exprs.items()}
    wanted = list(dict.fromkeys(place for one in places.values() for place in one))
    mentioned = {c for names in read.values() for c in names}.difference(contract.personal)
    shown = [c for c in frame.columns if c in mentioned]
    rows = dict(zip(wanted, frame.select(shown)[wanted].to_dicts() if shown else [{} for _ in wanted], strict=True))
    return {
        i: tuple(
            Example(row=place + 1, values={c: _told(rows[place][c]) if c in mentioned else PERSONAL for c in read[i]})
            for place in places[i]
        )
        for i in exprs
    }


def _told(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _masks(frame: pl.DataFrame, rules: tuple[Rule, ...], exprs: dict[str, pl.Expr]) -> pl.DataFrame:
    """A frame of booleans, one column a rule: true where the row breaks it."""
    if not exprs:
        return pl.DataFrame()
    read = {c for e in exprs.values() for c in e.meta.root_names()}
    floats = [c for c, dtype in frame.schema.items() if c in read and dtype.is_float()]
    table = frame.lazy().with_columns(pl.col(floats).fill_nan(None)) if floats else frame.lazy()  # NaN is missing
    try:
        return table.select(e.fill_null(value=False).alias(i) for i, e in exprs.items()).collect()
    except pl.exceptions.PolarsError:
        for i, expr in exprs.items():  # which of them is it?
            try:
                frame.select(expr)
            except pl.exceptions.PolarsError as error:
                raise cannot(rules[int(i)], frame, said(error)) from error
        raise

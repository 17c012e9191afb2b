"""A contract applied to a frame: one pass of polars over all rules, then good rows and quarantined rows.

A report names rows, counts and a few examples; of the columns that the contract calls personal it shows no value. Errors
show none at all: the quarantined rows themselves are the place where values are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.quality.blocks import Blocks
from loopline.quality.contract import Contract
from loopline.quality.contract_answers import breach_function
from loopline.quality.contract_beyond import Beyond
from loopline.quality.contract_masks import breach, cannot, retyped, said
from loopline.quality.contract_rules import Expression, Function, OfTable, Rising, Rule, Unique
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
    rows = Blocks.of(frame)
    return _check(rows, contract, beyond, Blocks.of(rows.empty))[0]


def partition(
    frame: pl.DataFrame, contract: Contract, *, beyond: Beyond | None = None, behind: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame, CheckReport]:
    """The good rows, the quarantined rows and the report; every row of the frame is in exactly one of the two frames.

    The first `behind` rows were taken before: the others are held against them, and only those can break a rule about rows.
    Quarantined rows keep all their values as they came and gain `_rule` (the first rule broken, in the contract's order)
    and `_reason` (all of them). A text column that `of_type` declares to be something else gets that type in the good rows.
    Raises Invalid as `check` does, and when a rule of severity `stop` is broken: then no row is taken.
    """
    earlier = Blocks.of(frame.head(behind))
    good, aside, report = parted(Blocks.of(frame.slice(behind)), contract, beyond=beyond, earlier=earlier)
    return good.behind(retyped_blocks(earlier, contract)).frame(), aside.frame(), report


def parted(
    rows: Blocks, contract: Contract, *, beyond: Beyond | None = None, earlier: Blocks | None = None
) -> tuple[Blocks, Blocks, CheckReport]:
    """As `partition` of a table that is read in blocks. `earlier` are rows that were taken before; they are not among the good.

    Rules that look at all rows together (unique, rising, conditions in SQL) have the columns that they name in memory.
    """
    taken = [c for c in (RULE, REASON) if c in rows.columns]
    if taken:
        raise Invalid(
            f"The table has a column {taken[0]!r}, which is a quarantine's own.",
            code="contract-columns",
            hint="Leave _rule and _reason out before these rows are taken again.",
        )
    earlier = Blocks.of(rows.empty) if earlier is None else earlier
    report, masks, good = _check(rows, contract, beyond, earlier)
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
    names = {f"{i}": r.name for i, r in enumerate(report.rules) if r.severity == "quarantine" and r.broken}
    return good, _aside(rows, report.mask.slice(earlier.height), masks, names), report


def _aside(rows: Blocks, mask: pl.Series, masks: pl.DataFrame, names: dict[str, str]) -> Blocks:
    """The rows of a mask, each with the rules that it breaks."""
    each: list[pl.Expr] = [pl.when(pl.col(i)).then(pl.lit(name)) for i, name in names.items()]
    each = each or [pl.lit(None, pl.String)]
    said_all = (pl.coalesce(each).alias(RULE), pl.concat_str(each, separator="; ", ignore_nulls=True).alias(REASON))

    def read(chosen: Sequence[str]) -> Iterator[pl.DataFrame]:
        start = 0
        for block in rows:
            broken = masks.slice(start, block.height) if names else pl.DataFrame(height=block.height)
            here = mask.slice(start, block.height)
            start += block.height
            if here.any():
                told = broken.with_columns(said_all).select(RULE, REASON)
                yield _alone(block.hstack(told).filter(here).select(chosen))

    return Blocks(pl.Schema({**rows.schema, RULE: pl.String(), REASON: pl.String()}), int(mask.sum()), read)


def _alone(frame: pl.DataFrame) -> pl.DataFrame:
    """A few rows of a block whose texts do not hold those of the whole block in memory."""
    texts = (one for one in frame if one.dtype == pl.String)
    return frame.with_columns(pl.Series(one.name, one.to_arrow(compat_level=pl.CompatLevel.oldest())) for one in texts)


def _count(result: RuleResult) -> str:
    return result.said or f"{result.broken} row{'s' if result.broken != 1 else ''}"


def _check(
    rows: Blocks, contract: Contract, beyond: Beyond | None, earlier: Blocks
) -> tuple[CheckReport, pl.DataFrame, Blocks]:
    """The report, each rule's mask of the rows, and the good ones among them."""
    rules, empty = contract.rules, rows.empty
    known = dict.fromkeys(rows.columns)
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

    exprs = {i: breach(empty, rule, handed) for i, rule in enumerate(rules) if not isinstance(rule, OfTable)}
    masks = _masks(rows, earlier, rules, exprs)
    counts = masks.sum().row(0) if masks.width else ()
    broken = {i: count or 0 for i, count in zip(exprs, counts, strict=True)}
    aside = [f"{i}" for i, count in broken.items() if count and rules[i].severity != "warn"]
    if aside:
        mask = masks.select(pl.any_horizontal(aside)).to_series().alias("broken")
    else:
        mask = pl.Series("broken", [False], dtype=pl.Boolean).new_from_index(0, rows.height)
    good = retyped_blocks(rows.filtered(~mask) if aside else rows, contract)
    everything = good.behind(retyped_blocks(earlier, contract)) if earlier.height else good
    examples = _examples(rows, earlier.height, contract, masks, {i: exprs[i] for i, count in broken.items() if count})
    results = []
    for i, rule in enumerate(rules):
        height = earlier.height + rows.height
        wrong = fault(height, everything, rule, handed) if isinstance(rule, OfTable) else ""
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
        rows=earlier.height + rows.height,
        quarantined=int(mask.sum()),
        rules=tuple(results),
        mask=pl.concat([pl.Series("broken", [False]).new_from_index(0, earlier.height), mask])
        if earlier.height
        else mask,
    )
    return report, masks, good


def retyped_blocks(good: Blocks, contract: Contract) -> Blocks:
    """Good rows in the types that the contract holds of them."""
    return good.mapped(lambda block: retyped(block, contract))


def _there(known: dict[str, None], what: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise Invalid(
                f"The {what} speaks of a column {name!r} that the table does not have.",
                code="contract-column",
                hint=did_you_mean(name, known),
            )


def _examples(
    rows: Blocks, behind: int, contract: Contract, masks: pl.DataFrame, exprs: dict[int, pl.Expr]
) -> dict[int, tuple[Example, ...]]:
    """The first rows that break each of these rules, in one gathering."""
    places = {i: masks[f"{i}"].arg_true().head(_EXAMPLES).to_list() for i in exprs}
    read = {i: list(dict.fromkeys([*contract.rules[i].columns_named, *e.meta.root_names()])) for i, e in exprs.items()}
    wanted = list(dict.fromkeys(place for one in places.values() for place in one))
    mentioned = {c for names in read.values() for c in names}.difference(contract.personal)
    shown = [c for c in rows.columns if c in mentioned]
    values = rows.only(shown).rows(wanted).to_dicts() if shown else [{} for _ in wanted]
    found = dict(zip(wanted, values, strict=True))
    return {
        i: tuple(
            Example(
                row=behind + place + 1,
                values={c: _told(found[place][c]) if c in mentioned else PERSONAL for c in read[i]},
            )
            for place in places[i]
        )
        for i in exprs
    }


def _told(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _masks(rows: Blocks, earlier: Blocks, rules: tuple[Rule, ...], exprs: dict[int, pl.Expr]) -> pl.DataFrame:
    """A frame of booleans, one column a rule: true where the row breaks it."""
    if not exprs:
        return pl.DataFrame()
    whole = {i: e for i, e in exprs.items() if _of_whole(rules[i])}
    alone = {i: e for i, e in exprs.items() if i not in whole}
    found = []
    if whole:
        read = _read(rows, rules, whole)
        together = rows.only(read).behind(earlier.only(read)) if earlier.height else rows.only(read)
        found.append(_asked(together.frame(), rules, whole).slice(earlier.height))
    if alone:
        blocks = rows.only(_read(rows, rules, alone))
        found.append(pl.concat([_asked(blocks.empty, rules, alone), *(_asked(b, rules, alone) for b in blocks)]))
    return pl.concat(found, how="horizontal").select(f"{i}" for i in exprs)


def _of_whole(rule: Rule) -> bool:
    """Whether what is said of a row rests, or may rest, on other rows."""
    return isinstance(rule, Unique | Rising | Expression) or (isinstance(rule, Function) and rule.whole)


def _read(rows: Blocks, rules: tuple[Rule, ...], exprs: dict[int, pl.Expr]) -> list[str]:
    """The columns that some rules read; one at least, which says how many rows there are."""
    named = {c for e in exprs.values() for c in e.meta.root_names()}
    for asked in (rules[i] for i in exprs):
        if isinstance(asked, Function):
            named.update(asked.columns or rows.columns)
    return [c for c in rows.columns if c in named] or rows.columns[:1]


def _asked(frame: pl.DataFrame, rules: tuple[Rule, ...], exprs: dict[int, pl.Expr]) -> pl.DataFrame:
    floats = [c for c, dtype in frame.schema.items() if dtype.is_float()]
    table = frame.lazy().with_columns(pl.col(floats).fill_nan(None)) if floats else frame.lazy()  # NaN is missing
    exprs = {i: breach_function(frame, r) if isinstance(r := rules[i], Function) else e for i, e in exprs.items()}
    try:
        return table.select(e.fill_null(value=False).alias(f"{i}") for i, e in exprs.items()).collect()
    except pl.exceptions.PolarsError:
        for i, expr in exprs.items():  # which of them is it?
            try:
                frame.select(expr)
            except pl.exceptions.PolarsError as error:
                raise cannot(rules[i], frame, said(error)) from error
        raise

"""The rules about the table as a whole: how many rows, how old, and distributed as what."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl

from loopline.durations import milliseconds
from loopline.errors import Invalid, NotFound
from loopline.quality.blocks import Blocks
from loopline.quality.contract_beyond import Beyond
from loopline.quality.contract_masks import cannot, fits, kind_of, moments
from loopline.quality.contract_rules import Fresh, Like, OfTable, Rows, Schema
from loopline.quality.profile_blocks import profile_blocks
from loopline.quality.profile_records import Profile

_NAMED = 10  # columns that a schema's fault names


def fault(height: int, good: Blocks, rule: OfTable, beyond: Callable[[], Beyond]) -> str:
    """In which way the table breaks the rule, in plain words without a value of a row; empty where it keeps it.

    `height` counts all its rows, `good` are those that no other rule sets aside: a wrong date is no news, and a version's profile
    is of such rows.
    """
    if isinstance(rule, Rows):
        few = rule.at_least is not None and height < rule.at_least
        many = rule.at_most is not None and height > rule.at_most
        return f"there are {height:,} rows" if few or many else ""
    if isinstance(rule, Schema):
        return _misshapen(good.empty, rule)
    if isinstance(rule, Fresh):
        return _stale(good, rule, beyond().now)
    assert isinstance(rule, Like)
    return _unlike(good, rule, beyond().profile(rule.dataset))


def _misshapen(empty: pl.DataFrame, rule: Schema) -> str:
    """What is amiss with the columns, those that are missing first."""
    kinds = {name: kind_of(dtype) for name, dtype in empty.schema.items()}
    missing = [f"there is no column {name!r}" for name in rule.columns if name not in kinds]
    wrong = [
        f"{name!r} is {kinds[name]}, not {wanted}"
        for name, wanted in rule.columns.items()
        if name in kinds and wanted != "any" and empty.schema[name] != pl.Null and not fits(kinds[name], wanted)
    ]
    more = [] if rule.others else [f"{name!r} is a further column" for name in kinds if name not in rule.columns]
    found = [*missing, *wrong, *more]
    return ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else "")


def _stale(good: Blocks, rule: Fresh, now: int) -> str:
    latest = moments(good.empty, rule, rule.column).max()
    of_blocks = [block.select(latest).item() for block in good.only([rule.column])]
    newest = max((one for one in of_blocks if one is not None), default=None)
    if newest is None:
        return f"{rule.column} has no time in any row"
    at = datetime.fromisoformat(newest.isoformat())  # a day begins at midnight
    age = now - (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000
    return f"the newest {rule.column} is {_ago(age)} old" if age > milliseconds(rule.within, "within") else ""


def _ago(age: float) -> str:
    days = age / 86_400_000
    return f"{days:,.1f} days" if days >= 1 else f"{days * 24:,.1f} hours"


def _unlike(good: Blocks, rule: Like, reference: Profile) -> str:
    from loopline.quality.drift import compare  # which loads scipy: most contracts ask for no distribution

    columns = rule.columns or [name for name in reference.columns if name in good.columns]
    if not columns:
        raise cannot(rule, good.empty, f"it shares no column with {rule.dataset}")
    try:
        reference = reference.only(columns)
        found = compare(
            reference,
            profile_blocks(good.only([c for c in columns if c in good.columns]), reference),
            false_alarms=rule.false_alarms,
        )
    except (Invalid, NotFound) as error:
        raise cannot(
            rule, good.empty, f"beside {rule.dataset}, {error.message.rstrip('.')}", error.hint or ""
        ) from error
    drifted = [line.column for line in found.columns if line.drifted]
    if not drifted:
        return ""
    return f"{', '.join(drifted)} {'is' if len(drifted) == 1 else 'are'} distributed otherwise than in {rule.dataset}"

"""What a function of Python answers about the rows of a frame, checked before it is believed."""

from __future__ import annotations

import traceback
from typing import Any

import polars as pl
import polars.selectors as cs

from loopline.errors import Invalid
from loopline.quality.contract_functions import Judge, judge_of
from loopline.quality.contract_rules import Function

_ALONE = 10
"""So many rows are asked about once more, each by itself: what is said of one must not rest on the others."""


def breach_function(frame: pl.DataFrame, rule: Function) -> pl.Expr:
    """True where the function says that a row does not keep the rule; where it says nothing (null) the row passes.

    Raises Invalid where it fails, and where its answers are not one true or false a row. No message of its own is repeated: it may
    hold values of rows.
    """
    judge = judge_of(rule)
    rows = (frame.select(rule.columns) if rule.columns else frame).with_columns(
        cs.float().fill_nan(None)
    )  # NaN is missing
    answers = _answers(judge, rows, rule)
    if not rule.whole:
        for place in range(0, frame.height, -(-frame.height // _ALONE) or 1):
            if answers[place] is not _answers(judge, rows.slice(place, 1), rule)[0]:
                raise _cannot(
                    rule,
                    "says something else of a row when it is asked of that row alone",
                    "Declare it with whole=True, so that it is always given the whole table.",
                )
    return ~pl.lit(answers)


def _answers(judge: Judge, rows: pl.DataFrame, rule: Function) -> pl.Series:
    if not rows.height:
        return pl.Series(dtype=pl.Boolean)  # nothing to ask about
    try:
        said: Any = judge(rows.clone())  # what it does to its frame is done to no other
        if isinstance(said, pl.Expr):
            said = rows.select(said.alias("said")).to_series()
    except (Exception, SystemExit) as error:
        raise _cannot(rule, f"raised {type(error).__name__}{_line(error, judge)}") from error
    if not isinstance(said, pl.Series):
        raise _cannot(rule, f"gave {_kind(said)}")
    if said.dtype != pl.Boolean:
        raise _cannot(rule, f"gave a column of {said.dtype}")
    if len(said) != rows.height:
        raise _cannot(rule, f"gave {_count(len(said), 'answer')} for {_count(rows.height, 'row')}")
    return said


def _cannot(rule: Function, why: str, hint: str = "") -> Invalid:
    return Invalid(
        f"The rule {rule.title!r} cannot be asked of this table: {rule.function} {why}.",
        code="contract-function",
        hint=hint
        or "A rule's function gives a Boolean column, true or false (or missing) for each row, or an expression of one.",
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _kind(value: object) -> str:
    name = type(value).__name__
    return "nothing" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _line(error: BaseException, judge: Any) -> str:
    """Where in the function's file it happened."""
    file = judge.__code__.co_filename
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" in line {places[-1]}" if places else ""

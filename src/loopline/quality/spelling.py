"""How texts are spelled, without what they say: 9 for a digit, a for some letters, one space for some."""

from __future__ import annotations

import re
from typing import Final

import polars as pl

LONGEST: Final = 40  # characters of a shape

_DATE = re.compile(
    r"(9{1,4}[-/. ]9{1,2}[-/. ]9{1,4}|9{1,2}[-. ]{0,2}a[-. ,]{0,2}9{2,4}|a 9{1,2},? 9{4})([T ]9{1,2}:99(:99)?(\.9+)?)?"
)

_INTERVAL = re.compile(r"[\[(] ?-?9+(\.9+)? ?[-,;:] ?-?9+(\.9+)? ?[\])]")


def shape_of(text: pl.Expr) -> pl.Expr:
    """The shape of each text: `9999-99-99` for a day, `a-999` for a code."""
    return (
        text.str.slice(0, 4 * LONGEST)
        .str.replace_all(r"\p{N}", "9")
        .str.replace_all(r"[\p{L}\p{M}]+", "a")
        .str.replace_all(r"\s+", " ")
        .str.slice(0, LONGEST)
    )


def of_one_kind(shape: str) -> str:
    """The shape that stands for all intervals like this one: `[9-99)` and `[99-99)` are both `[9-9)`; any other shape as it is."""
    return re.sub("9+", "9", shape) if _INTERVAL.fullmatch(shape) else shape


def is_date(shape: str) -> bool:
    """Whether a shape is one in which people write dates."""
    return _DATE.fullmatch(shape) is not None

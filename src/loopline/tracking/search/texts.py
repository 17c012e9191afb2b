"""Patterns over texts, by one engine whatever the database: Rust's regular expressions (through polars).

The engine takes time in proportion to pattern and text and has no backtracking, so no pattern can explode; on top of that all
patterns of a search together have `BUDGET` seconds. It is loaded for the first pattern: most searches have none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from loopline.errors import Invalid

BUDGET = 5.0
LONGEST_PATTERN = 1_000

_AT_ONCE = 1 << 20  # characters between two looks at the clock


class Budget:
    """The time that the patterns of one search may take together."""

    def __init__(self) -> None:
        self.end = time.monotonic() + BUDGET

    def check(self) -> None:
        """Raises `Invalid` once the time is over."""
        if time.monotonic() > self.end:
            raise Invalid(
                f"The patterns of this filter take more than {BUDGET:g} s.",
                code="costly-filter",
                hint="Compare with =, IN or LIKE 'begins%', or make the pattern shorter.",
            )


def check_pattern(pattern: str) -> str:
    """What is wrong with a regular expression; "": nothing."""
    import polars as pl

    if len(pattern) > LONGEST_PATTERN:
        return f"it is longer than {LONGEST_PATTERN} characters"
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as e:
        said = re.search(r"^error: (.*)$", str(e), re.MULTILINE) or re.search(r"regex error: (.*)", str(e))
        return (said[1] if said else "it is no regular expression").rstrip(".")
    return ""


def literal(pattern: str) -> str:
    """A text that all texts have in them which the pattern is found in: the longest that its plain signs tell; "": none.

    What cannot be told without the grammar of patterns (alternatives, groups, counts, flags) counts as nothing known.
    """
    plain = re.sub(r"\\(?:[dwsbDWSB]|[^A-Za-z0-9])|\[[^\[\]\\]*\]", ".", pattern.removeprefix("(?s)"))
    if re.search(r"[\\|(){}\[\]]", plain):
        return ""
    return max(re.findall(r"(?:[A-Za-z0-9 _:/=-](?![*?]))+", plain), key=len, default="")


def of_like(pattern: str, fold: bool) -> str:
    """The regular expression of a LIKE pattern, where % is any characters and _ is one."""
    body = "".join({"%": ".*", "_": "."}.get(c) or re.escape(c) for c in pattern)
    return f"{'(?is)' if fold else '(?s)'}^{body}$"


def matching(texts: Sequence[str], pattern: str, budget: Budget) -> list[bool]:
    """Which of the texts a regular expression is found in."""
    import polars as pl

    found: list[bool] = []
    start = size = 0
    for end, length in enumerate(map(len, texts), 1):
        size += length + 16
        if size > _AT_ONCE or end == len(texts):
            budget.check()
            found += pl.Series(texts[start:end], dtype=pl.String).str.contains(pattern).to_list()
            start, size = end, 0
    return found

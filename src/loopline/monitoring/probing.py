"""Callers who ask more different rows than anybody needs answered: how a model is copied, or its training data guessed.

A signal and no proof: it names the caller, and blocks nobody.
"""

from __future__ import annotations

import polars as pl

DAY = 86_400_000
"""The span that is counted over, in milliseconds."""


def probing(frame: pl.DataFrame, most: int) -> str | None:
    """What to tell of the callers with more than `most` different rows; None where there is none, or no bound (0).

    `frame` are the answers of a day, with `caller` and `row`. A row that was not kept is not counted, nor one that
    a stream brought: nobody asked for it.
    """
    if not most:
        return None
    found = (
        frame.filter(pl.col("row").is_not_null() & (pl.col("caller") != "stream"))
        .group_by("caller")
        .agg(pl.col("row").n_unique().alias("rows"))
        .filter(pl.col("rows") > most)
        .sort("rows", "caller", descending=[True, False])
    )
    if found.is_empty():
        return None
    told = [f"{_named(caller)} asked {rows:,} different rows" for caller, rows in found.rows()[:3]]
    more = f", and {found.height - 3} more" if found.height > 3 else ""
    return f"Within a day {'; '.join(told)}{more}; {most:,} are expected at most."


def _named(caller: str) -> str:
    return f"the token whose digest begins with {caller}" if caller else "the user of this machine"

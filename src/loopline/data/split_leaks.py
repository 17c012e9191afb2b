"""What is amiss between the sides of a split: groups and rows on two sides, and columns that know the label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.records import Leak
from loopline.data.split_records import SIDES, Finding, Split
from loopline.errors import Refused
from loopline.quality.profile import Profile, profile
from loopline.quality.profile_pairs import BY_CHANCE, collision, hashed

_KNOWS = 0.9
_TELLS = 0.5  # shares of the label's uncertainty, from which a column surely knows it, or may
_MANY = 0.01  # of a side's rows

Severity = Literal[1, 2, 3]


def leaks(made: Split, *, label: str, time: str | None = None, group: str | None = None) -> tuple[Finding, ...]:
    """The findings, worst first. The sealed side is only counted in; what knows the label is looked for in training rows.

    Rows are the same where all columns are but `time`, `group` and identifiers (a different value in nearly every row), with
    capitals and spaces aside. Where columns take so few values that rows would be alike by chance, they are not held against
    each other. How much a column knows is Theil's uncertainty coefficient (normalised mutual information) less its bias.
    """
    frames = (made.train, made.validation, made.test)
    seen = profile(made.train, label=label)
    named = [name for name, column in seen.columns.items() if name not in (time, group) and not column.near_unique]
    found = [*_groups(frames, group), *_rows(frames, named), *_telling(seen, [n for n in named if n != label])]
    return tuple(sorted(found, key=lambda one: -one.severity))


def check_leaks(findings: Sequence[Finding], refuse: Sequence[Leak]) -> None:
    """Raises `Refused` where one of the findings is of a kind that is not to be."""
    bad = [one for one in findings if one.leak in refuse]
    if bad:
        raise Refused(
            " ".join(one.text for one in bad),
            code="split-leaks",
            hint="Mend the table, split otherwise (by group, by time, with an embargo), or let it be told only.",
            findings=[{"leak": one.leak, "count": one.count, "column": one.column} for one in bad],
        )


def _groups(frames: Sequence[pl.DataFrame], group: str | None) -> list[Finding]:
    if group is None:
        return []
    sides = [pl.DataFrame({"group": frame[group].drop_nulls().unique()}) for frame in frames]
    count = pl.concat(sides).group_by("group").len().filter(pl.col("len") > 1).height
    if not count:
        return []
    text = f"{count:,} values of {group} have rows on more than one side: a model may know them again."
    return [Finding(leak="same-group", severity=3, count=count, text=text)]


def _rows(frames: Sequence[pl.DataFrame], names: Sequence[str]) -> list[Finding]:
    """Rows of a later side that stand in an earlier one, wholly or but for one column; rows are compared by sums of hashes."""
    if len(names) < 2 or not frames[0].height:
        return []
    heights = [frame.height for frame in frames]
    side = np.repeat(np.arange(len(SIDES)), heights)
    together = pl.concat([frame.select(names) for frame in frames])
    total = np.zeros(together.height, np.uint64)
    lone = []
    for place, name in enumerate(names):
        one = hashed(together[name], place)
        total += one
        lone.append(math.log(collision(one)))
    rare = math.log(BY_CHANCE) - math.log(together.height)
    same, near = np.zeros(together.height, bool), np.zeros(together.height, bool)
    if sum(lone) < rare:
        same = _again(total, side)
    for place, name in enumerate(names):  # hashed again rather than kept: a table can be long
        if len(names) > 2 and sum(lone) - lone[place] < rare:
            near |= _again(total - hashed(together[name], place), side)
    found = []
    for leak, rows, how, severities in (
        ("same-row", same, "in every column", (2, 3)),
        ("near-row", near & ~same, "in all columns but one", (1, 2)),
    ):
        counts = [int(rows[side == place].sum()) for place in range(len(SIDES))]
        if sum(counts):
            many = any(n > _MANY * height for n, height in zip(counts, heights, strict=True))
            told = " and ".join(
                f"{n:,} row{'' if n == 1 else 's'} of {name}" for n, name in zip(counts, SIDES, strict=True) if n
            )
            text = f"{told} {'equals' if sum(counts) == 1 else 'equal'} one of an earlier side {how}."
            found.append(Finding(leak=leak, severity=severities[many], count=sum(counts), text=text))  # type: ignore[arg-type]
    return found


def _again(hashes: NDArray[np.uint64], side: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows have a hash that a row of an earlier side has."""
    frame = pl.DataFrame({"hash": hashes, "side": side})
    again: NDArray[np.bool_] = frame.select(pl.col("side") > pl.col("side").min().over("hash")).to_series().to_numpy()
    return again


def _telling(seen: Profile, names: Sequence[str]) -> list[Finding]:
    found = []
    for name in names:
        known = seen.columns[name].association
        if known is not None and known.value >= _TELLS and seen.rows >= 30:
            severity: Severity = 3 if known.value >= _KNOWS else 2
            text = f"{name} alone tells {known.value:.0%} of the label: is it known before the label is?"
            found.append(Finding(leak="knows-label", severity=severity, count=1, text=text, column=name))
    return found

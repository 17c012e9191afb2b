"""Train, validation and test: by time with an embargo, by group, stratified, or at random.

By time, the earlier side keeps a group (a patient): rows of a group that an earlier side has seen are dropped from the
later side, counted and said. Looking back is all a split ever does: which rows are chosen up to a moment does not depend on
any row after it. (Keeping, say, the last row of each patient looks ahead: where being readmitted means that a later row
exists, that choice alone tells the label.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.readers_label import infer_task
from loopline.data.records import By
from loopline.data.split_records import SIDES, TEST, Moment, Side, Split, SplitFacts, Window
from loopline.data.split_time import cuts, embargoed, literal, shown, times_of
from loopline.errors import Invalid, did_you_mean


def split(
    frame: pl.DataFrame,
    *,
    label: str,
    time: str | None = None,
    group: str | None = None,
    task: str | None = None,
    by: By | None = None,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    boundaries: tuple[Moment, Moment] | None = None,
    embargo: str = "",
    seed: int,
    spent: pl.Series | None = None,
) -> Split:
    """The frame in three sides. `by` is "time", "group" (whole groups at random), "stratified" (each class in its share) or
    "random"; left out, it is by time if a time column is given, else by group if there is one, else stratified.

    Rows that are `spent` (they were in a test that somebody looked at) keep out of the test side: by time it begins after them,
    else they are training rows. Where that would leave less than half of its rows, it is as if none were.

    `fractions` are of all rows, before any are left out. By time, rows of one moment are never parted: `boundaries`, where
    given, are the first moments of validation and test, and no fraction is used; rows of an earlier side within `embargo`
    before them are left out ("7d", or a number in the unit of a time that is a number): what is known of them may come from
    after the boundary. Else `seed` decides, and with groups classes are stratified as far as whole groups allow.

    Raises Invalid for unknown columns, times that are missing or text, an embargo without a time, and sides without rows or
    with one class alone, with the numbers.
    """
    _require(frame, (label, time, group))
    by = by or ("time" if time is not None else "group" if group is not None else "stratified")
    _check_words(by, time, group, boundaries, embargo)
    if seed < 0:
        raise Invalid(f"The seed of a split is {seed}.", code="split-seed", hint="Give 0 or a positive number.")
    task = task or infer_task(frame[label])
    parts = _fractions(fractions)
    if by == "time":
        assert time is not None
        return _by_time(frame, label, time, group, task, parts, boundaries, embargo, spent)
    strata = _strata(frame, label, task) if by != "random" else np.zeros(frame.height, np.int64)
    name: str = by
    if by == "group":
        assert group is not None
        number = _group_numbers(frame, group)
        units = int(number.max(initial=-1)) + 1
        of_unit = np.full(units, np.iinfo(np.int64).max)
        np.minimum.at(of_unit, number, strata)  # a group counts as its rarest class
        side = _assigned(of_unit, np.bincount(number, minlength=units), parts, seed)[number]
        if spent is not None:
            spent = pl.Series(np.isin(number, number[spent.to_numpy()]))  # a group goes as a whole
    else:
        side = _assigned(strata, np.ones(frame.height), parts, seed)
        name = "random, stratified" if by == "stratified" and task != "regression" else "random"
    if spent is not None:
        kept = np.where(spent.to_numpy() & (side == TEST), 0, side)
        if 2 * int((kept == TEST).sum()) >= int((side == TEST).sum()):
            side = kept
    none = np.zeros(frame.height, bool)
    return _split(frame, side, none, none, label, time, group, task, name, seed=seed)


def window(
    frame: pl.DataFrame,
    start: Moment,
    end: Moment,
    *,
    time: str,
    group: str | None = None,
    label: str | None = None,
    task: str = "binary",
) -> Window:
    """The rows with start <= time < end whose group has no row before `start`: a new test window on live data.

    `frame` holds the earlier rows too: they say which groups were seen. The facts count the classes of `label` where one is
    named. Raises Invalid when no row is left.
    """
    _require(frame, (label, time, group))
    times = times_of(frame, time)
    low, high = literal(frame, time, start), literal(frame, time, end)
    inside = frame.select(((times >= low) & (times < high)).alias("_")).to_series().to_numpy()
    before = frame.select((times < low).alias("_")).to_series().to_numpy()
    seen = np.zeros(frame.height, bool)
    if group is not None and frame.height:
        number = _group_numbers(frame, group)
        early = np.zeros(int(number.max(initial=-1)) + 1, bool)
        early[number[before]] = True
        seen = early[number]
    kept = frame.filter(pl.Series(inside & ~seen)).sort(time, maintain_order=True)
    dropped = int((inside & seen).sum())
    if not kept.height:
        raise Invalid(
            f"The window from {start} to {end} has 0 rows ({int(inside.sum())} in it, {dropped} of them of a {group} seen "
            "before).",
            code="split-empty",
            hint="Wait for more rows, or take a longer window.",
        )
    return Window(kept, _side("window", kept, dropped, label, time, group, task))


def _require(frame: pl.DataFrame, names: Sequence[str | None]) -> None:
    for name in names:
        if name is not None and name not in frame.columns:
            raise Invalid(
                f"The table has no column {name!r}.", code="no-column", hint=did_you_mean(name, frame.columns)
            )


def _check_words(
    by: By, time: str | None, group: str | None, boundaries: tuple[Moment, Moment] | None, embargo: str
) -> None:
    if by == "group" and group is None:
        raise Invalid("A split by group names no group column.", code="split-group", hint="Name the group column.")
    if (by == "time" or boundaries is not None or embargo) and time is None:
        what = "is by time" if by == "time" else f"has {'boundaries' if boundaries is not None else 'an embargo'}"
        raise Invalid(f"The split {what} but no time column is named.", code="split-time", hint="Name the time column.")
    if by != "time" and (boundaries is not None or embargo):
        raise Invalid(
            f"A split by {by} has no boundary in time, and so no embargo before one.",
            code="split-time",
            hint="Split by time, or leave the embargo out.",
        )


def _fractions(fractions: Sequence[float]) -> tuple[float, float]:
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise Invalid(
            f"The fractions of a split are {', '.join(map(str, fractions))}.",
            code="split-fractions",
            hint="Give three positive numbers for train, validation and test whose sum is 1.",
        )
    return fractions[0], fractions[0] + fractions[1]


def _by_time(
    frame: pl.DataFrame,
    label: str,
    time: str,
    group: str | None,
    task: str,
    parts: tuple[float, float],
    boundaries: tuple[Moment, Moment] | None,
    embargo: str,
    spent: pl.Series | None,
) -> Split:
    times = times_of(frame, time)
    ordered = frame.sort(time, maintain_order=True)
    if boundaries is None:
        first = cuts(ordered[time], parts)
        if spent is not None and spent.any():
            newest = frame.filter(spent)[time].max()
            after = int((ordered[time] <= newest).sum())
            if first[1] < after and 2 * (ordered.height - after) >= ordered.height - first[1]:
                first[1] = after
        begins: list[Any] = [ordered[time][place] for place in first if place < ordered.height]
        side = np.searchsorted(np.array(first), np.arange(ordered.height), side="right")
        starts = [pl.lit(moment, dtype=frame.schema[time]) for moment in begins]
    else:
        begins = [*boundaries]
        starts = [literal(frame, time, moment) for moment in boundaries]
        side = (
            ordered.select(pl.sum_horizontal((times >= start).cast(pl.Int64) for start in starts))
            .to_series()
            .to_numpy()
        )
    seen = np.zeros(ordered.height, bool)
    if group is not None and ordered.height:
        number = _group_numbers(ordered, group)
        earliest = np.full(int(number.max(initial=-1)) + 1, len(SIDES))
        np.minimum.at(earliest, number, side)
        seen = side > earliest[number]
    near = embargoed(ordered, time, starts, embargo) if embargo and starts else np.zeros(ordered.height, bool)
    moments = tuple(moment for begin in begins if (moment := shown(begin)) is not None)
    return _split(
        ordered, side, seen, near & ~seen, label, time, group, task, "time", boundaries=moments, embargo=embargo
    )


def _group_numbers(frame: pl.DataFrame, group: str) -> npt.NDArray[np.int64]:
    """A number for each group, in the order of first appearance; a row without a group is a group of its own."""
    names = frame[group]
    number = names.rank("dense").cast(pl.Int64).fill_null(0).to_numpy().copy()
    alone = names.is_null().to_numpy()
    number[alone] = int(number.max(initial=0)) + 1 + np.arange(int(alone.sum()))
    _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first, kind="stable")] = np.arange(len(first))
    numbered: npt.NDArray[np.int64] = order[inverse]
    return numbered


def _strata(frame: pl.DataFrame, label: str, task: str) -> npt.NDArray[np.int64]:
    """A number for each row's class, the rarest class first; all 0 for a regression."""
    if task == "regression":
        return np.zeros(frame.height, np.int64)
    counted = frame.select(pl.col(label).cast(pl.String).fill_null("").alias("c"))
    order = counted.group_by("c").len().sort("len", "c").with_row_index("rank")
    joined = counted.join(order, on="c", how="left", maintain_order="left")
    ranks: npt.NDArray[np.int64] = joined["rank"].cast(pl.Int64).to_numpy()
    return ranks


def _assigned(
    strata: npt.NDArray[np.int64], weights: npt.NDArray[Any], parts: tuple[float, float], seed: int
) -> npt.NDArray[np.int64]:
    """A side for each unit: within each stratum in seeded order by cumulative weight; three units reach every side."""
    side = np.zeros(len(strata), np.int64)
    random = np.random.default_rng(seed)
    for stratum in np.unique(strata):
        units = random.permutation(np.flatnonzero(strata == stratum))
        weight = weights[units].astype(float)
        middle = (np.cumsum(weight) - weight / 2) / weight.sum()
        chosen = np.searchsorted(np.array(parts), middle, side="right")
        if len(units) < len(SIDES):
            chosen = np.zeros(len(units), np.int64)
        for missing in set(range(len(SIDES))) - set(chosen.tolist()) if len(units) >= len(SIDES) else ():
            largest = np.bincount(chosen, minlength=len(SIDES)).argmax()
            chosen[np.flatnonzero(chosen == largest)[-1]] = missing
        side[units] = chosen
    return side


def _split(
    frame: pl.DataFrame,
    side: npt.NDArray[Any],
    seen: npt.NDArray[np.bool_],
    near: npt.NDArray[np.bool_],
    label: str,
    time: str | None,
    group: str | None,
    task: str,
    by: str,
    *,
    boundaries: tuple[int | float | str, ...] = (),
    embargo: str = "",
    seed: int | None = None,
) -> Split:
    frames = [frame.filter(pl.Series((side == i) & ~seen & ~near, dtype=pl.Boolean)) for i in range(len(SIDES))]
    facts = SplitFacts(
        by=by,
        rows=frame.height,
        dropped=int(seen.sum()),
        embargoed=int(near.sum()),
        embargo=embargo,
        sides=tuple(
            _side(
                name, part, int((seen & (side == i)).sum()), label, time, group, task, int((near & (side == i)).sum())
            )
            for i, (name, part) in enumerate(zip(SIDES, frames, strict=True))
        ),
        time=time,
        group=group,
        boundaries=boundaries,
        seed=seed,
    )
    _check_sides(facts, label, task)
    return Split(frames[0], frames[1], frames[2], facts)


def _side(
    name: str,
    part: pl.DataFrame,
    dropped: int,
    label: str | None,
    time: str | None,
    group: str | None,
    task: str,
    embargoed: int = 0,
) -> Side:
    counts = None
    if label is not None and task != "regression":
        counts = part[label].drop_nulls().alias("class").value_counts(name="n").sort("class")
    return Side(
        name=name,
        rows=part.height,
        dropped=dropped,
        embargoed=embargoed,
        groups=part[group].n_unique() if group else None,
        first=shown(part[time].min()) if time else None,
        last=shown(part[time].max()) if time else None,
        classes={str(c): n for c, n in counts.iter_rows()} if counts is not None else {},
    )


def _check_sides(facts: SplitFacts, label: str, task: str) -> None:
    sizes = ", ".join(f"{s.name} {s.rows}" for s in facts.sides)
    left_out = facts.left_out()
    for side in facts.sides:
        if not side.rows:
            raise Invalid(
                f"The {side.name} side of the split by {facts.by} has 0 rows ({sizes}{left_out}; {facts.rows} in all).",
                code="split-empty",
                hint=f"Give more rows, or a larger fraction to {side.name}"
                + (f"; {facts.time!r} must have at least three moments." if facts.by == "time" else "."),
            )
        if task != "regression" and len(side.classes) < 2:
            only = next(iter(side.classes), None)
            raise Invalid(
                f"The {side.name} side of the split by {facts.by} has {f'only {label} = {only!r}' if only else 'no label'} "
                f"in its {side.rows} rows ({sizes}{left_out}).",
                code="split-classes",
                hint="Give more rows, or move the fractions so that each side sees both classes.",
            )

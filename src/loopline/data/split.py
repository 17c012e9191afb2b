"""Train, validation and test: by time, by group, stratified, or at random.

By time, the earlier side keeps a group (a patient): rows of a group that an earlier side has seen are dropped from the
later side, counted and said. Looking back is all a split ever does: which rows are chosen up to a moment does not depend on
any row after it. (Keeping, say, the last row of each patient looks ahead: where being readmitted means that a later row
exists, that choice alone tells the label.)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.readers_label import infer_task
from loopline.errors import Invalid, did_you_mean

SIDES = ("train", "validation", "test")
TEST = SIDES.index("test")
Moment = int | float | date | datetime


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a split. `first` and `last` are its times (ISO text for dates); `classes` counts the label's values."""

    name: str
    rows: int
    dropped: int = 0
    groups: int | None = None
    first: int | float | str | None = None
    last: int | float | str | None = None
    classes: dict[str, int] = {}


class SplitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a split did; rows = rows of the three sides + dropped, always."""

    by: str
    rows: int
    dropped: int
    sides: tuple[Side, ...]
    time: str | None = None
    group: str | None = None
    boundaries: tuple[int | float | str, ...] = ()
    seed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    def said(self) -> str:
        """The split in one line for people."""
        sides = ", ".join(f"{s.name} {s.rows:,}" for s in self.sides)
        dropped = f"; {self.dropped:,} rows dropped whose {self.group} an earlier side has" if self.dropped else ""
        return f"by {self.by}: {sides}{dropped}"


class Split(NamedTuple):
    """The three sides and the facts."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    facts: SplitFacts


class Window(NamedTuple):
    """The rows of a stretch of time, without the groups seen before it."""

    rows: pl.DataFrame
    facts: Side


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """What two sides share: groups in both, and rows of the second that are in the first word by word."""

    groups: int
    rows: int


def split(
    frame: pl.DataFrame,
    *,
    label: str,
    time: str | None = None,
    group: str | None = None,
    task: str | None = None,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    boundaries: tuple[Moment, Moment] | None = None,
    seed: int,
    spent: pl.Series | None = None,
) -> Split:
    """The frame in three sides: by time if a time column is given, else by whole groups, else at random.

    Rows that are `spent` (they were in a test that somebody looked at) keep out of the test side: by time it begins after them,
    else they are training rows. Where that would leave less than half of its rows, it is as if none were.

    `fractions` are of all rows, before groups are dropped. By time, rows of one moment are never parted: `boundaries`, where
    given, are the first moments of validation and test, and no fraction is used. Without a time, classes are stratified
    (with a group: as far as whole groups allow) and `seed` decides.

    Raises Invalid for unknown columns, times that are missing or text, and sides without rows or with one class alone,
    with the numbers.
    """
    _require(frame, (label, time, group))
    task = task or infer_task(frame[label])
    parts = _fractions(fractions)
    if time is not None:
        return _by_time(frame, label, time, group, task, parts, boundaries, spent)
    if boundaries is not None:
        raise Invalid("A split has boundaries but no time column.", code="split-time", hint="Name the time column.")
    strata = _strata(frame, label, task)
    if group is None:
        side = _assigned(strata, np.ones(frame.height), parts, seed)
        by = "random, stratified" if task != "regression" else "random"
    else:
        number = _group_numbers(frame, group)
        units = int(number.max(initial=-1)) + 1
        of_unit = np.full(units, np.iinfo(np.int64).max)
        np.minimum.at(of_unit, number, strata)  # a group counts as its rarest class
        side = _assigned(of_unit, np.bincount(number, minlength=units), parts, seed)[number]
        by = "group"
        if spent is not None:
            spent = pl.Series(np.isin(number, number[spent.to_numpy()]))  # a group goes as a whole
    if spent is not None:
        kept = np.where(spent.to_numpy() & (side == TEST), 0, side)
        if 2 * int((kept == TEST).sum()) >= int((side == TEST).sum()):
            side = kept
    return _split(frame, side, np.zeros(frame.height, bool), label, None, group, task, by, seed=seed)


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
    times = _times(frame, time)
    low, high = _literal(frame, time, start), _literal(frame, time, end)
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


def overlap(
    first: pl.DataFrame, second: pl.DataFrame, *, group: str | None = None, ignore: Sequence[str] = ()
) -> Overlap:
    """What two sides share. Columns of `ignore` (an identifier, the time) do not make rows different."""
    groups = 0
    if group is not None:
        _require(first, (group,))
        groups = len(set(first[group].drop_nulls().unique()) & set(second[group].drop_nulls().unique()))
    on = [c for c in first.columns if c in second.columns and c not in ignore]
    same = second.join(first.select(on).unique(), on=on, how="semi", nulls_equal=True) if on else second.clear()
    return Overlap(groups=groups, rows=same.height)


def _require(frame: pl.DataFrame, names: Sequence[str | None]) -> None:
    for name in names:
        if name is not None and name not in frame.columns:
            raise Invalid(
                f"The table has no column {name!r}.", code="no-column", hint=did_you_mean(name, frame.columns)
            )


def _fractions(fractions: Sequence[float]) -> tuple[float, float]:
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise Invalid(
            f"The fractions of a split are {', '.join(map(str, fractions))}.",
            code="split-fractions",
            hint="Give three positive numbers for train, validation and test whose sum is 1.",
        )
    return fractions[0], fractions[0] + fractions[1]


def _times(frame: pl.DataFrame, time: str) -> pl.Expr:
    """The time column, once it is known to order every row."""
    dtype = frame.schema[time]
    if not (dtype.is_numeric() or dtype in (pl.Date, pl.Datetime)):
        raise Invalid(
            f"The time column {time!r} holds {dtype}, which does not order rows in time.",
            code="split-time",
            hint="Use ISO dates (2024-01-31 or 2024-01-31T10:30:00) or numbers that grow with time.",
        )
    gaps = frame[time].is_null() if not dtype.is_float() else frame[time].is_null() | frame[time].is_nan()
    if gaps.any():
        raise Invalid(
            f"The time column {time!r} is missing in {int(gaps.sum())} of {frame.height} rows "
            f"(first in row {int(gaps.arg_true()[0]) + 1}).",
            code="split-time",
            hint=f"Let the contract quarantine them: ll.column({time!r}).not_null().",
        )
    return pl.col(time)


def _literal(frame: pl.DataFrame, time: str, moment: Moment) -> pl.Expr:
    dtype = frame.schema[time]
    if dtype.is_numeric() != (isinstance(moment, int | float) and not isinstance(moment, bool)):
        raise Invalid(
            f"The boundary {moment} is {type(moment).__name__}, but the column {time!r} holds {dtype}.",
            code="split-time",
            hint="Give the boundary in the column's own type.",
        )
    zone = getattr(dtype, "time_zone", None)
    if zone and isinstance(moment, datetime) and moment.tzinfo is None:
        return pl.lit(moment).dt.replace_time_zone(zone)
    return pl.lit(moment)


def _by_time(
    frame: pl.DataFrame,
    label: str,
    time: str,
    group: str | None,
    task: str,
    parts: tuple[float, float],
    boundaries: tuple[Moment, Moment] | None,
    spent: pl.Series | None,
) -> Split:
    times = _times(frame, time)
    ordered = frame.sort(time, maintain_order=True)
    if boundaries is None:
        cuts = _cuts(ordered[time], parts)
        if spent is not None and spent.any():
            newest = frame.filter(spent)[time].max()
            after = int((ordered[time] <= newest).sum())
            if cuts[1] < after and 2 * (ordered.height - after) >= ordered.height - cuts[1]:
                cuts[1] = after
        shown = [_shown(ordered[time][c]) if c < ordered.height else None for c in cuts]
        side = np.searchsorted(np.array(cuts), np.arange(ordered.height), side="right")
    else:
        low, high = (_literal(frame, time, b) for b in boundaries)
        side = ordered.select(((times >= low).cast(pl.Int64) + (times >= high).cast(pl.Int64)).alias("_"))[
            "_"
        ].to_numpy()
        shown = [_shown(b) for b in boundaries]
    seen = np.zeros(ordered.height, bool)
    if group is not None and ordered.height:
        number = _group_numbers(ordered, group)
        earliest = np.full(int(number.max(initial=-1)) + 1, len(SIDES))
        np.minimum.at(earliest, number, side)
        seen = side > earliest[number]
    return _split(
        ordered, side, seen, label, time, group, task, "time", boundaries=tuple(s for s in shown if s is not None)
    )


def _cuts(times: pl.Series, parts: tuple[float, float]) -> list[int]:
    """Where validation and test begin: nearest to the fractions, never between rows of one moment, with room for each."""
    count = len(times)
    starts = np.flatnonzero((times != times.shift(1)).fill_null(value=True).to_numpy())  # each moment's first row
    cuts: list[int] = []
    for position, part in enumerate(parts):
        above = starts[starts > (cuts[-1] if cuts else 0)]
        room = above[: len(above) - (len(parts) - 1 - position)] if len(above) >= len(parts) - position else above
        cuts.append(int(room[np.argmin(np.abs(room - part * count))]) if len(room) else count)
    return cuts


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
    label: str,
    time: str | None,
    group: str | None,
    task: str,
    by: str,
    *,
    boundaries: tuple[int | float | str, ...] = (),
    seed: int | None = None,
) -> Split:
    frames = [frame.filter(pl.Series((side == i) & ~seen, dtype=pl.Boolean)) for i in range(len(SIDES))]
    facts = SplitFacts(
        by=by,
        rows=frame.height,
        dropped=int(seen.sum()),
        sides=tuple(
            _side(name, part, int((seen & (side == i)).sum()), label, time, group, task)
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
    name: str, part: pl.DataFrame, dropped: int, label: str | None, time: str | None, group: str | None, task: str
) -> Side:
    counts = None
    if label is not None and task != "regression":
        counts = part[label].drop_nulls().alias("class").value_counts(name="n").sort("class")
    return Side(
        name=name,
        rows=part.height,
        dropped=dropped,
        groups=part[group].n_unique() if group else None,
        first=_shown(part[time].min()) if time else None,
        last=_shown(part[time].max()) if time else None,
        classes={str(c): n for c, n in counts.iter_rows()} if counts is not None else {},
    )


def _shown(moment: Any) -> int | float | str | None:
    return moment.isoformat() if isinstance(moment, date) else moment


def _check_sides(facts: SplitFacts, label: str, task: str) -> None:
    sizes = ", ".join(f"{s.name} {s.rows}" for s in facts.sides)
    dropped = f"; {facts.dropped} rows dropped whose {facts.group} an earlier side has" if facts.dropped else ""
    for side in facts.sides:
        if not side.rows:
            raise Invalid(
                f"The {side.name} side of the split by {facts.by} has 0 rows ({sizes}{dropped}; {facts.rows} in all).",
                code="split-empty",
                hint=f"Give more rows, or a larger fraction to {side.name}"
                + (f"; {facts.time!r} must have at least three moments." if facts.time else "."),
            )
        if task != "regression" and len(side.classes) < 2:
            only = next(iter(side.classes), None)
            raise Invalid(
                f"The {side.name} side of the split by {facts.by} has {f'only {label} = {only!r}' if only else 'no label'} "
                f"in its {side.rows} rows ({sizes}{dropped}).",
                code="split-classes",
                hint="Give more rows, or move the fractions so that each side sees both classes.",
            )

"""Declared steps fitted on training rows: what is learned of a column, as fitted steps that act on any rows.

Raises `Invalid` for a column of no value, or of one alone where a spread is wanted; nothing is learned from an infinity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from loopline.errors import Invalid
from loopline.quality import cleaning_steps as declared
from loopline.quality.cleaning_columns import SPACE, Column, Doubles, Places, Text, missing, texts
from loopline.quality.cleaning_history import Carried, Lagged, Smoothed, Windowed
from loopline.quality.cleaning_numbers import DateParts, Fill, Flagged, Limit, Scaled
from loopline.quality.cleaning_step import Kind, RowStep, Value
from loopline.quality.cleaning_texts import (
    Hashed,
    OneHot,
    Ranked,
    ReadBoolean,
    ReadDate,
    ReadNumber,
    Recoded,
    Respell,
    ToMissing,
)
from loopline.quality.cleaning_work import Work, empty, spread, unsuited


def fit(work: Work, name: str, step: declared.Step) -> RowStep:
    """What a step learns of a column of the training rows."""
    return _FITS[type(step)](work, name, step)


def bounds(work: Work, name: str, step: declared.Outliers) -> tuple[int | float, int | float]:
    """The least and the largest number of a column that are no outliers; whole ones for whole numbers."""
    finite = _finite(work, name)
    if step.by == "quantiles":
        low, high = np.quantile(finite, [step.low, step.high], method="nearest").tolist()
    else:
        width = (step.width or declared.WIDTHS[step.by]) * spread(finite, step)[1]
        if not width:
            raise _constant(name, step, "half of its values or more are the same")
        if step.by == "iqr":
            below, above = np.quantile(finite, [0.25, 0.75]).tolist()
        else:
            below = above = float(np.median(finite))
        low, high = below - width, above + width
        if work.kinds[name] == "integer":
            low, high = float(np.floor(low)), float(np.ceil(high))
    return (int(low), int(high)) if work.kinds[name] == "integer" else (low, high)


def _constant(name: str, step: declared.Step, why: str) -> Invalid:
    return Invalid(
        f"The step {step.word!r} finds no spread in the column {name!r}: {why}.",
        code="cleaning-constant",
        hint="Leave the column out" + (", or go by quantiles." if isinstance(step, declared.Outliers) else "."),
    )


def _finite(work: Work, name: str) -> Doubles:
    values = cast(Doubles, work.rows[name])
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise empty(name, work.rows.n)
    return finite


def _scaled(work: Work, name: str, step: declared.Scale) -> RowStep:
    centre, unit = spread(_finite(work, name), step)
    if not 0 < unit < float("inf"):
        raise _constant(name, step, "its values are all, or nearly all, the same")
    return Scaled(column=name, center=centre, unit=unit)


def _limit(work: Work, name: str, step: declared.Clip) -> RowStep:
    low, high = bounds(work, name, step)
    return Limit(column=name, low=low, high=high)


def _flagged(work: Work, name: str, step: declared.Flag) -> RowStep:
    low, high = bounds(work, name, step)
    return Flagged(column=name, low=low, high=high)


def _fill(work: Work, name: str, step: declared.Median | declared.Mean | declared.Mode) -> RowStep:
    column, kind = work.rows[name], work.kinds[name]
    present = ~missing(column)
    if not isinstance(column, Text):
        present &= np.isfinite(column)
    if not present.any():
        raise empty(name, work.rows.n)
    learn = _LEARNS[type(step)]
    filling = _value(learn(_where(column, present)), kind)
    if step.group is None:
        return Fill(column=name, how=step.word, filling=filling)
    if step.group == name:
        raise step.refused(f"would fill {name!r} by its own groups", "Name another column as group.")
    group = work.rows[step.group]
    known = present & ~missing(group)
    keys = texts(group) if isinstance(group, Text) else group
    found: list[tuple[Value, Value]] = []
    for key, places in _groups(keys, known):
        found.append((key, _value(learn(_where(column, places)), kind)))
    return Fill(
        column=name,
        how=step.word,
        filling=filling,
        group=step.group,
        keys=tuple(key for key, _ in found),
        fillings=tuple(value for _, value in found),
    )


def _groups(keys: Column, known: np.ndarray) -> list[tuple[Value, Places]]:
    """The places of each key among the rows that are known, in the order of the keys."""
    places = np.flatnonzero(known)
    values: Any = np.array(keys.values(), dtype=object)[places] if isinstance(keys, Text) else keys[places]
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    if not len(ordered):
        return []
    edges = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return list(zip(ordered[edges].tolist(), np.split(places[order], edges[1:]), strict=True))


def _where(column: Column, where: Any) -> list[Any] | Doubles:
    """The values at a mask or at places."""
    if isinstance(column, Text):
        return [column.levels[code] for code in column.codes[where].tolist()]
    found: Doubles = column[where]
    return found


def _value(value: Any, kind: Kind) -> Value:
    """A statistic as a value that the column could hold."""
    if kind == "text":
        return str(value)
    if kind == "boolean":
        return bool(value)
    if not np.isfinite(value):
        raise Invalid(
            "A column has values too large for a mean.", code="cleaning-type", hint="Take its median, or clip it first."
        )
    return round(float(value)) if kind == "integer" else float(value)


def _mean(values: Any) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean(values))


def _mode(values: Any) -> Any:
    counted = Counter(values if isinstance(values, list) else values.tolist())
    most = max(counted.values())
    return min(value for value, count in counted.items() if count == most)


_LEARNS: dict[type[declared.Step], Callable[[Any], Any]] = {
    declared.Median: lambda values: np.quantile(values, 0.5, method="nearest"),  # a value that was really seen
    declared.Mean: _mean,
    declared.Mode: _mode,
}


def _constant_fill(work: Work, name: str, step: declared.Constant) -> RowStep:
    kind, value = work.kinds[name], step.value
    wanted = {"text": str, "boolean": bool}.get(kind, int | float)
    if (
        not isinstance(value, wanted)
        or (isinstance(value, bool) and kind != "boolean")
        or value != value
        or value == ""
    ):
        raise unsuited(name, kind, f"constant {value!r}")
    return Fill(column=name, how=step.word, filling=value)


def _respell(work: Work, name: str, step: declared.Repair) -> RowStep:
    counted = Counter(cast(Text, work.rows[name]).values())
    spelling: dict[str, str] = {}
    for value, _ in sorted(counted.items(), key=lambda one: (-one[1], one[0])):
        if trimmed := value.strip(SPACE):
            spelling.setdefault(trimmed.casefold(), trimmed)
    return Respell(column=name, spelling=dict(sorted(spelling.items())))


def _counts(work: Work, name: str) -> list[tuple[str, int]]:
    """The categories of a column, the most frequent first."""
    counted = Counter(texts(work.rows[name]).values())
    counted.pop("", None)
    if not counted:
        raise empty(name, work.rows.n)
    return sorted(counted.items(), key=lambda one: (-one[1], one[0]))


def _pooled(work: Work, name: str, step: declared.Rare) -> RowStep:
    kept = [level for level, count in _counts(work, name) if count >= step.below]
    return Recoded(column=name, how=step.word, to={level: level for level in sorted(kept)}, other=step.into)


def _one_hot(work: Work, name: str, step: declared.OneHot) -> RowStep:
    levels = [level for level, _ in _counts(work, name)[: step.most]]
    return OneHot(column=name, levels=tuple(sorted(levels)))


_FITS: dict[type[declared.Step], Callable[[Work, str, Any], RowStep]] = {
    declared.Placeholders: lambda _, c, s: ToMissing(column=c, tokens=tuple(t.strip(SPACE) for t in s.tokens)),
    declared.Repair: _respell,
    declared.Number: lambda _, c, s: ReadNumber(column=c, units=s.units, decimal=s.decimal),
    declared.Date: lambda _, c, s: ReadDate(column=c, format=s.format),
    declared.Boolean: lambda _, c, s: ReadBoolean(
        column=c, true=tuple(map(str.casefold, s.true)), false=tuple(map(str.casefold, s.false))
    ),
    declared.Recode: lambda _, c, s: Recoded(column=c, how=s.word, to=s.to, other=s.other),
    declared.Rare: _pooled,
    declared.Constant: _constant_fill,
    declared.Median: _fill,
    declared.Mean: _fill,
    declared.Mode: _fill,
    declared.Forward: lambda _, c, s: Carried(column=c, time=s.time, group=s.group, rows=s.rows),
    declared.Smooth: lambda _, c, s: Smoothed(column=c, time=s.time, group=s.group, rows=s.rows, how=s.how),
    declared.Lag: lambda w, c, s: Lagged(column=c, time=s.time, group=s.group, rows=s.rows, kind=w.kinds[c]),
    declared.Window: lambda _, c, s: Windowed(column=c, time=s.time, group=s.group, rows=s.rows, take=s.take),
    declared.Clip: _limit,
    declared.Flag: _flagged,
    declared.Scale: _scaled,
    declared.Ordinal: lambda _, c, s: Ranked(column=c, order=s.order),
    declared.OneHot: _one_hot,
    declared.DateParts: lambda _, c, s: DateParts(column=c, parts=s.parts),
    declared.Hashed: lambda _, c, s: Hashed(column=c, into=s.into),
}


def read_nothing(work: Work, made: RowStep, before: Column) -> None:
    """Raises `Invalid` where a column of texts was to be read as values and none of them could be."""
    if not isinstance(made, ReadNumber | ReadDate | ReadBoolean) or missing(before).all():
        return
    if missing(work.rows[made.column]).all():
        raise Invalid(
            f"No value of the column {made.column!r} can be read as a {made.word}.",
            code="cleaning-type",
            hint="Look at the column, and say its decimals and units, its format or its words.",
        )

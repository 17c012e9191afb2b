"""Training rows on their way through a cleaning: which columns a step is about, and what would be wrong with it.

Raises `Invalid` for a column that is not there or of the wrong kind, and for two steps that want the same column.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from loopline.errors import Invalid, did_you_mean
from loopline.quality import cleaning_steps as declared
from loopline.quality.cleaning_columns import Doubles, Text, missing
from loopline.quality.cleaning_frame import FrameRows
from loopline.quality.cleaning_step import Kind, RowStep

NUMBERS: frozenset[Kind] = frozenset({"number", "integer"})
DATES: frozenset[Kind] = frozenset({"date", "moment"})
TEXT: frozenset[Kind] = frozenset({"text"})
CODES: frozenset[Kind] = TEXT | {"integer", "boolean"}
ANY: frozenset[Kind] = CODES | NUMBERS | DATES
_SUITS: dict[type[declared.Step], frozenset[Kind]] = {
    **dict.fromkeys((declared.Placeholders, declared.Repair, declared.Hashed, declared.NearDuplicates), TEXT),
    **dict.fromkeys((declared.Number, declared.Date, declared.Boolean), CODES),
    **dict.fromkeys((declared.Recode, declared.Rare, declared.Ordinal, declared.OneHot), CODES),
    **dict.fromkeys((declared.Median, declared.Mean, declared.Smooth, declared.Window, declared.Scale), NUMBERS),
    **dict.fromkeys((declared.Clip, declared.Flag, declared.Quarantine), NUMBERS),
    **dict.fromkeys((declared.Mode, declared.Constant), CODES | NUMBERS),
    **dict.fromkeys((declared.Forward, declared.Lag, declared.Deduplicate), ANY),
    declared.DateParts: DATES,
}
_OF_ALL: dict[type[declared.Step], frozenset[Kind]] = {  # a code's number is no category, unless it is named
    declared.Rare: TEXT,
    declared.Mode: TEXT | {"boolean"},
}
_SORTS: tuple[tuple[type[declared.Step], ...], ...] = (
    (declared.Constant, declared.Median, declared.Mean, declared.Mode),
    (declared.Number, declared.Date, declared.Boolean),
)
"""Steps that do the same to a column: it has one of them."""
_AGAIN = (declared.Placeholders, declared.Recode, declared.Lag, declared.Window, declared.Deduplicate)
"""Steps that a column may have several of."""


class Work:
    """Training rows on their way through the steps: their columns and kinds, and what has been done to which."""

    def __init__(
        self,
        rows: FrameRows,
        kinds: dict[str, Kind],
        steps: Sequence[declared.Step],
        *,
        keep: Collection[str],
        hidden: Collection[str],
    ) -> None:
        self.rows = rows
        self.kinds = kinds
        self.named = {(_sort(step), name) for step in steps for name in step.columns}
        self.keep = keep
        self.hidden = hidden
        self.done: dict[tuple[Any, str], str] = {}
        self.gone: dict[str, str] = {}
        self.history: tuple[str, str | None] | None = None

    def about(self, step: declared.Step) -> list[str]:
        """The columns that a step is about: those it names, or all that suit it and none of its sort had."""
        for name in (*step.columns, *filter(None, (getattr(step, "time", None), getattr(step, "group", None)))):
            self.check(step, name)
        suits, sort = _SUITS[type(step)], _sort(step)
        for name in step.columns:
            if name in self.keep and not isinstance(step, declared.Deduplicate):
                raise Invalid(
                    f"The step {step.word!r} may not change the column {name!r}: it is the label, the time or the group.",
                    code="cleaning-column",
                    hint="Name other columns; this one says what rows are.",
                )
            if self.kinds[name] not in suits:
                raise unsuited(name, self.kinds[name], step.word)
            if (before := self.done.get((sort, name))) is not None and not isinstance(step, _AGAIN):
                raise Invalid(
                    f"Two steps want the column {name!r}: {before!r} and {step.word!r}.",
                    code="cleaning-twice",
                    hint="Leave one of them out: the second would undo the first, or find nothing to do.",
                )
        if isinstance(step, declared.Flag | declared.Quarantine):
            for name in step.columns or self.kinds:
                if (declared.Clip, name) in self.done:
                    raise Invalid(
                        f"Two steps want the column {name!r}: 'clip', after which no outlier is left to {step.word!r}.",
                        code="cleaning-twice",
                        hint=f"Put {step.word!r} before 'clip'.",
                    )
        if step.columns:
            return list(step.columns)
        suits = _OF_ALL.get(type(step), suits)
        return [
            name
            for name, kind in self.kinds.items()
            if kind in suits
            and name not in self.keep
            and (sort, name) not in self.named
            and (sort, name) not in self.done
            and self.teaches(name, step)
        ]

    def teaches(self, name: str, step: declared.Step) -> bool:
        """Whether a column that is not named has enough values for a step to learn from."""
        present = self.rows[name]
        if isinstance(present, Text):
            return not missing(present).all()
        finite = present[np.isfinite(present)]
        if isinstance(step, declared.Scale | declared.Outliers) and not (
            isinstance(step, declared.Clip) and step.by == "quantiles"
        ):
            return bool(len(finite)) and spread(finite, step)[1] > 0
        return bool(len(finite))

    def check(self, step: declared.Step, name: str) -> None:
        """Raises `Invalid` for a column that is not there, not any more, or not to be looked at."""
        if name in self.gone:
            raise Invalid(
                f"The step {step.word!r} speaks of the column {name!r}, which {self.gone[name]!r} took apart before it.",
                code="cleaning-twice",
                hint="Put it before that step, or name the columns that came of it.",
            )
        if name not in self.kinds:
            raise Invalid(
                f"The cleaning speaks of a column {name!r} that the table does not have, or that holds no plain values.",
                code="cleaning-column",
                hint=did_you_mean(name, self.kinds),
            )
        if name in self.hidden:
            raise Invalid(
                f"The step {step.word!r} would read {name!r}, the label.",
                code="cleaning-column",
                hint="Nothing may be made from what is to be predicted.",
            )

    def take(self, step: declared.Step, made: RowStep) -> None:
        """Does a fitted step to the rows."""
        if new := [c for c in made.makes if c != made.column and c in self.kinds]:
            raise Invalid(
                f"The step {made.word!r} would make a column {new[0]!r}, which the table has already.",
                code="cleaning-twice",
                hint="Rename that column, or leave the step out.",
            )
        self.rows.write(made)
        for name, kind in made.makes.items():
            self.kinds[name] = kind or self.kinds[name]
        if made.drops:
            del self.kinds[made.column]
            self.gone[made.column] = made.word
        self.done[_sort(step), made.column] = step.word

    def one_order(self, step: declared.Step) -> None:
        """Raises `Invalid` where two steps look back along other orders, or an order that cannot be."""
        time, group = getattr(step, "time", None), getattr(step, "group", None)
        if time is None or isinstance(step, declared.Deduplicate):
            return
        if self.history not in (None, (time, group)):
            raise Invalid(
                f"The step {step.word!r} looks back by {time!r} and {group!r}, another before it by {self.history}.",
                code="cleaning-history",
                hint="All steps that look back take the same time and group, so that one history serves them.",
            )
        if self.kinds[time] not in NUMBERS | DATES:
            raise unsuited(time, self.kinds[time], f"{step.word} (time)")
        if gaps := int(missing(self.rows[time]).sum()):
            raise Invalid(
                f"The column {time!r} is to order the rows, and is missing in {gaps:,} of {self.rows.n:,}.",
                code="cleaning-history",
                hint="Set such rows aside by a contract: not_null.",
            )
        self.history = (time, group)


def _sort(step: declared.Step) -> Any:
    return next((sort for sort in _SORTS if isinstance(step, sort)), type(step))


def spread(finite: Doubles, step: declared.Step) -> tuple[float, float]:
    """Centre and spread of numbers, as a step of outliers or of scale asks for them."""
    by = getattr(step, "by", "standard")
    if by == "standard":
        with np.errstate(over="ignore", invalid="ignore"):
            centre, spread = float(finite.mean()), float(finite.std())
        # The rounding of a mean is no spread.
        return centre, spread if spread > 1e-12 * abs(centre) and np.isfinite(spread) else 0.0
    if by == "mad":
        centre = float(np.median(finite))
        return centre, float(np.median(np.abs(finite - centre))) / 0.6745
    if by == "range":
        return float(finite.min()), float(finite.max() - finite.min())
    low, middle, high = np.quantile(finite, [0.25, 0.5, 0.75]).tolist()
    return middle, high - low


def unsuited(name: str, kind: str, word: str) -> Invalid:
    """The error of a step on a column of another kind."""
    return Invalid(
        f"The step {word!r} does not suit the column {name!r}, which holds {kind} values.",
        code="cleaning-type",
        hint="Name other columns, or give the column its type first: number, date or boolean.",
    )


def empty(name: str, rows: int) -> Invalid:
    """The error of a column that has nothing to learn from."""
    return Invalid(
        f"The column {name!r} has no value in {rows:,} training rows to learn from.",
        code="cleaning-empty",
        hint="Leave the column out, or fill it with a constant.",
    )

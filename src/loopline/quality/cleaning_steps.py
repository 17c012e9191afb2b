"""Cleaning as it is declared: steps by name, in Python (`ll.clean.median("age")`) or TOML, in the order in which they are done.

A step that names no columns takes all that suit it and that no other step of its sort names. `group` is a column whose values
are learned for, or looked back along, apart; `time` one that orders rows. Only msgspec is imported here: a loop's file declares
its cleaning without loading polars. `quality.cleaning` fits the steps.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal, Self, get_args

import msgspec

from loopline.errors import Invalid, did_you_mean
from loopline.quality.cleaning_history import Take
from loopline.quality.cleaning_numbers import Part
from loopline.quality.cleaning_step import Value

PLACEHOLDERS = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "Unknown/Invalid")
Method = Literal["quantiles", "iqr", "mad"]
WIDTHS = {"quantiles": 0.0, "iqr": 1.5, "mad": 3.5}  # Tukey 1977; Iglewicz and Hoaglin 1993
_MOST_ROWS = 1_000


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="step"):
    """A declared step; `columns` are those that it is about."""

    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, *columns: str, **options: object) -> Self:
        """The step of these columns; the options are its fields. Raises `Invalid` for what it does not take."""
        word = str(cls.__struct_config__.tag)
        made = _step({"step": word, "columns": columns, **options}, f"clean.{word}()")
        assert isinstance(made, cls)
        return made

    @property
    def word(self) -> str:
        """What the step is called, here and in reports."""
        return str(self.__struct_config__.tag)

    def refused(self, why: str, hint: str) -> Invalid:
        """The error of a step that cannot be."""
        return Invalid(f"The step {self.word!r} {why}.", code="cleaning-step", hint=hint)

    def __post_init__(self) -> None:
        if not all(self.columns) or len(set(self.columns)) < len(self.columns):
            raise self.refused(f"names the columns {list(self.columns)}", "Name each column once.")
        if not self.columns and not isinstance(self, OPEN):
            raise self.refused("names no column", f'Write, say, ll.clean.{self.word}("age", ...).')


class Placeholders(Step, frozen=True, kw_only=True, tag="placeholders"):
    """Texts that stand for "not known" become missing."""

    tokens: tuple[str, ...] = PLACEHOLDERS


class Repair(Step, frozen=True, kw_only=True, tag="repair"):
    """Categories that differ by case or by the space around them are one, in training's most frequent spelling."""


class Number(Step, frozen=True, kw_only=True, tag="number"):
    """Texts are read as numbers; `units` are the factors of the units that may stand behind them."""

    units: dict[str, float] = {}
    decimal: Literal[".", ","] = "."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(math.isfinite(factor) and factor for factor in self.units.values()):
            raise self.refused("has a unit of no size", 'Give factors: units={"kg": 1, "g": 0.001}.')


class Date(Step, frozen=True, kw_only=True, tag="date"):
    """Texts are read as dates, by a format of strptime or (where it is empty) as ISO 8601."""

    format: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            datetime.strptime(datetime(2000, 1, 2, tzinfo=UTC).strftime(self.format), self.format)  # noqa: DTZ007
        except Exception as error:  # strptime raises whatever the regular expression that it builds does
            raise self.refused(f"cannot read by {self.format!r}", "Write, say, format='%d.%m.%Y'.") from error


class Boolean(Step, frozen=True, kw_only=True, tag="boolean"):
    """Texts are read as true or false."""

    true: tuple[str, ...] = ("true", "yes", "y", "t", "1")
    false: tuple[str, ...] = ("false", "no", "n", "f", "0")

    def __post_init__(self) -> None:
        super().__post_init__()
        if both := {v.casefold() for v in self.true} & {v.casefold() for v in self.false}:
            raise self.refused(f"takes {min(both)!r} as true and as false", "Give each text one meaning.")


class Recode(Step, frozen=True, kw_only=True, tag="recode"):
    """Categories become what they are mapped to; others stay, or become `other`."""

    to: dict[str, str]
    other: str | None = None


class Rare(Step, frozen=True, kw_only=True, tag="rare"):
    """Categories of fewer training rows than `below`, and those unknown to training, become one."""

    below: int = 20
    into: str = "other"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.below < 1 or not self.into:
            raise self.refused(f"pools below {self.below} into {self.into!r}", "Write, say, below=20, into='other'.")


class Constant(Step, frozen=True, kw_only=True, tag="constant"):
    """Missing values become this one."""

    value: Value


class Median(Step, frozen=True, kw_only=True, tag="median"):
    """Missing numbers become training's median, of their group where one is named."""

    group: str | None = None


class Mean(Step, frozen=True, kw_only=True, tag="mean"):
    """Missing numbers become training's mean, of their group where one is named."""

    group: str | None = None


class Mode(Step, frozen=True, kw_only=True, tag="mode"):
    """Missing values become training's most frequent one, of their group where one is named."""

    group: str | None = None


class _OfHistory(Step, frozen=True, kw_only=True):
    time: str
    group: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = getattr(self, "rows", ())
        if not all(1 <= n <= _MOST_ROWS for n in (rows if isinstance(rows, tuple) else (rows,))) or rows == ():
            raise self.refused(f"looks back {rows} rows", f"From 1 to {_MOST_ROWS:,} rows.")


class Forward(_OfHistory, frozen=True, kw_only=True, tag="forward"):
    """Missing values become the last one before them, of at most so many rows before."""

    rows: int = 10


class Smooth(_OfHistory, frozen=True, kw_only=True, tag="smooth"):
    """Numbers become the median or mean of the last so many, themselves among them."""

    rows: int = 5
    how: Literal["median", "mean"] = "median"


class Lag(_OfHistory, frozen=True, kw_only=True, tag="lag"):
    """Further columns hold the values of so many rows before."""

    rows: tuple[int, ...] = (1,)


class Window(_OfHistory, frozen=True, kw_only=True, tag="window"):
    """Further columns hold what the last so many values come to."""

    rows: int = 5
    take: tuple[Take, ...] = ("mean", "std")


class Outliers(Step, frozen=True, kw_only=True):
    """Numbers outside bounds of training: two quantiles, or so many (`width`) spreads beyond the quartiles or the median.

    `iqr`: the interquartile range beyond the quartiles (Tukey 1977); `mad`: the median absolute deviation, by which 0.6745 is a
    standard deviation of a normal distribution (Iglewicz and Hoaglin 1993).
    """

    by: Method = "quantiles"
    width: float | None = None
    low: float = 0.001
    high: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low < self.high <= 1:
            raise self.refused(f"has the quantiles {self.low} and {self.high}", "Need 0 <= low < high <= 1.")
        if self.width is not None and (self.by == "quantiles" or not 0 < self.width < math.inf):
            raise self.refused(
                f"has the width {self.width} by {self.by}", "A width is above 0, and goes with by='iqr' or by='mad'."
            )


class Clip(Outliers, frozen=True, kw_only=True, tag="clip"):
    """Outliers become the nearest bound."""


class Flag(Outliers, frozen=True, kw_only=True, tag="flag"):
    """A further column says which numbers are outliers."""


class Quarantine(Outliers, frozen=True, kw_only=True, tag="quarantine"):
    """Training rows with outliers are set aside."""


class Scale(Step, frozen=True, kw_only=True, tag="scale"):
    """Numbers are centred and scaled: by mean and standard deviation, median and interquartile range, or least and range."""

    by: Literal["standard", "robust", "range"] = "standard"


class Ordinal(Step, frozen=True, kw_only=True, tag="ordinal"):
    """Categories become their places in an order."""

    order: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.order)) < max(2, len(self.order)):
            raise self.refused(f"has the order {list(self.order)}", "Name two or more categories, each once.")


class OneHot(Step, frozen=True, kw_only=True, tag="one_hot"):
    """Categories become columns of 0 and 1, of at most so many of training's most frequent levels."""

    most: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.most <= 1_000:
            raise self.refused(f"makes {self.most} columns", "From 1 to 1,000.")


class DateParts(Step, frozen=True, kw_only=True, tag="date_parts"):
    """Dates become parts of the calendar."""

    parts: tuple[Part, ...] = ("year", "month", "day", "weekday", "hour")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.parts:
            raise self.refused("names no part", "Write, say, parts=['month', 'weekday'].")


class Hashed(Step, frozen=True, kw_only=True, tag="hashed"):
    """Texts become the signed counts of their words in so many columns."""

    into: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.into <= 4_096:
            raise self.refused(f"makes {self.into} columns", "From 2 to 4,096.")


class Deduplicate(Step, frozen=True, kw_only=True, tag="deduplicate"):
    """Of training rows that are equal, in these columns or in all, one stays; the others are set aside."""

    keep: Literal["first", "last", "fullest"] = "first"
    time: str | None = None


class NearDuplicates(Step, frozen=True, kw_only=True, tag="near_duplicates"):
    """Of training rows whose texts are nearly the same the first stays; the others are set aside."""

    similarity: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.columns) != 1 or not 0.5 <= self.similarity <= 1:
            raise self.refused("wants one column, and a similarity from 0.5 to 1", "Write similarity=0.9.")


AnyStep = (
    Placeholders
    | Repair
    | Number
    | Date
    | Boolean
    | Recode
    | Rare
    | Constant
    | Median
    | Mean
    | Mode
    | Forward
    | Smooth
    | Lag
    | Window
    | Clip
    | Flag
    | Quarantine
    | Scale
    | Ordinal
    | OneHot
    | DateParts
    | Hashed
    | Deduplicate
    | NearDuplicates
)
STEPS: dict[str, type[Step]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyStep)}
OPEN = (Placeholders, Repair, Rare, Median, Mean, Mode, Clip, Flag, Quarantine, Scale, Deduplicate)
"""The steps that may name no columns."""


def steps(shape: object) -> tuple[AnyStep, ...]:
    """The steps of JSON or TOML values, a list of objects each with its `step`. Raises `Invalid` naming the place."""
    if not isinstance(shape, list):
        raise Invalid("A cleaning is a list of steps.", code="cleaning-step", hint="Begin each step with [[steps]].")
    return tuple(_step(one, f"Step {n} of the cleaning") for n, one in enumerate(shape, 1))


def _step(shape: object, what: str) -> AnyStep:
    word = shape.get("step") if isinstance(shape, dict) else None
    if isinstance(word, str) and word not in STEPS:
        raise Invalid(f"{what}: there is no {word!r}.", code="cleaning-step", hint=did_you_mean(word, STEPS))
    try:
        made: AnyStep = msgspec.convert(shape, AnyStep)
    except msgspec.ValidationError as error:
        known = ", ".join(STEPS[word].__struct_fields__) if isinstance(word, str) else ", ".join(STEPS)
        raise Invalid(f"{what} cannot be: {error}.", code="cleaning-step", hint=f"There are {known}.") from error
    return made


class clean:
    """Where a loop declares its cleaning: `ll.clean.median("age", group="sex")`. Options are the fields of the step named."""

    placeholders = Placeholders.of
    repair = Repair.of
    number = Number.of
    date = Date.of
    boolean = Boolean.of
    recode = Recode.of
    rare = Rare.of
    constant = Constant.of
    median = Median.of
    mean = Mean.of
    mode = Mode.of
    forward = Forward.of
    smooth = Smooth.of
    lag = Lag.of
    window = Window.of
    clip = Clip.of
    flag = Flag.of
    quarantine = Quarantine.of
    scale = Scale.of
    ordinal = Ordinal.of
    one_hot = OneHot.of
    date_parts = DateParts.of
    hashed = Hashed.of
    deduplicate = Deduplicate.of
    near_duplicates = NearDuplicates.of

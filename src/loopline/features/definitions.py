"""The words that define features: `feature_view` and `feature`. One definition serves training (offline) and serving (online).

A view tells, for an entity (a patient, an engine) and a moment, what its events before that moment come to. A definition is data:
expressions are SQL over the columns of one row, so that nothing in it can look beyond the rows that were known at the moment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import msgspec

from loopline.errors import Invalid, did_you_mean
from loopline.hashing import digest_json
from loopline.refs import check_name

Aggregate = Literal["last", "count", "sum", "mean", "min", "max", "std"]

_ROW_WISE = frozenset(
    {
        "abs", "ceil", "floor", "round", "sqrt", "cbrt", "exp", "ln", "log", "log2", "log10", "log1p", "pow", "mod", "sign",
        "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "degrees", "radians", "coalesce", "nullif", "greatest", "least",
        "if", "lower", "upper", "initcap", "length", "char_length", "octet_length", "trim", "ltrim", "rtrim", "left", "right",
        "substr", "replace", "reverse", "concat", "concat_ws", "starts_with", "ends_with", "regexp_like", "cast", "try_cast",
        "decimal", "varchar", "extract", "date_part", "date", "datetime", "strptime", "strftime", "and", "or", "not", "in",
        "when", "then", "else", "between", "case", "is",
    }
)  # fmt: skip
"""What may stand before a parenthesis: functions of one row, and the words of SQL."""

_BEYOND = frozenset(
    {"over", "select", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature of a view: what `by` makes of the values `of` in the events of the span `over` before a moment.

    `of` is SQL over the columns of one event (empty for a count: of the events). "count" is of the values that are there, and 0
    without any; the others are missing then. "last" is the value of the last event, there or not. `over` is a duration ("90d"),
    or a number in the unit of a time that is a number; empty: the view's `ttl`.
    """

    name: str
    of: str = ""
    by: Aggregate = "last"
    over: str = ""


class FeatureView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Features of one entity, from the events of one dataset.

    An event counts at a moment where it happened before it (`time`; at the very moment is too late), was known before it (`known`:
    when its row arrived; None: at once), and is no older than the feature's span. Of several at one time the last is the one that
    was known last, and of these the one whose row comes last. A date without a time of day is over at its end (UTC).
    """

    name: str
    source: str
    entity: str
    time: str
    known: str | None = None
    ttl: str = ""
    features: tuple[Feature, ...]

    @property
    def digest(self) -> str:
        """Of the definition: the same one has the same digest."""
        return digest_json(msgspec.to_builtins(self))

    def column(self, feature: Feature) -> str:
        """What a feature is called as a column of a table."""
        return f"{self.name}_{feature.name}"


def feature(name: str, of: str = "", *, by: Aggregate = "last", over: str = "") -> Feature:
    """A feature: `feature("days_90", "time_in_hospital", by="mean", over="90d")`. See `Feature`."""
    return Feature(name=name, of=of, by=by, over=over)


def feature_view(
    name: str,
    *,
    source: str,
    entity: str,
    time: str,
    features: Sequence[Feature],
    known: str | None = None,
    ttl: str = "",
) -> FeatureView:
    """Features of an entity by its events: `source` is a dataset, `entity` and `time` are columns of it. See `FeatureView`.

    Raises `Invalid` (code "bad-feature") for a definition that cannot be.
    """
    view = FeatureView(
        name=name, source=source, entity=entity, time=time, known=known, ttl=ttl, features=tuple(features)
    )
    check_view(view)
    return view


def check_view(view: FeatureView) -> None:
    """Raises `Invalid` where the definition cannot be: no features, a name twice, an unknown aggregate, SQL of more than a row."""
    check_name(view.name, "name of a feature view")
    if not view.features:
        raise _bad(f"The feature view {view.name!r} has no features.", "Give at least one ll.feature(...).")
    named: set[str] = set()
    for one in view.features:
        if not re.fullmatch(r"[A-Za-z]\w{0,99}", one.name, re.ASCII):
            raise _bad(
                f"{one.name!r} cannot be the name of a feature.", "Letters, digits and '_' only, a letter first."
            )
        if one.name in named:
            raise _bad(f"The feature view {view.name!r} has two features {one.name!r}.", "Give each a name of its own.")
        named.add(one.name)
        if one.by not in get_args(Aggregate):
            raise _bad(f"There is no aggregate {one.by!r}.", did_you_mean(str(one.by), get_args(Aggregate)))
        if not one.of.strip() and one.by != "count":
            raise _bad(f"The feature {one.name!r} is the {one.by} of nothing.", "Name a column, or SQL over columns.")
        _check_row_wise(one)


def _check_row_wise(one: Feature) -> None:
    """An expression of one row knows nothing of rows that came later, nor of today. What does is a function, a window or a word."""
    bare = _QUOTED.sub("q", one.of)
    called = {word.lower() for word in re.findall(r"(\w+)\s*\(", bare)}
    words = {word.lower() for word in re.findall(r"\w+", bare)}
    odd = sorted((called - _ROW_WISE) | (words & _BEYOND)) or re.findall(r"[^\w\s.,()+\-*/%<>=!|:&]|--|/\*", bare)
    if odd:
        raise _bad(
            f"The feature {one.name!r} uses {odd[0].upper()} in {one.of!r}, which may look beyond a row.",
            "Write an expression of one row's columns; aggregates are said by `by` and `over`.",
        )


def _bad(message: str, hint: str) -> Invalid:
    return Invalid(message, code="bad-feature", hint=hint)


def from_json(declaration: dict[str, Any]) -> FeatureView:
    """A view out of JSON values, checked."""
    try:
        view = msgspec.convert(declaration, FeatureView)
    except msgspec.ValidationError as e:
        raise _bad(f"This is no feature view: {e}.", "Declare it by ll.feature_view(...).") from e
    check_view(view)
    return view

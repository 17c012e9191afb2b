"""Features as they were at a moment: of each asked (entity, moment) what the events known before it come to.

The rules are those of `definitions.FeatureView`. For training the moments are those of the rows to learn from; for serving it is
one moment for all entities. Both are this one function, and so give the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.records import LabelColumn
from loopline.durations import milliseconds
from loopline.errors import Invalid, did_you_mean
from loopline.features.definitions import Feature, FeatureView

_DAY = 86_400_000_000
_AT_ONCE = 4_000_000
"""As many (moment, event) pairs are held at a time."""

_FAR = 2**53
_NUMBERS = ("sum", "mean", "std")


class Events:
    """The events of a view, made ready once: sorted by entity, time, when they were known and where they stood.

    `labels` are columns that become known later than their row: what is made of one counts only from then on.
    """

    def __init__(self, view: FeatureView, frame: pl.DataFrame, labels: Sequence[LabelColumn] = ()) -> None:
        self.view = view
        for name in filter(None, (view.entity, view.time, view.known)):
            _need(frame, name, view.source)
        self.temporal = _is_temporal(frame, view.time, view.source)
        if view.known is not None and _is_temporal(frame, view.known, view.source) != self.temporal:
            raise Invalid(
                f"{view.time!r} and {view.known!r} of {view.source} are not of one kind.",
                code="bad-feature",
                hint="Give both as dates, or both as numbers.",
            )
        times = {"_t": _moment(frame, view.time, end=True)}
        times["_k"] = times["_t"] if view.known is None else _moment(frame, view.known, end=True)
        values = {f"_{place}": _value(frame, one) for place, one in enumerate(view.features)}
        self.later = {
            place: known
            for place, one in enumerate(view.features)
            if (known := _label_known(frame, one, labels, temporal=self.temporal))
        }
        columns = [
            *(pl.max_horizontal(known).alias(f"_k{place}") for place, known in self.later.items()),
            _key(frame, view.entity).alias("_e"),
            *(expr.alias(name) for name, expr in times.items()),
            *(expr.alias(name) for name, expr in values.items()),
        ]
        rows = frame.select(columns).with_row_index("_row").drop_nulls(["_e", "_t", "_k"])
        # A row that says it was known before it happened was known when it happened.
        rows = rows.with_columns(pl.max_horizontal("_t", "_k").alias("_k"))
        rows = rows.with_columns(
            pl.when(pl.col(f"_k{place}").is_not_null()).then(pl.max_horizontal("_k", f"_k{place}")).alias(f"_k{place}")
            for place in self.later
        )
        self.rows = rows.sort("_e", "_t", "_k", "_row").drop("_row").with_row_index("_at")
        self.late = view.known is not None

    def moment(self, as_of: float | None) -> Any:
        """A moment in the time's own kind: milliseconds since 1970 where it is a date. None: after all events."""
        if as_of is not None and not abs(as_of) <= _FAR:
            raise Invalid(f"{as_of} is no moment.", code="bad-time", hint="Give milliseconds since 1970-01-01 UTC.")
        if as_of is not None:
            return int(as_of * 1000) if self.temporal else self._own(as_of)
        newest: Any = self.rows["_k"].max()
        if newest is None:
            return 0
        return newest + 1 if isinstance(newest, int) else float(np.nextafter(newest, np.inf))

    def entities(self, moment: Any) -> pl.DataFrame:
        """The entities of which something was known at a moment, in order."""
        return self.rows.filter(pl.col("_k") < moment).select("_e").unique(maintain_order=True)

    def _own(self, number: float) -> Any:
        return float(number) if self.rows.schema["_t"].is_float() else int(number)


def at_moments(events: Events, asked: pl.DataFrame, entity: str, time: str) -> pl.DataFrame:
    """A column for each feature, a row for each row of `asked`, in its order: as it was at the time that the row says.

    A row without an entity or a time has no features but counts of 0. Raises `Invalid` where the columns are not there or the time
    is of another kind than the events'.
    """
    _need(asked, entity, "the table")
    _need(asked, time, "the table")
    if _is_temporal(asked, time, "the table") != events.temporal:
        raise Invalid(
            f"{time!r} holds {asked.schema[time]}, and {events.view.name} times its events by {events.view.time!r} otherwise.",
            code="bad-feature",
            hint="Give both as dates, or both as numbers of one unit.",
        )
    moments = asked.select(_key(asked, entity).alias("_e"), _moment(asked, time, end=False).alias("_t"))
    return features_of(events, moments)


def features_of(events: Events, moments: pl.DataFrame) -> pl.DataFrame:
    """As `at_moments`, for a frame of the columns `_e` (the entity as text) and `_t` (its moment)."""
    kind = pl.Float64 if moments.schema["_t"].is_float() or events.rows.schema["_t"].is_float() else pl.Int64
    rows = events.rows.with_columns(pl.col("_t", "^_k[0-9]*$").cast(kind))
    moments = moments.with_columns(pl.col("_t").cast(kind)).with_row_index("_q")
    found: dict[str, pl.Series] = {}
    spans: dict[str, list[int]] = {}
    for place, one in enumerate(events.view.features):
        spans.setdefault(one.over or events.view.ttl, []).append(place)
    for span, places in spans.items():
        low, high = _stretch(rows, moments, _span(span, events.temporal))
        for place in places:
            one = events.view.features[place]
            found[events.view.column(one)] = _aggregated(rows, moments, low, high, f"_{place}", one, events)
    return pl.DataFrame({events.view.column(one): found[events.view.column(one)] for one in events.view.features})


def _stretch(
    rows: pl.DataFrame, moments: pl.DataFrame, span: float | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The events of each moment's entity within the span before it: from the first to behind the last."""
    ordered = rows.select("_e", "_t", "_at").sort("_t", maintain_order=True)
    asked = moments.sort("_t", maintain_order=True, nulls_last=True)
    usable = asked.filter(pl.col("_t").is_not_null() & pl.col("_e").is_not_null())
    last = usable.join_asof(
        ordered, on="_t", by="_e", strategy="backward", allow_exact_matches=False, check_sortedness=False
    )
    high = np.zeros(moments.height, np.int64)
    high[usable["_q"].to_numpy()] = (last["_at"].cast(pl.Int64) + 1).fill_null(0).to_numpy()
    if span is None:
        begins = rows.group_by("_e").agg(pl.col("_at").min())
        first = usable.join(begins, on="_e", how="left", maintain_order="left")
    else:
        since = usable.with_columns((pl.col("_t") - span).cast(usable.schema["_t"]).alias("_t"))
        first = since.join_asof(ordered, on="_t", by="_e", strategy="forward", check_sortedness=False)
    low = high.copy()  # where no event is young enough
    found = first.drop_nulls("_at")
    low[found["_q"].to_numpy()] = found["_at"].to_numpy()
    return low, np.maximum(high, low)


def _aggregated(
    rows: pl.DataFrame,
    moments: pl.DataFrame,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    value: str,
    one: Feature,
    events: Events,
) -> pl.Series:
    known = value.replace("_", "_k") if value.replace("_", "_k") in rows.columns else "_k" if events.late else None
    if one.by == "last" and known is None:
        last = pl.Series(np.where(high > low, high - 1, -1)).replace(-1, None)
        return rows[value].gather(last)
    parts = []
    for start, stop in _chunks(high - low):
        lows = pl.Series(low[start:stop])
        pairs = (
            pl.DataFrame(
                {"_q": np.arange(start, stop), "_at": pl.int_ranges(lows, pl.Series(high[start:stop]), eager=True)}
            )
            .filter(pl.col("_at").list.len() > 0)
            .explode("_at")
        )
        pairs = pairs.with_columns(rows[value].gather(pairs["_at"]).alias("_v"))
        if known is not None:
            pairs = pairs.filter(rows[known].gather(pairs["_at"]) < moments["_t"].gather(pairs["_q"]))
        parts.append(pairs.group_by("_q", maintain_order=True).agg(_AGGREGATES[one.by].alias("_v")))
    made = pl.DataFrame({"_q": np.arange(moments.height)}).join(
        pl.concat(parts), on="_q", how="left", maintain_order="left"
    )["_v"]
    if one.by == "count":
        return made.fill_null(0).cast(pl.Int64)
    return _finite(made)


_AGGREGATES = {
    "last": pl.col("_v").last(),
    "count": pl.col("_v").count(),
    "sum": pl.when(pl.col("_v").count() > 0).then(pl.col("_v").sum()),
    "mean": pl.col("_v").mean(),
    "min": pl.col("_v").min(),
    "max": pl.col("_v").max(),
    "std": pl.col("_v").std(),
}


def _chunks(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of moments of so many pairs at a time; at least one, however many pairs it has."""
    ends = np.cumsum(counts)
    start = 0
    while True:
        taken = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, taken + _AT_ONCE, side="right")), start + 1)
        yield start, min(stop, len(counts))
        if (start := stop) >= len(counts):
            return


def _value(frame: pl.DataFrame, one: Feature) -> pl.Expr:
    """What a feature is made of, for each event."""
    if not one.of.strip():
        return pl.lit(1)
    try:
        expr = pl.sql_expr(one.of)
        for name in expr.meta.root_names():
            _need(frame, name, f"the feature {one.name!r}")
        sample = frame.clear().with_columns(expr.alias("_"))
        kind = sample.schema["_"]
    except pl.exceptions.PolarsError as e:
        raise Invalid(
            f"The feature {one.name!r} cannot be computed: {str(e).splitlines()[0]}.",
            code="bad-feature",
            hint="Mend its SQL.",
        ) from e
    if kind == pl.Boolean:
        return expr.cast(pl.Int64) if one.by in _NUMBERS else expr
    if one.by in _NUMBERS and not (kind.is_numeric() or kind == pl.Null):
        raise Invalid(
            f"The feature {one.name!r} is the {one.by} of {kind} values.",
            code="bad-feature",
            hint="Give numbers, or take last, count, min or max.",
        )
    if kind.is_nested() or kind in (pl.Object, pl.Binary, pl.Duration, pl.Time):
        raise Invalid(f"The feature {one.name!r} is of {kind} values.", code="bad-feature", hint="Give plain values.")
    if kind.is_float():  # a number that is none, or not finite, is missing, here as in JSON
        return pl.when(expr.is_finite()).then(expr)
    return expr


def _label_known(frame: pl.DataFrame, one: Feature, labels: Sequence[LabelColumn], *, temporal: bool) -> list[pl.Expr]:
    """When the labels are known that a feature is made of."""
    made_of = pl.sql_expr(one.of).meta.root_names() if one.of.strip() else []
    found = []
    for label in labels:
        if label.column in made_of:
            if not temporal:
                raise Invalid(
                    f"The feature {one.name!r} is made of the label {label.column!r}, which is known {label.matures} after "
                    f"{label.time!r}, and the view's time is no date.",
                    code="bad-feature",
                    hint="Give the view a time that is a date, or leave the label out.",
                )
            matures = 1000 * milliseconds(label.matures, "a maturity")
            found.append(_moment(frame, label.time, end=True) + matures)
    return found


def _finite(series: pl.Series) -> pl.Series:
    return series.set(~series.is_finite(), None) if series.dtype.is_float() else series


def _span(text: str, temporal: bool) -> float | None:
    if not text:
        return None
    if temporal:
        return 1000 * milliseconds(text, "the span of a feature")
    try:
        span = float(text)
    except ValueError:
        span = -1.0
    if not 0 < span < float("inf"):
        raise Invalid(
            f"{text!r} is no span of a time that is a number.",
            code="bad-feature",
            hint="Give a number in its unit, such as '30'.",
        )
    return int(span) if span.is_integer() else span


def _moment(frame: pl.DataFrame, name: str, *, end: bool) -> pl.Expr:
    """Times as numbers that order them; a date without a time of day is its first moment, or (`end`) just before the next."""
    kind = frame.schema[name]
    if isinstance(kind, pl.Datetime):
        return pl.col(name).dt.timestamp("us")
    if kind == pl.Date:
        return pl.col(name).cast(pl.Datetime("us")).dt.timestamp("us") + (_DAY - 1 if end else 0)
    if kind.is_float():
        return pl.when(pl.col(name).is_finite()).then(pl.col(name)).cast(pl.Float64)
    return pl.col(name).cast(pl.Int64)


def _is_temporal(frame: pl.DataFrame, name: str, where: str) -> bool:
    kind = frame.schema[name]
    if kind in (pl.Date, pl.Datetime):
        return True
    if kind.is_integer() or kind.is_float():
        return False
    raise Invalid(
        f"The time {name!r} of {where} holds {kind}, which does not order events in time.",
        code="bad-feature",
        hint="Use ISO dates (2024-01-31 or 2024-01-31T10:30:00) or numbers that grow with time.",
    )


def _key(frame: pl.DataFrame, name: str) -> pl.Expr:
    kind = frame.schema[name]
    if kind.is_nested() or kind.is_float() or kind in (pl.Object, pl.Binary):
        raise Invalid(f"The entity {name!r} holds {kind}.", code="bad-feature", hint="Give texts or whole numbers.")
    return pl.col(name).cast(pl.String)


def _need(frame: pl.DataFrame, name: str, where: str) -> None:
    if name not in frame.columns:
        raise Invalid(
            f"There is no column {name!r} in {where}.", code="no-column", hint=did_you_mean(name, frame.columns)
        )

"""Which columns of a training frame can be features, and of which kind."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import cast

import polars as pl

from loopline.errors import Invalid
from loopline.features import boundary
from loopline.features.records import Dropped, Field, Inference, Kind

_LISTED = 1_000  # categories named in a field
_LONG = 60  # characters: longer strings on average are prose
_FEW = 50  # as many distinct strings are a category however few rows there are
_IDENTIFIER = re.compile(r"(^|[_\-. ])(id|ids|uuid|guid|key|nr|nbr|number|no|index|row)$|Id$|ID$", re.ASCII)


def infer_fields(frame: pl.DataFrame, *, label: str, ignore: Collection[str] = ()) -> tuple[Field, ...]:
    """The fields to learn from, in the frame's order: all columns but the label, the ignored and the unusable ones."""
    return infer(frame, label=label, ignore=ignore).fields


def infer(frame: pl.DataFrame, *, label: str, ignore: Collection[str] = (), typed: bool = False) -> Inference:
    """The fields to learn from, and each column left out with its reason.

    Left out are constant and all-null columns, identifiers (a different value in every row), free text and nested values. Look
    at training rows only. `typed` says that the columns have the types that all rows of their table have: a text that reads as a
    date in each of these rows is none in others, and no date. Raises `Invalid` where no field is left.
    """
    fields: list[Field] = []
    dropped: list[Dropped] = []
    for name in frame.columns:
        if name == label:
            continue
        found = Dropped(name=name, reason="declared to be no feature") if name in ignore else _look(frame[name], typed)
        if isinstance(found, Field):
            fields.append(found)
        else:
            dropped.append(found)
    if not fields:
        reasons = "; ".join(f"{d.name}: {d.reason}" for d in dropped[:10])
        raise Invalid(
            "No column is left to learn from.",
            code="no-features",
            hint=reasons or "Give a table with more columns than the label.",
        )
    return Inference(fields=tuple(fields), dropped=tuple(dropped))


def described(series: pl.Series, kind: Kind, *, nullable: bool) -> Field:
    """The field of a column of this kind; a category of more levels than are named is a text."""
    present = series.drop_nulls()
    if kind == "boolean":
        return Field(name=series.name, kind=kind, nullable=nullable, minimum=0.0, maximum=1.0)
    if kind in ("category", "text"):
        present = present.cast(pl.String)
        levels = present.filter(present != "").unique().sort().to_list()
        if len(levels) > _LISTED:
            return Field(name=series.name, kind="text", nullable=nullable)
        return Field(name=series.name, kind=kind, nullable=nullable, categories=tuple(levels))
    if not len(present):
        return Field(name=series.name, kind=kind, nullable=nullable)
    return _ranged(series.name, kind, nullable, _days(present) if kind == "date" else present.cast(pl.Float64))


def _look(series: pl.Series, typed: bool) -> Field | Dropped:
    name = series.name
    if series.dtype.is_nested() or series.dtype in (pl.Binary, pl.Object, pl.Time, pl.Duration):
        return Dropped(name=name, reason=f"holds {series.dtype} values, which are no numbers, categories or dates")
    present = series.drop_nulls()
    if series.dtype.is_float():
        given = present.drop_nans()
        present = given.filter(given.abs() <= boundary.LARGEST)  # what lies beyond, models do not count
        if len(given) and not len(present):
            return Dropped(name=name, reason="beyond what models count (3.4e38) in every row that has a value")
    elif not series.dtype.is_numeric() and not series.dtype.is_temporal() and series.dtype != pl.Boolean:
        present = present.cast(pl.String)
        present = present.filter(present != "")
    nullable = len(present) < len(series)
    if not len(present):
        return Dropped(name=name, reason="null in every row")
    distinct = present.n_unique()
    if distinct == 1:
        return Dropped(name=name, reason="the same value in every row" + (" that has one" if nullable else ""))
    if present.dtype == pl.Boolean:
        return Field(name=name, kind="boolean", nullable=nullable, minimum=0.0, maximum=1.0)
    if present.dtype.is_temporal():
        return _ranged(name, "date", nullable, _days(present))
    if present.dtype.is_numeric():
        return _numeric(name, present, distinct, nullable)
    if not typed and _dates(present):
        read = [boundary.days(text) for text in present.unique().to_list()]
        return _ranged(name, "date", nullable, pl.Series(read))
    return _stringly(name, present, distinct, nullable)


def _numeric(name: str, present: pl.Series, distinct: int, nullable: bool) -> Field | Dropped:
    if not present.dtype.is_integer():
        return _ranged(name, "number", nullable, present.cast(pl.Float64))
    if distinct == len(present) and distinct >= _FEW:
        steps = present.cast(pl.Float64).diff().drop_nulls()
        if _IDENTIFIER.search(name) or bool((steps == 1).all()):
            return Dropped(name=name, reason="an identifier: a different whole number in every row")
    return _ranged(name, "integer", nullable, present.cast(pl.Float64))


def _stringly(name: str, present: pl.Series, distinct: int, nullable: bool) -> Field | Dropped:
    length = present.str.len_chars().mean()
    if isinstance(length, float) and length > _LONG:
        return Dropped(name=name, reason=f"free text ({length:.0f} characters on average)")
    if distinct > max(_FEW, len(present) // 2):
        return Dropped(name=name, reason=f"nearly a different text in every row ({distinct:,} in {len(present):,})")
    counts = present.value_counts(sort=True, name="rows").sort(["rows", name], descending=[True, False])
    return Field(
        name=name, kind="category", nullable=nullable, categories=tuple(sorted(counts[name].head(_LISTED).to_list()))
    )


def _dates(present: pl.Series) -> bool:
    """Whether all texts are ISO dates; a few are looked at before all are."""
    for texts in (present.head(20), present.unique()):
        for text in texts.to_list():
            try:
                boundary.days(text)
            except ValueError:
                return False
    return True


def _days(present: pl.Series) -> pl.Series:
    return present.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / 86_400_000_000


def _ranged(name: str, kind: Kind, nullable: bool, values: pl.Series) -> Field:
    low, high = values.min(), values.max()
    return Field(name=name, kind=kind, nullable=nullable, minimum=cast(float, low), maximum=cast(float, high))

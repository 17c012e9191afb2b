"""What changed from one dataset version to another: columns, rows, and how values are distributed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec
import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.quality.drift_records import DriftReport
from loopline.quality.profile import profile


class ColumnChange(msgspec.Struct, frozen=True, kw_only=True):
    """A column that only one version has, or that is of another type in each; a type is empty where the column is not there."""

    column: str
    change: Literal["added", "removed", "retyped"]
    before: str
    after: str


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of two versions. Rows are compared over the columns that both have.

    With a `key`, a row is `changed` where the key is in both versions and another value is not; `changed_in` counts such rows by
    column. Without one, rows are compared whole: a changed row is one removed and one added. `left_out` rows of either side are
    sealed for evaluation, and are in no count but `rows_before` and `rows_after`.
    """

    before: str
    after: str
    rows_before: int
    rows_after: int
    left_out: int
    schema: tuple[ColumnChange, ...]
    key: tuple[str, ...]
    added: int
    removed: int
    changed: int
    same: int
    changed_in: dict[str, int]
    moved: bool
    """Whether the rows that both versions have stand in another order."""
    distribution: DriftReport | None
    """None where no column can be compared."""


def diff(
    before: pl.DataFrame,
    after: pl.DataFrame,
    *,
    names: tuple[str, str],
    totals: tuple[int, int],
    key: Sequence[str] = (),
    personal: Collection[str] = (),
) -> Diff:
    """Compares two frames; `names` are the refs to say, `totals` the rows of the versions with those that are left out, `personal`
    the columns of whose values nothing is shown.

    Raises `Invalid` where a column of the key is not in both, or where the key is not unique in one.
    """
    from loopline.quality.drift import compare  # which loads scipy: other verbs do without

    for name, frame in zip(names, (before, after), strict=True):
        _check_key(name, frame, key)
    schema = tuple(_columns(before, after))
    retyped = {change.column for change in schema if change.change == "retyped"}
    common = [c for c in before.columns if c in after.columns]
    left, right = _comparable(before, after, common)
    counts = _by_key(left, right, list(key)) if key else _whole(left, right)
    comparable = [c for c in common if c not in retyped and c not in key]
    report = None
    if comparable and before.height and after.height:
        reference = profile(before.select(comparable)).marked(personal).freeze()
        report = compare(reference, profile(after.select(comparable), reference=reference))
    return Diff(
        before=names[0],
        after=names[1],
        rows_before=totals[0],
        rows_after=totals[1],
        left_out=sum(totals) - before.height - after.height,
        schema=schema,
        key=tuple(key),
        distribution=report,
        **counts,
    )


def _check_key(name: str, frame: pl.DataFrame, key: Sequence[str]) -> None:
    for column in key:
        if column not in frame.columns:
            raise Invalid(
                f"{name} has no column {column!r}.", code="no-column", hint=did_you_mean(column, frame.columns)
            )
    if key and (twice := frame.height - frame.select(key).n_unique()):
        raise Invalid(
            f"{', '.join(key)} is no key of {name}: {twice:,} rows repeat the key of another.",
            code="key-not-unique",
            hint="Name the columns that tell rows apart, or none: then rows are compared whole.",
        )


def _columns(before: pl.DataFrame, after: pl.DataFrame) -> list[ColumnChange]:
    types = [{c: str(kind) for c, kind in frame.schema.items()} for frame in (before, after)]
    found = []
    for column in dict.fromkeys([*before.columns, *after.columns]):
        a, b = (side.get(column, "") for side in types)
        if a != b:
            word: Literal["added", "removed", "retyped"] = "added" if not a else "removed" if not b else "retyped"
            found.append(ColumnChange(column=column, change=word, before=a, after=b))
    return found


def _comparable(left: pl.DataFrame, right: pl.DataFrame, columns: list[str]) -> list[pl.DataFrame]:
    """Both sides in one type a column: numbers of unlike types as numbers, all else of unlike types by how it is written."""
    casts: dict[str, type[pl.DataType]] = {}
    for column in columns:
        kinds = left.schema[column], right.schema[column]
        if kinds[0] != kinds[1]:
            casts[column] = pl.Float64 if all(kind.is_numeric() for kind in kinds) else pl.String
    chosen = [pl.col(c).cast(casts[c]) if c in casts else pl.col(c) for c in columns]
    return [left.select(chosen), right.select(chosen)]


def _by_key(left: pl.DataFrame, right: pl.DataFrame, key: list[str]) -> dict[str, Any]:
    joined = left.with_row_index("#before").join(
        right.with_row_index("#after"), on=key, how="inner", nulls_equal=True, suffix="#", maintain_order="left"
    )
    others = [c for c in left.columns if c not in key]
    differs = joined.select(pl.col(c).ne_missing(pl.col(f"{c}#")).alias(c) for c in others)
    changed = int(differs.select(pl.any_horizontal(pl.all())).to_series().sum()) if others else 0
    counts = differs.sum().row(0, named=True) if others else {}
    return {
        "added": right.height - joined.height,
        "removed": left.height - joined.height,
        "changed": changed,
        "same": joined.height - changed,
        "changed_in": {c: n for c, n in sorted(counts.items(), key=lambda item: -item[1]) if n},
        "moved": not joined["#after"].is_sorted(),
    }


def _whole(left: pl.DataFrame, right: pl.DataFrame) -> dict[str, Any]:
    counted = [side.group_by(pl.all()).len(name) for side, name in ((left, "#before"), (right, "#after"))]
    both = counted[0].join(counted[1], on=left.columns, how="inner", nulls_equal=True) if left.columns else None
    same = int(both.select(pl.min_horizontal("#before", "#after").sum()).item()) if both is not None else 0
    moved = False
    if same == left.height == right.height:
        moved = not left.equals(right)
    return {
        "added": right.height - same,
        "removed": left.height - same,
        "changed": 0,
        "same": same,
        "changed_in": {},
        "moved": moved,
    }

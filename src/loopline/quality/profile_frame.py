"""The profile of a polars frame, in one pass over each column."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import polars as pl

from loopline.errors import Invalid, NotFound, did_you_mean
from loopline.quality.profile_association import association, codes_of
from loopline.quality.profile_column import ColumnProfile, Kind, level_column, many_levels_column, number_column
from loopline.quality.profile_pairs import full_of, patterns_of
from loopline.quality.profile_parts import LONGEST, Lengths
from loopline.quality.profile_records import Profile
from loopline.quality.profile_sketch import DISTINCT, Floats, hash_names

_DAY_US = 86_400_000_000


def kind_of(dtype: pl.DataType) -> Kind:
    """The kind of a column by its type alone."""
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric() or dtype == pl.Duration:
        return "number"
    if dtype in (pl.Date, pl.Datetime):
        return "date"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "category"
    return "null" if dtype == pl.Null else "other"


def profile_frame(
    frame: pl.DataFrame,
    *,
    label: str | None,
    reference: Profile | None,
    groups: str | None,
    blocks: int | None,
    full: bool,
) -> Profile:
    """See `loopline.quality.profile.profile`."""
    for name in (label, groups):
        if name is not None and name not in frame.columns:
            raise NotFound(
                f"The frame has no column {name!r}.",
                code="column-not-found",
                hint=did_you_mean(name, frame.columns),
                column=name,
            )
    if reference is not None and not reference.frozen:
        raise Invalid("The reference is not frozen.", code="profile-not-frozen", hint="Call .freeze() on it.")
    if blocks is not None and blocks < 1:
        raise Invalid(f"A block of {blocks} rows is none.", code="blocks-too-small", hint="Give at least 1.")
    if full and reference is not None:
        raise Invalid(
            "A full profile is not made against a reference.", code="full-profile", hint="Leave one of the two out."
        )
    columns = columns_of(frame, reference)
    names = list(columns)
    target = None
    if label is not None and label in columns and frame.height:
        target = codes_of(frame[label], columns[label], levels=10)
        columns |= {
            n: msgspec.structs.replace(c, association=association(codes_of(frame[n], c, levels=32), target))
            for n, c in columns.items()
            if n != label and c.kind not in ("null", "other")
        }
    findings = None
    if full:
        findings = full_of(frame, columns, target, label)
        columns |= {
            n: msgspec.structs.replace(c, patterns=patterns_of(frame[n]))
            for n, c in columns.items()
            if c.kind == "category"
        }
    sizes: dict[int, int] = {}
    if frame.height and (groups is not None or blocks is not None):
        columns, sizes = _clustered(frame, columns, groups, blocks)
    return Profile(
        rows=frame.height,
        columns={n: columns[n] for n in names},
        label=label if label is not None else (reference.label if reference is not None else None),
        frozen=reference is not None,
        duplicates=frame.height - row_hashes(frame).n_unique() if reference is None else None,
        groups=sizes,
        full=findings,
    )


def _clustered(
    frame: pl.DataFrame, columns: dict[str, ColumnProfile], groups: str | None, blocks: int | None
) -> tuple[dict[str, ColumnProfile], dict[int, int]]:
    """The columns with the design effects of rows that belong together, and how many groups there are of each size."""
    from loopline.quality.profile_design import (
        Clusters,
        design_of,
    )  # which loads scipy: most profiles ask for no groups

    clusters: list[Clusters] = []
    sizes: dict[int, int] = {}
    if groups is not None:
        clusters.append(Clusters.of_groups(frame[groups]))
        sizes = clusters[0].rows_by_size()
    if blocks is not None:
        clusters.append(Clusters.of_blocks(frame.height, blocks))
    for cluster in clusters:
        columns = {
            n: c if n == groups else msgspec.structs.replace(c, design=c.design.merge(design_of(frame[n], c, cluster)))
            for n, c in columns.items()
        }
    return columns, sizes


def numbers_of(series: pl.Series) -> Floats:
    """The values of a numeric, date or duration column that are not null, as doubles (dates as days since 1970)."""
    if series.null_count():
        series = series.drop_nulls()
    if series.dtype == pl.Date:
        series = series.cast(pl.Int32)
    elif series.dtype == pl.Datetime:
        return series.dt.epoch("us").cast(pl.Float64).to_numpy() / _DAY_US
    elif series.dtype == pl.Duration:
        return series.dt.total_microseconds().cast(pl.Float64).to_numpy() / 1e6
    return series.cast(pl.Float64).to_numpy()


def counts_of(series: pl.Series) -> dict[str, int]:
    """How often each value of a boolean or category column is there, nulls left out."""
    if series.dtype == pl.Boolean:
        true = int(series.sum() or 0)
        found = {"false": len(series) - series.null_count() - true, "true": true}
        return {name: n for name, n in found.items() if n}
    names, counts = _levels(series)
    return dict(zip(names.to_list(), counts.to_list(), strict=True))


def _levels(series: pl.Series) -> tuple[pl.Series, pl.Series]:
    table = series.drop_nulls().value_counts(name="#")
    return table.to_series(0).cast(pl.String), table["#"]


def _column(series: pl.Series, name: str, like: ColumnProfile | None) -> ColumnProfile:
    kind = kind_of(series.dtype)
    nulls = series.null_count()
    if like is not None and like.kind != kind:
        if {like.kind, kind} == {"number", "integer"}:
            kind = like.kind  # 3 and 3.0 are the same on the reference's edges
        elif "null" in (like.kind, kind):
            kind = like.kind if kind == "null" else kind
        else:
            raise Invalid(
                f"Column {name!r} is of kind {kind}, but of kind {like.kind} in the reference.",
                code="profile-kind-differs",
                hint=f"Cast it to a type of kind {like.kind}.",
                column=name,
            )
    if kind in ("number", "integer", "date"):
        values = numbers_of(series) if series.dtype != pl.Null else np.zeros(0)
        return number_column(kind, values, nulls=nulls, mistyped=0, like=like)
    if kind == "category" and series.dtype != pl.Null and like is None:
        return _category(series, nulls)
    if kind in ("boolean", "category"):
        counts = counts_of(series) if series.dtype != pl.Null else {}
        return level_column(kind, counts, nulls=nulls, mistyped=0, like=like)
    return ColumnProfile(kind=kind, rows=len(series), nulls=nulls)


def _category(series: pl.Series, nulls: int) -> ColumnProfile:
    """The profile of a category; where its levels are many and short, their names are not taken out of polars."""
    names, found = _levels(series)
    counts, sizes = found.to_numpy().astype(np.int64), names.str.len_chars().to_numpy().astype(np.int64)
    if len(counts) <= DISTINCT or sizes.max() > LONGEST:
        levels = dict(zip(names.to_list(), counts.tolist(), strict=True))
        return level_column("category", levels, nulls=nulls, mistyped=0, like=None)
    lengths = Lengths(
        count=int(counts.sum()), total=int(counts @ sizes), shortest=int(sizes.min()), longest=int(sizes.max())
    )
    more = counts > 1
    repeated = dict(zip(names.filter(pl.Series(more)).to_list(), counts[more].tolist(), strict=True))
    return many_levels_column(repeated, counts, hash_names(names.to_list()), lengths, nulls=nulls)


def columns_of(
    frame: pl.DataFrame, reference: Profile | None, before: Mapping[str, ColumnProfile] | None = None
) -> dict[str, ColumnProfile]:
    """The profiles of a frame's columns, of those alone that the reference has, where there is one.

    `before` are the profiles of the rows before it, which are merged into them.
    """
    names = frame.columns if reference is None else [n for n in reference.columns if n in frame.columns]
    likes = reference.columns if reference is not None else {}

    def found(name: str) -> ColumnProfile:
        one = _column(frame[name], name, likes.get(name))
        return one if before is None else before[name].merge(one, name)

    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:  # numpy sorts without holding the interpreter
        return dict(zip(names, pool.map(found, names), strict=True))


def row_hashes(frame: pl.DataFrame) -> pl.Series:
    """A hash of each row: equal rows have equal ones, in whatever frame of the same columns."""
    plain = [n for n, t in frame.schema.items() if not t.is_nested() and t != pl.Object]
    if not plain or not frame.height:
        return pl.Series(range(frame.height), dtype=pl.UInt64)
    return frame.select(plain).hash_rows(seed=0)

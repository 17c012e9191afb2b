"""What a profile knows of one column: mergeable parts, and how each is made from plain arrays and counts.

Imports neither polars nor pandas: the serving path makes the same records from rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import mul
from typing import Any, Final, Literal

import msgspec
import numpy as np

from loopline.errors import Invalid
from loopline.quality.profile_parts import (
    INDEPENDENT,
    LONGEST,
    Association,
    Bins,
    Design,
    Lengths,
    Levels,
    Moments,
    short_name,
)
from loopline.quality.profile_sketch import (
    DISTINCT,
    Floats,
    Hashes,
    Integers,
    Prefixes,
    estimate_distinct,
    hash_names,
    join_registers,
    number_registers,
    registers,
)

Kind = Literal["number", "integer", "boolean", "category", "date", "null", "other"]
NUMERIC: Final = ("number", "integer", "date")


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The mergeable summary of one column.

    `kind` comes from the column's type alone. Numbers and dates (as days since 1970) have `moments` and either `prefixes`
    or, frozen, `bins`; booleans and categories have `levels`. `nans` and `infinities` (below, above) are counted apart from
    `nulls`; `mistyped` counts values in live rows that are not of the kind.
    `patterns`, of a full profile, are how texts are spelled: 9 a digit, a some letters. A `personal` column is about a person:
    what is shown of it are counts alone.
    """

    kind: Kind
    rows: int = 0
    nulls: int = 0
    nans: int = 0
    mistyped: int = 0
    infinities: tuple[int, int] = (0, 0)
    moments: Moments | None = None
    prefixes: Prefixes | None = None
    bins: Bins | None = None
    levels: Levels | None = None
    lengths: Lengths | None = None
    registers: bytes | None = None
    distinct_at_freeze: int | None = None
    association: Association | None = None
    design: Design = INDEPENDENT
    patterns: Levels | None = None
    personal: bool = False

    @property
    def missing(self) -> int:
        """Rows without a usable value: nulls, NaN and values of another kind."""
        return self.nulls + self.nans + self.mistyped

    @property
    def present(self) -> int:
        """Rows with a usable value."""
        return self.rows - self.missing

    @property
    def frozen(self) -> bool:
        """Whether the edges or levels are fixed, as those of a reference are."""
        return self.bins is not None or (self.levels is not None and self.levels.frozen)

    @property
    def distinct(self) -> int | None:
        """How many distinct values there are: exact up to 1,024, else +-2.3 %; None where it was not counted."""
        if self.registers is not None:
            return estimate_distinct(self.registers)
        if self.distinct_at_freeze is not None:
            return self.distinct_at_freeze
        if self.prefixes is not None and self.prefixes.shift == 0:
            return len(self.prefixes.counts)
        if self.levels is not None and not self.levels.hashed and not self.levels.rest:
            return sum(1 for n in self.levels.counts.values() if n)
        return None

    @property
    def near_unique(self) -> bool:
        """Whether nearly every row has a value of its own, as identifiers do."""
        distinct = self.distinct
        return distinct is not None and self.kind in ("integer", "category") and distinct >= 0.95 * self.present

    @property
    def top(self) -> tuple[tuple[Any, int], ...]:
        """The ten most frequent values with their counts; empty for numbers of more than 1,024 distinct values."""
        found: list[tuple[Any, int]] = []
        if self.levels is not None:
            found = [(name, n) for name, n in self.levels.counts.items() if n]
        elif self.prefixes is not None and self.prefixes.shift == 0:
            found = list(zip(self.prefixes.lower.tolist(), self.prefixes.counts, strict=True))
        return tuple(sorted(found, key=lambda item: -item[1])[:10])

    def quantile(self, share: float) -> float | None:
        """The value below which about this share of the values lies; None without numbers."""
        if self.bins is not None:
            counts, lower = np.array(self.bins.counts), np.array([*self.bins.edges[:1], *self.bins.edges])
        elif self.prefixes is not None:
            counts, lower = np.array(self.prefixes.counts), self.prefixes.lower
        else:
            return None
        if not counts.sum() or not len(lower) or self.moments is None or self.moments.minimum is None:
            return None
        place = int(np.searchsorted(np.cumsum(counts), share * counts.sum(), side="left"))
        return float(np.clip(lower[min(place, len(lower) - 1)], self.moments.minimum, self.moments.maximum))

    def freeze(self) -> ColumnProfile:
        """The same column as a reference: edges and levels fixed."""
        if self.frozen:
            return self
        return msgspec.structs.replace(
            self,
            bins=Bins.freeze(self.prefixes) if self.prefixes is not None else None,
            prefixes=None,
            levels=self.levels.freeze() if self.levels is not None else None,
            registers=None,
            distinct_at_freeze=self.distinct,
            patterns=None,
        )

    def without_values(self) -> ColumnProfile:
        """The counts of the column alone: nothing that tells a value, or how it is spelled."""
        return ColumnProfile(
            kind=self.kind,
            rows=self.rows,
            nulls=self.nulls,
            nans=self.nans,
            mistyped=self.mistyped,
            infinities=self.infinities,
            distinct_at_freeze=self.distinct,
            association=self.association,
            design=self.design,
            personal=self.personal,
        )

    def _registers(self) -> bytes | None:
        """Registers of every value seen, also while all are still counted one by one."""
        if self.registers is not None:
            return self.registers
        if self.prefixes is not None:
            return number_registers(self.prefixes.lower)
        if self.levels is not None and not self.levels.frozen:
            return registers(hash_names(self.levels.counts))
        return None

    def merge(self, other: ColumnProfile, name: str = "") -> ColumnProfile:
        """Both together; Invalid where the kinds, edges or levels differ."""
        if self.kind == "null" and other.kind != "null":
            return other.merge(self, name)
        if other.kind == "null" or not other.rows:
            self._same(other, name)
            return self._with_nulls(other)
        if not self.rows:
            self._same(other, name)
            return other._with_nulls(self)
        self._same(other, name)
        if self.frozen != other.frozen:
            raise Invalid(
                f"One profile of column {name!r} is frozen, the other is not.",
                code="profile-edges-differ",
                hint="Make both against one reference.",
            )
        prefixes = _both(self.prefixes, other.prefixes)
        levels = _both(self.levels, other.levels)
        seen = None
        if (prefixes is not None and prefixes.shift) or (levels is not None and levels.hashed and not levels.frozen):
            a, b = self._registers(), other._registers()
            seen = join_registers(a, b) if a is not None and b is not None else None
        return ColumnProfile(
            kind=self.kind,
            rows=self.rows + other.rows,
            nulls=self.nulls + other.nulls,
            nans=self.nans + other.nans,
            mistyped=self.mistyped + other.mistyped,
            infinities=(self.infinities[0] + other.infinities[0], self.infinities[1] + other.infinities[1]),
            moments=_both(self.moments, other.moments),
            prefixes=prefixes,
            bins=_both(self.bins, other.bins),
            levels=levels,
            lengths=_both(self.lengths, other.lengths),
            registers=seen,
            association=_both(self.association, other.association, lenient=True),
            design=self.design.merge(other.design),
            patterns=_both(self.patterns, other.patterns),
            personal=self.personal or other.personal,
        )

    def _with_nulls(self, other: ColumnProfile) -> ColumnProfile:
        return msgspec.structs.replace(
            self,
            rows=self.rows + other.rows,
            nulls=self.nulls + other.nulls,
            association=_both(self.association, other.association, lenient=True),
            design=self.design.merge(other.design),
        )

    def _same(self, other: ColumnProfile, name: str) -> None:
        if other.kind not in (self.kind, "null"):
            raise Invalid(
                f"Column {name!r} is of kind {self.kind} in one profile and of kind {other.kind} in the other.",
                code="profile-kind-differs",
                hint="Cast the column to one type before profiling.",
                column=name,
            )


def _both(a: Any, b: Any, *, lenient: bool = False) -> Any:
    if lenient:
        return a.merge(b) if a is not None and b is not None else (a if a is not None else b)
    return a.merge(b) if a is not None and b is not None else None


def number_column(
    kind: Kind, values: Floats, *, nulls: int, mistyped: int, like: ColumnProfile | None
) -> ColumnProfile:
    """The profile of numbers (the values that are not null; NaN and infinities may be among them)."""
    rows = len(values) + nulls + mistyped
    odd = np.isnan(values)
    nans = int(np.count_nonzero(odd))
    if nans:
        values = values[~odd]
    infinities = int(np.count_nonzero(values == -math.inf)), int(np.count_nonzero(values == math.inf))
    moments = Moments.of(values[np.isfinite(values)] if any(infinities) else values)
    prefixes = bins = seen = None
    if like is not None and like.bins is not None:
        bins = Bins.of(np.sort(values), np.array(like.bins.edges, np.float64))
    else:
        prefixes = Prefixes.of_values(values)
        if prefixes.shift:
            seen = number_registers(values)
    return ColumnProfile(
        kind=kind,
        rows=rows,
        nulls=nulls,
        nans=nans,
        mistyped=mistyped,
        infinities=infinities,
        moments=moments,
        prefixes=prefixes,
        bins=bins,
        registers=seen,
    )


def level_column(
    kind: Kind, counts: Mapping[str, int], *, nulls: int, mistyped: int, like: ColumnProfile | None
) -> ColumnProfile:
    """The profile of a category or boolean, from how often each value is there."""
    rows = sum(counts.values()) + nulls + mistyped
    lengths = None
    if kind == "category":
        sizes = list(map(len, counts))
        lengths = Lengths(
            count=rows - nulls - mistyped,
            total=sum(map(mul, sizes, counts.values())),
            shortest=min(sizes, default=0),
            longest=max(sizes, default=0),
        )
        if lengths.longest > LONGEST:
            short: dict[str, int] = {}
            for name, n in counts.items():
                key = short_name(name)
                short[key] = short.get(key, 0) + n
            counts = short
    seen = None
    if like is not None and like.levels is not None:
        levels = like.levels.like(counts)
    else:
        hashes = hash_names(counts) if len(counts) > DISTINCT else None
        levels = Levels.of(counts, hashes)
        if hashes is not None:
            seen = registers(hashes)
    return ColumnProfile(
        kind=kind, rows=rows, nulls=nulls, mistyped=mistyped, levels=levels, lengths=lengths, registers=seen
    )


def many_levels_column(
    repeated: Mapping[str, int], counts: Integers, hashes: Hashes, lengths: Lengths, *, nulls: int
) -> ColumnProfile:
    """As `level_column`, of a category of more than 1,024 levels, none of them long.

    From the counts and hashes of all levels, and the names of those that are there more than once.
    """
    return ColumnProfile(
        kind="category",
        rows=lengths.count + nulls,
        nulls=nulls,
        levels=Levels.of_many(repeated, counts, hashes),
        lengths=lengths,
        registers=registers(hashes),
    )

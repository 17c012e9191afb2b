"""What a profile knows of one column: mergeable parts, and how each is made from plain arrays and counts.

Imports neither polars nor pandas: the serving path makes the same records from rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec
import numpy as np

from loopline.errors import Invalid
from loopline.quality.profile_sketch import (
    DISTINCT,
    Floats,
    Integers,
    Prefixes,
    estimate_distinct,
    hash_names,
    hash_numbers,
    join_registers,
    json_float,
    ordered,
    registers,
)

Kind = Literal["number", "integer", "boolean", "category", "date", "null", "other"]
NUMERIC: Final = ("number", "integer", "date")
BINS: Final = 256  # quantile bins of a frozen column
TOP: Final = 64  # named levels kept where there are too many to keep all
UNSEEN: Final = 16  # new levels that a frozen column names
HASHED: Final = 256
_NAME: Final = 100  # characters of a level's name that are kept


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """Count, mean and central sums of the finite values; merging follows Chan et al. 1979 and Pébay 2008.

    `None` in place of a sum: it is beyond what a double holds.
    """

    count: int = 0
    mean: float = 0.0
    m2: float | None = 0.0
    m3: float | None = 0.0
    minimum: float | None = None
    maximum: float | None = None

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Of finite values in ascending order."""
        n = len(values)
        if not n:
            return cls()
        low, high = float(values[0]), float(values[-1])
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            mean = float(values.mean())
            if not math.isfinite(mean):
                mean = float((values / n).sum())
            mean = min(max(mean, low), high)
            away = values - mean
            square = away * away
            m2, m3 = square.sum(), (square * away).sum()
        return cls(count=n, mean=mean, m2=json_float(m2), m3=json_float(m3), minimum=low, maximum=high)

    def merge(self, other: Moments) -> Moments:
        """Both together."""
        if not other.count:
            return self
        if not self.count:
            return other
        n = self.count + other.count
        a, b = self.count / n, other.count / n
        mean = self.mean * a + other.mean * b
        delta = other.mean - self.mean
        m2 = m3 = None
        if self.m2 is not None and other.m2 is not None:
            m2 = json_float(self.m2 + other.m2 + delta * delta * self.count * b)
        if m2 is not None and self.m3 is not None and other.m3 is not None:
            assert self.m2 is not None
            assert other.m2 is not None
            cross = delta * delta * delta * self.count * b * (a - b) + 3 * delta * (a * other.m2 - b * self.m2)
            m3 = json_float(self.m3 + other.m3 + cross)
        assert self.minimum is not None
        assert self.maximum is not None
        assert other.minimum is not None
        assert other.maximum is not None
        return Moments(
            count=n,
            mean=mean,
            m2=m2,
            m3=m3,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
        )

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation; None below two values."""
        return math.sqrt(self.m2 / (self.count - 1)) if self.m2 is not None and self.count > 1 else None

    @property
    def skewness(self) -> float | None:
        """The third standardised moment; None for a constant."""
        if not self.m2 or self.m3 is None:
            return None
        spread = math.sqrt(self.m2 / self.count)
        return self.m3 / self.count / spread / spread / spread if spread > 1e-100 else None


class Bins(msgspec.Struct, frozen=True, kw_only=True):
    """Counts on frozen edges: `counts[i]` values lie in [edges[i-1], edges[i]); the first and last bin are open, and hold
    what lies outside the range that the reference saw."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: Floats, edges: Floats) -> Bins:
        """Of values in ascending order."""
        below = np.searchsorted(values, edges, side="left")
        counts = np.diff(np.concatenate(([0], below, [len(values)])))
        return cls(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))

    @classmethod
    def freeze(cls, prefixes: Prefixes) -> Bins:
        """Of about equal counts, at most 256 between the open ends; each value has its own where it is frequent enough."""
        counts = np.array(prefixes.counts, np.int64)
        lower = prefixes.lower
        if len(counts) > BINS:
            before = np.cumsum(counts) - counts
            place = before * BINS // int(counts.sum())
            starts = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
            lower, counts = lower[starts], np.add.reduceat(counts, starts)
        edges, held = lower.tolist(), [0, *counts.tolist()]
        if edges and not math.isfinite(edges[0]):
            edges, held = edges[1:], held[1:]
        if edges and not math.isfinite(edges[-1]):  # infinity lies in the open bin above the last edge
            edges, held = edges[:-1], [*held[:-2], held[-2] + held[-1]]
        elif edges and math.isfinite(prefixes.beyond):
            edges, held = [*edges, prefixes.beyond], [*held, 0]
        return cls(edges=tuple(edges), counts=tuple(held))

    def merge(self, other: Bins) -> Bins:
        """Both together; Invalid where the edges differ."""
        if self.edges != other.edges:
            raise Invalid(
                "These profiles are frozen on different edges.",
                code="profile-edges-differ",
                hint="Make both against one reference.",
            )
        return Bins(edges=self.edges, counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a category's levels.

    Up to 1,024 levels all are counted. Beyond, `hashed` holds the exact counts of all values by 256 hash buckets, and
    `counts` the most frequent levels as lower bounds, short of the truth by `error` at most; `rest` is what they leave.
    Frozen: the list of levels stays; other values count in `rest` and by hash bucket in `rest_hashed` (empty while there are
    none), and up to 16 of them (those of the smallest hashes, so that merging is associative) are named in `unseen`.
    """

    counts: dict[str, int]
    rest: int = 0
    hashed: tuple[int, ...] = ()
    error: int = 0
    frozen: bool = False
    rest_hashed: tuple[int, ...] = ()
    unseen: dict[str, int] = {}

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Levels:
        """Of the count of each level."""
        if len(counts) <= DISTINCT:
            return cls(counts=dict(sorted(counts.items())))
        return cls._of_many(dict(counts), _hashed(counts), sum(counts.values()), 0)

    @classmethod
    def _of_many(cls, counts: dict[str, int], hashed: Integers, total: int, error: int) -> Levels:
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        # A level seen once is no frequent one, and in a column of identifiers it would be a person's.
        kept = {name: n for name, n in ranked[:TOP] if n > 1}
        dropped = ranked[len(kept)][1] if len(ranked) > len(kept) else 0
        return cls(
            counts=dict(sorted(kept.items())),
            rest=total - sum(kept.values()),
            hashed=tuple(hashed.tolist()),
            error=error + dropped,
        )

    def like(self, counts: Mapping[str, int]) -> Levels:
        """Other counts on this frozen list."""
        known = {name: counts.get(name, 0) for name in self.counts}
        unseen = {} if self.hashed else {name: n for name, n in counts.items() if name not in known}
        return Levels(
            counts=known,
            rest=sum(counts.values()) - sum(known.values()),
            hashed=tuple(_hashed(counts).tolist()) if self.hashed else (),
            frozen=True,
            rest_hashed=tuple(_hashed(unseen).tolist()) if unseen else (),
            unseen=_smallest(unseen),
        )

    def freeze(self) -> Levels:
        """The same counts, with the list of levels fixed."""
        return msgspec.structs.replace(self, frozen=True)

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts.values()) + self.rest

    def merge(self, other: Levels) -> Levels:
        """Both together; Invalid where the frozen lists differ."""
        if self.frozen or other.frozen:
            if self.counts.keys() != other.counts.keys() or bool(self.hashed) != bool(other.hashed):
                raise Invalid(
                    "These profiles are frozen on different lists of levels.",
                    code="profile-levels-differ",
                    hint="Make both against one reference.",
                )
            return Levels(
                counts={name: n + other.counts[name] for name, n in self.counts.items()},
                rest=self.rest + other.rest,
                hashed=tuple(a + b for a, b in zip(self.hashed, other.hashed, strict=True)),
                error=self.error + other.error,
                frozen=True,
                rest_hashed=tuple(a + b for a, b in zip(self.rest_hashed, other.rest_hashed, strict=True))
                if self.rest_hashed and other.rest_hashed
                else self.rest_hashed or other.rest_hashed,
                unseen=_smallest(_added(self.unseen, other.unseen)),
            )
        together = _added(self.counts, other.counts)
        if not self.hashed and not other.hashed:
            return Levels.of(together)
        hashed = sum(np.array(x.hashed or _hashed(x.counts), np.int64) for x in (self, other))
        return Levels._of_many(together, hashed, self.total + other.total, self.error + other.error)  # type: ignore[arg-type]


def _added(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    total = dict(a)
    for name, n in b.items():
        total[name] = total.get(name, 0) + n
    return total


def buckets_of(names: Iterable[str]) -> Integers:
    """The hash bucket of each level."""
    return (hash_names(names) & np.uint64(HASHED - 1)).astype(np.int64)


def _hashed(counts: Mapping[str, int]) -> Integers:
    total = np.zeros(HASHED, np.int64)
    np.add.at(total, buckets_of(counts), np.fromiter(counts.values(), np.int64, len(counts)))
    return total


def _smallest(counts: dict[str, int]) -> dict[str, int]:
    if len(counts) > UNSEEN:
        names = list(counts)
        order = np.argsort(hash_names(names), kind="stable")[:UNSEEN]
        counts = {names[i]: counts[names[i]] for i in order}
    return dict(sorted(counts.items()))


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """How many characters the texts of a column have: exact sums."""

    count: int = 0
    total: int = 0
    shortest: int = 0
    longest: int = 0

    @property
    def mean(self) -> float:
        """Characters a value."""
        return self.total / self.count if self.count else 0.0

    def merge(self, other: Lengths) -> Lengths:
        """Both together."""
        if not other.count or not self.count:
            return self if self.count else other
        return Lengths(
            count=self.count + other.count,
            total=self.total + other.total,
            shortest=min(self.shortest, other.shortest),
            longest=max(self.longest, other.longest),
        )


class Association(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the label's uncertainty a column takes away: 0 none, 1 all (Theil's U less its bias; numbers in quantile
    bins; "missing" is a value). Of parts merged it is the mean by rows: a hint, no test."""

    value: float
    rows: int

    def merge(self, other: Association) -> Association:
        """The mean of both by rows."""
        rows = self.rows + other.rows
        return Association(value=(self.value * self.rows + other.value * other.rows) / rows, rows=rows)


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """Design effects: by how much the variance of a share exceeds that of independent rows, as measured over groups or
    blocks of rows. `values` and `missing` are means, at least 1; `spread` is 1 plus the squared coefficient of variation
    over a category's levels (Rao and Scott 1984), `worst` the effect on the share of the most clustered level."""

    values: float = 1.0
    spread: float = 1.0
    worst: float = 1.0
    missing: float = 1.0

    def merge(self, other: Design) -> Design:
        """The larger of both: what was measured on parts holds for the whole at most."""
        return Design(
            values=max(self.values, other.values),
            spread=max(self.spread, other.spread),
            worst=max(self.worst, other.worst),
            missing=max(self.missing, other.missing),
        )


INDEPENDENT: Final = Design()


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The mergeable summary of one column.

    `kind` comes from the column's type alone. Numbers and dates (as days since 1970) have `moments` and either `prefixes`
    or, frozen, `bins`; booleans and categories have `levels`. `nans` and `infinities` (below, above) are counted apart from
    `nulls`; `mistyped` counts values in live rows that are not of the kind.
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
        )

    def _registers(self) -> bytes | None:
        """Registers of every value seen, also while all are still counted one by one."""
        if self.registers is not None:
            return self.registers
        if self.prefixes is not None:
            return registers(hash_numbers(self.prefixes.keys))
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
    values = np.sort(values)
    nans = int(np.isnan(values).sum())
    rows = len(values) + nulls + mistyped
    values = values[: len(values) - nans]
    low = int(np.searchsorted(values, -math.inf, side="right"))
    high = int(np.searchsorted(values, math.inf, side="left"))
    prefixes = bins = seen = None
    if like is not None and like.bins is not None:
        bins = Bins.of(values, np.array(like.bins.edges, np.float64))
    else:
        keys = ordered(values)
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.zeros(0, np.int64)
        counts = np.diff(np.concatenate((starts, [len(keys)]))).astype(np.int64)
        prefixes = Prefixes.of(keys[starts], counts)
        if prefixes.shift:
            seen = registers(hash_numbers(keys[starts]))
    return ColumnProfile(
        kind=kind,
        rows=rows,
        nulls=nulls,
        nans=nans,
        mistyped=mistyped,
        infinities=(low, len(values) - high),
        moments=Moments.of(values[low:high]),
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
        sizes = {name: len(name) for name in counts}
        lengths = Lengths(
            count=rows - nulls - mistyped,
            total=sum(sizes[name] * n for name, n in counts.items()),
            shortest=min(sizes.values(), default=0),
            longest=max(sizes.values(), default=0),
        )
        if lengths.longest > _NAME:
            short: dict[str, int] = {}
            for name, n in counts.items():
                key = short_name(name)
                short[key] = short.get(key, 0) + n
            counts = short
    seen = None
    if like is not None and like.levels is not None:
        levels = like.levels.like(counts)
    else:
        levels = Levels.of(counts)
        if levels.hashed:
            seen = registers(hash_names(counts))
    return ColumnProfile(
        kind=kind, rows=rows, nulls=nulls, mistyped=mistyped, levels=levels, lengths=lengths, registers=seen
    )


def short_name(name: str) -> str:
    """A level's name as a profile keeps it: long texts are cut and told apart by a hash."""
    if len(name) <= _NAME:
        return name
    return f"{name[: _NAME - 20]}… #{int(hash_names([name])[0]):016x}"

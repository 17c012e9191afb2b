"""The parts that a column's profile is made of; each merges with its like."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping
from typing import Final

import msgspec
import numpy as np

from loopline.errors import Invalid
from loopline.quality.profile_sketch import DISTINCT, Floats, Hashes, Integers, Prefixes, hash_names, json_float

BINS: Final = 256  # quantile bins of a frozen column
TOP: Final = 64  # named levels kept where there are too many to keep all
UNSEEN: Final = 16  # new levels that a frozen column names
HASHED: Final = 256
LONGEST: Final = 100  # characters of a level's name that are kept


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
        """Of finite values."""
        n = len(values)
        if not n:
            return cls()
        low, high = float(values.min()), float(values.max())
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
    def of(cls, counts: Mapping[str, int], hashes: Hashes | None = None) -> Levels:
        """Of the count of each level; `hashes` are those of the levels, where they are known."""
        if len(counts) <= DISTINCT:
            return cls(counts=dict(sorted(counts.items())))
        return cls._of_many(counts, _hashed(counts, hashes), sum(counts.values()), 0)

    @classmethod
    def of_many(cls, repeated: Mapping[str, int], counts: Integers, hashes: Hashes) -> Levels:
        """Of more than 1,024 levels: those that are there more than once, and of all the counts and the hashes of their names."""
        hashed = np.bincount(_buckets(hashes), weights=counts, minlength=HASHED).astype(np.int64)
        return cls._of_many(repeated, hashed, int(counts.sum()), 0, once=len(counts) - len(repeated))

    @classmethod
    def _of_many(cls, counts: Mapping[str, int], hashed: Integers, total: int, error: int, once: int = 0) -> Levels:
        # A level seen once is no frequent one, and in a column of identifiers it would be a person's.
        many = [(name, n) for name, n in counts.items() if n > 1]
        ranked = heapq.nsmallest(TOP + 1, many, key=lambda item: (-item[1], item[0]))
        kept = dict(ranked[:TOP])
        dropped = ranked[TOP][1] if len(ranked) > TOP else int(len(counts) + once > len(many))
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


def buckets_of(names: Collection[str]) -> Integers:
    """The hash bucket of each level."""
    return _buckets(hash_names(names))


def _buckets(hashes: Hashes) -> Integers:
    return (hashes & np.uint64(HASHED - 1)).astype(np.int64)


def _hashed(counts: Mapping[str, int], hashes: Hashes | None = None) -> Integers:
    total = np.zeros(HASHED, np.int64)
    places = buckets_of(counts) if hashes is None else _buckets(hashes)
    np.add.at(total, places, np.fromiter(counts.values(), np.int64, len(counts)))
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


def short_name(name: str) -> str:
    """A level's name as a profile keeps it: long texts are cut and told apart by a hash."""
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 20]}… #{int(hash_names([name])[0]):016x}"

"""What only a full profile has: which columns go together, which rows nearly repeat, what else gives the label away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from loopline.quality.profile_parts import Association

Measure = Literal["rank correlation", "Cramér's V"]
COLUMNS: Final = 60  # of how many each is held against each


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """How two columns go together, in rows where both are there.

    Two of numbers or dates: Spearman's rank correlation, -1 to 1. Else Cramér's V, 0 to 1, less its bias (Bergsma 2013),
    numbers in quantile bins. Of parts merged it is the mean by rows: a hint, no test.
    """

    one: str
    other: str
    measure: Measure
    value: float
    rows: int

    def merge(self, other: Pair) -> Pair:
        """The mean of both by rows."""
        rows = self.rows + other.rows
        value = (self.value * self.rows + other.value * other.rows) / rows
        return msgspec.structs.replace(self, value=value, rows=rows)


class Full(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of a full profile over so many rows.

    `twins` are columns that are equal in every row. `near_duplicates` are rows that equal an earlier one in all columns but
    one, with capitals, spaces and identifiers (columns that differ nearly everywhere) set aside; None where so many would
    be alike by chance. `missing_tells`: how much it tells of the label that a column is missing; `order_tells`, in
    which part of the table a row stands. `left_out` are columns beyond the first 60, which were held against none.
    """

    rows: int
    pairs: tuple[Pair, ...] = ()
    twins: tuple[tuple[str, str], ...] = ()
    near_duplicates: int | None = None
    missing_tells: dict[str, Association] = {}
    order_tells: Association | None = None
    left_out: tuple[str, ...] = ()

    def merge(self, other: Full) -> Full:
        """Both together; what nearly repeats was looked for within the parts."""
        if not self.rows or not other.rows:
            return self if self.rows else other
        pairs = {(pair.one, pair.other): pair for pair in self.pairs}
        for pair in other.pairs:
            known = pairs.get((pair.one, pair.other))
            pairs[pair.one, pair.other] = pair if known is None else known.merge(pair)
        near = [side.near_duplicates for side in (self, other) if side.near_duplicates is not None]
        order = [side.order_tells for side in (self, other) if side.order_tells is not None]
        return Full(
            rows=self.rows + other.rows,
            pairs=tuple(pairs[key] for key in sorted(pairs)),
            twins=tuple(pair for pair in self.twins if pair in other.twins),
            near_duplicates=sum(near) if near else None,
            missing_tells=_together(self.missing_tells, other.missing_tells),
            order_tells=order[0].merge(order[1]) if len(order) == 2 else next(iter(order), None),
            left_out=tuple(name for name in self.left_out if name in other.left_out),
        )

    @property
    def strongest(self) -> tuple[Pair, ...]:
        """The pairs, those that go together most first."""
        return tuple(sorted(self.pairs, key=lambda pair: (-abs(pair.value), pair.one, pair.other)))


def _together(a: Mapping[str, Association], b: Mapping[str, Association]) -> dict[str, Association]:
    return {
        name: a[name].merge(b[name]) if name in a and name in b else (a.get(name) or b[name])
        for name in sorted(a.keys() | b.keys())
    }

"""Records of a split: its sides, what was left out of them and why, and what was found to be amiss."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal, NamedTuple

import msgspec
import polars as pl

from loopline.data.records import Leak

SIDES = ("train", "validation", "test")
TEST = SIDES.index("test")
Moment = int | float | date | datetime


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a split. `first` and `last` are its times (ISO text for dates); `classes` counts the label's values.

    `dropped` rows were left out of it because an earlier side has their group, `embargoed` ones because they lie within the
    embargo before the next side.
    """

    name: str
    rows: int
    dropped: int = 0
    embargoed: int = 0
    groups: int | None = None
    first: int | float | str | None = None
    last: int | float | str | None = None
    classes: dict[str, int] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is amiss between the sides: `severity` ranks (3 likely wrong, 2 look at it, 1 to know), `count` says how many.

    "same-group": groups of which two sides have rows. "same-row": rows of a later side that stand in an earlier one, too.
    "near-row": rows that do but for one column. "knows-label": a column that alone tells the label; its count is 1.
    """

    leak: Leak
    severity: Literal[1, 2, 3]
    count: int
    text: str
    column: str = ""


class SplitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a split did; rows = rows of the three sides + dropped + embargoed + immature, always."""

    by: str
    rows: int
    dropped: int
    embargoed: int = 0
    immature: int = 0
    """Rows whose label was not known yet at `as_of`."""
    as_of: int | None = None
    """Where a label's maturity is declared: up to when labels count as known, in milliseconds since 1970-01-01 UTC; None: as each
    row's was when it was read."""
    embargo: str = ""
    sides: tuple[Side, ...]
    time: str | None = None
    group: str | None = None
    boundaries: tuple[int | float | str, ...] = ()
    seed: int | None = None
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    def said(self) -> str:
        """The split in one line for people."""
        sides = ", ".join(f"{s.name} {s.rows:,}" for s in self.sides)
        return f"by {self.by}: {sides}{self.left_out()}"

    def left_out(self) -> str:
        """What stands on no side, and why; empty where all rows do."""
        parts = [
            f"{self.dropped:,} rows dropped whose {self.group} an earlier side has" if self.dropped else "",
            f"{self.embargoed:,} rows within {self.embargo} before a later side left out" if self.embargoed else "",
            f"{self.immature:,} rows whose label was not known yet left out" if self.immature else "",
        ]
        return "".join(f"; {part}" for part in parts if part)


class Split(NamedTuple):
    """The three sides and the facts."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    facts: SplitFacts


class Window(NamedTuple):
    """The rows of a stretch of time, without the groups seen before it."""

    rows: pl.DataFrame
    facts: Side

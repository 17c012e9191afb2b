"""What a cleaning did, in rows and cells."""

from __future__ import annotations

import msgspec


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did to a column: the columns that it made, cells that it changed, and values missing before and after.

    Of new columns `cells` are those that hold a value.
    """

    step: str
    column: str
    made: tuple[str, ...] = ()
    cells: int
    missing: int
    left: int


class CleaningReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a cleaning did: `rows` = `kept` + those set `aside` by each rule; `changed` of the kept hold a changed cell."""

    rows: int
    kept: int
    aside: dict[str, int]
    changed: int
    changes: tuple[Change, ...]

    @property
    def cells(self) -> int:
        """How many cells were changed."""
        return sum(change.cells for change in self.changes if not change.made)

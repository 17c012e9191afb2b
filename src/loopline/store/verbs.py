"""What can be asked about the store of bytes, which all projects share."""

from __future__ import annotations

from typing import Protocol

from loopline.operations import operation
from loopline.store.records import Sweep, Usage


class StoreVerbs(Protocol):
    """The store: how much it holds, and the removal of what nothing refers to."""

    @operation("GET /store", action="administer")
    def usage(self) -> Usage:
        """Show how many bytes there are, and how many of them nothing refers to."""
        ...

    @operation("POST /store/sweep", action="administer", prepares=True)
    def sweep(self, dry_run: bool = False) -> Sweep:
        """Remove the bytes that nothing of any project has referred to for a day. `dry_run`: only say how many."""
        ...

"""A clock that a test turns."""

from __future__ import annotations


class FakeClock:
    """Stands still until it is told to go; it can be set back, as a machine's clock can."""

    def __init__(self, start: int = 1_700_000_000_000) -> None:
        self.time = start

    def now(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return self.time

    def forward(self, *, seconds: float = 0, milliseconds: int = 0) -> int:
        """Turns it on (or back, with negative numbers); gives the new time."""
        self.time += int(seconds * 1000) + milliseconds
        return self.time

"""Streams as ports: messages that come without an end, and a place where answers to them go.

Of where messages come from (`Inflow`):
1. `take` gives what has come since the last call, at most so many, in the order of each partition or topic; it waits for the first
   one only, and gives nothing where nothing came in that time.
2. A message's `id` is its own: the same whenever it is given again, by whatever process, and that of no other message there.
3. `answered` makes it durable that all that was given needs no answer any more. What was given and not answered is given again,
   after whatever end of the process; never is anything passed over.
4. What is gone before it could be given is told, as a message that has `lost` instead of a content.
5. It never holds more than some tens of megabytes of what is not taken yet: the rest waits where it is.
6. Where a broker is away it tries again by itself and `trouble` says so, or raises `Unavailable`: then it is to be opened anew.
   What does not mend by itself (no such topic, no entry) raises another error of the family.

Of where messages go (`Outflow`):
1. When `put` returns, all of the messages are durable there, but for those that it names with the reason why they never can be.
2. It tries until then, for as long as `stopped` says no; then it raises `Unavailable`, and any part of them may be there.
3. Messages with one key keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol


class Came(NamedTuple):
    """A message that came: where from, its key, where it has one, and its content (None: a tombstone)."""

    id: str
    place: dict[str, Any]
    content: bytes | None
    key: bytes | None = None
    lost: str = ""


class Sent(NamedTuple):
    """A message to be sent."""

    id: str
    content: bytes
    key: bytes | None = None


class Inflow(Protocol):
    """Where messages come from. See the laws above."""

    @property
    def name(self) -> str:
        """Its address, without any secret."""
        ...

    @property
    def trouble(self) -> str:
        """Why nothing can come just now; empty where nothing is known to be in the way."""
        ...

    @property
    def waiting(self) -> int | None:
        """About how many messages wait; None where nobody says."""
        ...

    def take(self, most: int, wait: float) -> list[Came]:
        """What came, within `wait` seconds."""
        ...

    def answered(self) -> None:
        """All that was given is answered."""
        ...

    def close(self) -> None:
        """Leaves; what waits is kept where it is."""
        ...


class Outflow(Protocol):
    """Where messages go. See the laws above."""

    @property
    def name(self) -> str:
        """Its address, without any secret."""
        ...

    @property
    def trouble(self) -> str:
        """Why nothing can be sent just now."""
        ...

    def put(self, messages: Sequence[Sent], stopped: Callable[[], bool]) -> dict[str, str]:
        """Sends messages; gives the ids of those that cannot be kept there, with the reasons."""
        ...

    def close(self) -> None:
        """Leaves."""
        ...

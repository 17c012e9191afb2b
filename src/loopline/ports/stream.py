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
7. Where a message's producer said of which trace it is, that is given with it (`Trace`).

Of where messages go (`Outflow`):
1. When `put` returns, all of the messages are durable there, but for those that it names with the reason why they never can be.
2. It tries until then, for as long as `stopped` says no; then it raises `Unavailable`, and any part of them may be there.
3. Messages with one key keep their order.
4. A message's id, and of which trace it is, are sent beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

_PARENT, _STATE = 256, 512
"""Characters of a trace's parent and state that are carried on; 512 is what the standard asks for."""


class Trace(NamedTuple):
    """W3C Trace Context beside a message: `traceparent` and `tracestate`, empty where they are not there."""

    parent: str = ""
    state: str = ""

    def pairs(self) -> list[tuple[str, str]]:
        """What is sent of it."""
        return [(name, value) for name, value in (("traceparent", self.parent), ("tracestate", self.state)) if value]


def trace_of(headers: Iterable[tuple[str, str | bytes | None]]) -> Trace:
    """The trace among a message's headers; none where it is longer than anybody need carry it on, or no printable ASCII."""
    found = {}
    for name, value in headers:
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        if text and text.isascii() and text.isprintable():
            found[name.lower()] = text
    parent, state = found.get("traceparent", ""), found.get("tracestate", "")
    if not parent or len(parent) > _PARENT:
        return Trace()
    return Trace(parent, state if len(state) <= _STATE else "")


class Came(NamedTuple):
    """A message that came: where from, its key, where it has one, and its content (None: a tombstone)."""

    id: str
    place: dict[str, Any]
    content: bytes | None
    key: bytes | None = None
    lost: str = ""
    trace: Trace = Trace()


class Sent(NamedTuple):
    """A message to be sent."""

    id: str
    content: bytes
    key: bytes | None = None
    trace: Trace = Trace()


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

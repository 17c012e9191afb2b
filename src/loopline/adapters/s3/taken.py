"""Which objects of a store were taken: a position that stays small, however many objects there are.

Objects are taken in the order in which they were written (time, then key), so that a later one never stands before one that was
taken. The last 2,000 are remembered by key and tag; those before them by the place of the last one (the floor) and their number.
So a change of one of the 2,000 is seen, and one that came late among them is taken. One that came late below the floor (an upload
that took longer than 2,000 others) is seen by its number. An object below the floor that is written again is taken as a new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from loopline.errors import Conflict
from loopline.ports.source import Position

REMEMBERED = 2_000


class Written(NamedTuple):
    """An object as it was written: when (milliseconds since 1970), under which address, and a tag that its content has alone."""

    time: int
    address: str
    tag: str
    size: int


@dataclass
class Taken:
    """The objects that were taken so far."""

    recent: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Time and tag by address, in the order in which they were written."""
    floor: tuple[int, str] = (-1, "")
    below: int = 0

    @classmethod
    def of(cls, position: Position | None) -> Taken:
        """What a position tells."""
        if position is None:
            return cls()
        recent = {address: (time, tag) for address, (time, tag) in position["recent"].items()}
        return cls(recent, tuple(position["floor"]), position["below"])

    def position(self) -> Position:
        """It as JSON values: 300 kB at the most for addresses of usual length."""
        return {
            "recent": {address: [*seen] for address, seen in self.recent.items()},
            "floor": [*self.floor],
            "below": self.below,
        }

    def new(self, there: Iterable[Written], name: str) -> list[Written]:
        """Those of the objects that were not taken, in order.

        Raises `Conflict` (code "source-changed") where one that was taken has changed, or where some came late below the floor.
        """
        found, below = list[Written](), 0
        for one in there:
            if one.address in self.recent:
                if self.recent[one.address][1] != one.tag:
                    raise Conflict(
                        f"{one.address} was taken, and has changed since.",
                        code="source-changed",
                        hint="Give what is new as one of its own, or collect it with --option whole=true: all anew each time.",
                    )
            elif (one.time, one.address) > self.floor:
                found.append(one)
            else:
                below += 1
        if below > self.below:
            raise Conflict(
                f"{below - self.below:,} objects of {name} came with a time before that of {REMEMBERED:,} that were taken.",
                code="source-changed",
                hint="Write them again, so that they are new; or collect it with --option whole=true: all anew each time.",
            )
        self.below = below  # some may have gone since
        return sorted(set(found))  # an address may be below two of a source's own

    def take(self, one: Written) -> None:
        """One more was taken."""
        newest = next(reversed(self.recent), None)
        self.recent[one.address] = (one.time, one.tag)
        if newest is not None and (one.time, one.address) < (self.recent[newest][0], newest):  # it came late
            self.recent = dict(sorted(self.recent.items(), key=lambda item: (item[1][0], item[0])))
        if len(self.recent) > REMEMBERED:
            oldest = next(iter(self.recent))
            self.floor = (self.recent.pop(oldest)[0], oldest)
            self.below += 1

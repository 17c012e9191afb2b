"""Sources of rows as a port: what is read of one, how far it was read, and what a reader keeps to.

1. `read(None)` begins at the start; `read(position)` goes on behind the piece that carried this position, and gives nothing of it
   or of before again. From the same position the same pieces come first, however often it is asked.
   Of a source that does not grow, only the position of the last piece says anything: `read` behind it gives the whole table
   again, or nothing where the source knows that it is as it was.
2. A reading ends: it gives what was there when it began, and never waits for more.
3. A position is of JSON values (numbers below 2**53), holds no secret and no value of a row but what orders them, and is as good
   in another process.
4. What is there and cannot be taken is told as `Refusal`, with the reason and its bytes; nothing is left out in silence.
5. What a source may forget, it keeps until `done`; nothing else is changed where it reads. One that forgets it then says so
   (`once`): what is read whole each time cannot be made of it.
6. Where it cannot be read (gone, closed, wrong) an error of the family is raised, that names it without any secret. What was
   given before is good; the next reading goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

Position = dict[str, Any]
"""How far a source was read, as JSON values of its own."""


class Refusal(NamedTuple):
    """What a source holds and no table can take: where it is, why, and its bytes as they are."""

    place: str
    reason: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a source: rows that the source types itself, or a file of rows in any format that data is read from.

    `name` says where it is (a key, a page, a partition's offsets); a file is there until the next piece is asked for. `position`
    is that of the source once this piece is taken.
    """

    name: str
    position: Position
    rows: pa.Table | None = None
    file: Path | None = None
    refused: tuple[Refusal, ...] = ()


class Source(Protocol):
    """Where rows are collected from. See the laws above."""

    @property
    def name(self) -> str:
        """Its address, without any secret: `s3://clinic/visits/`, `kafka://127.0.0.1:9092/visits`."""
        ...

    @property
    def grows(self) -> bool:
        """Whether what it gives goes behind what it gave; else each reading is the whole table as it is now."""
        ...

    @property
    def once(self) -> bool:
        """Whether what is `done` is nowhere any more, so that it can never be read whole again."""
        ...

    def read(self, after: Position | None) -> Iterator[Piece]:
        """The pieces behind a position."""
        ...

    def done(self, position: Position) -> None:
        """All up to this position is in a version for good; what the source kept for a second reading may go."""
        ...

    def close(self) -> None:
        """Gives back connections."""
        ...

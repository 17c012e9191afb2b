"""Runs of other systems as a port: what is read of one, and what a reader of them keeps to.

1. `runs` gives each run once, however often it is called, and a run has the same `source` each time.
2. What a run holds is read when it is asked for: `points` and `files` may be asked for again and give the same.
3. What cannot be read is given as `Unread`, by name and with the reason, and the others follow; what turns out so only among
   the points or files of a run raises `Invalid`. Where nothing can be read at all an error of the family is raised.
4. Nothing is written to where it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol


class ForeignPoint(NamedTuple):
    """One value of a metric; `time` in milliseconds since 1970 UTC (0: not known)."""

    key: str
    step: int
    time: int
    value: float


class ForeignFile(NamedTuple):
    """A file of a run: its path within the run, its size in bytes where that is known, and where it is or what opens it."""

    path: str
    size: int | None
    source: Path | Callable[[], IO[bytes]]


class Unread(NamedTuple):
    """What could not be read, and why."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class ForeignRun:
    """A run as another system has it.

    `source` tells it apart in that system for good, `parent` is the source of the run that it is a child of. `created` and `ended`
    are in milliseconds since 1970 UTC; `status` None: it goes on. `left_out` says what of it has no place here.
    """

    source: str
    name: str
    created: int
    status: Literal["finished", "failed", "killed"] | None = "finished"
    ended: int | None = None
    note: str = ""
    group: str = ""
    parent: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    points: Callable[[], Iterable[ForeignPoint]] = tuple
    files: Callable[[], Iterable[ForeignFile]] = tuple
    left_out: tuple[str, ...] = ()


class RunSource(Protocol):
    """Where runs of another system are. See the laws above."""

    @property
    def system(self) -> str:
        """The system's name, such as "mlflow"."""
        ...

    def runs(self) -> Iterator[ForeignRun | Unread]:
        """All runs that are there, and what cannot be read."""
        ...

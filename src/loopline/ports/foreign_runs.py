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
from typing import IO, Any, Literal, NamedTuple, Protocol, runtime_checkable


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


class ForeignDataset(NamedTuple):
    """Data that a run read, as its program described it; `context` is what for."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    context: str = ""


class ForeignMeasure(NamedTuple):
    """What a run (by its source) measured of a logged model, and on which data."""

    run: str
    point: ForeignPoint
    dataset: str = ""
    digest: str = ""


class Unread(NamedTuple):
    """What could not be read, and why."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class ForeignRun:
    """A run as another system has it.

    `source` tells it apart in that system for good, `parent` is the source of the run that it is a child of. `created` and `ended`
    are in milliseconds since 1970 UTC; `status` None: it goes on. `left_out` says what of it has no place here. A model that a run
    logged is one of the kind "model", whose parent is that run.
    """

    source: str
    name: str
    created: int
    status: Literal["finished", "failed", "killed"] | None = "finished"
    ended: int | None = None
    note: str = ""
    group: str = ""
    parent: str | None = None
    kind: Literal["run", "model"] = "run"
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    points: Callable[[], Iterable[ForeignPoint]] = tuple
    files: Callable[[], Iterable[ForeignFile]] = tuple
    datasets: tuple[ForeignDataset, ...] = ()
    measures: tuple[ForeignMeasure, ...] = ()
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


@dataclass(frozen=True, kw_only=True)
class ForeignVersion:
    """A version of a registered model: `run` is the source of the run that made it, `origin` where its program said it is from.

    `files`: the source of the run or logged model that has its files, and the folder within; None: they are nowhere that is known.
    """

    number: int
    run: str = ""
    origin: str = ""
    files: tuple[str, str] | None = None
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A registered model as another system has it; `aliases` lead to numbers of versions."""

    name: str
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    versions: tuple[ForeignVersion, ...] = ()


@runtime_checkable
class ModelSource(Protocol):
    """Where registered models of another system are, beside its runs."""

    @property
    def system(self) -> str:
        """The system's name, such as "mlflow"."""
        ...

    def models(self) -> Iterator[ForeignModel | Unread]:
        """All registered models that are there, and what cannot be read."""
        ...

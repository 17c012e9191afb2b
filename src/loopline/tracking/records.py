"""What a run is: its identity, its values, its metric points and its artifacts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")

RunKind = Literal["run", "pipeline", "step", "trial", "model"]
"""What was executed: a script or notebook, a pipeline, a step of one, a trial of a tuning; or a model that one of them logged.

A logged model is kept as a run is: params, tags, files, what was measured of it; it runs until its files are all there. It becomes
a version of a model when it is registered.
"""

RunStatus = Literal["scheduled", "running", "finished", "failed", "killed"]
Ending = Literal["finished", "failed", "killed"]

Lifecycle = Literal["live", "deleted", "all"]
"""Which runs or groups are meant: those that are not deleted, those that are and can be restored, or both."""

DEFAULT_GROUP = "Default"
"""The name of the group that every project has, number 0, as long as nobody calls it otherwise."""

SYSTEM = "system/"
"""How the keys of those metrics begin that tell the use of the machine, and nothing of the work."""


def of_work_first(metrics: Mapping[str, T]) -> dict[str, T]:
    """The metrics, those of the machine's use behind all others."""
    return dict(sorted(metrics.items(), key=lambda item: item[0].startswith(SYSTEM)))


NotFinite = Literal["NaN", "Infinity", "-Infinity"]
Real = float | NotFinite
"""A number; one that JSON has no form for is written by its name, so that it is the same in process and over HTTP."""


def real(value: float | str) -> Real:
    """The value as records carry it: a finite float, or "NaN", "Infinity", "-Infinity"."""
    number = float(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a metric. `time` is in milliseconds since 1970 UTC (-1: when the call arrives).

    `value` takes any float; NaN and infinities are kept, by name. `number` gives the float again.
    """

    key: str
    value: Real
    step: int = 0
    time: int = -1

    def __post_init__(self) -> None:
        if isinstance(self.value, float) and not math.isfinite(self.value):
            msgspec.structs.force_setattr(self, "value", real(self.value))

    @property
    def number(self) -> float:
        """The value as a float."""
        return float(self.value)


class Measure(Point, frozen=True, kw_only=True):
    """One value that the run `run` measured of the logged model `model` (ids), and on which data, as its program names it."""

    model: str = ""
    run: str = ""
    dataset: str = ""
    digest: str = ""


class ExternalDataset(msgspec.Struct, frozen=True, kw_only=True):
    """Data that a run read and that is held elsewhere, as its program describes it.

    `digest` is the program's own; `source` says where the data is, in the form that `source_type` names; `schema` and `profile`
    are texts of any form; `context` is what the run read it for (training, validation).
    """

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    context: str = ""
    tags: dict[str, str] = {}


class ExternalUse(msgspec.Struct, frozen=True, kw_only=True):
    """That runs of a group read data which is held elsewhere, and for what."""

    group: int
    name: str
    digest: str
    context: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a step or a pipeline, or of a script that tracks itself.

    `id` is a ULID: it sorts by the time of creation. `metrics` holds each metric's last value (by step, then time). `inputs` and
    `outputs` are refs, `external` is data that it read and that is held elsewhere, `environment` is what
    `tracking.environment.capture` gave, `group` the number of its group. `deleted`: since when it is; None: it is live. Times
    are in milliseconds since 1970 UTC.
    """

    id: str
    ref: str
    name: str
    kind: RunKind
    status: RunStatus
    created: int
    creator: str
    ended: int | None = None
    message: str = ""
    note: str = ""
    group: int = 0
    deleted: int | None = None
    parent: str | None = None
    params: dict[str, Any] = {}
    tags: dict[str, str] = {}
    metrics: dict[str, Real] = {}
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    environment: dict[str, Any] = {}
    external: tuple[ExternalDataset, ...] = ()


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some runs, newest first. `after` is what to give for the next page; None: there is none."""

    runs: tuple[Run, ...]
    after: str | None = None


class RunGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of a project that belong together, under a number and a name; number 0 is there in every project.

    `deleted`: since when it is, and with it the runs that were live; None: it is live. Times are in milliseconds since 1970 UTC.
    """

    number: int
    ref: str
    name: str
    note: str
    tags: dict[str, str]
    created: int
    creator: str
    changed: int
    deleted: int | None = None


class RunGroupPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some groups, by number. `after` is what to give for the next page; None: there is none."""

    groups: tuple[RunGroup, ...]
    after: int | None = None


class TagRetention(msgspec.Struct, frozen=True, kw_only=True):
    """How long at least deleted runs with a tag are kept, in milliseconds; None: for ever. `value` None: whatever the tag says."""

    key: str
    value: str | None = None
    kept: int | None = None


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long a project keeps what is deleted, in milliseconds; None: for ever. `by` and `at`: who said so, and when."""

    deleted: int | None = None
    tags: tuple[TagRetention, ...] = ()
    by: str = ""
    at: int | None = None


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """A deleted run that stays, since something names it."""

    run: str
    by: str


class Purge(msgspec.Struct, frozen=True, kw_only=True):
    """The refs of the runs and groups that a purge removed, or would, and the runs that it left since they are needed.

    `more`: there are others, for another call.
    """

    runs: tuple[str, ...]
    groups: tuple[str, ...]
    needed: tuple[Needed, ...]
    more: bool = False


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """A param that was changed after it was set: what stood there before, and when, by whom and why it was changed."""

    key: str
    value: Any
    at: int
    by: str
    reason: str


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """How far a journal has been taken: every batch up to `number` is on the disk (0: none yet)."""

    sender: str
    number: int


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A search that was given a name."""

    name: str
    filter: str
    order: tuple[str, ...]
    by: str
    at: int


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of points that is on the disk: how many, and the digest under which the ledger knows it."""

    run: str
    count: int
    digest: str


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a run: its path within the run, its digest (`blake3:<hex>`) and its size in bytes."""

    run: str
    path: str
    digest: str
    size: int
    created: int


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a run that comes in so many parts, which count from 1; `path` is where it will be within the run."""

    id: str
    run: str
    path: str
    parts: int
    created: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is here: its digest (`blake3:<hex>`), by which it is named at the end, and its size in bytes."""

    upload: str
    number: int
    digest: str
    size: int

"""Runs of other systems, taken in through the verbs: each once, whole, and gone on with where it was interrupted.

A run's id is made of where it comes from, so the same run again is the same run here. It goes on until all of it is here: what was
killed half-way is taken up by importing again, and points and files that are there already change nothing. One that names a run
that was refused (its parent, or one that measured a model) is refused with it: what was taken without that would stay so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from loopline.errors import Invalid, LooplineError, Unavailable
from loopline.failpoints import failpoint
from loopline.operations import Body
from loopline.ports.foreign_runs import ForeignRun, RunSource, Unread
from loopline.tracking.ids import LATEST, ulid
from loopline.tracking.paths import check_key, check_title
from loopline.tracking.records import ExternalDataset, Measure, Point, Run, RunGroup
from loopline.tracking.verbs import GroupsVerbs, RunsVerbs

SOURCE = "import.source"
"""The tag that says which run of which system it is, `mlflow:<id>`."""

NAME = "import.name"
"""The tag that says what a run is called there, where that is no name here."""

_BATCH = 10_000  # points in one call
_LONGEST_NAME = 200  # of one that had to be mended


class Sink(Protocol):
    """What takes the runs: a session."""

    @property
    def runs(self) -> RunsVerbs: ...
    @property
    def groups(self) -> GroupsVerbs: ...


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one run: imported now, there already, or refused and why. `left_out`: what of it has no place here."""

    source: str
    state: Literal["imported", "there already", "refused"]
    run: str = ""
    why: str = ""
    left_out: tuple[str, ...] = ()


def bring(sink: Sink, source: RunSource) -> Iterator[Outcome]:
    """Imports all runs of a source, one after the other; gives what came of each as it is done.

    A run that cannot be taken is refused and the others follow. Raises what the platform raises where it does not answer.
    """
    importer = _Importer(sink, source.system)
    waiting: list[ForeignRun] = []
    for one in source.runs():
        if isinstance(one, Unread):
            yield importer.refuse(one.name, one.why)
        elif any(importer.place(named) is None for named in _named(one)):
            waiting.append(one)  # what it names comes later, or not at all
        else:
            yield importer.take(one)
    while waiting:
        left = {one.source for one in waiting}
        ready = [one for one in waiting if left.isdisjoint(_named(one))] or waiting  # else they are in a ring
        for one in ready:
            yield importer.take(one)
        done = {one.source for one in ready}
        waiting = [one for one in waiting if one.source not in done]


def _named(one: ForeignRun) -> set[str]:
    """The sources of the runs that a run names: its parent, and those that measured it."""
    return {measure.run for measure in one.measures} | ({one.parent} if one.parent is not None else set())


class _Importer:
    def __init__(self, sink: Sink, system: str) -> None:
        self._runs, self._groups = sink.runs, sink.groups
        self._system = system
        self._places: dict[str, str] = {}  # the ids of runs, by their source
        self._numbers: dict[str, int | None] = {"": None}  # those of groups, by their name
        self._refused: set[str] = set()

    def place(self, source: str) -> str | None:
        """The id of the run of this source, where it is here."""
        if source not in self._places:
            told = f"{self._system}:{source}".replace("'", "''")
            found = self._runs.search(f"tags.`{SOURCE}` = '{told}'", limit=1).runs
            if not found:
                return None
            self._places[source] = found[0].id
        return self._places[source]

    def refuse(self, source: str, why: str) -> Outcome:
        self._refused.add(source)
        return Outcome(source=f"{self._system}:{source}", state="refused", why=why)

    def take(self, one: ForeignRun) -> Outcome:
        for named in sorted(_named(one) & self._refused):
            if self.place(named) is None:
                why = f"it belongs to {named}, which was refused. Mend that, and import again: it is taken with it then"
                return self.refuse(one.source, why)
        try:
            return self._take(one, f"{self._system}:{one.source}")
        except Unavailable:  # it is not the run's fault
            raise
        except (LooplineError, OSError) as e:  # a file may be gone, or nobody's to read
            return self.refuse(one.source, str(e))

    def _take(self, one: ForeignRun, told: str) -> Outcome:
        created = min(max(one.created, 0), LATEST)
        digest = sha256(told.encode()).digest()
        run = ulid(created, lambda size: digest[:size])
        parent = self.place(one.parent) if one.parent is not None else None
        for key in dict.fromkeys(
            point.key for point in one.points()
        ):  # read to the end: of a damaged run nothing is taken
            check_key(key, "key of a metric")
        name = _name(one)
        begun = self._runs.create(
            name,
            kind=one.kind,
            parent=parent,
            params=one.params,
            tags={**one.tags, **({} if name == one.name else {NAME: one.name}), SOURCE: told},
            environment=one.environment,
            group=self._group(one.group),
            id=run,
            created=created,
        )
        self._places[one.source] = begun.id
        if begun.status != "running":
            return Outcome(source=told, state="there already", run=begun.id, left_out=one.left_out)
        failpoint("tracking.import.begun")
        self._fill(begun, one)
        lost = (*one.left_out, *self._measured(begun, one))
        if one.kind == "model" and parent is not None:
            self._runs.link(parent, outputs=(begun.ref,))
        if one.status is not None:
            failpoint("tracking.import.before_end")
            ended = None if one.ended is None else min(max(one.ended, 0), LATEST)
            self._runs.change(run, status=one.status, ended=ended)
        if one.parent is not None and parent is None:
            lost = (*lost, f"its parent {one.parent}, which was not found")
        return Outcome(source=told, state="imported", run=begun.id, left_out=lost)

    def _fill(self, begun: Run, one: ForeignRun) -> None:
        points = (Point(key=p.key, step=p.step, time=p.time or begun.created, value=p.value) for p in one.points())
        while batch := list(itertools.islice(points, _BATCH)):
            self._runs.log(begun.id, batch)
            failpoint("tracking.import.points")
        if one.datasets:
            self._runs.use(begun.id, [ExternalDataset(**given._asdict()) for given in one.datasets])
        if one.note and one.note != begun.note:
            self._runs.note(begun.id, one.note)
        known = {file.path: file.size for file in self._runs.artifacts(begun.id)}
        for file in one.files():
            if file.path not in known or file.size not in (None, known[file.path]):
                opened = file.source if isinstance(file.source, Path) else file.source()
                kept = self._runs.put_artifact(begun.id, file.path, Body(opened, name=file.path.rpartition("/")[2]))
                if not isinstance(file.source, Path) and file.size not in (None, kept.size):
                    raise Unavailable(
                        f"The file {file.path} of {one.source} came with {kept.size:,} bytes of {file.size:,}.",
                        code="source-away",
                        hint="Import again: it goes on where it was.",
                    )
                failpoint("tracking.import.file")

    def _measured(self, begun: Run, one: ForeignRun) -> tuple[str, ...]:
        """Takes what runs measured of a logged model; gives what has no place, since its run is not here."""
        lost = 0
        for source, given in itertools.groupby(sorted(one.measures), key=lambda measure: measure.run):
            by = self.place(source)
            found = [
                Measure(key=m.key, step=m.step, time=m.time, value=m.value, dataset=dataset, digest=digest)
                for _, m, dataset, digest in given
            ]
            if by is None:
                lost += len(found)
            else:
                self._runs.measure(begun.id, by, found)
        return (f"{lost} metrics by runs that are not here",) if lost else ()

    def _group(self, name: str) -> int | None:
        if name not in self._numbers:
            found: tuple[RunGroup, ...] = self._groups.list(name=name, limit=1).groups
            self._numbers[name] = (found[0] if found else self._groups.create(name)).number
        return self._numbers[name]


def _name(one: ForeignRun) -> str:
    """The run's name, or what comes near to it where it is none here."""
    try:
        return check_title(one.name, "name of a run")
    except Invalid:
        printable = "".join(c if c.isprintable() else " " for c in one.name)
        parts = [part.strip() for part in printable.split("/")]
        mended = "/".join(part for part in parts if part not in ("", ".", ".."))[:_LONGEST_NAME].strip(" /")
        return mended or one.source[:_LONGEST_NAME]

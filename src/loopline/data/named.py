"""The versions of a project's datasets: found by number, tag, day or "latest", and whether they may be learned from."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.data.records import Column, Dataset, DatasetVersion, LabelColumn, Tag
from loopline.data.soundness import Soundness
from loopline.data.tables import dataset_contracts, dataset_tags, dataset_versions, looks
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, Refused, did_you_mean
from loopline.refs import check_name, parse, version_number

LATEST = "latest"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_C = dataset_versions.c


def check_tag(tag: str) -> str:
    """The tag itself. Raises `Invalid` where it could be taken for a number, a day or "latest"."""
    check_name(tag, "tag")
    if tag.lstrip("vV").isdecimal() or tag.casefold() == LATEST or _DAY.fullmatch(tag):
        raise Invalid(
            f"{tag!r} cannot be a tag: it reads like a version.", code="bad-tag", hint="For example 'published'."
        )
    return tag


class Named:
    """The dataset versions of one project, as they are named."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def newest(self, name: str) -> Any:
        """The row of the newest version, withdrawn or not; None for a dataset that is not there."""
        return self.tx.first(self._of(name).order_by(_C.version.desc()).limit(1))

    def datasets(self) -> list[Dataset]:
        """All datasets, newest first."""
        newest = (
            sa.select(
                _C.name,
                sa.func.count().label("versions"),
                sa.func.max(_C.version).label("latest"),
                sa.func.min(_C.created).label("created"),
            )
            .where(_C.project == self.tx.project)
            .group_by(_C.name)
            .subquery()
        )
        found = self.tx.rows(
            sa.select(newest, _C.rows)
            .join(
                dataset_versions,
                (_C.name == newest.c.name) & (_C.version == newest.c.latest) & (_C.project == self.tx.project),
            )
            .order_by(newest.c.created.desc(), newest.c.name)
        )
        return [
            Dataset(
                name=row.name,
                versions=row.versions,
                latest=self.tx.ref("data", row.name, row.latest),
                rows=row.rows,
                created=row.created,
            )
            for row in found
        ]

    def all(self, name: str) -> Sequence[Any]:
        """The rows of all versions, newest first. Raises `NotFound`."""
        found = self.tx.rows(self._of(name).order_by(_C.version.desc()))
        if not found:
            self.missing(name)
        return found

    def row(self, name: str, version: str = LATEST) -> Any:
        """The row of a version by its number, its tag, a day (the newest at the end of that day, UTC) or "latest" (the newest that
        is not withdrawn). Raises `NotFound`, and `Invalid` for what names no version."""
        newest = self.newest(name)
        if newest is None:
            self.missing(name)
        version = version.removeprefix("@")
        if version == LATEST:
            if newest.withdrawn is None:
                return newest
            return self._last(name, _C.withdrawn.is_(None), f"Every version of {name!r} is withdrawn", newest)
        if _DAY.fullmatch(version):
            ended = _end_of(version)
            return self._last(name, _C.created < ended, f"{name!r} had no version yet on {version}", newest)
        number = version_number(version)
        if number is None:
            number = self._tagged(name, version)
        row = self.tx.first(self._of(name).where(_C.version == number))
        if row is None:
            raise NotFound(
                f"There is no version {version} of the dataset {name!r}.",
                code="no-dataset-version",
                hint=f"The newest is {newest.version}.",
            )
        return row

    def of_ref(self, ref: str) -> Any:
        """The row of the version that a ref of this project names."""
        parsed = parse(ref, "data", self.tx.project)
        if parsed.project != self.tx.project:
            raise NotFound(f"There is no {ref} in project {self.tx.project!r}.", code="no-dataset")
        return self.row(parsed.name, parsed.version or LATEST)

    def ref(self, row: Any) -> str:
        """The ref of a row."""
        return self.tx.ref("data", row.name, row.version)

    def personal(self, name: str) -> frozenset[str]:
        """The columns about a person: what the newest contract says of the dataset, and of each that it was made from here."""
        found, waiting, seen = set[str](), [name], {name}
        while waiting:
            rows = self.tx.rows(
                sa.select(_C.contract, _C.inputs)
                .where(_C.project == self.tx.project, _C.name == waiting.pop())
                .order_by(_C.version.desc())
            )
            if (digest := next((row.contract for row in rows if row.contract), "")) != "":
                found.update(self.contract(digest).get("personal", ()))
            for parsed in (parse(ref, project=self.tx.project) for ref in {ref for row in rows for ref in row.inputs}):
                if parsed.kind == "data" and parsed.project == self.tx.project and parsed.name not in seen:
                    seen.add(parsed.name)
                    waiting.append(parsed.name)
        return frozenset(found)

    def contract(self, digest: str) -> dict[str, Any]:
        """A contract that versions were checked against, as JSON."""
        c = dataset_contracts.c
        query = sa.select(c.body).where(c.project == self.tx.project, c.digest == digest)
        body: dict[str, Any] = self.tx.scalar(query)
        return body

    def looks(self, row: Any) -> int:
        """How often its rows were looked at, in earlier windows that they stand in, too."""
        same = looks.c.version.in_([row.version, *row.shares])
        query = sa.select(sa.func.count()).where(looks.c.project == row.project, looks.c.name == row.name, same)
        return int(self.tx.scalar(query))

    def missing(self, name: str) -> None:
        """Raises `NotFound` for a dataset that is not there."""
        known = self.tx.rows(sa.select(_C.name).where(_C.project == self.tx.project).distinct())
        raise NotFound(
            f"There is no dataset {name!r}.", code="no-dataset", hint=did_you_mean(name, [row.name for row in known])
        )

    def check_open(self, row: Any) -> None:
        """Raises `Refused` for a sealed version."""
        if row.sealed:
            raise Refused(
                f"{self.ref(row)} is sealed: only an evaluation may read it, and each look is counted.",
                code="sealed",
                hint="Use the train and validation sides.",
            )

    def check_there(self, row: Any) -> None:
        """Raises `NotFound` for a version whose content was removed for good."""
        if row.purged is not None:
            day = dt.datetime.fromtimestamp(row.purged / 1000, dt.UTC).date()
            raise NotFound(
                f"The content of {self.ref(row)} was removed for good on {day}; its record is left.",
                code="version-purged",
                hint=f"Use another version; `loopline data log {row.name}` lists them.",
            )

    def check_table(self, row: Any) -> None:
        """Raises `Invalid` for a version of files, which has no rows, and `NotFound` for one whose content was removed."""
        self.check_there(row)
        if row.manifest:
            raise Invalid(
                f"{self.ref(row)} is of files, and no table.",
                code="no-table",
                hint=f"Get its files: loopline data checkout {row.name}@{row.version} FOLDER",
            )

    def check_files(self, row: Any) -> None:
        """Raises `Invalid` for a version that is a table, and `NotFound` for one whose content was removed."""
        self.check_there(row)
        if not row.manifest:
            raise Invalid(
                f"{self.ref(row)} is a table, and has no files to check out.",
                code="no-files",
                hint=f"Read its rows: loopline data read {row.name}@{row.version}",
            )

    def check_sound(self, rows: Iterable[Any]) -> None:
        """Raises `Refused` where one of the versions, or what it was made from, is withdrawn."""
        self.check_sound_refs(map(self.ref, rows))

    def check_sound_refs(self, refs: Iterable[str]) -> None:
        """Raises `Refused` where one of these things (versions, runs, models) is or was made from a withdrawn version."""
        if asked := list(refs):
            self.soundness().check(asked)

    def soundness(self) -> Soundness:
        """What is withdrawn now, and what rests on it."""
        return Soundness(self.tx, self.of_ref)

    def tag(self, name: str, version: str, tag: str) -> Tag:
        """Names a version for good: a tag is not moved, it is taken away and given again."""
        check_tag(tag)
        row = self.row(name, version)
        self.check_there(row)
        known = self._tag(name, tag)
        if known is not None and known.version != row.version:
            raise Conflict(
                f"{name}@{tag} is version {known.version} already.",
                code="tag-taken",
                hint=f"Take it away first: loopline data untag {name}@{tag}",
            )
        if known is None:
            self.tx.execute(
                dataset_tags.insert().values(
                    project=self.tx.project,
                    name=name,
                    tag=tag,
                    version=row.version,
                    at=self.tx.now,
                    by=self.tx.principal,
                )
            )
        self.tx.note(inputs=[self.ref(row)], outputs=[self.tx.ref("data", name, tag)])
        return self._tag_record(self._tag(name, tag))

    def untag(self, name: str, tag: str) -> None:
        """Takes a tag away. Raises `NotFound`."""
        at = (dataset_tags.c.project == self.tx.project, dataset_tags.c.name == name, dataset_tags.c.tag == tag)
        if self.newest(name) is None:
            self.missing(name)
        version = self._tagged(name, tag)
        self.tx.execute(dataset_tags.delete().where(*at))
        self.tx.note(inputs=[self.tx.ref("data", name, version)], outputs=[self.tx.ref("data", name, tag)])

    def tags(self, name: str) -> tuple[Tag, ...]:
        """The tags of a dataset, the newest version's first."""
        if self.newest(name) is None:
            self.missing(name)
        c = dataset_tags.c
        query = sa.select(dataset_tags).where(c.project == self.tx.project, c.name == name)
        return tuple(self._tag_record(row) for row in self.tx.rows(query.order_by(c.version.desc(), c.tag)))

    def records(self, rows: Sequence[Any]) -> tuple[DatasetVersion, ...]:
        """The records of some versions of one dataset."""
        if not rows:
            return ()
        c = dataset_tags.c
        tags: dict[int, list[str]] = {}
        query = sa.select(c.version, c.tag).where(c.project == self.tx.project, c.name == rows[0].name)
        for found in self.tx.rows(query.order_by(c.tag)):
            tags.setdefault(found.version, []).append(found.tag)
        soundness = self.soundness()
        # The oldest first: others rest on them.
        bad = {row.version: soundness.bad(self.ref(row)) for row in reversed(rows)}
        return tuple(
            DatasetVersion(
                ref=self.ref(row),
                columns=tuple(Column(**column) for column in row.columns),
                inputs=tuple(row.inputs),
                looks=self.looks(row) if row.sealed else 0,
                opened=row.opened or "",
                withdrawn=row.withdrawn or "",
                unsound=self.ref(bad[row.version]) if bad[row.version] is not None else "",
                tags=tuple(tags.get(row.version, ())),
                labels=msgspec.convert(row.labels, tuple[LabelColumn, ...]),
                **{
                    field: getattr(row, field)
                    for field in (
                        "name", "version", "rows", "manifest", "files", "bytes", "digest",
                        "source", "quarantined", "broken", "warned", "contract",
                        "cleaning", "sealed", "facts", "message", "created", "creator", "purged",
                    )
                },
            )
            for row in rows
        )  # fmt: skip

    def record(self, row: Any) -> DatasetVersion:
        """The record of a row."""
        return self.records([row])[0]

    def _of(self, name: str) -> sa.Select[Any]:
        return sa.select(dataset_versions).where(_C.project == self.tx.project, _C.name == name)

    def _last(self, name: str, where: Any, otherwise: str, newest: Any) -> Any:
        row = self.tx.first(self._of(name).where(where).order_by(_C.version.desc()).limit(1))
        if row is None:
            raise NotFound(f"{otherwise}.", code="no-dataset-version", hint=f"The newest is {newest.version}.")
        return row

    def _tagged(self, name: str, tag: str) -> int:
        found = self._tag(name, tag)
        if found is None:
            known = [t.tag for t in self.tags(name)]
            raise NotFound(
                f"The dataset {name!r} has no version or tag {tag!r}.",
                code="no-dataset-version",
                hint=did_you_mean(tag, known) if known else "Give a number, a day (2026-03-01), or latest.",
            )
        return int(found.version)

    def _tag(self, name: str, tag: str) -> Any:
        c = dataset_tags.c
        query = sa.select(dataset_tags).where(c.project == self.tx.project, c.name == name, c.tag == tag)
        return self.tx.first(query)

    def _tag_record(self, row: Any) -> Tag:
        return Tag(
            name=row.name,
            tag=row.tag,
            version=row.version,
            ref=self.tx.ref("data", row.name, row.version),
            at=row.at,
            by=row.by,
        )


def _end_of(day: str) -> int:
    try:
        start = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)
    except ValueError as e:
        raise Invalid(f"{day!r} is no day.", code="bad-version", hint="Write it as 2026-03-01.") from e
    return int((start + dt.timedelta(days=1)).timestamp() * 1000)

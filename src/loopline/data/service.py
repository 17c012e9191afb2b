"""The data room's verbs, within one transaction."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from loopline.access import authority
from loopline.data import versions
from loopline.data.learning import check_learning
from loopline.data.readers import read_table
from loopline.data.records import Column, Dataset, DatasetVersion, Learning, Quarantine, SplitVersions
from loopline.data.split import split as split_frame
from loopline.data.tables import dataset_versions, looks
from loopline.data.uploads import behind, on_disk, source_name
from loopline.data.verbs import DatasetsVerbs
from loopline.data.windows import Windows
from loopline.database import Tx
from loopline.errors import Invalid, NotFound, Refused, did_you_mean
from loopline.hashing import digest_file, digest_table
from loopline.operations import Body, Bytes, check_limit
from loopline.ports.blobs import BlobStore
from loopline.quality.contract import Contract
from loopline.quality.contract_check import partition
from loopline.quality.profile import Profile, profile
from loopline.quality.profile_page import page
from loopline.refs import check_name, parse, version_number
from loopline.store.service import Store

_ROWS_OF = dataset_versions.c


class DatasetsService(DatasetsVerbs):
    """Datasets and their versions; `tables` is the folder of the Delta tables, `scratch` one for uploads under way."""

    def __init__(self, tx: Tx, blobs: BlobStore, tables: Path, scratch: Path) -> None:
        self.tx = tx
        self.blobs = blobs
        self.tables = tables
        self.scratch = scratch

    def add(
        self,
        name: str,
        source: Body,
        contract: dict[str, Any] | None = None,
        message: str = "",
        facts: dict[str, str] | None = None,
        inputs: list[str] | None = None,
        learning: Learning | None = None,
        onto: str | None = None,
    ) -> DatasetVersion:
        check_name(name, "name of a dataset")
        read_from = authority.readable(self.tx, inputs or [])
        rules = Contract.from_json(json.dumps(contract).encode()) if contract else None
        with on_disk(source, self.scratch) as path:
            read, digest = read_table(path, name=source.name), digest_file(path)
        rows = read.frame
        if onto is not None:
            before = self._row(name, onto)
            self._check_open(before)
            rows = behind(self._rows(before), rows, self.tx.ref("data", name, before.version))
            read_from.append(self.tx.ref("data", name, before.version))
        good, quarantined, broken, warned = rows, None, dict[str, int](), dict[str, int]()
        if rules is not None:
            good, quarantined, report = partition(rows, rules)
            broken, warned = (
                {rule.name: rule.broken for rule in report.broken if rule.severity == severity}
                for severity in ("quarantine", "warn")
            )
            if good.height == 0:
                worst = max(broken, key=broken.__getitem__)
                raise Invalid(
                    f"No row of {source.name} keeps the contract of {name}: {worst!r} alone is broken by {broken[worst]:,}.",
                    code="all-quarantined",
                    hint="Mend the data, or the contract.",
                )
        if learning is not None:
            check_learning(good, learning)
        return self._write(
            name,
            good,
            quarantined=quarantined,
            broken=broken,
            warned=warned,
            contract=rules.digest if rules is not None else "",
            source=f"source:{source_name(source.name)}@{digest.partition(':')[2]}",
            inputs=read_from,
            facts={"format": read.format, **(facts or {})},
            message=message,
        )

    def list(self) -> list[Dataset]:
        newest = (
            sa.select(
                _ROWS_OF.name,
                sa.func.count().label("versions"),
                sa.func.max(_ROWS_OF.version).label("latest"),
                sa.func.min(_ROWS_OF.created).label("created"),
            )
            .where(_ROWS_OF.project == self.tx.project)
            .group_by(_ROWS_OF.name)
            .subquery()
        )
        found = self.tx.rows(
            sa.select(newest, _ROWS_OF.rows)
            .join(
                dataset_versions,
                (_ROWS_OF.name == newest.c.name)
                & (_ROWS_OF.version == newest.c.latest)
                & (_ROWS_OF.project == self.tx.project),
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

    def log(self, name: str) -> tuple[DatasetVersion, ...]:
        found = self.tx.rows(
            sa.select(dataset_versions)
            .where(_ROWS_OF.project == self.tx.project, _ROWS_OF.name == name)
            .order_by(_ROWS_OF.version.desc())
        )
        if not found:
            self._missing(name)
        return tuple(self._record(row) for row in found)

    def show(self, name: str, version: str = "latest") -> DatasetVersion:
        return self._record(self._row(name, version))

    def profile(self, name: str, version: str = "latest", form: str = "json") -> Bytes:
        row = self._row(name, version)
        self._check_open(row)
        data = self.blobs.read(row.profile)
        if form == "json":
            return Bytes(media="application/json", data=data)
        if form == "html":
            title = self.tx.ref("data", name, row.version)
            return Bytes(media="text/html", data=page(Profile.from_json(data), title=title).encode())
        raise Invalid(
            f"There is no form {form!r} of a profile.", code="bad-form", hint=did_you_mean(form, ["json", "html"])
        )

    def quarantine(self, name: str, version: str = "latest", limit: int = 20) -> Quarantine:
        check_limit(limit, "rows")
        row = self._row(name, version)
        ref = self.tx.ref("data", name, row.version)
        self.tx.note(inputs=[ref])
        shown: tuple[dict[str, Any], ...] = ()
        if row.quarantine_delta_version is not None:
            frame = versions.read(self._folder(name, quarantine=True), row.quarantine_delta_version)
            shown = tuple(frame.head(limit).to_dicts())
        return Quarantine(ref=ref, rows=row.quarantined, broken=row.broken, shown=shown)

    def read(self, name: str, version: str = "latest") -> Bytes:
        row = self._row(name, version)
        ref = self.tx.ref("data", name, row.version)
        self._check_open(row)
        self.tx.note(inputs=[ref])
        buffer = io.BytesIO()
        self._windows(name).readable(self._rows(row)).write_ipc_stream(buffer)
        return Bytes(media="application/vnd.apache.arrow.stream", data=buffer.getvalue())

    def split(
        self,
        name: str,
        label: str,
        version: str = "latest",
        time: str | None = None,
        group: str | None = None,
        task: str | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
    ) -> SplitVersions:
        row = self._row(name, version)
        self._check_open(row)
        frame = self._rows(row)
        windows = self._windows(name)
        again = [window for window in windows.all() if self.tx.ref("data", name, row.version) in window.inputs]
        sides = split_frame(
            frame,
            label=label,
            time=time,
            group=group,
            task=task,
            fractions=fractions,
            seed=seed,
            spent=None if again else windows.spent(frame),
        )
        source = self.tx.ref("data", name, row.version)
        made = {
            side: self._write(
                f"{name}.{side}",
                getattr(sides, side),
                inputs=[source],
                facts=row.facts,
                message=f"the {side} side of {source}",
                sealed=side == "test",
                shares=windows.shared(sides.test) if side == "test" else [],
                noted=side,
            )
            for side in ("train", "validation", "test")
        }
        windows.open([sides.train, sides.validation], made["train"].ref, kept=made["test"].version)
        return SplitVersions(**{side: version.ref for side, version in made.items()}, facts=sides.facts.to_dict())

    def frame(self, ref: str) -> pl.DataFrame:
        """The rows of a version that is not sealed, for the rooms above. Raises `Refused` for a sealed one."""
        return pl.read_ipc_stream(io.BytesIO(self.read(*self._named(ref)).data))

    def look(self, ref: str) -> tuple[pl.DataFrame, int]:
        """The rows of a version, sealed or not, and which look at them this is. For evaluation alone, which must `count` it."""
        row = self._row(*self._named(ref))
        if row.opened is not None:
            raise Refused(
                f"The window {ref} is opened: rows of it stand in {row.opened}, where models learn from them.",
                code="window-opened",
                hint="Measure on the newest test side; `loopline data split` makes one.",
            )
        return self._rows(row), 1 + self._looks(row)

    def count(self, ref: str, look: int, purpose: str) -> bool:
        """Counts a look, before anything that it showed is kept. False where another was counted under that number meanwhile."""
        row = self._row(*self._named(ref))
        self.tx.write()
        if look != 1 + self._looks(row):
            return False
        key = {"project": self.tx.project, "name": row.name, "version": row.version}
        self.tx.execute(looks.insert().values(**key, look=look, by=self.tx.principal, at=self.tx.now, purpose=purpose))
        self.tx.note(inputs=[self.tx.ref("data", row.name, row.version)])
        return True

    def _looks(self, row: Any) -> int:
        """How often its rows were looked at, in earlier windows that they stand in, too."""
        c = looks.c
        same = c.version.in_([row.version, *row.shares])
        query = sa.select(sa.func.count()).where(c.project == row.project, c.name == row.name, same)
        return int(self.tx.scalar(query))

    def _write(
        self,
        name: str,
        frame: pl.DataFrame,
        *,
        inputs: Sequence[str],
        facts: dict[str, str],
        message: str,
        quarantined: pl.DataFrame | None = None,
        broken: dict[str, int] | None = None,
        warned: dict[str, int] | None = None,
        contract: str = "",
        source: str = "",
        sealed: bool = False,
        shares: Sequence[int] = (),
        noted: str = "content",
    ) -> DatasetVersion:
        frame = frame.rechunk()  # Delta's writer mixes several chunks, and the order of the rows is part of the version
        table = versions.storable(frame).to_arrow()
        digest = digest_table(table)
        said = {"digest": digest, "contract": contract, "source": source, "sealed": sealed}
        newest = self._newest(name)
        if newest is not None and all(getattr(newest, key) == value for key, value in said.items()):
            return self._again(newest, inputs)
        summary = self.blobs.put([profile(frame).to_json()])
        delta_version, written = versions.write(self._folder(name), frame)
        held = quarantined.height if quarantined is not None else 0
        beside = (
            versions.write(self._folder(name, quarantine=True), quarantined.rechunk())[0]
            if quarantined is not None and held
            else None
        )
        self.tx.write()
        newest = self._newest(name)
        if newest is not None and all(getattr(newest, key) == value for key, value in said.items()):
            return self._again(newest, inputs)  # another call brought the same meanwhile
        version = 1 if newest is None else newest.version + 1
        ref = self.tx.ref("data", name, version)
        self.tx.execute(
            dataset_versions.insert().values(
                project=self.tx.project,
                name=name,
                version=version,
                delta_version=delta_version,
                quarantine_delta_version=beside,
                rows=frame.height,
                columns=[{"name": f.name, "type": str(f.type)} for f in written.schema],
                **said,
                shares=[*shares],
                inputs=[*inputs],
                quarantined=held,
                broken=broken or {},
                warned=warned or {},
                profile=summary.digest,
                facts=facts,
                message=message,
                created=self.tx.now,
                creator=self.tx.principal,
            )
        )
        Store(self.tx, self.blobs).retain(summary.digest, ref)
        digests = {noted: digest} | ({"contract": contract} if contract else {})
        self.tx.note(inputs=[*inputs, *filter(None, [source])], outputs=[ref], digests=digests)
        return self.show(name, str(version))

    def _again(self, row: Any, inputs: Sequence[str]) -> DatasetVersion:
        """The version that holds the same already."""
        read = [*inputs, row.source] if row.source else [*inputs]
        self.tx.note(inputs=read, outputs=[self.tx.ref("data", row.name, row.version)])
        return self._record(row)

    def _rows(self, row: Any) -> pl.DataFrame:
        return versions.read(self._folder(row.name), row.delta_version)

    def _windows(self, name: str) -> Windows:
        return Windows(self.tx, name, self._rows)

    def _check_open(self, row: Any) -> None:
        if row.sealed:
            ref = self.tx.ref("data", row.name, row.version)
            raise Refused(
                f"{ref} is sealed: only an evaluation may read it, and each look is counted.",
                code="sealed",
                hint="Use the train and validation sides.",
            )

    def _folder(self, name: str, *, quarantine: bool = False) -> Path:
        return self.tables / self.tx.project / (f"{name}.quarantine" if quarantine else name)

    def _named(self, ref: str) -> tuple[str, str]:
        parsed = parse(ref, "data", self.tx.project)
        if parsed.project != self.tx.project:
            raise NotFound(f"There is no {ref} in project {self.tx.project!r}.", code="no-dataset")
        return parsed.name, parsed.version or "latest"

    def _newest(self, name: str) -> Any:
        return self.tx.first(
            sa.select(dataset_versions)
            .where(_ROWS_OF.project == self.tx.project, _ROWS_OF.name == name)
            .order_by(_ROWS_OF.version.desc())
            .limit(1)
        )

    def _row(self, name: str, version: str) -> Any:
        newest = self._newest(name)
        if newest is None:
            self._missing(name)
        if version == "latest":
            return newest
        number = version_number(version)
        if number is None:
            raise Invalid(
                f"{version!r} is no version of a dataset.", code="bad-version", hint="Give a number, or latest."
            )
        row = self.tx.first(
            sa.select(dataset_versions).where(
                _ROWS_OF.project == self.tx.project, _ROWS_OF.name == name, _ROWS_OF.version == number
            )
        )
        if row is None:
            raise NotFound(
                f"There is no version {version} of the dataset {name!r}.",
                code="no-dataset-version",
                hint=f"The newest is {newest.version}.",
            )
        return row

    def _missing(self, name: str) -> None:
        known = [dataset.name for dataset in self.list()]
        raise NotFound(f"There is no dataset {name!r}.", code="no-dataset", hint=did_you_mean(name, known))

    def _record(self, row: Any) -> DatasetVersion:
        return DatasetVersion(
            ref=self.tx.ref("data", row.name, row.version),
            name=row.name,
            version=row.version,
            rows=row.rows,
            columns=tuple(Column(**column) for column in row.columns),
            digest=row.digest,
            source=row.source,
            inputs=tuple(row.inputs),
            quarantined=row.quarantined,
            broken=row.broken,
            warned=row.warned,
            contract=row.contract,
            sealed=row.sealed,
            looks=self._looks(row) if row.sealed else 0,
            opened=row.opened or "",
            facts=row.facts,
            message=row.message,
            created=row.created,
            creator=row.creator,
        )

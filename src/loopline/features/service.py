"""The features room's verbs, within one transaction."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import sqlalchemy as sa

from loopline.data.maturity import Readable
from loopline.data.records import DatasetVersion
from loopline.data.service import DatasetsService
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, did_you_mean
from loopline.failpoints import failpoint
from loopline.features.definitions import FeatureView, check_view, from_json
from loopline.features.online import Online, write_online
from loopline.features.point_in_time import Events, at_moments, features_of
from loopline.features.records import FeatureValues, FeatureViewVersion, Materialization
from loopline.features.tables import feature_online, feature_views
from loopline.features.verbs import FeaturesVerbs
from loopline.hashing import digest_file
from loopline.ports.blobs import BlobStore
from loopline.quality.blocks import Blocks
from loopline.refs import check_name, parse, version_number
from loopline.store.service import Store

_V = feature_views.c
_M = feature_online.c
_AT_ONCE = 1_000


class FeaturesService(FeaturesVerbs):
    """Feature views of a project; `scratch` is a folder for files under way."""

    def __init__(self, tx: Tx, blobs: BlobStore, datasets: DatasetsService, scratch: Path) -> None:
        self.tx = tx
        self.blobs = blobs
        self.datasets = datasets
        self.scratch = scratch

    def define(self, name: str, declaration: dict[str, Any]) -> FeatureViewVersion:
        view = from_json({**declaration, "name": name})
        parse(view.source, "data", self.tx.project)
        newest = self._newest(name)
        if newest is None or newest.digest != view.digest:
            self.tx.execute(
                feature_views.insert().values(
                    project=self.tx.project,
                    name=name,
                    version=1 if newest is None else newest.version + 1,
                    declaration=msgspec.to_builtins(view),
                    digest=view.digest,
                    at=self.tx.now,
                    by=self.tx.principal,
                )
            )
        made = self.show(name)
        self.tx.note(outputs=[made.ref], digests={"definition": view.digest})
        return made

    def list(self) -> tuple[FeatureViewVersion, ...]:
        query = sa.select(feature_views).where(_V.project == self.tx.project).order_by(_V.name, _V.version.desc())
        newest: dict[str, Any] = {}
        for row in self.tx.rows(query):
            newest.setdefault(row.name, row)
        return tuple(self._record(row) for row in newest.values())

    def show(self, name: str, version: str = "latest") -> FeatureViewVersion:
        return self._record(self._row(name, version))

    def join(
        self, name: str, dataset: str, time: str, into: str, entity: str | None = None, more: tuple[str, ...] = ()
    ) -> DatasetVersion:
        check_name(into, "name of a dataset")
        views = {one: self._row(one) for one in (name, *more)}
        rows = self.datasets.sound(dataset)
        frame, inputs = rows.frame, [rows.ref]
        for one, row in views.items():
            events, source = self._events(row)
            made = at_moments(events, rows.frame, entity or events.view.entity, time)
            if taken := [column for column in made.columns if column in frame.columns]:
                raise Conflict(
                    f"{rows.ref} has a column {taken[0]!r} already.",
                    code="column-taken",
                    hint="Rename the feature, or the column.",
                )
            frame = frame.hstack(made)
            inputs += [source.ref, self.tx.ref("features", one, row.version)]
        return self.datasets.written.write(
            into,
            Blocks.of(frame),
            inputs=list(dict.fromkeys(inputs)),
            facts={"features": ", ".join(views), "time": time},
            message=f"{rows.ref} with features as of {time}",
            labels=rows.labels,
            read=rows.read,
        )

    def materialize(self, name: str, as_of: float | None = None) -> Materialization:
        row = self._row(name)
        events, source = self._events(row)
        if as_of is None and events.temporal:
            as_of = self.tx.now
        moment = events.moment(as_of)
        entities = events.entities(moment)
        features = features_of(events, entities.with_columns(pl.lit(moment).alias("_t")))
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="features-", dir=self.scratch) as folder:
            file = Path(folder) / "online.db"
            write_online(file, entities["_e"], features)
            file.chmod(0o444)
            blob = self.blobs.take(file, digest_file(file))
        self.tx.write()
        failpoint("features.materialize.made")
        before = self._online(name)
        values = {
            "number": 1 if before is None else before.number + 1,
            "version": row.version,
            "as_of": moment / 1000 if events.temporal else moment,
            "source": source.ref,
            "entities": entities.height,
            "sealed": source.total - source.frame.height,
            "digest": blob.digest,
            "at": self.tx.now,
            "by": self.tx.principal,
        }
        key = {"project": self.tx.project, "name": name}
        self.tx.upsert(feature_online, ("project", "name"), key | values, tuple(values))
        store = Store(self.tx, self.blobs)
        owner = self.tx.ref("features", name)
        if before is not None and before.digest != blob.digest:
            store.release(before.digest, owner)
        store.retain(blob.digest, owner)
        made = self._materialization(self._online(name))
        self.tx.note(inputs=[source.ref], outputs=[made.view], digests={"features": blob.digest})
        return made

    def get(self, name: str, entities: tuple[str, ...] = ()) -> FeatureValues:
        if len(entities) > _AT_ONCE:
            raise Invalid(
                f"{len(entities):,} entities are too many at once.",
                code="bad-limit",
                hint=f"Ask for at most {_AT_ONCE:,}.",
            )
        row = self._row(name)
        made = self._online(name)
        if made is None:
            raise NotFound(
                f"The feature view {name!r} was never materialised.",
                code="not-materialized",
                hint=f"Make it ready: loopline features materialize {name}",
            )
        self.datasets.named.check_sound_refs([made.source])
        online = Online(self._view(self._row(name, str(made.version))), self.blobs, made.digest)
        try:
            values = tuple(online.get(entities))
        finally:
            online.close()
        ref = self.tx.ref("features", name, made.version)
        self.tx.note(inputs=[ref])
        return FeatureValues(
            view=ref,
            as_of=made.as_of,
            source=made.source,
            age=max(0, self.tx.now - made.at),
            stale=self._stale(row, made),
            values=values,
        )

    def _stale(self, row: Any, made: Any) -> str:
        """Why a newer materialisation would tell more; empty where it would not."""
        if row.version != made.version:
            return f"{self.tx.ref('features', row.name, row.version)} is a newer definition"
        newest = self.datasets.named.ref(self.datasets.named.of_ref(self._source(self._view(row))))
        return f"{newest} is newer than {made.source}" if newest != made.source else ""

    def _events(self, row: Any) -> tuple[Events, Readable]:
        """The events of a view, and the rows of the version that they are."""
        view = self._view(row)
        rows = self.datasets.sound(self._source(view))
        return Events(view, rows.shown(), rows.labels), rows

    def _source(self, view: FeatureView) -> str:
        return str(parse(view.source, "data", self.tx.project))

    def _view(self, row: Any) -> FeatureView:
        view = msgspec.convert(row.declaration, FeatureView)
        check_view(view)
        return view

    def _row(self, name: str, version: str = "latest") -> Any:
        newest = self._newest(name)
        if newest is None:
            known = [one.name for one in self.list()]
            raise NotFound(
                f"There is no feature view {name!r}.", code="no-feature-view", hint=did_you_mean(name, known)
            )
        if version == "latest":
            return newest
        number = version_number(version.removeprefix("@"))
        query = sa.select(feature_views).where(_V.project == self.tx.project, _V.name == name, _V.version == number)
        row = self.tx.first(query)
        if row is None:
            raise NotFound(
                f"There is no version {version} of the feature view {name!r}.",
                code="no-feature-view",
                hint=f"The newest is {newest.version}.",
            )
        return row

    def _newest(self, name: str) -> Any:
        query = sa.select(feature_views).where(_V.project == self.tx.project, _V.name == name)
        return self.tx.first(query.order_by(_V.version.desc()).limit(1))

    def _online(self, name: str) -> Any:
        return self.tx.first(sa.select(feature_online).where(_M.project == self.tx.project, _M.name == name))

    def _materialization(self, row: Any) -> Materialization:
        fields = ("number", "as_of", "source", "entities", "sealed", "digest", "at", "by")
        return Materialization(
            view=self.tx.ref("features", row.name, row.version), **{field: getattr(row, field) for field in fields}
        )

    def _record(self, row: Any) -> FeatureViewVersion:
        online = self._online(row.name)
        return FeatureViewVersion(
            ref=self.tx.ref("features", row.name, row.version),
            online=None if online is None else self._materialization(online),
            **{field: getattr(row, field) for field in ("name", "version", "declaration", "digest", "at", "by")},
        )

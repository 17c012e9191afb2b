"""The verbs that find models and versions among all of a project."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.operations import check_limit
from loopline.registry.models import Models
from loopline.registry.records import Condition, ModelPage, ModelVersion, VersionPage
from loopline.registry.search import Search
from loopline.registry.tables import model_versions
from loopline.registry.versions import Versions


class Searches:
    """The part of the models' service that searches."""

    tx: Tx
    _models: Models
    _versions: Versions

    def list_versions(
        self, names: tuple[str, ...] | None = None, newest_by: str | None = None
    ) -> tuple[ModelVersion, ...]:
        of = model_versions.c
        query = sa.select(model_versions).where(of.project == self.tx.project, of.deleted.is_(None))
        query = query.order_by(of.name, of.version)
        if newest_by is not None:
            wanted = Search(self.tx, versions=True).newest(names, newest_by)
            names, query = tuple({name for name, _ in wanted}), query.where(of.version.in_({one for _, one in wanted}))
        rows: Any = self.tx.rows(query) if names is None else self.tx.rows_among(query, of.name, names)
        if newest_by is not None:
            rows = [row for row in rows if (row.name, row.version) in wanted]
        return tuple(self._versions.records(rows))

    def search(
        self, where: tuple[Condition, ...] = (), order: tuple[str, ...] = (), limit: int = 100, after: str | None = None
    ) -> ModelPage:
        check_limit(limit, "models")
        rows, after = Search(self.tx, versions=False).page(where, order, limit, after)
        return ModelPage(models=tuple(self._models.records(rows)), after=after)

    def search_versions(
        self, where: tuple[Condition, ...] = (), order: tuple[str, ...] = (), limit: int = 100, after: str | None = None
    ) -> VersionPage:
        check_limit(limit, "versions")
        rows, after = Search(self.tx, versions=True).page(where, order, limit, after)
        titles = {row.name: row.title for row in rows}
        return VersionPage(versions=tuple(self._versions.records(rows)), titles=titles, after=after)

"""Deletion of models and versions: first hidden, and back again; for good only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict
from loopline.failpoints import failpoint
from loopline.registry.tables import approvals, model_comments, model_documents, model_terms, model_versions
from loopline.registry.versions import Versions
from loopline.store.service import Store


class Deletion:
    """Deletes of one project. `serving` gives the endpoint that serves a version of a model, or None."""

    def __init__(self, tx: Tx, versions: Versions, serving: Callable[[str, int], str | None]) -> None:
        self.tx = tx
        self.versions = versions
        self.serving = serving

    def delete(self, name: str, version: int | None) -> None:
        """Hides a version, or a model with all of its versions; what is deleted already stays so.

        Raises `Conflict` for what an alias or an endpoint names.
        """
        row = self.versions.models.lock(name, deleted=True)
        if row.deleted is not None or (version is not None and self._row(name, version).deleted is not None):
            self.tx.recorded = False
            return
        numbers = [version] if version is not None else self._numbers(name)
        # Later than any version that was deleted by itself, so that restoring the model tells them apart.
        of = model_versions.c
        last = self.tx.scalar(sa.select(sa.func.max(of.deleted)).where(*self._at(model_versions, name))) or 0
        at = max(self.tx.now, last + 1)
        for number in numbers:
            self.check_free(name, number, "deleted")
            self.versions.update(name, number, deleted=at)
        self.versions.models.update(name, **({"deleted": at} if version is None else {}))
        self._note(name, version, numbers)

    def restore(self, name: str, version: int | None) -> None:
        """Brings a version back, or a model with the versions that were deleted with it; what lives already is left alone."""
        row = self.versions.models.lock(name, deleted=version is None)
        if (row if version is None else self._row(name, version)).deleted is None:
            self.tx.recorded = False
            return
        if version is None:
            numbers = self._numbers(name, at=row.deleted)
            self.versions.models.bring_back(name, row.title)
        else:
            numbers = [version]
        for number in numbers:
            self.versions.update(name, number, deleted=None)
        self._note(name, version, numbers)

    def purge(self, name: str, version: int | None) -> None:
        """Removes a deleted version, or all deleted ones of a model, for good: rows, documents, comments, and its hold on bytes.

        The ledger and the history of aliases keep their refs, and no number is given again.
        """
        row = self.versions.models.lock(name, deleted=True)
        if version is not None:
            if self._row(name, version).deleted is None:
                raise _living(f"Version {version} of the model {name!r}", f"{name}@{version}")
            numbers = [version]
        else:
            if row.deleted is None:
                raise _living(f"The model {name!r}", name)
            numbers = self._numbers(name, deleted=True)
        store = Store(self.tx, self.versions.blobs)
        for number in numbers:
            self.check_free(name, number, "purged")
            for table in (model_documents, approvals, model_comments, model_terms, model_versions):
                self.tx.execute(table.delete().where(*self._at(table, name), table.c.version == number))
            store.release_all(self.tx.ref("model", name, number))
            failpoint("registry.purge.after_version")
        if version is None:
            self.tx.execute(model_comments.delete().where(*self._at(model_comments, name)))
            self.versions.models.update(name, title=name, description="", tags={})
        self._note(name, version, numbers)

    def check_unnamed(self, name: str, number: int, what: str) -> None:
        """Raises `Conflict` where an alias names the version."""
        ref = self.tx.ref("model", name, number)
        named = [alias.alias for alias in self.versions.aliases.current(name) if alias.version == number]
        if named:
            raise Conflict(
                f"{ref} is @{', @'.join(named)} and so cannot be {what}.",
                code="version-in-use",
                hint="Roll the alias back, point it to another version, or remove it, first.",
            )

    def check_free(self, name: str, number: int, what: str) -> None:
        """Raises `Conflict` where an alias or an endpoint names the version."""
        self.check_unnamed(name, number, what)
        ref = self.tx.ref("model", name, number)
        endpoint = self.serving(name, number)
        if endpoint is not None:
            raise Conflict(
                f"{ref} is served by the endpoint {endpoint!r} and so cannot be {what}.",
                code="version-in-use",
                hint="Deploy another version there, or remove the endpoint: loopline deploy, loopline rollout.",
            )

    def _row(self, name: str, version: int) -> Any:
        return self.versions.row(name, version, deleted=True)

    def _numbers(self, name: str, *, at: int | None = None, deleted: bool = False) -> list[int]:
        """The numbers of the living versions of a model; of those deleted at a time; or of all that are `deleted`."""
        when = model_versions.c.deleted
        which = when == at if at is not None else when.is_not(None) if deleted else when.is_(None)
        query = sa.select(model_versions.c.version).where(*self._at(model_versions, name), which)
        return [row.version for row in self.tx.rows(query.order_by(model_versions.c.version))]

    def _note(self, name: str, version: int | None, numbers: list[int]) -> None:
        whole = [self.tx.ref("model", name)] if version is None else []
        self.tx.note(outputs=[*whole, *(self.tx.ref("model", name, number) for number in numbers)])

    def _at(self, table: sa.Table, name: str) -> tuple[Any, ...]:
        return (table.c.project == self.tx.project, table.c.name == name)


def _living(what: str, ref: str) -> Conflict:
    return Conflict(
        f"{what} is not deleted, so it cannot be purged.",
        code="not-deleted",
        hint=f"Delete it first: loopline models delete {ref}",
    )

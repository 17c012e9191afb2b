"""Model versions: numbers, forms in the store, documents, status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import msgspec
import sqlalchemy as sa
from blake3 import blake3

from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, Refused
from loopline.hashing import canonical_json, digest_json
from loopline.ports.blobs import BlobStore
from loopline.prepared import Prepared
from loopline.refs import version_number
from loopline.registry import summaries, terms
from loopline.registry.aliases import LATEST, Aliases
from loopline.registry.models import Models
from loopline.registry.records import Document, DocumentKind, ModelVersion
from loopline.registry.statement import statement
from loopline.registry.tables import model_aliases, model_documents, model_versions
from loopline.store.service import Store


class Versions:
    """The model versions of one project."""

    def __init__(self, tx: Tx, blobs: BlobStore) -> None:
        self.tx = tx
        self.blobs = blobs
        self.models = Models(tx)
        self.aliases = Aliases(tx)

    def add(self, name: str, values: Mapping[str, Any], *, sign: Sign | None = None) -> ModelVersion:
        """Writes a version under the next number; its forms are in the store already.

        It is a draft, or registered where `sign` gives, for its row, what the signature adds to it.
        """
        row = _Row(
            project=self.tx.project,
            name=name,
            version=self.models.next_number(name),
            created=self.tx.now,
            creator=self.tx.principal,
            changed=self.tx.now,
            **{**_DRAFT, **values},
        )
        if sign is not None:
            vars(row).update(sign(row))
        self.tx.run(_NEW, vars(row))
        terms.keep(self.tx, row)
        ref = self.tx.ref("model", name, row.version)
        store = Store(self.tx, self.blobs)
        for digest in sorted(set(values["forms"].values())):
            store.retain(digest, ref)
        return self._record(row, (), {})

    def row(self, name: str, version: int | str, *, deleted: bool = False) -> Any:
        """The row of a version, by number, alias or "latest"; `deleted`: a deleted one, too. Raises `NotFound`."""
        return self._rows(name, version, deleted=deleted)[0]

    def number(self, name: str, version: int | str) -> int:
        """The number that a number, an alias (with or without "@") or "latest" stands for. Raises `NotFound`."""
        number = version_number(str(version))
        if number is not None:
            return number
        if version == LATEST:
            return self._newest(name)
        return self.aliases.at(name, str(version).removeprefix("@"), None).version

    def record(self, name: str, version: int | str) -> ModelVersion:
        """The record of a version. Raises `NotFound`."""
        rows = self._rows(name, version)
        row = rows[0]
        # Only drafts of bundles take documents.
        documents = self._documents([row]).get((row.name, row.version), {}) if row.task else {}
        return self._record(row, tuple(found.named for found in rows if found.named is not None), documents)

    def records(self, rows: Any) -> list[ModelVersion]:
        """The records of some versions."""
        names = {row.name for row in rows}
        one = next(iter(names)) if len(names) == 1 else None
        named: dict[tuple[str, int], list[str]] = {}
        for alias in self.aliases.current(one) if names else ():
            named.setdefault((alias.name, alias.version), []).append(alias.alias)
        documents = self._documents(rows)
        return [
            self._record(row, tuple(named.get(place, ())), documents.get(place, {}))
            for row in rows
            for place in [(row.name, row.version)]
        ]

    def _rows(self, name: str, version: int | str, *, deleted: bool = False) -> Sequence[Any]:
        """The row of a version, once for each alias that names it (`named`), or once where none does."""
        number = self._newest(name) if version == LATEST else version_number(str(version))
        given = {"in_project": self.tx.project, "of_model": name}
        if number is None:
            alias = str(version).removeprefix("@")
            rows = self.tx.rows(_BY_ALIAS, {**given, "of_alias": alias})
            if not rows:
                self.models.row(name)  # says so where it is the model that is not there
                self.aliases.at(name, alias, None)  # raises
        else:
            rows = self.tx.rows(_BY_NUMBER, {**given, "of_version": number})
        if not rows or (rows[0].deleted is not None and not deleted):
            self._missing(name, number or 0, was=bool(rows))
        return rows

    def _documents(self, rows: Any) -> dict[tuple[str, int], dict[str, str]]:
        """The digests of the documents of some versions, by kind."""
        found: dict[tuple[str, int], dict[str, str]] = {}
        if len(rows) == 1:
            given = {"in_project": self.tx.project, "of_model": rows[0].name, "of_version": rows[0].version}
            kept: Any = self.tx.rows(_DOCUMENTS, given)
        else:
            of = model_documents.c
            query = sa.select(of.name, of.version, of.kind, of.digest).where(of.project == self.tx.project)
            kept = self.tx.rows_among(query.order_by(of.kind), of.name, {row.name for row in rows})
        for one in kept:
            found.setdefault((one.name, one.version), {})[one.kind] = one.digest
        return found

    def _record(self, row: Any, aliases: tuple[str, ...], documents: dict[str, str]) -> ModelVersion:
        return ModelVersion(
            ref=self.tx.ref("model", row.name, row.version),
            aliases=aliases,
            documents=documents,
            signature=row.key,
            inputs=tuple(row.inputs),
            name=row.name,
            version=row.version,
            status=row.status,
            task=row.task,
            created=row.created,
            creator=row.creator,
            bundle=row.bundle,
            forms=row.forms,
            size=row.size,
            run=row.run,
            parity=row.parity,
            metrics=row.metrics,
            registered=row.registered,
            facts=row.facts,
            reason=row.reason,
            description=row.description,
            tags=row.tags,
            changed=row.changed,
            deleted=row.deleted,
        )

    def _missing(self, name: str, number: int, *, was: bool) -> NoReturn:
        newest = self.models.record(self.models.row(name).name).latest
        raise NotFound(
            f"Version {number} of the model {name!r} is deleted."
            if was
            else f"There is no version {number} of the model {name!r}.",
            code="no-model-version",
            hint=f"Bring it back: loopline models restore {name}@{number}"
            if was
            else f"The newest is {newest or 'none'}.",
        )

    def update(self, name: str, version: int, **values: Any) -> None:
        """Changes what may change of a version: its status and what comes with it."""
        where = self._at(model_versions, name, version)
        self.tx.execute(model_versions.update().where(*where).values(changed=self.tx.now, **values))
        if values.keys() & {"run", "facts", "tags"}:
            terms.change(self.tx, self.tx.first(sa.select(model_versions).where(*where)))

    def attach(self, name: str, version: int, kind: DocumentKind, document: dict[str, Any]) -> Document:
        """Stores a document of a draft, in place of a former one of its kind."""
        try:
            data = canonical_json(document)
        except ValueError as e:
            raise Invalid(
                f"The {kind} document cannot be kept: {e}.", code="bad-document", hint="Write such numbers as texts."
            ) from e
        blob = self.blobs.put([data])
        self.models.lock(name)
        row = self.row(name, version)
        if row.status != "draft":
            raise Conflict(
                f"Version {version} of {name} is {row.status}: what it was registered with is signed.",
                code="not-a-draft",
                hint="Draft a new version for new evidence.",
            )
        ref = self.tx.ref("model", name, version)
        at = self._at(model_documents, name, version)
        former = self.tx.scalar(sa.select(model_documents.c.digest).where(*at, model_documents.c.kind == kind))
        self.tx.execute(model_documents.delete().where(*at, model_documents.c.kind == kind))
        store = Store(self.tx, self.blobs)
        if former is not None and former != blob.digest and not self._needed(row, former):
            store.release(former, ref)
        self.tx.execute(
            model_documents.insert().values(
                project=self.tx.project,
                name=name,
                version=version,
                kind=kind,
                digest=blob.digest,
                at=self.tx.now,
                by=self.tx.principal,
            )
        )
        store.retain(blob.digest, ref)
        if kind == "evaluation":
            self.update(name, version, metrics=summaries.metrics(document))
        if kind == "parity":
            self.update(name, version, parity=summaries.parity(document))
        return self.document(name, version, kind)

    def document(self, name: str, version: int | str, kind: DocumentKind) -> Document:
        """An attached document. Raises `NotFound`, and `Refused` where its bytes are not those attached."""
        row = self.row(name, version)
        found = self.tx.first(
            sa.select(model_documents).where(
                *self._at(model_documents, name, row.version), model_documents.c.kind == kind
            )
        )
        ref = self.tx.ref("model", name, row.version)
        if found is None:
            raise NotFound(f"{ref} has no {kind} document.", code="no-document", hint="Attach it to the draft.")
        data = self.blobs.read(found.digest)
        if "blake3:" + blake3(data).hexdigest() != found.digest:
            raise Refused(f"The {kind} document of {ref} was changed in the store.", code="blob-changed")
        return Document(
            ref=ref, kind=kind, digest=found.digest, at=found.at, by=found.by, document=msgspec.json.decode(data)
        )

    def hashes(self, row: Any) -> tuple[dict[str, str], list[str]]:
        """SHA-256 of each form as it is in the store, and what is amiss with the forms, in words."""
        found, problems = self.hashes_of(row.forms)
        if digest_json(row.forms) != row.bundle:
            problems.append("the list of forms was changed")
        return found, problems

    def hashes_of(self, forms: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        """SHA-256 of some files as they are in the store, by name, and what is amiss with them, in words."""
        found, problems = {}, []
        for name, digest in sorted(forms.items()):
            one, other = blake3(), sha256()
            try:
                for chunk in self.blobs.chunks(digest):
                    one.update(chunk)
                    other.update(chunk)
            except NotFound:
                problems.append(f"{name} is missing in the store")
                continue
            except (Refused, Conflict, Invalid) as e:
                problems.append(f"{name} cannot be read: {e.message}")
                continue
            found[name] = other.hexdigest()
            if "blake3:" + one.hexdigest() != digest:
                problems.append(f"{name} was changed in the store")
        return found, problems

    def statement(
        self, row: Any, hashes: Mapping[str, str], documents: Mapping[str, str], *, registered: int, registrar: str
    ) -> dict[str, Any]:
        """What is signed about a version, out of its row, its documents and the forms as they are."""
        ref = self.tx.ref("model", row.name, row.version)
        about = {
            "project": self.tx.project,
            "bundle": row.bundle,
            "task": row.task,
            "run": row.run,
            "inputs": list(row.inputs),
            "documents": documents,
            "facts": row.facts,
            "created": row.created,
            "creator": row.creator,
            "registered": registered,
            "registrar": registrar,
        }
        return statement(ref, row.forms, hashes, about)

    def files(self, row: Any) -> dict[str, bytes]:
        """The forms of a version. Raises `Refused` where one is not what its digest says."""
        found = {}
        for name, digest in row.forms.items():
            data = self.blobs.read(digest)
            if "blake3:" + blake3(data).hexdigest() != digest:
                raise Refused(
                    f"{name} of {self.tx.ref('model', row.name, row.version)} was changed in the store.",
                    code="blob-changed",
                    hint="`loopline models verify` names all that is amiss.",
                )
            found[name] = data
        return found

    def keep(self, folder: Path, sizes: Mapping[str, int]) -> dict[str, str]:
        """Puts the files of a folder into the store; gives their digests by name."""
        forms = {}
        for name in sorted(sizes):
            with (folder / name).open("rb") as file:
                forms[name] = self.blobs.put(iter(lambda f=file: f.read(1 << 20), b"")).digest  # type: ignore[misc]
        return forms

    def same(self, name: str, values: Mapping[str, Any]) -> int | None:
        """The number of the newest version where it is this very one, by the same hand, and neither withdrawn nor deleted.

        So a draft that is sent again after a lost answer or a crash makes no second version.
        """
        newest = self.tx.first(
            sa.select(model_versions)
            .where(model_versions.c.project == self.tx.project, model_versions.c.name == name)
            .order_by(model_versions.c.version.desc())
            .limit(1)
        )
        if newest is None or newest.status == "withdrawn" or newest.deleted is not None:
            return None
        same = newest.creator == self.tx.principal and all(
            getattr(newest, key) == value for key, value in values.items()
        )
        return int(newest.version) if same else None

    def _newest(self, name: str) -> int:
        """The number of the newest version that is not deleted. Raises `NotFound`."""
        self.models.row(name)
        found: int | None = self.tx.scalar(
            sa.select(sa.func.max(model_versions.c.version)).where(
                model_versions.c.project == self.tx.project,
                model_versions.c.name == name,
                model_versions.c.deleted.is_(None),
            )
        )
        if found is None:
            raise NotFound(
                f"The model {name!r} has no version.",
                code="no-model-version",
                hint="A loop drafts one: loopline run NAME",
            )
        return found

    def _needed(self, row: Any, digest: str) -> bool:
        """Whether the version needs a blob for something else too."""
        kept = self.tx.first(
            sa.select(model_documents.c.kind).where(
                *self._at(model_documents, row.name, row.version), model_documents.c.digest == digest
            )
        )
        return kept is not None or digest in row.forms.values()

    def _at(self, table: sa.Table, name: str, version: int) -> tuple[Any, ...]:
        return (table.c.project == self.tx.project, table.c.name == name, table.c.version == version)


class _Row(SimpleNamespace):
    """A version that is about to be written, with its columns as attributes."""


Sign = Callable[[Any], dict[str, Any]]

_DRAFT: dict[str, Any] = {
    "status": "draft", "metrics": {}, "parity": {}, "envelope": None, "key": "", "registered": None, "registrar": "", "reason": "",
    "description": "", "tags": {}, "deleted": None,
}  # fmt: skip

_HERE = (model_versions.c.project == sa.bindparam("in_project"), model_versions.c.name == sa.bindparam("of_model"))
_OTHER = model_aliases.alias("naming")
_SHOWN = (
    sa.select(model_versions, model_aliases.c.alias.label("named"))
    .outerjoin(
        model_aliases,
        sa.and_(*(model_aliases.c[key] == model_versions.c[key] for key in ("project", "name", "version"))),
    )
    .where(*_HERE)
    .order_by(model_aliases.c.alias)
)
_BY_NUMBER = Prepared(_SHOWN.where(model_versions.c.version == sa.bindparam("of_version")))
_NEW = Prepared(model_versions.insert())
_BY_ALIAS = Prepared(
    _SHOWN.where(
        model_versions.c.version
        == sa.select(_OTHER.c.version)
        .where(
            _OTHER.c.project == sa.bindparam("in_project"),
            _OTHER.c.name == sa.bindparam("of_model"),
            _OTHER.c.alias == sa.bindparam("of_alias"),
        )
        .scalar_subquery()
    )
)
_DOCUMENTS = Prepared(
    sa.select(model_documents.c.name, model_documents.c.version, model_documents.c.kind, model_documents.c.digest)
    .where(
        model_documents.c.project == sa.bindparam("in_project"),
        model_documents.c.name == sa.bindparam("of_model"),
        model_documents.c.version == sa.bindparam("of_version"),
    )
    .order_by(model_documents.c.kind)
)

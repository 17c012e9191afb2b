"""Model versions: numbers, forms in the store, documents, status."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from blake3 import blake3

from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, Refused
from loopline.hashing import canonical_json, digest_json
from loopline.ports.blobs import BlobStore
from loopline.refs import version_number
from loopline.registry.aliases import LATEST, Aliases
from loopline.registry.models import Models
from loopline.registry.records import Document, DocumentKind, ModelVersion
from loopline.registry.statement import statement
from loopline.registry.tables import model_documents, model_versions
from loopline.store.service import Store


class Versions:
    """The model versions of one project."""

    def __init__(self, tx: Tx, blobs: BlobStore) -> None:
        self.tx = tx
        self.blobs = blobs
        self.models = Models(tx)
        self.aliases = Aliases(tx)

    def add(self, name: str, values: Mapping[str, Any]) -> ModelVersion:
        """Writes a version under the next number, a draft unless `values` say otherwise; its forms are in the store already."""
        version = self.models.next_number(name)
        ref = self.tx.ref("model", name, version)
        row = {
            "status": "draft",
            "metrics": {},
            "parity": {},
            "key": "",
            "registrar": "",
            "reason": "",
            "description": "",
            "tags": {},
            **values,
        }
        self.tx.execute(
            model_versions.insert().values(
                project=self.tx.project,
                name=name,
                version=version,
                created=self.tx.now,
                creator=self.tx.principal,
                changed=self.tx.now,
                **row,
            )
        )
        store = Store(self.tx, self.blobs)
        for digest in sorted(set(values["forms"].values())):
            store.retain(digest, ref)
        return self.record(name, version)

    def row(self, name: str, version: int | str, *, deleted: bool = False) -> Any:
        """The row of a version, by number, alias or "latest"; `deleted`: a deleted one, too. Raises `NotFound`."""
        number = self.number(name, version)
        row = self.tx.first(sa.select(model_versions).where(*self._at(model_versions, name, number)))
        if row is None or (row.deleted is not None and not deleted):
            self.models.row(name)
            was = row is not None
            raise NotFound(
                f"Version {number} of the model {name!r} is deleted."
                if was
                else f"There is no version {number} of the model {name!r}.",
                code="no-model-version",
                hint=f"Bring it back: loopline models restore {name}@{number}"
                if was
                else f"The newest is {self._newest(name) or 'none'}.",
            )
        return row

    def number(self, name: str, version: int | str) -> int:
        """The number that a number, an alias (with or without "@") or "latest" stands for. Raises `NotFound`."""
        number = version_number(str(version))
        if number is not None:
            return number
        if version != LATEST:
            try:
                return self.aliases.at(name, str(version).removeprefix("@"), None).version
            except NotFound:
                self.models.row(name)  # says so where it is the model that is not there
                raise
        self.models.row(name)
        newest = self._newest(name)
        if newest is None:
            raise NotFound(
                f"The model {name!r} has no version.",
                code="no-model-version",
                hint="A loop drafts one: loopline run NAME",
            )
        return newest

    def record(self, name: str, version: int | str) -> ModelVersion:
        """The record of a version."""
        return self.records([self.row(name, version)])[0]

    def records(self, rows: Any) -> list[ModelVersion]:
        """The records of some versions."""
        names = {row.name for row in rows}
        one = next(iter(names)) if len(names) == 1 else None
        named: dict[tuple[str, int], list[str]] = {}
        for alias in self.aliases.current(one) if names else ():
            named.setdefault((alias.name, alias.version), []).append(alias.alias)
        documents: dict[tuple[str, int], dict[str, str]] = {}
        of = model_documents.c
        query = sa.select(of.name, of.version, of.kind, of.digest).where(of.project == self.tx.project)
        kept: Any = self.tx.rows_among(query.order_by(of.kind), of.name, names)
        for found in kept:
            documents.setdefault((found.name, found.version), {})[found.kind] = found.digest
        return [
            ModelVersion(
                ref=self.tx.ref("model", row.name, row.version),
                aliases=tuple(named.get((row.name, row.version), ())),
                documents=documents.get((row.name, row.version), {}),
                signature=row.key,
                inputs=tuple(row.inputs),
                **{
                    field: getattr(row, field)
                    for field in (
                        "name", "version", "status", "task", "created", "creator", "bundle", "forms", "size", "run",
                        "parity", "metrics", "registered", "facts", "reason", "description", "tags", "changed",
                        "deleted",
                    )
                },
            )
            for row in rows
        ]  # fmt: skip

    def update(self, name: str, version: int, **values: Any) -> None:
        """Changes what may change of a version: its status and what comes with it."""
        where = self._at(model_versions, name, version)
        self.tx.execute(model_versions.update().where(*where).values(changed=self.tx.now, **values))

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
            self.update(name, version, metrics=summary_of_metrics(document))
        if kind == "parity":
            self.update(name, version, parity=summary_of_parity(document))
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

    def statement(self, row: Any, hashes: Mapping[str, str], *, registered: int, registrar: str) -> dict[str, Any]:
        """What is signed about a version, out of its row, its documents and the forms as they are."""
        ref = self.tx.ref("model", row.name, row.version)
        about = {
            "project": self.tx.project,
            "bundle": row.bundle,
            "task": row.task,
            "run": row.run,
            "inputs": list(row.inputs),
            "documents": self.record(row.name, row.version).documents,
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

    def _newest(self, name: str) -> int | None:
        """The number of the newest version that is not deleted."""
        found: int | None = self.tx.scalar(
            sa.select(sa.func.max(model_versions.c.version)).where(
                model_versions.c.project == self.tx.project,
                model_versions.c.name == name,
                model_versions.c.deleted.is_(None),
            )
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


def summary_of_metrics(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Each metric with its interval and count, out of an evaluation's evidence (`evaluation.records.Evidence` as JSON)."""
    body = evidence.get("evidence", evidence)
    return {
        metric["name"]: {part: metric.get(part) for part in ("value", "low", "high", "n")}
        for metric in body.get("metrics", ())
    }


def summary_of_parity(report: Mapping[str, Any]) -> dict[str, Any]:
    """Runtime, reason and the largest difference, out of a parity report (`packaging.records.ParityReport` as JSON)."""
    parts = ("runtime", "reason", "n", "tolerance", "difference", "disagreeing")
    return {part: report[part] for part in parts if part in report}

"""The verbs of models, within one transaction."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa

from loopline.data.named import Named
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound
from loopline.failpoints import failpoint
from loopline.hashing import digest_json
from loopline.operations import Body, Bytes
from loopline.ports.blobs import BlobStore
from loopline.refs import check_name, parse
from loopline.registry import bundle_tar, card
from loopline.registry.approvals import Approvals
from loopline.registry.deletion import Deletion
from loopline.registry.folders import folder
from loopline.registry.formats import check_file
from loopline.registry.models import check_text, merged
from loopline.registry.records import (
    Alias,
    AliasMove,
    Approval,
    CardForm,
    Comment,
    Decision,
    Document,
    DocumentKind,
    Model,
    ModelVersion,
    Verification,
)
from loopline.registry.registration import Registration
from loopline.registry.searches import Searches
from loopline.registry.statement import Signer
from loopline.registry.tables import model_comments, model_versions, models, of_lifecycle
from loopline.registry.verbs import ModelsVerbs
from loopline.registry.versions import Versions
from loopline.tracking.reading import held, row_of
from loopline.tracking.records import Lifecycle
from loopline.tracking.service import RunsService

_PARITY = "parity.json"
_NAMED = 3  # files in a hint


class Described(Protocol):
    """What the registry needs of a bundle's manifest (`packaging.records.Manifest`)."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...


class ModelsService(Searches, ModelsVerbs):
    """Models. `read_manifest` opens and checks a bundle's folder, `signer` signs, `scratch` is where tars are unpacked.

    `serving` gives the endpoint that serves a version of a model, or None.
    """

    def __init__(
        self,
        tx: Tx,
        blobs: BlobStore,
        runs: RunsService,
        read_manifest: Callable[[Path], Described],
        signer: Signer,
        scratch: Path,
        serving: Callable[[str, int], str | None],
    ) -> None:
        self.tx = tx
        self.blobs = blobs
        self.runs = runs
        self.read_manifest = read_manifest
        self.scratch = scratch
        self._versions = Versions(tx, blobs)
        self._aliases = self._versions.aliases
        self._models = self._versions.models
        self._approvals = Approvals(tx, self._versions)
        self._registration = Registration(tx, self._versions, signer)
        self._deletion = Deletion(tx, self._versions, serving)

    def create(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
    ) -> Model:
        if name is None and title is None:
            raise Invalid("A model needs a name or a title.", code="bad-arguments", hint="Give one of them.")
        made = self._models.create(name, title, description, tags or {})
        self.tx.note(outputs=[self.tx.ref("model", made)])
        return self.model(made)

    def model(self, name: str) -> Model:
        self._models.row(name)
        return self._models.record(name)

    def rename(self, name: str, title: str) -> Model:
        self._models.rename(name, title)
        return self._said(name, None, title=title)

    def describe(self, name: str, text: str, version: int | None = None) -> Model:
        self._models.lock(name)
        check_text(text, "The description")
        self._set(name, version, description=text)
        return self._said(name, version, description=text)

    def tag(self, name: str, tags: dict[str, str | None], version: int | None = None) -> Model:
        row = self._models.lock(name)
        if version is not None:
            row = self._versions.row(name, version)
        self._set(name, version, tags=merged(row.tags, tags))
        return self._said(name, version)

    def comment(self, name: str, text: str, version: int | None = None) -> Comment:
        self._models.lock(name)
        if version is not None:
            self._versions.row(name, version)
        if not check_text(text, "The comment").strip():
            raise Invalid("A comment says something.", code="bad-value", hint="Write a text.")
        said: dict[str, Any] = {
            "name": name,
            "version": version,
            "text": text,
            "at": self.tx.now,
            "by": self.tx.principal,
        }
        adding = model_comments.insert().values(project=self.tx.project, **said).returning(model_comments.c.id)
        made = Comment(id=self.tx.execute(adding).scalar_one(), **said)
        self._said(name, version, comment=text)
        return made

    def comments(self, name: str, version: int | None = None) -> tuple[Comment, ...]:
        self._models.row(name)
        of = model_comments.c
        query = sa.select(model_comments).where(of.project == self.tx.project, of.name == name)
        if version is not None:
            query = query.where(of.version == version)
        rows = self.tx.rows(query.order_by(of.id))
        return tuple(Comment(**{k: v for k, v in row._mapping.items() if k != "project"}) for row in rows)

    def delete(self, name: str, version: int | None = None) -> Model:
        self._deletion.delete(name, version)
        return self._models.record(name)

    def restore(self, name: str, version: int | None = None) -> Model:
        self._deletion.restore(name, version)
        return self._models.record(name)

    def purge(self, name: str, version: int | None = None) -> None:
        self._deletion.purge(name, version)

    def add(
        self,
        name: str,
        files: str | None = None,
        path: str = "",
        run: str | None = None,
        facts: dict[str, str] | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
    ) -> ModelVersion:
        check_name(name, "name of a model")
        made_by = self.tx.ref("run", row_of(self.tx, run).id) if run is not None else None
        from_, forms, size = self._files(files, path) if files is not None else (None, {}, 0)
        values = {
            "task": "",
            "run": made_by,
            "inputs": [from_] if from_ not in (None, made_by) else [],
            "bundle": digest_json(forms),
            "forms": forms,
            "size": size,
            "facts": facts or {},
            "description": check_text(description, "The description"),
            "tags": merged({}, tags or {}),
        }
        hashes, problems = self._versions.hashes_of(forms)
        if problems:
            raise Conflict(f"The files cannot be taken: {'; '.join(problems)}.", code="forms-changed")
        self._hold(run)
        self.tx.note(inputs=[ref for ref in (made_by, from_) if ref is not None])
        return self._versions.add(name, values, sign=lambda row: self._registration.signed(row, hashes, {}))

    def draft(
        self,
        name: str,
        bundle: Body,
        run: str | None = None,
        inputs: tuple[str, ...] = (),
        facts: dict[str, str] | None = None,
    ) -> ModelVersion:
        check_name(name, "name of a model")
        made_by = self.runs.show(run).ref if run is not None else None
        read = [self._own(ref) for ref in inputs]
        self.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix="bundle-", dir=self.scratch) as aside:
            folder = Path(aside) / "bundle"
            sizes = bundle_tar.unpack(bundle.chunks(), folder)
            for file in sorted(sizes):
                check_file(folder / file, file)
            manifest = self.read_manifest(folder)
            if manifest.name != name:
                raise Invalid(
                    f"The bundle is of the model {manifest.name!r}, not of {name!r}.",
                    code="other-model",
                    hint="Give the name that the bundle was written for.",
                )
            parity = (folder / _PARITY).read_bytes() if _PARITY in sizes else None
            forms = self._versions.keep(folder, sizes)
            failpoint("registry.draft.after_keep")
        digest = digest_json(forms)
        values = {
            "task": manifest.task,
            "run": made_by,
            "inputs": read,
            "bundle": digest,
            "forms": forms,
            "size": sum(sizes.values()),
            "facts": facts or {},
        }
        self._hold(run)
        known = self._versions.same(name, values)
        made = self._versions.add(name, values) if known is None else self._versions.record(name, known)
        if parity is not None and "parity" not in made.documents:
            self._versions.attach(name, made.version, "parity", msgspec.json.decode(parity))
        self.tx.note(inputs=[*read, *([made_by] if made_by else [])], outputs=[made.ref], digests={"bundle": digest})
        return self._versions.record(name, made.version)

    def attach(self, name: str, version: int, kind: DocumentKind, document: dict[str, Any]) -> Document:
        attached = self._versions.attach(name, version, kind, document)
        self.tx.note(outputs=[attached.ref], digests={kind: attached.digest})
        return attached

    def document(self, name: str, version: int | str, kind: DocumentKind) -> Document:
        return self._versions.document(name, version, kind)

    def register(
        self, name: str, version: int, evaluation: str | None = None, verdicts: str | None = None
    ) -> ModelVersion:
        return self._registration.register(name, version, evaluation, verdicts)

    def verify(self, name: str, version: int | str) -> Verification:
        return self._registration.verify(name, version)

    def signature(self, name: str, version: int | str) -> dict[str, Any]:
        return self._registration.signature(name, version)

    def list(self, title: str | None = None, lifecycle: Lifecycle = "live") -> tuple[Model, ...]:
        query = sa.select(models).where(models.c.project == self.tx.project, of_lifecycle(models, lifecycle))
        if title is not None:
            query = query.where(models.c.title == title)
        return tuple(self._models.records(self.tx.rows(query.order_by(models.c.name))))

    def versions(self, name: str, lifecycle: Lifecycle = "live") -> tuple[ModelVersion, ...]:
        self._models.row(name, deleted=lifecycle != "live")
        of = model_versions.c
        query = sa.select(model_versions).where(of.project == self.tx.project, of.name == name)
        query = query.where(of_lifecycle(model_versions, lifecycle))
        return tuple(self._versions.records(self.tx.rows(query.order_by(of.version.desc()))))

    def show(self, name: str, version: int | str) -> ModelVersion:
        return self._versions.record(name, version)

    def bundle(self, name: str, version: int | str) -> Bytes:
        row = self._versions.row(name, version)
        data = bundle_tar.pack_files(self._versions.files(row).items())
        return Bytes(media="application/x-tar", data=data, name=f"{name}-{row.version}.tar")

    def card(self, name: str, version: int | str, form: CardForm = "markdown") -> Bytes:
        record = self._versions.record(name, version)
        documents = {
            kind: self._versions.document(name, record.version, kind).document  # type: ignore[arg-type]
            for kind in record.documents
        }
        moves = [move for alias in self._aliases.current(name) for move in self._aliases.history(name, alias.alias)]
        run = self.runs.show(record.run) if record.run is not None else None
        approved = [a for a in self._approvals.list(name, None) if a.version == record.version]
        made = card.card(record, documents=documents, run=run, moves=moves, approvals=approved)
        return card.written(made, form)

    def withdraw(self, name: str, version: int, reason: str) -> ModelVersion:
        self._models.lock(name)
        record = self._versions.record(name, version)
        if not reason.strip():
            raise Invalid(f"{record.ref} is withdrawn for a reason only.", code="no-reason", hint="Say why.")
        if record.status == "withdrawn":
            raise Conflict(f"{record.ref} is withdrawn already: {record.reason}", code="withdrawn")
        self._deletion.check_unnamed(name, version, "withdrawn")  # a challenger may be: it is not promoted then
        self._versions.update(name, version, status="withdrawn", reason=reason)
        self.tx.note(outputs=[record.ref], digests={"reason": digest_json(reason)})
        return self._versions.record(name, version)

    def set_alias(self, name: str, alias: str, version: int, reason: str = "") -> Alias:
        self._models.lock(name)
        Named(self.tx).check_sound_refs([self._versions.record(name, version).ref])
        return self._aliases.point(name, alias, version, reason)

    def roll_back(self, name: str, alias: str, reason: str = "") -> Alias:
        self._models.lock(name)
        soundness = Named(self.tx).soundness()
        return self._aliases.roll_back(
            name, alias, reason, lambda version: soundness.bad(self.tx.ref("model", name, version)) is None
        )

    def remove_alias(self, name: str, alias: str, reason: str = "") -> AliasMove:
        self._models.lock(name)
        return self._aliases.remove(name, alias, reason)

    def aliases(self, name: str) -> tuple[Alias, ...]:
        self._models.row(name)
        return tuple(self._aliases.current(name))

    def alias_history(self, name: str, alias: str) -> tuple[AliasMove, ...]:
        self._models.row(name)
        found = self._aliases.history(name, alias)
        if not found:
            self._aliases.at(name, alias, None)  # raises
        return tuple(found)

    def as_of(self, name: str, alias: str, at: int | None = None) -> Alias:
        return self._aliases.at(name, alias, at)

    def request_approval(self, name: str, version: int) -> Approval:
        self._models.lock(name)
        return self._approvals.request(self._versions.record(name, version))

    def approve(self, request: str, comment: str = "") -> Approval:
        return self._approvals.decide(request, "approved", comment)

    def reject(self, request: str, comment: str = "") -> Approval:
        return self._approvals.decide(request, "rejected", comment)

    def approvals(self, name: str | None = None, decision: Decision | None = None) -> tuple[Approval, ...]:
        return self._approvals.list(name, decision)

    def folder(self, ref: str, under: Path, checked: set[Path]) -> Path:
        """The folder of a version's bundle (by its ref) below `under`, for the rooms above (see `folders.folder`)."""
        named = parse(self._own(ref), "model", self.tx.project)
        # What is routed is served on, also where it was deleted since.
        row = self._versions.row(named.name, named.version or "latest", deleted=True)
        return folder(self._versions, row, under, checked)

    def _hold(self, run: str | None) -> None:
        """Begins to write; the run that a version will name is not removed for good from here on."""
        self.tx.write()
        if run is not None:
            held(self.tx, run)

    def _files(self, ref: str, path: str) -> tuple[str, dict[str, str], int]:
        """The ref of what holds the files (a run or a model version), their digests by path below `path`, their bytes in all."""
        named = parse(self._own(ref), project=self.tx.project)
        if named.kind == "run":
            full = self.tx.ref("run", row_of(self.tx, named.name).id)
            kept = {file.path: (file.digest, file.size) for file in self.runs.artifacts(named.name)}
        elif named.kind == "model":
            record = self._versions.record(named.name, named.version or "latest")
            kept = {file: (digest, self.blobs.stat(digest).size) for file, digest in record.forms.items()}
            full = record.ref
        else:
            raise Invalid(f"{ref} holds no files.", code="bad-ref", hint="Give a run or a model version.")
        below = f"{path.strip('/')}/" if path.strip("/") else ""
        found = {file.removeprefix(below): what for file, what in kept.items() if file.startswith(below)}
        if not found:
            raise NotFound(
                f"{full} holds no files{f' below {path!r}' if below else ''}.",
                code="no-files",
                hint=f"It has {', '.join(sorted(kept)[:_NAMED])}{' and more' if len(kept) > _NAMED else ''}."
                if kept
                else "",
            )
        return full, {file: digest for file, (digest, _) in found.items()}, sum(size for _, size in found.values())

    def _set(self, name: str, version: int | None, **values: Any) -> None:
        """Changes what is said of a model, or of a version of it."""
        if version is None:
            self._models.update(name, **values)
            return
        self._versions.row(name, version)
        self._versions.update(name, version, **values)
        self._models.update(name)

    def _said(self, name: str, version: int | None, **texts: str) -> Model:
        """Notes what was said of a model or version: the ledger holds its digest alone."""
        digests = {what: digest_json(text) for what, text in texts.items()}
        self.tx.note(outputs=[self.tx.ref("model", name, version)], digests=digests)
        return self.model(name)

    def _own(self, ref: str) -> str:
        """A ref of this project; another project's things are no inputs of a version here."""
        named = parse(ref, project=self.tx.project)
        if named.project != self.tx.project:
            raise NotFound(f"There is no {ref} in project {self.tx.project!r}.", code="no-input")
        return str(named)

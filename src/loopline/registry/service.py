"""The verbs of models, within one transaction."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa

from loopline.data.named import Named
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable
from loopline.failpoints import failpoint
from loopline.hashing import digest_file, digest_json
from loopline.operations import Body, Bytes
from loopline.ports.blobs import BlobStore
from loopline.refs import check_name, parse
from loopline.registry import bundle_tar, card
from loopline.registry.approvals import Approvals
from loopline.registry.formats import check_file
from loopline.registry.records import (
    Alias,
    AliasMove,
    Approval,
    CardForm,
    Decision,
    Document,
    DocumentKind,
    Model,
    ModelVersion,
    Verification,
)
from loopline.registry.statement import Signer
from loopline.registry.tables import model_versions, models
from loopline.registry.verbs import ModelsVerbs
from loopline.registry.versions import Versions
from loopline.tracking.service import RunsService

log = logging.getLogger("loopline.registry")

_PARITY = "parity.json"


class Described(Protocol):
    """What the registry needs of a bundle's manifest (`packaging.records.Manifest`)."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...


class ModelsService(ModelsVerbs):
    """Models. `read_manifest` opens and checks a bundle's folder, `signer` signs, `scratch` is where tars are unpacked."""

    def __init__(
        self,
        tx: Tx,
        blobs: BlobStore,
        runs: RunsService,
        read_manifest: Callable[[Path], Described],
        signer: Signer,
        scratch: Path,
    ) -> None:
        self.tx = tx
        self.blobs = blobs
        self.runs = runs
        self.read_manifest = read_manifest
        self.signer = signer
        self.scratch = scratch
        self._versions = Versions(tx, blobs)
        self._aliases = self._versions.aliases
        self._approvals = Approvals(tx, self._versions)

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
        made = self._versions.add(
            name,
            {
                "task": manifest.task,
                "run": made_by,
                "inputs": read,
                "bundle": digest,
                "forms": forms,
                "size": sum(sizes.values()),
                "facts": facts or {},
            },
        )
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
        row = self._versions.row(name, version)
        hashes, problems = self._versions.hashes(row)
        self._versions.lock(name)
        row = self._versions.row(name, version)
        record = self._versions.record(name, version)
        for kind, digest in (("evaluation", evaluation), ("verdicts", verdicts)):
            if digest is not None and record.documents.get(kind) != digest:
                raise Conflict(
                    f"The {kind} document of {record.ref} is not the one with digest {digest}.",
                    code="evidence-changed",
                    hint=f"Attach it, or look at what is attached: {record.documents.get(kind, 'nothing')}.",
                )
        if row.status == "registered":
            return record  # the same again, after a lost answer
        Named(self.tx).check_sound_refs(row.inputs)
        if row.status != "draft":
            raise Conflict(f"{record.ref} is withdrawn and cannot be registered.", code="withdrawn")
        if problems:
            raise Conflict(f"{record.ref} is not signed: {'; '.join(problems)}.", code="forms-changed")
        said = self._versions.statement(row, hashes, registered=self.tx.now, registrar=self.tx.principal)
        envelope = self.signer.sign(said)
        failpoint("registry.register.after_sign")
        self._versions.update(
            name,
            version,
            status="registered",
            envelope=envelope,
            key=envelope["signatures"][0]["keyid"],
            registered=self.tx.now,
            registrar=self.tx.principal,
        )
        digests = {"bundle": row.bundle, "statement": digest_json(said), **record.documents}
        self.tx.note(inputs=list(row.inputs), outputs=[record.ref], digests=digests)
        return self._versions.record(name, version)

    def verify(self, name: str, version: int | str) -> Verification:
        row = self._versions.row(name, version)
        hashes, problems = self._versions.hashes(row)
        record = self._versions.record(name, row.version)
        for kind in sorted(record.documents):
            try:
                self._versions.document(name, row.version, kind)  # type: ignore[arg-type]
            except LooplineError as e:
                problems.append(f"the {kind} document cannot be read: {e.message}")
        key = ""
        if row.envelope is not None:
            try:
                key, said = self.signer.verify(row.envelope)
            except LooplineError as e:
                problems.append(e.message)
            else:
                if len(hashes) == len(row.forms) and said != self._versions.statement(
                    row, hashes, registered=row.registered, registrar=row.registrar
                ):
                    problems.append("the record says something else than what was signed")
                if key != row.key:
                    problems.append("another key signed it than the record says")
        elif row.registered is not None or row.status == "registered":
            problems.append("it is registered without a signature")
        return Verification(
            ref=record.ref,
            ok=not problems,
            signed=row.envelope is not None,
            key=key,
            forms=len(row.forms),
            problems=tuple(problems),
        )

    def signature(self, name: str, version: int | str) -> dict[str, Any]:
        row = self._versions.row(name, version)
        if row.envelope is None:
            raise NotFound(
                f"{self.tx.ref('model', name, row.version)} is not signed.",
                code="no-signature",
                hint="Register it first.",
            )
        return {"envelope": row.envelope, "public_key": self.signer.public_key(row.key)}

    def list(self) -> tuple[Model, ...]:
        found = self.tx.rows(
            sa.select(models, sa.func.count(model_versions.c.version).label("versions"))
            .join(
                model_versions,
                (models.c.project == model_versions.c.project) & (models.c.name == model_versions.c.name),
            )
            .where(models.c.project == self.tx.project)
            .group_by(models.c.project, models.c.name, models.c.latest)
            .order_by(models.c.name)
        )
        named: dict[str, dict[str, int]] = {}
        for alias in self._aliases.current():
            named.setdefault(alias.name, {})[alias.alias] = alias.version
        return tuple(
            Model(
                name=row.name,
                ref=self.tx.ref("model", row.name),
                versions=row.versions,
                latest=row.latest,
                aliases=named.get(row.name, {}),
            )
            for row in found
        )

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        rows = self.tx.rows(
            sa.select(model_versions)
            .where(model_versions.c.project == self.tx.project, model_versions.c.name == name)
            .order_by(model_versions.c.version.desc())
        )
        if not rows:
            self._versions.missing(name)
        return tuple(self._versions.records(rows))

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
        self._versions.lock(name)
        record = self._versions.record(name, version)
        if not reason.strip():
            raise Invalid(f"{record.ref} is withdrawn for a reason only.", code="no-reason", hint="Say why.")
        if record.status == "withdrawn":
            raise Conflict(f"{record.ref} is withdrawn already: {record.reason}", code="withdrawn")
        if record.aliases:
            raise Conflict(
                f"{record.ref} is @{', @'.join(record.aliases)} and so cannot be withdrawn.",
                code="version-in-use",
                hint="Roll the alias back, or point it to another version, first.",
            )
        self._versions.update(name, version, status="withdrawn", reason=reason)
        self.tx.note(outputs=[record.ref], digests={"reason": digest_json(reason)})
        return self._versions.record(name, version)

    def set_alias(self, name: str, alias: str, version: int, reason: str = "") -> Alias:
        self._versions.lock(name)
        Named(self.tx).check_sound_refs(self._versions.row(name, version).inputs)
        return self._aliases.point(name, alias, version, reason)

    def roll_back(self, name: str, alias: str, reason: str = "") -> Alias:
        self._versions.lock(name)
        return self._aliases.roll_back(name, alias, reason)

    def aliases(self, name: str) -> tuple[Alias, ...]:
        self._versions.number(name, "latest")  # NotFound where there is no such model
        return tuple(self._aliases.current(name))

    def alias_history(self, name: str, alias: str) -> tuple[AliasMove, ...]:
        self._aliases.at(name, alias, None)
        return tuple(self._aliases.history(name, alias))

    def as_of(self, name: str, alias: str, at: int | None = None) -> Alias:
        return self._aliases.at(name, alias, at)

    def request_approval(self, name: str, version: int) -> Approval:
        self._versions.lock(name)
        return self._approvals.request(self._versions.record(name, version))

    def approve(self, request: str, comment: str = "") -> Approval:
        return self._approvals.decide(request, "approved", comment)

    def reject(self, request: str, comment: str = "") -> Approval:
        return self._approvals.decide(request, "rejected", comment)

    def approvals(self, name: str | None = None, decision: Decision | None = None) -> tuple[Approval, ...]:
        return self._approvals.list(name, decision)

    def folder(self, ref: str, under: Path, checked: set[Path]) -> Path:
        """The folder of a version's bundle (by its ref) below `under`, for the rooms above; written where it is not there yet.

        It is named by the bundle's digest and appears whole. A folder that is not in `checked` is held against the registry
        first, written anew where it is damaged, and added. Every file is checked as it is written; who opens the folder later
        checks it again (`packaging.manifest.read_manifest`).
        """
        named = parse(self._own(ref), "model", self.tx.project)
        row = self._versions.row(named.name, named.version or "latest")
        place: Path = under / str(row.bundle).partition(":")[2]
        if place.is_dir():
            if place in checked or _holds(place, row.forms):
                checked.add(place)
                return place
            log.warning("The bundle of %s in %s is damaged; it is fetched anew from the registry.", ref, place)
        under.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix="bundle-", dir=under) as aside:
            whole = Path(aside) / "bundle"
            for name, data in self._versions.files(row).items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                (whole / name).write_bytes(data)
            shutil.rmtree(place, ignore_errors=True)
            failpoint("registry.folder.before_rename")
            with contextlib.suppress(OSError):  # another program was first: its folder holds the same
                whole.rename(place)
        if not place.is_dir():
            raise Unavailable(f"The bundle of {ref} cannot be written to {under}.", code="bundle-unwritten")
        checked.add(place)
        return place

    def _own(self, ref: str) -> str:
        """A ref of this project; another project's things are no inputs of a version here."""
        named = parse(ref, project=self.tx.project)
        if named.project != self.tx.project:
            raise NotFound(f"There is no {ref} in project {self.tx.project!r}.", code="no-input")
        return str(named)


def _holds(folder: Path, forms: Mapping[str, str]) -> bool:
    """Whether a folder holds these files, by their digests, and no other."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    try:
        return found.keys() == forms.keys() and not any(
            path.is_symlink() or digest_file(path) != forms[name] for name, path in found.items()
        )
    except OSError:
        return False

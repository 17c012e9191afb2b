"""Registration: a version is signed with all that is known of it, and can be checked for good."""

from __future__ import annotations

from typing import Any

from loopline.data.named import Named
from loopline.database import Tx
from loopline.errors import Conflict, LooplineError, NotFound
from loopline.failpoints import failpoint
from loopline.hashing import digest_json
from loopline.registry.records import ModelVersion, Verification
from loopline.registry.statement import Signer
from loopline.registry.versions import Versions


class Registration:
    """Signs the versions of one project, and checks them."""

    def __init__(self, tx: Tx, versions: Versions, signer: Signer) -> None:
        self.tx = tx
        self._versions = versions
        self.signer = signer

    def register(self, name: str, version: int, evaluation: str | None, verdicts: str | None) -> ModelVersion:
        """Signs a draft, whose attached documents are those of the digests given."""
        row = self._versions.row(name, version)
        hashes, problems = self._versions.hashes(row)
        self._versions.models.lock(name)
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
        if row.status != "draft":
            raise Conflict(f"{record.ref} is withdrawn and cannot be registered.", code="withdrawn")
        if problems:
            raise Conflict(f"{record.ref} is not signed: {'; '.join(problems)}.", code="forms-changed")
        values = self.signed(row, hashes, record.documents)
        failpoint("registry.register.after_sign")
        self._versions.update(name, version, **values)
        return self._versions.record(name, version)

    def signed(self, row: Any, hashes: dict[str, str], documents: dict[str, str]) -> dict[str, Any]:
        """What makes a version a registered one: what it is now is signed. `hashes`: SHA-256 of its forms as they are kept."""
        Named(self.tx).check_sound_refs([*row.inputs, *filter(None, [row.run])])
        said = self._versions.statement(row, hashes, documents, registered=self.tx.now, registrar=self.tx.principal)
        envelope = self.signer.sign(said)
        digests = {"bundle": row.bundle, "statement": digest_json(said), **documents}
        self.tx.note(inputs=list(row.inputs), outputs=[self.tx.ref("model", row.name, row.version)], digests=digests)
        return {
            "status": "registered",
            "envelope": envelope,
            "key": envelope["signatures"][0]["keyid"],
            "registered": self.tx.now,
            "registrar": self.tx.principal,
        }

    def verify(self, name: str, version: int | str) -> Verification:
        """What a check of a version against the store and its signature finds."""
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
                    row, hashes, record.documents, registered=row.registered, registrar=row.registrar
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
        """The signed statement, and the public key to check it with."""
        row = self._versions.row(name, version)
        if row.envelope is None:
            raise NotFound(
                f"{self.tx.ref('model', name, row.version)} is not signed.",
                code="no-signature",
                hint="Register it first.",
            )
        return {"envelope": row.envelope, "public_key": self.signer.public_key(row.key)}

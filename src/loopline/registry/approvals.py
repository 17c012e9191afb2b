"""Approvals: somebody else looks at a version and says yes or no. Bound to what there was to look at."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from loopline.access.authority import not_requester
from loopline.database import Tx
from loopline.errors import Conflict, NotFound
from loopline.hashing import digest_json
from loopline.registry.records import Approval, Decision, ModelVersion
from loopline.registry.tables import approvals
from loopline.registry.versions import Versions
from loopline.tracking.ids import ulid


class Approvals:
    """The requests for approval of one project."""

    def __init__(self, tx: Tx, versions: Versions) -> None:
        self.tx = tx
        self.versions = versions

    def request(self, version: ModelVersion) -> Approval:
        """A new request. Raises `Conflict` for a version that is not registered, or with a request still open."""
        if version.status != "registered":
            raise Conflict(
                f"{version.ref} is {version.status}; only a registered version is approved.", code="not-registered"
            )
        still = self.tx.first(
            self._query(name=version.name, decision="open").where(approvals.c.version == version.version)
        )
        if still is not None:
            raise Conflict(
                f"{version.ref} waits for approval already: {still.id}.", code="approval-open", request=still.id
            )
        request = ulid(self.tx.now)
        self.tx.execute(
            approvals.insert().values(
                id=request,
                project=self.tx.project,
                name=version.name,
                version=version.version,
                bundle=version.bundle,
                evidence=version.documents,
                decision="open",
                requested=self.tx.now,
                requester=self.tx.principal,
                decider="",
                comment="",
            )
        )
        self.tx.note(inputs=[version.ref], digests={"request": digest_json(request), "bundle": version.bundle})
        return self.record(self._row(request))

    def decide(self, request: str, decision: Decision, comment: str) -> Approval:
        """Says yes or no, once. Raises `Refused` for who asked, `Conflict` where it is decided or things have changed."""
        row = self._row(request)
        self.versions.models.lock(row.name)  # two decisions at once come one after the other
        row = self._row(request)
        not_requester(self.tx, row.requester)
        if row.decision != "open":
            raise Conflict(
                f"The request {request} is {row.decision} already, by {row.decider}.", code="already-decided"
            )
        version = self.versions.record(row.name, row.version)
        if decision == "approved" and (
            version.status != "registered" or version.bundle != row.bundle or version.documents != row.evidence
        ):
            raise Conflict(
                f"{version.ref} is not what approval was asked for any more.",
                code="evidence-changed",
                hint="Reject it, and ask anew for a version as it is.",
            )
        self.tx.execute(
            approvals.update()
            .where(approvals.c.id == request)
            .values(decision=decision, decided=self.tx.now, decider=self.tx.principal, comment=comment)
        )
        digests = {"request": digest_json(request), "bundle": row.bundle, "decision": digest_json(decision)}
        if comment:
            digests["comment"] = digest_json(comment)
        self.tx.note(inputs=[version.ref], digests=digests)
        return self.record(self._row(request))

    def list(self, name: str | None, decision: Decision | None) -> tuple[Approval, ...]:
        """Requests, newest first."""
        rows = self.tx.rows(self._query(name=name, decision=decision).order_by(approvals.c.id.desc()))
        return tuple(self.record(row) for row in rows)

    def record(self, row: Any) -> Approval:
        """The record of a row."""
        values = {key: value for key, value in row._mapping.items() if key != "project"}
        return Approval(ref=self.tx.ref("model", row.name, row.version), **values)

    def _query(self, *, name: str | None, decision: Decision | None) -> sa.Select[Any]:
        query = sa.select(approvals).where(approvals.c.project == self.tx.project)
        if name is not None:
            query = query.where(approvals.c.name == name)
        return query if decision is None else query.where(approvals.c.decision == decision)

    def _row(self, request: str) -> Any:
        row = self.tx.first(self._query(name=None, decision=None).where(approvals.c.id == request))
        if row is None:
            raise NotFound(
                f"There is no request {request!r}.", code="no-approval", hint="`loopline models approvals` lists them."
            )
        return row

"""The verbs of rollouts, within one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.deployment.plan import check_plan
from loopline.deployment.proof import left_out, prove
from loopline.deployment.records import CHALLENGER, CHAMPION, Decision, Plan, Rollout, RolloutStep
from loopline.deployment.service import LIVE, SHADOW, change, known, running, servable, turn
from loopline.deployment.tables import decisions, endpoints, rollouts
from loopline.deployment.verbs import RolloutsVerbs
from loopline.errors import Conflict, Invalid, NotFound
from loopline.operations import check_limit
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Opening
from loopline.registry.verbs import ModelsVerbs
from loopline.serving.records import BUCKETS, Variant
from loopline.serving.records import Endpoint as Routed


class RolloutsService(RolloutsVerbs):
    """Rollouts. Each change of a weight is a new routing epoch, in the transaction of its decision."""

    def __init__(self, tx: Tx, models: ModelsVerbs, folder: Callable[[str], Path], opening: Opening) -> None:
        self.tx = tx
        self.models = models
        self.folder = folder
        self.opening = opening

    def start(self, endpoint: str, challenger: str, plan: Plan) -> Rollout:
        check_plan(plan)
        optional = self._prove(known(self.tx, endpoint), servable(self.tx, self.models, challenger).ref, plan)
        self.tx.write()  # the long work came before the lock
        row = known(self.tx, endpoint)
        version = servable(self.tx, self.models, challenger)
        if version.name != row.model:
            raise Invalid(
                f"{version.ref} is no version of {row.model}, which {endpoint} serves.",
                code="other-model",
                hint="Create another endpoint for it.",
            )
        if version.version == row.champion:
            raise Conflict(f"{version.ref} is the champion of {endpoint} already.", code="is-champion")
        if (other := running(self.tx, endpoint)) is not None:
            raise Conflict(
                f"The rollout {other.id} is under way on {endpoint}.",
                code="rollout-running",
                hint="Let it end, or roll it back: loopline rollout back " + endpoint,
            )
        if optional - set(row.optional):
            change(self.tx, endpoint, optional=sorted({*row.optional, *optional}))
        rollout = f"{self.tx.now:012x}{secrets.token_hex(5)}"
        self.tx.execute(
            rollouts.insert().values(
                project=self.tx.project,
                id=rollout,
                endpoint=endpoint,
                champion=row.champion,
                challenger=version.version,
                plan=msgspec.to_builtins(plan),
                status="running",
                stage=0,
                stage_since=self.tx.now,
                started=self.tx.now,
                reason="",
            )
        )
        turn(self.tx)
        self.tx.note(
            inputs=[self.tx.ref("endpoint", endpoint), version.ref, self.tx.ref("model", row.model, row.champion)],
            outputs=[self.tx.ref("rollout", rollout)],
        )
        return self.show(rollout)

    def decide(self, rollout: str, decision: Decision, reason: str, measured: dict[str, Any] | None = None) -> Rollout:
        row = self._row(rollout)
        if row.status != "running":
            raise Conflict(f"The rollout {rollout} is {row.status} already.", code="rollout-ended")
        plan = msgspec.convert(row.plan, Plan)
        if decision == "wait":
            raise Invalid("To wait is nothing to record.", code="bad-decision")
        changes: dict[str, Any] = {"stage_since": self.tx.now}
        if decision == "advance":
            if row.stage + 1 >= len(plan.stages):
                raise Conflict(
                    f"The rollout {rollout} is at its last stage.",
                    code="last-stage",
                    hint="Promote, keep or roll back.",
                )
            changes["stage"] = row.stage + 1
        else:
            ends = {"promote": "promoted", "keep": "kept", "roll_back": "rolled_back"}
            changes |= {"status": ends[decision], "ended": self.tx.now, "reason": reason}
        self.tx.execute(
            rollouts.update().where(rollouts.c.project == self.tx.project, rollouts.c.id == rollout).values(**changes)
        )
        number = 1 + self.tx.scalar(
            sa.select(sa.func.count())
            .select_from(decisions)
            .where(decisions.c.project == self.tx.project, decisions.c.rollout == rollout)
        )
        self.tx.execute(
            decisions.insert().values(
                project=self.tx.project,
                rollout=rollout,
                number=number,
                at=self.tx.now,
                stage=row.stage,
                decision=decision,
                reason=reason,
                measured=measured or {},
            )
        )
        model = known(self.tx, row.endpoint).model
        if decision == "promote":
            self._keep_taking(row, model)
            change(self.tx, row.endpoint, champion=row.challenger, updated=self.tx.now)
            self.models.set_alias(model, "champion", row.challenger, reason=reason)
        turn(self.tx)
        self.tx.note(
            inputs=[self.tx.ref("rollout", rollout), self.tx.ref("model", model, row.challenger)],
            outputs=[self.tx.ref("endpoint", row.endpoint)],
        )
        return self.show(rollout)

    def _keep_taking(self, row: Any, model: str) -> None:
        """What callers send and the new champion does not read is taken on, and kept in the prediction log."""
        passed = known(self.tx, row.endpoint).passthrough
        before, after = (
            [f.name for f in read_manifest(self.folder(self.tx.ref("model", model, n)), verify=False).signature.inputs]
            for n in (row.champion, row.challenger)
        )
        if dropped := [name for name in before if name not in after and name not in passed]:
            change(self.tx, row.endpoint, passthrough=[*passed, *dropped])

    def show(self, rollout: str) -> Rollout:
        return self._record(self._row(rollout))

    def list(self, endpoint: str | None = None, status: str | None = None, limit: int = 50) -> list[Rollout]:
        check_limit(limit, "rollouts")
        query = sa.select(rollouts).where(rollouts.c.project == self.tx.project)
        if endpoint is not None:
            query = query.where(rollouts.c.endpoint == endpoint)
        if status is not None:
            query = query.where(rollouts.c.status == status)
        found = self.tx.rows(query.order_by(rollouts.c.started.desc(), rollouts.c.id.desc()).limit(limit))
        return [self._record(row) for row in found]

    def _prove(self, row: Any, challenger: str, plan: Plan) -> set[str]:
        """Raises what a worker would refuse champion and challenger side by side for, at any stage of the plan, and what callers
        would have to change for; gives the columns that callers may leave out from now on."""
        live = any(stage.kind == "canary" for stage in plan.stages)
        champion = self.tx.ref("model", row.model, row.champion)
        shares = (
            (CHAMPION, champion, BUCKETS - live, LIVE),
            (CHALLENGER, challenger, int(live), LIVE if live else SHADOW),
        )
        variants = tuple(
            Variant(name=name, bundle=str(self.folder(ref)), model=ref, weight=weight, mode=mode)
            for name, ref, weight, mode in shares
        )
        optional = left_out(row.name, variants[0], variants[1], row.optional)
        routed = Routed(
            name=row.name,
            variants=variants,
            route_key=row.route_key,
            passthrough=tuple(row.passthrough),
            optional=tuple({*row.optional, *optional}),
        )
        prove(routed, self.opening)
        return optional

    def _row(self, rollout: str) -> Any:
        row = self.tx.first(sa.select(rollouts).where(rollouts.c.project == self.tx.project, rollouts.c.id == rollout))
        if row is None:
            raise NotFound(
                f"There is no rollout {rollout!r}.", code="no-rollout", hint="`loopline rollout ls` lists them."
            )
        return row

    def _record(self, row: Any) -> Rollout:
        taken = self.tx.rows(
            sa.select(decisions)
            .where(decisions.c.project == row.project, decisions.c.rollout == row.id)
            .order_by(decisions.c.number)
        )
        model = self.tx.scalar(
            sa.select(endpoints.c.model).where(endpoints.c.project == row.project, endpoints.c.name == row.endpoint)
        )
        return Rollout(
            ref=self.tx.ref("rollout", row.id),
            id=row.id,
            endpoint=row.endpoint,
            champion=self.tx.ref("model", model or row.endpoint, row.champion),
            challenger=self.tx.ref("model", model or row.endpoint, row.challenger),
            plan=msgspec.convert(row.plan, Plan),
            status=row.status,
            stage=row.stage,
            stage_since=row.stage_since,
            started=row.started,
            ended=row.ended,
            reason=row.reason,
            steps=tuple(
                RolloutStep(at=d.at, stage=d.stage, decision=d.decision, reason=d.reason, measured=d.measured)
                for d in taken
            ),
        )

"""The deployment room's verbs, within one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.data.named import Named
from loopline.database import Tx
from loopline.deployment.plan import check_plan
from loopline.deployment.policy import check_policy
from loopline.deployment.proof import prove
from loopline.deployment.records import CHALLENGER, CHAMPION, Decision, Endpoint, Plan, Rollout, RolloutStep
from loopline.deployment.tables import decisions, endpoints, rollouts, routing
from loopline.deployment.verbs import EndpointsVerbs, RolloutsVerbs
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, did_you_mean
from loopline.hashing import digest_json
from loopline.operations import check_limit
from loopline.outcomes.records import SEPARATOR
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Opening
from loopline.refs import DEFAULT_PROJECT, check_name, parse
from loopline.registry.verbs import ModelsVerbs
from loopline.serving.records import BUCKETS, Mode, Policy, RouteTable, Variant
from loopline.serving.records import Endpoint as Routed

LIVE: Mode = "live"
SHADOW: Mode = "shadow"


class EndpointsService(EndpointsVerbs):
    """Endpoints. `folder` gives the folder of a model version's bundle, unpacked for serving, `opening` how it is opened."""

    def __init__(self, tx: Tx, models: ModelsVerbs, folder: Callable[[str], Path], opening: Opening) -> None:
        self.tx = tx
        self.models = models
        self.folder = folder
        self.opening = opening

    def create(
        self,
        name: str,
        model: str,
        route_key: str | None = None,
        passthrough: list[str] | None = None,
    ) -> Endpoint:
        check_name(name, "name of an endpoint")
        version = servable(self.tx, self.models, model)
        passed = list(dict.fromkeys(passthrough or []))
        alone = Variant(
            name=CHAMPION, bundle=str(self.folder(version.ref)), model=version.ref, weight=BUCKETS, mode=LIVE
        )
        prove(Routed(name=name, variants=(alone,), route_key=route_key, passthrough=tuple(passed)), self.opening)
        self.tx.write()  # the long work came before the lock
        version = servable(self.tx, self.models, version.ref)
        values = {
            "model": version.name,
            "champion": version.version,
            "route_key": route_key,
            "passthrough": passed,
            "updated": self.tx.now,
        }
        if self._row(name) is None:
            self.tx.execute(
                endpoints.insert().values(
                    project=self.tx.project,
                    name=name,
                    salt=secrets.token_hex(8),
                    policy=msgspec.to_builtins(Policy()),
                    created=self.tx.now,
                    **values,
                )
            )
        else:
            if running(self.tx, name) is not None:
                raise Conflict(
                    f"A rollout is under way on {name}.",
                    code="rollout-running",
                    hint="Let it end, or roll it back first.",
                )
            self.tx.execute(
                endpoints.update()
                .where(endpoints.c.project == self.tx.project, endpoints.c.name == name)
                .values(**values)
            )
        turn(self.tx)
        self.tx.note(inputs=[version.ref], outputs=[self.tx.ref("endpoint", name)])
        return self.show(name)

    def list(self) -> list[Endpoint]:
        found = self.tx.rows(
            sa.select(endpoints).where(endpoints.c.project == self.tx.project).order_by(endpoints.c.name)
        )
        return [self._record(row) for row in found]

    def show(self, name: str) -> Endpoint:
        return self._record(known(self.tx, name))

    def set_policy(self, name: str, policy: Policy) -> Endpoint:
        row = known(self.tx, name)
        check_policy(policy, self._columns(row), name)
        self.tx.execute(
            endpoints.update()
            .where(endpoints.c.project == self.tx.project, endpoints.c.name == name)
            .values(policy=msgspec.to_builtins(policy), updated=self.tx.now)
        )
        turn(self.tx)
        self.tx.note(inputs=[self.tx.ref("endpoint", name)], digests={"policy": digest_json(policy)})
        return self.show(name)

    def _columns(self, row: Any) -> set[str]:
        """The columns that callers of an endpoint may send."""
        manifest = read_manifest(self.folder(self.tx.ref("model", row.model, row.champion)), verify=False)
        return {*row.passthrough, *(field.name for field in manifest.signature.inputs)}

    def remove(self, name: str, reason: str = "") -> None:
        known(self.tx, name)
        if running(self.tx, name) is not None:
            raise Conflict(f"A rollout is under way on {name}.", code="rollout-running", hint="Roll it back first.")
        self.tx.execute(endpoints.delete().where(endpoints.c.project == self.tx.project, endpoints.c.name == name))
        turn(self.tx)
        self.tx.note(inputs=[self.tx.ref("endpoint", name)])

    def routes(self) -> RouteTable:
        table: dict[str, Routed] = {}
        for row in self.tx.rows(sa.select(endpoints)):
            open_rollout = running(self.tx, row.name, row.project)
            percent, mode = 0, LIVE
            if open_rollout is not None:
                stage = msgspec.convert(open_rollout.plan, Plan).stages[open_rollout.stage]
                percent, mode = stage.percent, SHADOW if stage.kind == "shadow" else LIVE
            in_project = "" if row.project == DEFAULT_PROJECT else f"{row.project}/"
            ref = f"model:{in_project}{row.model}@"
            shares = [(CHAMPION, f"{ref}{row.champion}", BUCKETS - percent * BUCKETS // 100, LIVE)]
            if open_rollout is not None:
                shares.append((CHALLENGER, f"{ref}{open_rollout.challenger}", percent * BUCKETS // 100, mode))
            address = routed_name(row.project, row.name)
            table[address] = Routed(
                name=address,
                variants=tuple(
                    Variant(name=name, bundle=self._bundle(model), model=model, weight=weight, mode=how)
                    for name, model, weight, how in shares
                ),
                salt=row.salt,
                route_key=row.route_key,
                passthrough=tuple(row.passthrough),
                policy=msgspec.convert(row.policy, Policy),
            )
        return RouteTable(epoch=epoch(self.tx), endpoints=table)

    def _bundle(self, ref: str) -> str:
        """The folder of a version that is routed already; "" where the registry does not give it: the others are served."""
        try:
            return str(self.folder(ref))
        except LooplineError:
            return ""

    def _row(self, name: str) -> Any:
        return self.tx.first(
            sa.select(endpoints).where(endpoints.c.project == self.tx.project, endpoints.c.name == name)
        )

    def _record(self, row: Any) -> Endpoint:
        open_rollout = running(self.tx, row.name)
        percent = 0
        if open_rollout is not None:
            percent = msgspec.convert(open_rollout.plan, Plan).stages[open_rollout.stage].percent
        return Endpoint(
            ref=self.tx.ref("endpoint", row.name),
            name=row.name,
            model=row.model,
            champion=self.tx.ref("model", row.model, row.champion),
            challenger=self.tx.ref("model", row.model, open_rollout.challenger) if open_rollout is not None else None,
            challenger_percent=percent,
            route_key=row.route_key,
            passthrough=tuple(row.passthrough),
            policy=msgspec.convert(row.policy, Policy),
            epoch=epoch(self.tx),
            created=row.created,
            updated=row.updated,
        )


class RolloutsService(RolloutsVerbs):
    """Rollouts. Each change of a weight is a new routing epoch, in the transaction of its decision."""

    def __init__(self, tx: Tx, models: ModelsVerbs, folder: Callable[[str], Path], opening: Opening) -> None:
        self.tx = tx
        self.models = models
        self.folder = folder
        self.opening = opening

    def start(self, endpoint: str, challenger: str, plan: Plan) -> Rollout:
        check_plan(plan)
        self._prove(known(self.tx, endpoint), servable(self.tx, self.models, challenger).ref, plan)
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
            self.tx.execute(
                endpoints.update()
                .where(endpoints.c.project == self.tx.project, endpoints.c.name == row.endpoint)
                .values(champion=row.challenger, updated=self.tx.now)
            )
            self.models.set_alias(model, "champion", row.challenger, reason=reason)
        turn(self.tx)
        self.tx.note(
            inputs=[self.tx.ref("rollout", rollout), self.tx.ref("model", model, row.challenger)],
            outputs=[self.tx.ref("endpoint", row.endpoint)],
        )
        return self.show(rollout)

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

    def _prove(self, row: Any, challenger: str, plan: Plan) -> None:
        """Raises what a worker would refuse champion and challenger side by side for, at any stage of the plan."""
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
        routed = Routed(name=row.name, variants=variants, route_key=row.route_key, passthrough=tuple(row.passthrough))
        prove(routed, self.opening)

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


def routed_name(project: str, endpoint: str) -> str:
    """The address under which workers know an endpoint: its name, with its project before it but for the default one."""
    return endpoint if project == DEFAULT_PROJECT else f"{project}{SEPARATOR}{endpoint}"


def servable(tx: Tx, models: ModelsVerbs, ref: str) -> Any:
    """The registered model version that a ref names. Raises `Conflict` for any other, `Refused` for one of withdrawn data."""
    parsed = parse(ref, "model", tx.project)
    if parsed.project != tx.project:
        raise NotFound(f"There is no {ref} in project {tx.project!r}.", code="no-model")
    version = models.show(parsed.name, parsed.version or "champion")
    if version.status != "registered":
        raise Conflict(
            f"{version.ref} is {version.status}: only a registered version is served.",
            code="not-registered",
            hint=f"loopline models register {parsed.name}@{version.version}",
        )
    Named(tx).check_sound_refs(version.inputs)
    return version


def known(tx: Tx, name: str) -> Any:
    """The row of an endpoint. Raises `NotFound`."""
    row = tx.first(sa.select(endpoints).where(endpoints.c.project == tx.project, endpoints.c.name == name))
    if row is None:
        there = [r.name for r in tx.rows(sa.select(endpoints.c.name).where(endpoints.c.project == tx.project))]
        raise NotFound(f"There is no endpoint {name!r}.", code="no-endpoint", hint=did_you_mean(name, there))
    return row


def running(tx: Tx, endpoint: str, project: str | None = None) -> Any:
    """The row of the rollout under way on an endpoint, or None."""
    return tx.first(
        sa.select(rollouts).where(
            rollouts.c.project == (project or tx.project),
            rollouts.c.endpoint == endpoint,
            rollouts.c.status == "running",
        )
    )


def epoch(tx: Tx) -> int:
    """The routing epoch in force; the first, before any endpoint, is 1."""
    return int(tx.scalar(sa.select(routing.c.epoch)) or 1)


def turn(tx: Tx) -> None:
    """Begins a new routing epoch, in the transaction of the change that asks for it."""
    if not tx.execute(routing.update().values(epoch=routing.c.epoch + 1)).rowcount:
        tx.execute(routing.insert().values(id=1, epoch=2))

"""The verbs of endpoints, within one transaction, and what rollouts need of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.data.named import Named
from loopline.database import Tx
from loopline.deployment.proof import prove
from loopline.deployment.records import CHALLENGER, CHAMPION, Endpoint, Plan, Threshold
from loopline.deployment.tables import endpoints, rollouts, routing
from loopline.deployment.thresholds import Thresholds
from loopline.deployment.verbs import EndpointsVerbs
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, did_you_mean
from loopline.hashing import digest_json
from loopline.outcomes.records import SEPARATOR
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Opening
from loopline.refs import DEFAULT_PROJECT, check_name, parse
from loopline.registry.verbs import ModelsVerbs
from loopline.serving.policies import check_policy
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
                    optional=[],
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
            change(self.tx, name, **values)
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
        change(self.tx, name, policy=msgspec.to_builtins(policy), updated=self.tx.now)
        turn(self.tx)
        self.tx.note(inputs=[self.tx.ref("endpoint", name)], digests={"policy": digest_json(policy)})
        return self.show(name)

    def _columns(self, row: Any) -> set[str]:
        """The columns that callers of an endpoint may send."""
        manifest = read_manifest(self.folder(self.tx.ref("model", row.model, row.champion)), verify=False)
        return {*row.passthrough, *row.optional, *(field.name for field in manifest.signature.inputs)}

    def remove(self, name: str, reason: str = "") -> None:
        known(self.tx, name)
        if running(self.tx, name) is not None:
            raise Conflict(f"A rollout is under way on {name}.", code="rollout-running", hint="Roll it back first.")
        self.tx.execute(endpoints.delete().where(endpoints.c.project == self.tx.project, endpoints.c.name == name))
        turn(self.tx)
        self.tx.note(inputs=[self.tx.ref("endpoint", name)])

    def set_threshold(self, name: str, value: float, reason: str, version: int | None = None) -> Threshold:
        model, number = self._decided(name, version)
        return self._threshold(model, number, Thresholds(self.tx).put(name, model, number, value, "set", reason))

    def roll_back_threshold(self, name: str, reason: str, version: int | None = None) -> Threshold:
        model, number = self._decided(name, version)
        return self._threshold(model, number, Thresholds(self.tx).roll_back(name, model, number, reason))

    def thresholds(self, name: str) -> tuple[Threshold, ...]:
        known(self.tx, name)
        return tuple(Thresholds(self.tx).history(name))

    def _decided(self, name: str, version: int | None) -> tuple[str, int]:
        """Model and version whose threshold at an endpoint is meant. Raises `Invalid` where it decides between other than two."""
        row = known(self.tx, name)
        number = row.champion if version is None else version
        found = self.models.show(row.model, number)
        if found.task != "binary":
            raise Invalid(
                f"{found.ref} does not decide between two classes, and so has no threshold.", code="bad-threshold"
            )
        return row.model, number

    def _threshold(self, model: str, number: int, made: Threshold) -> Threshold:
        turn(self.tx)
        self.tx.note(
            inputs=[self.tx.ref("model", model, number)],
            outputs=[made.endpoint],
            digests={"threshold": digest_json(msgspec.to_builtins(made))},
        )
        return made

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
            decided = Thresholds(self.tx).current(row.project, row.name, row.model)
            address = routed_name(row.project, row.name)
            table[address] = Routed(
                name=address,
                variants=tuple(self._variant(name, model, weight, how, decided) for name, model, weight, how in shares),
                salt=row.salt,
                route_key=row.route_key,
                passthrough=tuple(row.passthrough),
                optional=tuple(row.optional),
                policy=msgspec.convert(row.policy, Policy),
            )
        return RouteTable(epoch=epoch(self.tx), endpoints=table)

    def _variant(
        self, name: str, model: str, weight: int, mode: Mode, decided: dict[int, tuple[int, float | None]]
    ) -> Variant:
        number, value = decided.get(int(model.rpartition("@")[2]), (0, None))
        return Variant(
            name=name,
            bundle=self._bundle(model),
            model=model,
            weight=weight,
            mode=mode,
            threshold=value,
            threshold_number=number,
        )

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
            optional=tuple(row.optional),
            policy=msgspec.convert(row.policy, Policy),
            epoch=epoch(self.tx),
            created=row.created,
            updated=row.updated,
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
    Named(tx).check_sound_refs([version.ref])
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


def change(tx: Tx, endpoint: str, **columns: Any) -> None:
    """Writes some columns of an endpoint anew; a routing epoch (`turn`) is the caller's to begin."""
    tx.execute(
        endpoints.update().where(endpoints.c.project == tx.project, endpoints.c.name == endpoint).values(**columns)
    )


def epoch(tx: Tx) -> int:
    """The routing epoch in force; the first, before any endpoint, is 1."""
    return int(tx.scalar(sa.select(routing.c.epoch)) or 1)


def turn(tx: Tx) -> None:
    """Begins a new routing epoch, in the transaction of the change that asks for it."""
    if not tx.execute(routing.update().values(epoch=routing.c.epoch + 1)).rowcount:
        tx.execute(routing.insert().values(id=1, epoch=2))

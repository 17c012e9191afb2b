"""The composition root: settings -> adapters -> services -> Platform.

The only file that names adapters, and the one place where an operation is bound: authorise -> open the transaction -> verb ->
ledger entry -> commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

import loopline.catalog  # fills OPERATIONS
from loopline.access import authority
from loopline.access.records import Principal
from loopline.database import Database, Tx
from loopline.errors import Invalid, NotFound, Refused, did_you_mean
from loopline.hashing import Inexact, digest_bytes, digest_json
from loopline.idempotency import answered, keep
from loopline.ledger.log import Ledger
from loopline.operations import OPERATIONS, Action, Body, Operation
from loopline.packaging.opening import opening_of
from loopline.ports.clock import Clock, SystemClock
from loopline.ports.drawing import Line, PlotForm
from loopline.ports.executor import Executor
from loopline.ports.predictor import Predictor
from loopline.refs import check_name, parse
from loopline.settings import Settings, load, make_workspace
from loopline.store.local import LocalBlobs
from loopline.tracking.words import Words
from loopline.upkeep import upkeep

_LARGEST_BUNDLE = 1 << 36
"""Bytes of a run bundle, unpacked; what comes over HTTP is bounded by `body_limit`, too."""


class Platform:
    """One opened workspace: its database, bytes and services. `call` runs an operation for a principal."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        workspace = settings.workspace
        make_workspace(workspace)
        self.database = Database(settings.database_url, self.clock)
        self.blobs = LocalBlobs(workspace / "blobs")
        self.ledger = Ledger(workspace / "keys", settings.checkpoint_folder)
        self.metrics = self._metrics()
        self.words = Words()
        _know_tables()
        self.database.create()
        self.ledger.create(self.database)
        self.owner = self._first_start()
        self._bundles: set[Path] = set()  # unpacked ones that were held against the registry

    @classmethod
    def open(cls, settings: Settings | None = None, *, clock: Clock | None = None, **given: Any) -> Platform:
        """The platform of a workspace, made where there is none yet. `given` are settings by name."""
        return cls(settings or load(**given), clock)

    def call(
        self,
        name: str,
        args: dict[str, Any],
        *,
        principal: Principal,
        project: str,
        body: Body | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """The result of one operation. Raises the errors of `loopline.errors`; nothing is written when it does.

        With an idempotency key, a repeated call gives the first one's answer and does nothing; the same key with other
        arguments, or another body, is a `Conflict`.
        """
        op = OPERATIONS.get(name)
        if op is None:
            raise NotFound(f"There is no operation {name!r}.", code="no-operation", hint=did_you_mean(name, OPERATIONS))
        given = _checked(op, args, body)
        if op.scope == "project":
            check_name(project, "project")
        sent = body.spooled if body is not None else ""
        request = _asked([name, project, msgspec.to_builtins(given), sent]) if idempotency_key else ""
        record = partial(self._record, op)
        try:
            with self.database.begin(
                principal=principal.name,
                project=project,
                lazy=op.prepares or not op.mutates,
                before_commit=record if op.mutates or op.record != "none" else None,
            ) as tx:
                authority.authorise(tx, principal, op.action, project if op.scope == "project" else None)
                if idempotency_key:
                    known = answered(tx, idempotency_key, request)
                    if known is not None:
                        tx.recorded = False
                        return msgspec.json.decode(known, type=op.out) if op.out is not type(None) else None
                service = self._service(op.group, tx)
                values = {f: getattr(given, f) for f in given.__struct_fields__}
                if op.body:
                    values[op.body] = body
                result = getattr(service, op.verb)(**values)
                if idempotency_key:
                    keep(tx, idempotency_key, request, msgspec.json.encode(result))
                return result
        except Refused as e:
            if e.code == "forbidden":
                self.deny(op, principal, project)
            raise

    def allow(self, action: Action, principal: Principal, project: str) -> None:
        """Raises `Refused` or `NotFound` where the principal may not do this in a project."""
        check_name(project, "project")
        with self.database.begin(principal=principal.name, project=project, lazy=True) as tx:
            authority.authorise(tx, principal, action, project)

    def session(self, principal: Principal | None = None, project: str | None = None) -> loopline.catalog.Session:
        """The verbs for one principal (default: the operating-system user) in one project."""
        who, where = principal or self.owner, project or self.settings.project

        def call(op: Operation, args: dict[str, Any], body: Body | None) -> Any:
            return self.call(op.name, args, principal=who, project=where, body=body)

        return loopline.catalog.Session(call, project=where, close=self.close)

    def authenticate(self, token: str) -> Principal:
        """The principal whose token this is. Raises `Refused` (code "unauthenticated")."""
        with self.database.begin(lazy=True) as tx:
            return authority.authenticate(tx, token)

    def upkeep(self) -> None:
        """Signs what the ledger has not signed yet, and removes what nobody needs."""
        self.ledger.close(self.database)
        upkeep(self.database, self._by_itself, self.settings, self.clock.now())

    def _by_itself(self, operation: str, project: str, **args: Any) -> Any:
        """The result of an operation that nobody called: nobody is asked for a permission, and it is recorded as any other."""
        op = OPERATIONS[operation]
        record = partial(self._record, op)
        with self.database.begin(principal="loopline", project=project, before_commit=record, lazy=op.prepares) as tx:
            return getattr(self._service(op.group, tx), op.verb)(**args)

    def close(self) -> None:
        """Signs what the ledger has not signed yet, and gives back all connections."""
        try:
            self.ledger.close(self.database)
        finally:
            self.database.close()
            if self.metrics is not None:
                self.metrics.close()

    def _record(self, op: Operation, tx: Tx) -> None:
        if op.record == "none" or not tx.recorded or (op.prepares and not tx.wrote):
            return
        self.ledger.append(
            tx,
            operation=op.name,
            record=op.record,
            principal=tx.principal,
            project=tx.project if op.scope == "project" else "",
            inputs=tx.inputs,
            outputs=tx.outputs,
            digests=tx.digests,
            count=tx.count,
        )

    def deny(self, op: Operation, principal: Principal, project: str) -> None:
        """Records that the principal may not do this."""
        with self.database.begin(principal=principal.name, project=project) as tx:
            self.ledger.append(
                tx,
                operation=op.name,
                record="denied",
                principal=principal.name,
                project=project if op.scope == "project" else "",
            )

    def _first_start(self) -> Principal:
        """The principal of the operating-system user, who owns a workspace of their own making."""

        def founded(tx: Tx) -> None:
            if tx.outputs:
                self.ledger.append(tx, operation="access.found", principal=tx.principal, outputs=tx.outputs)

        with self.database.begin(principal="loopline", lazy=True, before_commit=founded) as tx:
            return authority.local_principal(tx, owner_uid=self.settings.workspace.stat().st_uid)

    def _service(self, group: str, tx: Tx) -> Any:
        """The service of a group of verbs for one transaction. Each is imported only when it is first asked for."""
        match group:
            case "access":
                from loopline.access.service import AccessService

                return AccessService(tx)
            case "projects":
                from loopline.access.service import ProjectsService

                return ProjectsService(tx)
            case "ledger":
                from loopline.ledger.service import LedgerService

                return LedgerService(tx, self.ledger)
            case "lineage":
                from loopline.data.described import described
                from loopline.ledger.service import LineageService

                return LineageService(tx, partial(described, tx))
            case "runs":
                from loopline.tracking.service import RunsService

                uploads = self.settings.workspace / "uploads"
                return RunsService(tx, self.blobs, self.words, uploads, self.metrics, _draw, self._bundling)
            case "groups":
                from loopline.tracking.groups import GroupsService

                return GroupsService(tx)
            case "store":
                from loopline.store.service import StoreService

                return StoreService(tx, self.blobs)
            case "pipelines":
                from loopline.pipeline.service import PipelinesService

                return PipelinesService(tx)
            case "datasets":
                from loopline.data.service import DatasetsService

                workspace = self.settings.workspace
                return DatasetsService(
                    tx, self.blobs, workspace / "tables", workspace / "scratch", lambda: self._rules()
                )
            case "files":
                from loopline.data.files.service import FilesService

                return FilesService(tx, self.blobs, self.settings.workspace / "scratch")
            case "sources":
                from loopline.data.sources import SourcesService
                from loopline.foreign import row_source

                datasets, kept = self._service("datasets", tx), self.settings.workspace / "sources"
                return SourcesService(tx, datasets, row_source, kept, self._service("alerts", tx).collecting)
            case "inbox":
                from loopline.data.inbox import InboxService

                return InboxService(tx, self._service("sources", tx))
            case "features":
                from loopline.features.service import FeaturesService

                return FeaturesService(
                    tx, self.blobs, self._service("datasets", tx), self.settings.workspace / "scratch"
                )
            case "evaluations":
                from loopline.evaluation.service import EvaluationsService

                return EvaluationsService(
                    tx, self.blobs, self._service("datasets", tx), partial(self.open_model, tx=tx)
                )
            case "models":
                from loopline.deployment.serving import serving
                from loopline.packaging.manifest import read_manifest
                from loopline.packaging.signing import ModelSigner
                from loopline.registry.service import ModelsService

                workspace = self.settings.workspace
                return ModelsService(
                    tx,
                    self.blobs,
                    self._service("runs", tx),
                    read_manifest,
                    ModelSigner(workspace / "keys"),
                    workspace / "scratch",
                    partial(serving, tx),
                )
            case "predictions":
                return self._predictions(tx)
            case "scores":
                from loopline.outcomes.scoring import ScoresService

                datasets, bundle = self._service("datasets", tx), partial(self._bundle, tx)
                return ScoresService(tx, datasets, bundle, opening_of(self.settings), self._executor())
            case "labels":
                from loopline.deployment.truth import classes
                from loopline.outcomes.service import LabelsService

                return LabelsService(tx, self._predictions(tx), partial(classes, tx, partial(self._bundle, tx)))
            case "endpoints" | "rollouts":
                from loopline.deployment.rollouts import RolloutsService
                from loopline.deployment.service import EndpointsService

                made = EndpointsService if group == "endpoints" else RolloutsService
                models = self._service("models", tx)
                return made(tx, models, partial(self._bundle, tx), opening_of(self.settings))
            case "monitors":
                from loopline.monitoring.service import MonitorsService

                return MonitorsService(tx, self.blobs, self._service("datasets", tx), self._predictions(tx))
            case "alerts":
                from loopline.monitoring.alerts import AlertsService

                return AlertsService(tx)
            case "loops":
                from loopline.loop.service import LoopsService

                return LoopsService(tx, self._service("alerts", tx))
        raise AssertionError(f"no service for the group {group!r}")

    def _bundling(self) -> Any:
        """How run bundles are signed, checked and unpacked."""

        from loopline.packaging.signing import ModelSigner
        from loopline.registry.bundle_tar import unpack
        from loopline.tracking.bundle.statement import Bundling

        workspace = self.settings.workspace
        bounded = partial(unpack, most_bytes=_LARGEST_BUNDLE)
        return Bundling(ModelSigner(workspace / "keys"), bounded, workspace / "scratch")

    def _predictions(self, tx: Tx) -> Any:
        from loopline.outcomes.service import PredictionsService
        from loopline.serving.log import read_on

        return PredictionsService(tx, self.blobs, partial(read_on, self.settings.workspace / "serving" / "log"))

    def _bundle(self, tx: Tx, ref: str) -> Path:
        """The folder of a model version's bundle, in whichever project it is, as workers open it."""
        within = tx.within(parse(ref, "model", tx.project).project)
        folder: Path = self._service("models", within).folder(
            ref, self.settings.workspace / "serving" / "bundles", self._bundles
        )
        return folder

    def _executor(self) -> Executor:
        """Where large work is done. Raises `Invalid` for a setting that names no such place."""
        kind, _, address = self.settings.executor.partition(":")
        if kind == "ray":
            from loopline.adapters.ray.executor import RayCluster

            return RayCluster(address)
        if kind:
            raise Invalid(
                f"The setting executor is {self.settings.executor!r}, which is no place where work is done.",
                code="bad-setting",
                hint="Leave it empty for processes of this machine, or give ray or ray:ADDRESS.",
            )
        from loopline.adapters.processes.executor import Processes

        return Processes(self.settings.threads or os.cpu_count() or 1)

    def _metrics(self) -> Database | None:
        """The second database file, for metric points; None where one database holds all (PostgreSQL)."""
        if not self.database.sqlite:
            return None
        metrics = Database(f"sqlite:///{self.settings.workspace / 'metrics.db'}", self.clock)
        from loopline.tracking.tables import create_points

        create_points(metrics)
        return metrics

    @cached_property
    def _rules(self) -> Callable[[], None]:
        from loopline.loop.files import RuleFiles

        return RuleFiles(self.settings.rules)

    def open_model(self, ref: str, tx: Tx | None = None) -> Predictor:
        """A model version by its ref, opened in the very form that serves."""
        from loopline.packaging.predictor import BundlePredictor

        if tx is not None:
            return BundlePredictor(self._bundle(tx, ref), opening_of(self.settings))
        with self.database.begin(principal=self.owner.name, lazy=True) as opened:
            return BundlePredictor(self._bundle(opened, ref), opening_of(self.settings))


def _draw(title: str, x: str, lines: Sequence[Line], form: PlotForm) -> bytes:
    from loopline.evaluation.overlay import draw  # with it comes matplotlib

    return draw(title, x, lines, form)


def _asked(call: list[Any]) -> str:
    """What tells a call from another by the same key; numbers of any size may be in it."""
    try:
        return digest_json(call)
    except Inexact:
        return digest_bytes(msgspec.json.encode(call, order="sorted"))


def _checked(op: Operation, args: dict[str, Any], body: Body | None) -> Any:
    if op.body is None and body is not None:
        raise Invalid(f"{op.name} takes no body.", code="bad-arguments")
    if op.body is not None and body is None:
        raise Invalid(f"{op.name} wants {op.body!r} as its body.", code="no-body", hint="Send the bytes themselves.")
    known = op.args.__struct_fields__
    for name in args:
        if name not in known:
            raise Invalid(f"{op.name} has no argument {name!r}.", code="bad-arguments", hint=did_you_mean(name, known))
    try:
        return msgspec.convert(args, op.args)
    except msgspec.ValidationError as e:
        raise Invalid(f"{op.name} cannot take its arguments: {e}.", code="bad-arguments") from e


def _know_tables() -> None:
    """Puts every room's tables on the one `metadata`, since a room's service is imported only when it is asked for."""
    for file in sorted(Path(__file__).parent.glob("*/tables.py")):
        import_module(f"loopline.{file.parent.name}.tables")

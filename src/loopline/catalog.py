"""All verbs of a platform, and `Session`: the one object through which they are called, in process or over HTTP.

Importing this imports every room's `verbs.py` and so fills `operations.OPERATIONS`; nothing heavy comes with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

import msgspec

from loopline.access.verbs import AccessVerbs, ProjectsVerbs
from loopline.data.verbs import DatasetsVerbs, FilesVerbs
from loopline.data.verbs_sources import InboxVerbs, SourcesVerbs
from loopline.deployment.verbs import EndpointsVerbs, RolloutsVerbs
from loopline.evaluation.verbs import EvaluationsVerbs
from loopline.features.verbs import FeaturesVerbs
from loopline.ledger.verbs import LedgerVerbs, LineageVerbs
from loopline.loop.verbs import LoopsVerbs
from loopline.monitoring.verbs import AlertsVerbs, MonitorsVerbs
from loopline.operations import OPERATIONS, Body, Operation
from loopline.outcomes.verbs import LabelsVerbs, PredictionsVerbs, ScoresVerbs
from loopline.pipeline.verbs import PipelinesVerbs
from loopline.registry.verbs import ModelsVerbs
from loopline.store.verbs import StoreVerbs
from loopline.tracking.verbs import GroupsVerbs, RunsVerbs

Call = Callable[[Operation, dict[str, Any], Body | None], Any]
"""How a session reaches its platform: operation, arguments by name, raw body -> result."""


class Session:
    """The verbs, by group: `session.datasets.add("visits", Body("visits.parquet"))`.

    Every call is authorised, recorded and answered alike whether the platform is in this process or behind a URL.
    """

    access: AccessVerbs
    projects: ProjectsVerbs
    ledger: LedgerVerbs
    lineage: LineageVerbs
    datasets: DatasetsVerbs
    files: FilesVerbs
    sources: SourcesVerbs
    inbox: InboxVerbs
    features: FeaturesVerbs
    pipelines: PipelinesVerbs
    evaluations: EvaluationsVerbs
    runs: RunsVerbs
    groups: GroupsVerbs
    models: ModelsVerbs
    endpoints: EndpointsVerbs
    rollouts: RolloutsVerbs
    predictions: PredictionsVerbs
    labels: LabelsVerbs
    scores: ScoresVerbs
    monitors: MonitorsVerbs
    alerts: AlertsVerbs
    loops: LoopsVerbs
    store: StoreVerbs

    def __init__(self, call: Call, *, project: str, close: Callable[[], None] | None = None) -> None:
        self.project = project
        self._close = close
        for group in {op.group for op in OPERATIONS.values()}:
            setattr(self, group, _Group(group, call))

    def close(self) -> None:
        """Gives back what the session holds; a closed session answers nothing."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Group:
    """The verbs of one group, each a function of the declared arguments."""

    def __init__(self, group: str, call: Call) -> None:
        for op in OPERATIONS.values():
            if op.group == group:
                setattr(self, op.verb, _verb(op, call))


def _verb(op: Operation, call: Call) -> Callable[..., Any]:
    fields = list(op.args.__struct_fields__)
    signature = inspect.Signature(
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Any) for n in op.parameters]
    )

    def verb(*values: Any, **named: Any) -> Any:
        try:
            given = signature.bind_partial(*values, **named).arguments
        except TypeError as e:
            raise TypeError(f"{op.name}() {e}; it takes {', '.join(op.parameters) or 'none'}.") from None
        body = given.pop(op.body, None) if op.body else None
        if body is not None and not isinstance(body, Body):
            body = Body(body)
        return call(op, {n: _as_json(op, n, v) for n, v in given.items() if n in fields}, body)

    verb.__name__, verb.__qualname__, verb.__doc__ = op.verb, op.name, op.summary
    verb.__signature__ = signature  # type: ignore[attr-defined]  # so that help() and notebooks tell the arguments
    return verb


def _as_json(op: Operation, name: str, value: Any) -> Any:
    """An argument; what people declare in Python (a contract, steps, gates, a feature view) as the JSON values that are sent."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    if not isinstance(first, msgspec.Struct) or not _takes_json(op.args.__annotations__[name]):
        return value
    return msgspec.to_builtins(value)


def _takes_json(kind: Any) -> bool:
    return kind == dict[str, Any] or any(map(_takes_json, get_args(kind)))

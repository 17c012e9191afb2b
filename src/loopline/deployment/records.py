"""Records of the deployment room: endpoints, and the rollouts that move their weight."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from loopline.serving.records import Policy

CHAMPION, CHALLENGER = "champion", "challenger"
Decision = Literal["advance", "wait", "promote", "keep", "roll_back"]
RolloutStatus = Literal["running", "promoted", "kept", "rolled_back"]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a rollout: the challenger's share of answers (percent; 0: shadow) and how long it lasts.

    It lasts until all that is given is reached: `seconds`, `rows` scored by the challenger, `labels` joined to them.
    """

    kind: Literal["shadow", "canary"]
    percent: int = 0
    seconds: float = 0.0
    rows: int = 0
    labels: int = 0


class Guards(msgspec.Struct, frozen=True, kw_only=True):
    """What stops a rollout at once, at any stage, each a comparison with the champion over the same time."""

    errors: float = 0.01
    """Largest share of the challenger's requests that may fail."""
    latency: float = 3.0
    """Largest ratio of its p99 latency to the champion's..."""
    latency_floor_ms: float = 5.0
    """...where it is above this."""
    rows: int = 100
    """Rows scored before outputs are judged as constant."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A guarded plan: its stages in order, the hard guards, and the paired comparison on labels at the end."""

    stages: tuple[Stage, ...]
    guards: Guards = Guards()
    metric: str = ""
    """Metric of the comparison on labels; empty: by the task (roc_auc, accuracy, rmse)."""
    margin: float = 0.01
    """The challenger is promoted where it is not worse than the champion by more than this."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A stable address and what stands behind it."""

    ref: str
    name: str
    model: str
    """Name of the model whose versions it serves."""
    champion: str
    challenger: str | None
    challenger_percent: int
    route_key: str | None
    passthrough: tuple[str, ...]
    optional: tuple[str, ...]
    """Columns that callers may leave out, though a version reads them: it takes them missing, and came after the callers."""
    policy: Policy
    epoch: int
    created: int
    updated: int


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """From which probability on a model version calls a row positive at an endpoint, from a moment on.

    `number` counts over the endpoint; answers name it. `value` None: the one that the version was packaged with.
    """

    endpoint: str
    number: int
    model: str
    value: float | None
    how: Literal["set", "rolled_back"]
    reason: str
    at: int
    by: str


class RolloutStep(msgspec.Struct, frozen=True, kw_only=True):
    """One decision of a rollout: at which stage, what, why, on which figures."""

    at: int
    stage: int
    decision: Decision
    reason: str
    measured: dict[str, Any]


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout of a challenger on an endpoint."""

    ref: str
    id: str
    endpoint: str
    champion: str
    challenger: str
    plan: Plan
    status: RolloutStatus
    stage: int
    stage_since: int
    started: int
    ended: int | None
    reason: str
    steps: tuple[RolloutStep, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The challenger held against the champion on the same labelled rows: `value` is challenger minus champion, more is better."""

    metric: str
    value: float
    low: float
    high: float
    rows: int

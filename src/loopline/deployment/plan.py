"""What the plan of a rollout may say."""

from __future__ import annotations

import math

from loopline.deployment.records import Plan
from loopline.errors import Invalid
from loopline.evaluation.catalogue import kind


def check_plan(plan: Plan) -> None:
    """Raises `Invalid` for a plan that cannot be followed."""
    shares = [stage.percent for stage in plan.stages if stage.kind == "canary"]
    wrong = [
        (not plan.stages, "it has no stages"),
        (any(not 0 < share < 100 for share in shares), f"a canary's share is from 1 to 99 percent, not {shares}"),
        (shares != sorted(shares), f"the canary's shares {shares} fall"),
        (any(s.percent for s in plan.stages if s.kind == "shadow"), "a shadow answers nothing, and so has no share"),
        (
            any(not 0 <= n < math.inf for s in plan.stages for n in (s.seconds, s.rows, s.labels)),
            "a stage cannot last that",
        ),
        (not 0 <= plan.margin < math.inf, f"the margin {plan.margin:g} is none"),
        (not 0 <= plan.guards.errors <= 1, "the guard on errors is a share, from 0 to 1"),
        (
            not plan.guards.latency > 0 or not plan.guards.latency_floor_ms >= 0,
            "the guard on latency is a positive ratio",
        ),
        (plan.guards.rows < 1, "constant outputs cannot be seen on no rows"),
    ]
    if why := next((why for found, why in wrong if found), None):
        raise Invalid(
            f"The plan cannot be followed: {why}.",
            code="bad-plan",
            hint="A shadow stage, then canary stages with shares that rise.",
        )
    if plan.metric:
        kind(plan.metric)

"""What a rollout does next: a pure function of its plan, what its variants answered, and the labels that came.

Hard guards are looked at first, at every look and at every stage; then whether the stage has lasted; at the end of the last one,
the paired comparison on labels decides between promotion and staying challenger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from loopline.deployment.records import Comparison, Decision, Plan, Rollout
from loopline.outcomes.records import VariantTraffic

FEWEST_LABELS = 200
"""Labels without which no comparison is tried."""

_FEW_REQUESTS = 20


def decide(
    rollout: Rollout,
    now: int,
    champion: VariantTraffic | None,
    challenger: VariantTraffic | None,
    compare: Callable[[], Comparison | None],
) -> tuple[Decision, str, dict[str, Any]]:
    """The decision, its reason in words, and the figures it rests on. Traffic is that since the rollout's stage began.

    `compare` holds both versions against the labels; it is asked only at the end of the last stage, once there are enough.
    """
    plan = rollout.plan
    stage = plan.stages[rollout.stage]
    measured = _figures(champion, challenger)
    if challenger is not None and (broken := _broken(plan, champion, challenger)):
        return "roll_back", broken, measured
    rows = challenger.rows if challenger else 0
    labelled = challenger.labelled if challenger else 0
    waits = []
    if (now - rollout.stage_since) / 1000 < stage.seconds:
        waits.append(f"{stage.seconds - (now - rollout.stage_since) / 1000:.0f} s")
    if rows < stage.rows:
        waits.append(f"{stage.rows - rows:,} rows")
    if labelled < stage.labels:
        waits.append(f"{stage.labels - labelled:,} labels")
    if rows == 0 and not waits:
        waits.append("a first row")
    if waits:
        return "wait", f"{_name(plan, rollout.stage)} waits for {', '.join(waits)}", measured
    if rollout.stage + 1 < len(plan.stages):
        return "advance", f"{_name(plan, rollout.stage)} held: {_held(challenger)}", measured
    labelled = sum(side.labelled for side in (champion, challenger) if side is not None)
    comparison = compare() if labelled >= FEWEST_LABELS else None
    if comparison is None:
        return (
            "wait",
            f"the last stage waits for labels to compare by ({labelled:,} of {FEWEST_LABELS:,} at least)",
            measured,
        )
    measured["comparison"] = msgspec.to_builtins(comparison)
    interval = f"[{comparison.low:+.4f}, {comparison.high:+.4f}]"
    shown = f"{comparison.metric} {comparison.value:+.4f} {interval} on {comparison.rows:,} labelled rows"
    if comparison.low >= -plan.margin:
        return "promote", f"not worse than the champion by more than {plan.margin:g}: {shown}", measured
    return "keep", f"not shown to be within {plan.margin:g} of the champion: {shown}", measured


def _broken(plan: Plan, champion: VariantTraffic | None, challenger: VariantTraffic) -> str | None:
    """The hard guard that does not hold, in words."""
    guards = plan.guards
    requests = challenger.requests
    if requests >= _FEW_REQUESTS and challenger.errors / requests > guards.errors:
        of_champion = champion.errors / champion.requests if champion and champion.requests else 0.0
        if challenger.errors / requests > of_champion + guards.errors:
            return f"errors: {challenger.errors:,} of its {requests:,} requests failed (allowed {guards.errors:.1%})"
    if challenger.invalid_outputs:
        return f"invalid outputs: {challenger.invalid_outputs:,} answers are no finite numbers"
    varied = champion is None or champion.distinct_outputs > 1 or champion.rows < guards.rows
    if challenger.rows >= guards.rows and challenger.distinct_outputs == 1 and varied:
        return f"constant outputs: the same answer to all {challenger.rows:,} rows"
    p99 = challenger.latency_p99 / 1000
    slow = (
        champion is not None
        and champion.latency_p99 > 0
        and challenger.latency_p99 > guards.latency * champion.latency_p99
    )
    if challenger.rows >= guards.rows and p99 > guards.latency_floor_ms and slow:
        assert champion is not None
        return f"latency: p99 {p99:.1f} ms against the champion's {champion.latency_p99 / 1000:.1f} ms"
    return None


def _figures(champion: VariantTraffic | None, challenger: VariantTraffic | None) -> dict[str, Any]:
    return {
        name: {
            "requests": side.requests,
            "rows": side.rows,
            "errors": side.errors,
            "labelled": side.labelled,
            "p99_ms": round(side.latency_p99 / 1000, 3),
        }
        for name, side in (("champion", champion), ("challenger", challenger))
        if side is not None
    }


def _name(plan: Plan, place: int) -> str:
    stage = plan.stages[place]
    return "shadow" if stage.kind == "shadow" else f"canary {stage.percent} %"


def _held(challenger: VariantTraffic | None) -> str:
    assert challenger is not None  # a stage ends only with rows
    return f"{challenger.rows:,} rows, {challenger.errors:,} errors, p99 {challenger.latency_p99 / 1000:.1f} ms"

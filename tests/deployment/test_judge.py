"""What a rollout does next, case by case."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.deployment.judge import FEWEST_LABELS, decide
from loopline.deployment.records import Comparison, Guards, Plan, Rollout, Stage
from loopline.outcomes.records import VariantTraffic

SHADOW, CANARY = Stage(kind="shadow", rows=200), Stage(kind="canary", percent=20, rows=100, seconds=60, labels=50)
PLAN = Plan(stages=(SHADOW, CANARY))
START = 1_000_000


def rollout(stage: int = 0, plan: Plan = PLAN) -> Rollout:
    return Rollout(
        ref="rollout:r", id="r", endpoint="risk", champion="model:risk@1", challenger="model:risk@2", plan=plan,
        status="running", stage=stage, stage_since=START, started=START, ended=None, reason="", steps=(),
    )  # fmt: skip


def traffic(**given: Any) -> VariantTraffic:
    base = VariantTraffic(
        model="model:risk@2", requests=1000, rows=1000, errors=0, labelled=1000, latency_p50=500.0, latency_p99=2000.0,
        distinct_outputs=900, invalid_outputs=0,
    )  # fmt: skip
    return msgspec.structs.replace(base, **given)


def never() -> Comparison | None:
    raise AssertionError("no comparison was called for")


def compared(value: float, half: float = 0.005) -> Comparison:
    return Comparison(metric="roc_auc", value=value, low=value - half, high=value + half, rows=1000)


@pytest.mark.parametrize(
    ("challenger", "champion", "why"),
    [
        # Errors: more than the allowed share, and more than the champion has by that share.
        ({"errors": 11}, {}, "errors: 11 of its 1,000"),
        ({"errors": 10}, {}, None),
        ({"errors": 30}, {"errors": 25}, None),
        ({"errors": 40}, {"errors": 25}, "errors"),
        ({"requests": 19, "rows": 300, "errors": 19}, {}, None),
        ({"requests": 20, "rows": 0, "errors": 20, "distinct_outputs": 0}, {}, "errors: 20 of its 20"),
        # Outputs that are no numbers, ever.
        ({"invalid_outputs": 1}, {}, "invalid outputs: 1"),
        ({"rows": 1, "requests": 1, "invalid_outputs": 1}, {}, "invalid outputs"),
        # The same answer to all, once enough rows came, and unless the champion does so too.
        ({"distinct_outputs": 1}, {}, "constant outputs: the same answer to all 1,000"),
        ({"distinct_outputs": 1, "rows": 99}, {}, None),
        ({"distinct_outputs": 1, "rows": 100}, {}, "constant"),
        ({"distinct_outputs": 1}, {"distinct_outputs": 1}, None),
        ({"distinct_outputs": 1}, {"distinct_outputs": 1, "rows": 5}, "constant"),
        ({"distinct_outputs": 2}, {}, None),
        # Latency: above the floor and several times the champion's.
        ({"latency_p99": 6100.0}, {}, "latency: p99 6.1 ms against the champion's 2.0 ms"),
        ({"latency_p99": 5900.0}, {}, None),
        ({"latency_p99": 4900.0}, {"latency_p99": 100.0}, None),
        ({"latency_p99": 9000.0, "rows": 99}, {}, None),
    ],
)
@pytest.mark.parametrize("stage", [0, 1])
def test_hard_guards_at_every_stage(
    stage: int, challenger: dict[str, Any], champion: dict[str, Any], why: str | None
) -> None:
    decision, reason, measured = decide(
        rollout(stage), START, traffic(**champion), traffic(**challenger), lambda: compared(0.1)
    )
    assert (decision == "roll_back") == (why is not None), reason
    if why is not None:
        assert why in reason
        assert measured["challenger"]["errors"] == challenger.get("errors", 0)


def test_a_champion_without_traffic_is_no_excuse() -> None:
    assert decide(rollout(), START, None, traffic(distinct_outputs=1), never)[0] == "roll_back"
    assert decide(rollout(), START, None, traffic(errors=500), never)[0] == "roll_back"
    assert decide(rollout(), START, None, traffic(latency_p99=9e6), never)[0] == "advance"  # nothing to compare with


def test_guards_are_those_of_the_plan() -> None:
    plan = msgspec.structs.replace(PLAN, guards=Guards(errors=0.5, latency=10, rows=5000))
    loose = traffic(errors=400, latency_p99=15000.0, distinct_outputs=1)
    assert decide(rollout(plan=plan), START, traffic(), loose, never)[0] == "advance"


@pytest.mark.parametrize(
    ("stage", "after", "challenger", "waits"),
    [
        (0, 0, None, "200 rows"),
        (0, 0, {"rows": 150}, "50 rows"),
        (0, 0, {"rows": 200}, None),
        (1, 30, {}, "30 s"),
        (1, 60, {"rows": 99, "labelled": 20}, "1 rows, 30 labels"),
        (1, 60, {"labelled": 49}, "1 labels"),
    ],
)
def test_a_stage_lasts_until_all_is_reached(
    stage: int, after: int, challenger: dict[str, Any] | None, waits: str | None
) -> None:
    side = None if challenger is None else traffic(**challenger)
    decision, reason, _ = decide(rollout(stage), START + after * 1000, traffic(), side, never)
    assert decision == ("wait" if waits else "advance")
    assert waits is None or waits in reason


def test_a_stage_of_nothing_waits_for_a_first_row() -> None:
    plan = Plan(stages=(Stage(kind="shadow"), CANARY))
    decision, reason, _ = decide(rollout(plan=plan), START, traffic(), None, never)
    assert (decision, "a first row" in reason) == ("wait", True)


@pytest.mark.parametrize(
    ("value", "half", "margin", "decision"),
    [
        (0.02, 0.005, 0.01, "promote"),
        (0.0, 0.009, 0.01, "promote"),
        (0.0, 0.011, 0.01, "keep"),  # no difference seen is not "not worse"
        (-0.02, 0.005, 0.01, "keep"),
        (-0.02, 0.005, 0.03, "promote"),
        (0.1, 0.2, 0.01, "keep"),
    ],
)
def test_the_comparison_decides_at_the_end(value: float, half: float, margin: float, decision: str) -> None:
    plan = msgspec.structs.replace(PLAN, margin=margin)
    found, reason, measured = decide(
        rollout(1, plan), START + 60_000, traffic(), traffic(), lambda: compared(value, half)
    )
    assert found == decision
    assert measured["comparison"]["value"] == value
    assert f"{value:+.4f}" in reason


def test_without_enough_labels_the_last_stage_waits() -> None:
    plan = Plan(stages=(Stage(kind="canary", percent=50, rows=10),))
    few = traffic(labelled=FEWEST_LABELS // 2 - 1)
    decision, reason, _ = decide(rollout(plan=plan), START, few, few, never)
    assert decision == "wait"
    assert f"{2 * few.labelled} of {FEWEST_LABELS}" in reason
    enough = traffic(labelled=FEWEST_LABELS)
    assert decide(rollout(plan=plan), START, enough, enough, lambda: None)[0] == "wait"


counts = st.integers(0, 5000)
sides = st.none() | st.builds(
    traffic, requests=counts, rows=counts, errors=counts, labelled=counts, distinct_outputs=counts,
    invalid_outputs=st.sampled_from([0, 0, 0, 1]), latency_p99=st.floats(0, 1e7),
)  # fmt: skip


@given(
    champion=sides,
    challenger=sides,
    stage=st.integers(0, 1),
    after=st.integers(0, 200),
    value=st.none() | st.floats(-0.5, 0.5),
)
def test_whatever_the_figures_it_decides_soberly(
    champion: VariantTraffic | None,
    challenger: VariantTraffic | None,
    stage: int,
    after: int,
    value: float | None,
) -> None:
    decision, reason, measured = decide(
        rollout(stage),
        START + after * 1000,
        champion,
        challenger,
        lambda: None if value is None else compared(value),
    )
    assert reason
    msgspec.json.encode(measured)
    if challenger is None or (challenger.rows == 0 and not challenger.errors and not challenger.invalid_outputs):
        assert decision == "wait"
    if challenger is not None and challenger.invalid_outputs:
        assert decision == "roll_back"
    if decision in ("promote", "keep"):
        assert stage == 1
        assert value is not None
        assert after >= 60
        assert (decision == "promote") == (value - 0.005 >= -0.01)
    if decision == "advance":
        assert stage == 0

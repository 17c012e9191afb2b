"""Gates: which end of the interval decides, what is missing, and what cannot be declared."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.evaluation.catalogue import FAIRNESS, METRICS
from loopline.evaluation.gates import Gate, canonical, decision, digest, from_json, gate, judge, judge_all
from loopline.evaluation.records import Difference, Evidence, Fairness, GroupRates, Metric


def evidence(**changes: Any) -> Evidence:
    metrics = (
        Metric(name="roc_auc", value=0.64, low=0.63, high=0.65, n=9_000),
        Metric(name="brier", value=0.20, low=0.19, high=0.21, n=9_000),
    )
    found = Evidence(
        model="model:a@2",
        dataset="data:v@1",
        window="test",
        task="binary",
        n=9_000,
        metrics=metrics,
        latency_p99_ms=4.0,
    )
    return msgspec.structs.replace(found, **changes)


def difference(metric: str, low: float, value: float, high: float, opponent: str = "@champion") -> Difference:
    return Difference(metric=metric, a=0.6 + value, b=0.6, value=value, low=low, high=high, n=9_000, opponent=opponent)


def fairness(low: float, value: float, high: float, too_few: tuple[str, ...] = (), groups: int = 3) -> Fairness:
    rates = tuple(
        GroupRates(group=g, n=500, positives=99, selection_rate=0.4, true_positive_rate=0.5, false_positive_rate=0.3)
        for g in ("a", "b", "c")[:groups]
    )
    return Fairness(
        column="race",
        metric="equal_opportunity_difference",
        value=value,
        low=low,
        high=high,
        groups=rates,
        too_few=too_few,
        least=50,
        between=("a", "b"),
    )


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        (gate.at_least("roc_auc", 0.62), "pass"),
        (gate.at_least("roc_auc", 0.63), "pass"),
        (gate.at_least("roc_auc", 0.64), "fail"),
        (gate.at_most("brier", 0.21), "pass"),
        (gate.at_most("brier", 0.20), "fail"),
        (gate.latency(p99="4ms"), "pass"),
        (gate.latency(p99="3999us"), "fail"),
    ],
)
def test_the_end_that_speaks_against_the_model_decides(rule: Gate, outcome: str) -> None:
    assert judge(rule, evidence()).outcome == outcome


@pytest.mark.parametrize(
    ("metric", "low", "value", "high", "beats", "not_worse"),
    [
        ("roc_auc", 0.001, 0.010, 0.020, "pass", "pass"),
        ("roc_auc", -0.009, 0.001, 0.011, "fail", "pass"),
        ("roc_auc", -0.020, 0.000, 0.020, "fail", "fail"),  # no difference seen is not "not worse"
        ("roc_auc", -0.040, -0.030, -0.020, "fail", "fail"),
        ("brier", -0.020, -0.010, -0.001, "pass", "pass"),  # less loss is better
        ("brier", -0.011, -0.001, 0.009, "fail", "pass"),
        ("brier", -0.020, 0.000, 0.020, "fail", "fail"),
        ("brier", 0.020, 0.030, 0.040, "fail", "fail"),
    ],
)
def test_comparisons_follow_the_direction_of_the_metric(
    metric: str, low: float, value: float, high: float, beats: str, not_worse: str
) -> None:
    seen = evidence(differences=(difference(metric, low, value, high),))
    assert judge(gate.beats("@champion", metric), seen).outcome == beats
    assert judge(gate.not_worse_than("@champion", metric, margin=0.01), seen).outcome == not_worse


def test_no_champion_yet_passes_and_no_baseline_fails() -> None:
    assert judge(gate.not_worse_than("@champion", "roc_auc", margin=0.01), evidence()).reason == "no champion yet"
    assert judge(gate.not_worse_than("@champion", "roc_auc"), evidence()).outcome == "pass"
    missing = judge(gate.beats("baseline", "roc_auc"), evidence())
    assert missing.outcome == "fail"
    assert "no baseline" in missing.reason


def test_a_champion_that_was_not_measured_is_no_missing_champion() -> None:
    rule = gate.not_worse_than("@champion", "roc_auc")
    assert judge(rule, evidence(opponents=("@champion",))).outcome == "fail"
    other = evidence(differences=(difference("brier", -0.1, -0.1, -0.1),))
    assert judge(rule, other).outcome == "fail"


@pytest.mark.parametrize(
    "rule",
    [gate.at_least("f1", 0.1), gate.at_most("rmse", 3), gate.fair("sex", "equalized_odds_difference", at_most=0.1)],
)
def test_what_was_not_measured_fails(rule: Gate) -> None:
    verdict = judge(rule, evidence())
    assert verdict.outcome == "fail"
    assert "not measured" in verdict.reason
    assert judge(gate.latency(p99="5ms"), evidence(latency_p99_ms=None)).outcome == "fail"


@pytest.mark.parametrize("effect", ["ask", "pass", "fail"])
@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (fairness(0.01, 0.05, 0.09), "pass"),
        (fairness(0.12, 0.20, 0.30), "fail"),
        (fairness(0.12, 0.20, 0.30, too_few=("c",)), "fail"),
        (fairness(0.01, 0.05, 0.11), None),
        (fairness(0.01, 0.05, 0.09, too_few=("c",)), None),
        (fairness(0.0, 0.0, 1.0, too_few=("a", "b", "c")), None),
        (fairness(0.0, 0.0, 1.0, groups=1), None),
    ],
)
def test_too_few_rows_to_tell_has_the_declared_effect(effect: Any, found: Fairness, outcome: str | None) -> None:
    rule = gate.fair("race", "equal_opportunity_difference", at_most=0.10, too_few=effect)
    verdict = judge(rule, evidence(fairness=(found,)))
    assert verdict.outcome == (outcome or effect)
    assert ("too few rows to tell" in verdict.reason) == (outcome is None)


@pytest.mark.parametrize(
    ("build", "code", "hint"),
    [
        (lambda: gate.at_least("roc_auk", 0.6), "unknown-metric", "'roc_auc'"),
        (lambda: gate.fair("race", "equal_oportunity_difference", at_most=0.1), "unknown-fairness-metric", "equal_opp"),
        (lambda: gate.beats("@chamption", "roc_auc"), "unknown-opponent", "@champion"),
        (lambda: gate.at_least("roc_auc", 1.2), "bad-threshold", "between 0 and 1"),
        (lambda: gate.at_least("roc_auc", math.nan), "bad-threshold", "between 0 and 1"),
        (lambda: gate.at_least("r2", 1.2), "bad-threshold", "1 or less"),
        (lambda: gate.at_most("rmse", math.inf), "bad-threshold", "0 or more"),
        (lambda: gate.at_least("brier", 0.2), "wrong-way-gate", "gate.at_most"),
        (lambda: gate.at_most("f1", 0.2), "wrong-way-gate", "gate.at_least"),
        (lambda: gate.not_worse_than("@champion", "roc_auc", margin=-0.1), "bad-threshold", "0 or more"),
        (lambda: gate.fair("race", "equalized_odds_difference", at_most=1.1), "bad-threshold", "between"),
        (lambda: gate.fair("race", "equalized_odds_difference", at_most=0.1, too_few="asc"), "unknown-effect", "ask"),
        (lambda: gate.latency(p99="5 minutes"), "bad-threshold", "5ms"),
        (lambda: gate.latency(p99="0ms"), "bad-threshold", "5ms"),
        (lambda: from_json(b'[{"gate":"at_leest"}]'), "bad-gates", "canonical"),
        (lambda: from_json(b'[{"gate":"at_least","metric":"nope","threshold":0.5}]'), "unknown-metric", ""),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_declared(build: Any, code: str, hint: str) -> None:
    with pytest.raises(Invalid) as caught:
        build()
    assert caught.value.code == code
    assert hint in caught.value.hint


HIGHER = sorted(name for name, kind in METRICS.items() if kind.higher_is_better and kind.low == 0)
GATES = st.one_of(
    st.builds(gate.at_least, st.sampled_from(HIGHER), st.floats(0, 1)),
    st.builds(gate.at_most, st.sampled_from(["rmse", "log_loss"]), st.floats(0, 1e9)),
    st.builds(gate.beats, st.sampled_from(["baseline", "@champion"]), st.sampled_from(sorted(METRICS))),
    st.builds(gate.not_worse_than, st.just("@champion"), st.sampled_from(HIGHER), margin=st.floats(0, 1)),
    st.builds(gate.fair, st.text(max_size=9), st.sampled_from(sorted(FAIRNESS)), at_most=st.floats(0, 1)),
    st.builds(lambda ms: gate.latency(p99=f"{ms}us"), st.integers(1, 10**7)),
)


@given(st.lists(GATES, max_size=6))
def test_gates_come_back_from_their_canonical_json(gates: list[Gate]) -> None:
    text = canonical(gates)
    assert from_json(text) == tuple(gates)
    assert canonical(from_json(text)) == text
    assert digest(gates) == digest(from_json(text))


def test_one_changed_threshold_changes_the_digest() -> None:
    assert digest([gate.at_least("roc_auc", 0.62)]) != digest([gate.at_least("roc_auc", 0.61)])


def test_a_failing_gate_outweighs_one_that_asks() -> None:
    ask = gate.fair("race", "equal_opportunity_difference", at_most=0.06)
    seen = evidence(fairness=(fairness(0.01, 0.05, 0.09),))
    good, bad = gate.at_least("roc_auc", 0.6), gate.at_least("roc_auc", 0.7)
    assert decision(judge_all([good, ask, bad], seen)) == "fail"
    assert decision(judge_all([good, ask], seen)) == "ask"
    assert decision(judge_all([good], seen)) == "pass"
    assert [v.gate for v in judge_all([good], seen)] == ["roc_auc at least 0.6"]


def test_declaring_gates_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, loopline.evaluation.gates, loopline.evaluation.records\n"
        "print([m for m in ('numpy', 'polars', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

"""Gates: pure rules on evidence, declared before the evidence is there.

A gate looks at the end of the interval that speaks against the model, never at the point alone: "not seen to be
worse" is no proof of "not worse". Which end that is follows from the catalogue's direction of the metric.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from loopline.errors import Invalid
from loopline.evaluation.catalogue import FAIRNESS, kind, known
from loopline.evaluation.records import Difference, Evidence, Fairness, Metric, Verdict
from loopline.hashing import canonical_json, digest_json

OPPONENTS = ("baseline", "@champion")
EFFECTS = ("ask", "pass", "fail")
Measured = dict[str, float | str | None]


class AtLeast(msgspec.Struct, frozen=True, kw_only=True, tag="at_least", tag_field="gate"):
    """The metric's lower bound is at or above the threshold (metrics where more is better)."""

    metric: str
    threshold: float

    def __post_init__(self) -> None:
        if not kind(self.metric).higher_is_better:
            _wrong_way(self.metric, "lower", "at_most", self.threshold)
        _within(self.metric, self.threshold)

    def __str__(self) -> str:
        return f"{self.metric} at least {self.threshold:g}"


class AtMost(msgspec.Struct, frozen=True, kw_only=True, tag="at_most", tag_field="gate"):
    """The metric's upper bound is at or below the threshold (metrics where less is better)."""

    metric: str
    threshold: float

    def __post_init__(self) -> None:
        if kind(self.metric).higher_is_better:
            _wrong_way(self.metric, "higher", "at_least", self.threshold)
        _within(self.metric, self.threshold)

    def __str__(self) -> str:
        return f"{self.metric} at most {self.threshold:g}"


class Beats(msgspec.Struct, frozen=True, kw_only=True, tag="beats", tag_field="gate"):
    """The whole interval of the paired difference lies on the better side of zero."""

    opponent: str
    metric: str

    def __post_init__(self) -> None:
        known(self.opponent, OPPONENTS, "opponent")
        kind(self.metric)

    def __str__(self) -> str:
        return f"{self.metric} beats {self.opponent}"


class NotWorseThan(msgspec.Struct, frozen=True, kw_only=True, tag="not_worse_than", tag_field="gate"):
    """The whole interval of the paired difference lies above a loss of `margin` (in the metric's units)."""

    opponent: str
    metric: str
    margin: float = 0.0

    def __post_init__(self) -> None:
        known(self.opponent, OPPONENTS, "opponent")
        kind(self.metric)
        _number(self.margin, "A margin", low=0.0, high=math.inf)

    def __str__(self) -> str:
        return f"{self.metric} not worse than {self.opponent} by more than {self.margin:g}"


class Fair(msgspec.Struct, frozen=True, kw_only=True, tag="fair", tag_field="gate"):
    """The upper bound of a fairness difference is at or below `at_most`.

    Above it as a whole: fail. An interval that straddles it, or a group too small to be compared, is too few rows to
    tell, and `too_few` says what then: "ask" a person, "pass" or "fail".
    """

    column: str
    metric: str
    at_most: float
    too_few: Literal["ask", "pass", "fail"] = "ask"

    def __post_init__(self) -> None:
        known(self.metric, FAIRNESS, "fairness metric")
        known(self.too_few, EFFECTS, "effect")
        _number(self.at_most, "A fairness difference", low=0.0, high=1.0)

    def __str__(self) -> str:
        return f"{self.metric} over {self.column} at most {self.at_most:g}"


class Latency(msgspec.Struct, frozen=True, kw_only=True, tag="latency", tag_field="gate"):
    """99 of 100 single predictions take at most so many milliseconds."""

    p99_ms: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.p99_ms) and self.p99_ms > 0):
            raise Invalid(f"A latency of {self.p99_ms} ms is none.", code="bad-threshold", hint='Say p99="5ms".')

    def __str__(self) -> str:
        return f"p99 latency at most {self.p99_ms:g} ms"


Gate = AtLeast | AtMost | Beats | NotWorseThan | Fair | Latency


class gate:
    """Builds gates: `gate.at_least("roc_auc", 0.62)`. All raise Invalid on an unknown name or a bad number."""

    @staticmethod
    def at_least(metric: str, threshold: float) -> AtLeast:
        """The metric's lower bound is at or above the threshold."""
        return AtLeast(metric=metric, threshold=threshold)

    @staticmethod
    def at_most(metric: str, threshold: float) -> AtMost:
        """The metric's upper bound is at or below the threshold (losses)."""
        return AtMost(metric=metric, threshold=threshold)

    @staticmethod
    def beats(opponent: str, metric: str) -> Beats:
        """Better than the opponent ("baseline" or "@champion") beyond doubt, paired on the same rows."""
        return Beats(opponent=opponent, metric=metric)

    @staticmethod
    def not_worse_than(opponent: str, metric: str, *, margin: float = 0.0) -> NotWorseThan:
        """Not worse than the opponent by more than the margin, beyond doubt, paired on the same rows."""
        return NotWorseThan(opponent=opponent, metric=metric, margin=margin)

    @staticmethod
    def fair(column: str, metric: str, *, at_most: float, too_few: Literal["ask", "pass", "fail"] = "ask") -> Fair:
        """The fairness difference over the column's groups is at most so large; `too_few` rows to tell: what then."""
        return Fair(column=column, metric=metric, at_most=at_most, too_few=too_few)

    @staticmethod
    def latency(*, p99: str) -> Latency:
        """99 of 100 single predictions within a time such as "5ms", "800us" or "1.5s"."""
        return Latency(p99_ms=_milliseconds(p99))


def judge(gate: Gate, evidence: Evidence) -> Verdict:
    """The gate's verdict on the evidence, with the reason. Pure: the same two give the same verdict for ever."""
    match gate:
        case AtLeast() | AtMost():
            return _judge_bound(gate, evidence)
        case Beats() | NotWorseThan():
            return _judge_difference(gate, evidence)
        case Fair():
            return _judge_fair(gate, evidence)
        case Latency():
            return _judge_latency(gate, evidence)


def judge_all(gates: Sequence[Gate], evidence: Evidence) -> tuple[Verdict, ...]:
    """One verdict for each gate, in order."""
    return tuple(judge(one, evidence) for one in gates)


def decision(verdicts: Sequence[Verdict]) -> str:
    """ "fail" if any gate fails, else "ask" if any asks, else "pass"."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return next((outcome for outcome in ("fail", "ask") if outcome in outcomes), "pass")


def canonical(gates: Sequence[Gate]) -> bytes:
    """The one JSON text of a list of gates (RFC 8785), as it is put before the evidence."""
    return canonical_json(tuple(gates))


def digest(gates: Sequence[Gate]) -> str:
    """The digest of the canonical JSON, for the ledger: thresholds are on it before the evidence."""
    return digest_json(tuple(gates))


def from_json(text: bytes) -> tuple[Gate, ...]:
    """The gates again from their JSON. Raises Invalid (`bad-gates`) on what is no list of gates."""
    try:
        return msgspec.json.decode(text, type=tuple[Gate, ...])
    except msgspec.MsgspecError as error:
        raise Invalid(
            f"These are no gates: {error}.", code="bad-gates", hint="Give the JSON that canonical() writes."
        ) from error


def _judge_bound(rule: AtLeast | AtMost, evidence: Evidence) -> Verdict:
    metric = next((m for m in evidence.metrics if m.name == rule.metric), None)
    if metric is None:
        return _unmeasured(rule, rule.metric, evidence)
    if isinstance(rule, AtLeast):
        good, side, end = metric.low >= rule.threshold, "lower", metric.low
        point = metric.value >= rule.threshold
    else:
        good, side, end = metric.high <= rule.threshold, "upper", metric.high
        point = metric.value <= rule.threshold
    reason = (
        f"{rule.metric} is {_with_interval(metric)}; its {side} bound {end:.4g} "
        f"{'meets' if good else 'misses'} {rule.threshold:g}"
    )
    if point and not good:
        reason += f"; the point alone would meet it, but {metric.n:,} rows do not prove it"
    measured: Measured = {"value": metric.value, "low": metric.low, "high": metric.high, "threshold": rule.threshold}
    return _verdict(rule, "pass" if good else "fail", reason, measured)


def _judge_difference(rule: Beats | NotWorseThan, evidence: Evidence) -> Verdict:
    against = [d for d in evidence.differences if d.opponent == rule.opponent]
    if not against and rule.opponent not in evidence.opponents:
        if rule.opponent == "@champion":
            return _verdict(rule, "pass", "no champion yet", {})
        return _verdict(
            rule, "fail", f"there is no {rule.opponent} to compare with: none was scored on this window", {}
        )
    found = next((d for d in against if d.metric == rule.metric), None)
    if found is None:
        return _unmeasured(rule, f"the difference of {rule.metric} to {rule.opponent}", evidence)
    higher = kind(rule.metric).higher_is_better
    # The gain: positive is better, whichever way the metric points.
    worst, best, gain = (found.low, found.high, found.value) if higher else (-found.high, -found.low, -found.value)
    shown = f"{rule.metric} is {found.a:.4g} against {found.b:.4g}, a gain of {_range(gain, worst, best)}"
    if isinstance(rule, Beats):
        good = worst > 0
        reason = f"{shown}; " + ("better beyond doubt" if good else _not_better(best))
    else:
        good = worst >= -rule.margin
        reason = f"{shown}; " + (
            f"a loss of more than {rule.margin:g} is ruled out"
            if good
            else f"a loss of {-worst:.4g} is not ruled out, and {rule.margin:g} is allowed"
        )
    return _verdict(rule, "pass" if good else "fail", reason, _difference_measured(found))


def _judge_fair(rule: Fair, evidence: Evidence) -> Verdict:
    found = next((f for f in evidence.fairness if f.column == rule.column and f.metric == rule.metric), None)
    if found is None:
        return _unmeasured(rule, f"{rule.metric} over {rule.column}", evidence)
    measured = _fair_measured(found, rule.at_most)
    shown = f"{rule.metric} over {rule.column} is {_range(found.value, found.low, found.high)}"
    if found.low > rule.at_most:
        pair = " and ".join(found.between)
        return _verdict(rule, "fail", f"{shown}: above {rule.at_most:g} beyond doubt, between {pair}", measured)
    doubts = []
    if len(found.groups) - len(found.too_few) < 2:
        shown = f"{rule.metric} over {rule.column} could not be compared"
        doubts.append("fewer than two groups are large enough")
    elif found.high > rule.at_most:
        doubts.append(f"the interval reaches beyond {rule.at_most:g}")
    if found.too_few:
        doubts.append(f"under {found.least} rows that count in {', '.join(found.too_few)}")
    if doubts:
        return _verdict(rule, rule.too_few, f"{shown}: too few rows to tell ({'; '.join(doubts)})", measured)
    return _verdict(rule, "pass", f"{shown}: at most {rule.at_most:g} beyond doubt", measured)


def _judge_latency(rule: Latency, evidence: Evidence) -> Verdict:
    seen = evidence.latency_p99_ms
    if seen is None:
        return _unmeasured(rule, "latency", evidence)
    good = seen <= rule.p99_ms
    reason = f"p99 of a single prediction is {seen:.3g} ms, {'within' if good else 'over'} {rule.p99_ms:g} ms"
    return _verdict(rule, "pass" if good else "fail", reason, {"p99_ms": seen, "threshold": rule.p99_ms})


def _unmeasured(rule: Gate, what: str, evidence: Evidence) -> Verdict:
    reason = (
        f"{what} was not measured for this {evidence.task} model on {evidence.window}: what is not shown is not met"
    )
    return _verdict(rule, "fail", reason, {})


def _verdict(rule: Gate, outcome: str, reason: str, measured: Measured) -> Verdict:
    return Verdict(gate=str(rule), outcome=outcome, reason=reason, measured=measured)


def _difference_measured(found: Difference) -> Measured:
    return {"a": found.a, "b": found.b, "value": found.value, "low": found.low, "high": found.high}


def _fair_measured(found: Fairness, at_most: float) -> Measured:
    return {"value": found.value, "low": found.low, "high": found.high, "at_most": at_most}


def _not_better(best: float) -> str:
    return "worse beyond doubt" if best < 0 else "no difference beyond doubt"


def _with_interval(metric: Metric) -> str:
    return _range(metric.value, metric.low, metric.high)


def _range(value: float, low: float, high: float) -> str:
    return f"{value:.4g} ({low:.4g} to {high:.4g})"


def _wrong_way(metric: str, better: str, other: str, threshold: float) -> None:
    raise Invalid(
        f"{metric} is better when {better}.",
        code="wrong-way-gate",
        hint=f"Say gate.{other}({metric!r}, {threshold:g}).",
    )


def _within(metric: str, threshold: float) -> None:
    ends = kind(metric)
    _number(threshold, f"A threshold of {metric}", low=ends.low, high=ends.high)


def _number(value: float, what: str, *, low: float, high: float) -> None:
    if math.isfinite(value) and low <= value <= high:
        return
    ends = f"of {low:g} or more" if math.isinf(high) else f"of {high:g} or less"
    if math.isfinite(low) and math.isfinite(high):
        ends = f"between {low:g} and {high:g}"
    raise Invalid(f"{what} cannot be {value:g}.", code="bad-threshold", hint=f"Give a number {ends}.")


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s)\s*", text) if isinstance(text, str) else None
    if match is None:
        raise Invalid(f"{text!r} is no latency.", code="bad-threshold", hint='Say for example p99="5ms" (us, ms or s).')
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[match[2]]

"""The evidence about a model version, the data of its plots, and the verdicts on it."""

from __future__ import annotations

from typing import Any

import msgspec


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A metric over n rows with its interval; `method` names how the interval came about."""

    name: str
    value: float
    low: float
    high: float
    n: int
    method: str = ""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of the rows where `column` is in `group`; `note` says why a group tells little or nothing."""

    column: str
    group: str
    n: int
    metrics: tuple[Metric, ...]
    positives: int | None = None
    note: str = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A paired difference on the same n rows: `value` = a minus b, where a and b are the metric of either side.

    `opponent` names side b ("baseline" or "@champion").
    """

    metric: str
    a: float
    b: float
    value: float
    low: float
    high: float
    n: int
    opponent: str = ""
    method: str = ""


class GroupRates(msgspec.Struct, frozen=True, kw_only=True):
    """The rates of one group of a protected column; a rate is None where no row could show it."""

    group: str
    n: int
    positives: int
    selection_rate: float | None
    true_positive_rate: float | None
    false_positive_rate: float | None


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """The largest difference between two groups of a protected column, with its interval.

    `too_few` lists the groups left out because they hold fewer than `least` rows that count. `noise` is the value
    that equal groups of these sizes would show on average: the largest of noisy differences is never zero. With
    fewer than two groups nothing was compared: the interval is 0 to 1.
    """

    column: str
    metric: str
    value: float
    low: float
    high: float
    groups: tuple[GroupRates, ...]
    too_few: tuple[str, ...]
    least: int = 0
    noise: float = 0.0
    between: tuple[str, ...] = ()


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Points of a curve, thinned for drawing; `area` is that of all points."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    area: float


class CalibrationBin(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of like prediction: their mean prediction, and the share that was positive with Wilson's interval."""

    predicted: float
    observed: float
    low: float
    high: float
    n: int


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """Rows counted by true class (outer) and predicted class (inner), both in the order of `classes`."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Rows counted in cells: `counts[i][j]` lies between `x[i]`, `x[i+1]` and `y[j]`, `y[j+1]`."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """What the plots are drawn from; no row is in it, only counts and thinned curves.

    `agreement` counts rows by predicted (x) and actual (y) value, `residuals` by predicted value (x) and actual
    minus predicted (y).
    """

    roc: Curve | None = None
    precision_recall: Curve | None = None
    positive_share: float | None = None
    calibration: tuple[CalibrationBin, ...] = ()
    confusion: Confusion | None = None
    agreement: Grid | None = None
    residuals: Grid | None = None


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured of one prediction against the truth; `confidence` is that of all its intervals."""

    task: str
    n: int
    metrics: tuple[Metric, ...]
    slices: tuple[Slice, ...]
    fairness: tuple[Fairness, ...]
    curves: Curves
    confidence: float
    looks: int
    threshold: float | None = None


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that gates may look at: one model version on one sealed window.

    `opponents` are those that exist and were scored on the same rows ("baseline", "@champion"); `looks` is the
    number of this look at the window, counted from 1, and `confidence` the one its intervals were widened to.
    """

    model: str
    dataset: str
    window: str
    task: str
    n: int
    metrics: tuple[Metric, ...]
    slices: tuple[Slice, ...] = ()
    fairness: tuple[Fairness, ...] = ()
    differences: tuple[Difference, ...] = ()
    opponents: tuple[str, ...] = ()
    latency_p99_ms: float | None = None
    looks: int = 1
    confidence: float = 0.95
    threshold: float | None = None
    curves: Curves = Curves()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate says of the evidence: `outcome` is "pass", "fail" or "ask" (a person decides), with the reason."""

    gate: str
    outcome: str
    reason: str
    measured: dict[str, float | str | None]


class GateSet(msgspec.Struct, frozen=True, kw_only=True):
    """Gates as declared: their canonical digest, and when they were first put on record (milliseconds since 1970 UTC)."""

    digest: str
    gates: tuple[dict[str, Any], ...]
    at: int
    by: str


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts of a set of gates on one evaluation, and what they come to: "pass", "fail" or "ask"."""

    evaluation: str
    gates: str
    outcome: str
    verdicts: tuple[Verdict, ...]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation on record: its evidence with the digest of its document, the plots it drew, and the verdicts on it."""

    id: str
    ref: str
    evidence: Evidence
    digest: str
    plots: tuple[str, ...]
    at: int
    by: str
    judgement: Judgement | None = None

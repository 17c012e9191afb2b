"""What a comparison of runs finds, part by part; `result.Comparison` is the whole."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from loopline.tracking.records import Real, RunStatus

Aspect = Literal["run", "params", "tags", "inputs", "outputs", "code", "packages", "environment"]
"""What of runs is compared besides their metrics."""

Finding = Literal["higher", "lower", "not told apart", "not known"]
"""What the values of a run say beside those of the first: 95 % sure that they are higher or lower, or no more than chance may
be, or nothing, since there is but one value of one of them."""


class ComparedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One of the runs. `repeats`: the other runs that are the same but for their seeds; `folds`: its child runs that are folds."""

    id: str
    ref: str
    name: str
    status: RunStatus
    created: int
    repeats: int = 0
    folds: int = 0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that runs can have: what each of them has (None: it has it not), and whether that is the same everywhere."""

    of: Aspect
    key: str
    values: tuple[Any, ...]
    same: bool


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of one run in short: its last value (by step, then time), the least and the greatest, and the last step."""

    last: Real
    low: Real
    high: Real
    step: int


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of a run beside the first one's: how much higher its last value is, and what is known of chance.

    `mean` is the difference of the means of the repeats or folds, from `low` to `high` with the stated `confidence`, each value
    None where that is not known; `n` and `m` are how many values the first run and this one have; `method` is the test and
    `basis` says of what it is, or why there is none.
    """

    value: Real | None
    finding: Finding
    basis: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    p_value: float | None = None
    n: int = 1
    m: int = 1
    method: str = ""


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: what each run says (None: it has none), and each one's delta to the first (None for that one itself).

    `folds`: the mean of what each run's folds say last (None: none of them says it), also where the run itself says nothing.
    """

    key: str
    values: tuple[Summary | None, ...]
    deltas: tuple[Delta | None, ...]
    same: bool
    folds: tuple[float | None, ...] = ()

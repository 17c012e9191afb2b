"""The words of a loop's file: `source`, `split`, `step`, `rollout`, `monitor`, `retrain` and `Loop`.

One readable Python file declares a loop; what it declares is checked as it is declared, so that a mistake is said with the line
that made it and before anything runs.
"""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args, overload

import msgspec

from loopline.data.records import By, Leak
from loopline.deployment.records import Guards, Plan, Stage
from loopline.durations import milliseconds
from loopline.errors import Invalid, did_you_mean
from loopline.features.records import Task
from loopline.monitoring.records import FEWEST_ROWS
from loopline.refs import check_name
from loopline.training.records import Tune

if TYPE_CHECKING:
    from loopline.evaluation.gates import Gate
    from loopline.quality.cleaning_steps import Step as CleaningStep
    from loopline.quality.contract import Contract
    from loopline.training.model import Model


@dataclass(frozen=True)
class Source:
    """Where a loop's rows come from, and what their columns mean."""

    path: str
    label: str
    time: str | None = None
    group: str | None = None
    protected: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    matures: int = 0
    """Milliseconds from its event until a label can be known."""
    label_time: str | None = None
    task: Task | None = None


def source(
    path: str,
    *,
    label: str,
    time: str | None = None,
    group: str | None = None,
    protected: Sequence[str] = (),
    ignore: Sequence[str] = (),
    matures: str = "0s",
    label_time: str | None = None,
    task: Task | None = None,
) -> Source:
    """A file of rows (CSV, Parquet or NDJSON). `time` orders them, `group` says which belong to one person or thing.

    `protected` are the columns by which fairness and slices are looked at, `ignore` ones that are no features. A label can be
    known `matures` after its event, at the time of the column `label_time` (else of `time`): rows whose label was not known yet
    when they were read are not learned from, and never negatives.
    """
    if task not in (None, "binary", "multiclass", "regression"):
        raise Invalid(
            f"{task!r} is no task.", code="bad-loop", hint=did_you_mean(task, ["binary", "multiclass", "regression"])
        )
    for name, columns in (("protected", protected), ("ignore", ignore)):
        if isinstance(columns, str):
            raise Invalid(f"{name} wants a list of columns.", code="bad-loop", hint=f"Write {name}=[{columns!r}].")
    late = milliseconds(matures, "matures")
    if late and not (label_time or time):
        raise Invalid(
            f"The label {label!r} matures after {matures}, but of what event?",
            code="bad-loop",
            hint='Name the column of its time: label_time="discharged".',
        )
    return Source(path, label, time, group, tuple(protected), tuple(ignore), late, label_time, task)


@dataclass(frozen=True)
class Split:
    """How a loop's rows are split."""

    by: By | None = None
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    embargo: str = ""
    refuse: tuple[Leak, ...] = ()


def split(
    *,
    by: By | None = None,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    embargo: str = "",
    refuse: Sequence[Leak] = (),
) -> Split:
    """Train, validation and test by "time", by whole "group"s, "stratified" by the label's classes, or at "random".

    Left out, it is by the source's time, else its group, else stratified. `embargo`: rows within that span before a later side
    are left out ("7d", or a number for a time that is a number). `refuse` lists the findings for which the loop stops:
    "same-group", "same-row", "near-row", "knows-label"; the others are told.
    """
    if isinstance(refuse, str):
        raise Invalid("refuse wants a list of findings.", code="bad-loop", hint=f"Write refuse=[{refuse!r}].")
    for words, known in (((by,) if by else (), get_args(By)), (tuple(refuse), get_args(Leak))):
        for word in words:
            if word not in known:
                raise Invalid(f"A split knows no {word!r}.", code="bad-loop", hint=did_you_mean(str(word), known))
    return Split(by, fractions, embargo, tuple(refuse))


@dataclass(frozen=True)
class Step:
    """A function that a pipeline runs, with what it asks for. Calling it calls the function."""

    function: Callable[..., Model]
    cpu: int

    def __call__(self, *args: Any, **kwargs: Any) -> Model:
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def code(self) -> str:
        """The digest of its source: a step of changed code is another step."""
        text = textwrap.dedent(inspect.getsource(self.function))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that can be tuned: the keyword-only ones."""
        found = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY)


@overload
def step(function: Callable[..., Model]) -> Step: ...
@overload
def step(*, cpu: int = 1) -> Callable[[Callable[..., Model]], Step]: ...
def step(
    function: Callable[..., Model] | None = None, *, cpu: int = 1
) -> Step | Callable[[Callable[..., Model]], Step]:
    """Makes a function a step of a pipeline. `cpu`: how many cores it asks for."""
    if function is None:
        return lambda decorated: Step(decorated, _cores(decorated, cpu))
    return Step(function, _cores(function, cpu))


def _cores(function: Callable[..., Model], cpu: int) -> int:
    if cpu < 1:
        raise Invalid(f"Step {function.__name__!r} asks for {cpu} cores.", code="bad-loop", hint="At least one.")
    return cpu


@dataclass(frozen=True)
class Rollout:
    """The way of a challenger to all traffic: `rollout.shadow("1h").canary(5, 25, 50)`."""

    stages: tuple[Stage, ...] = ()
    guards: Guards = field(default_factory=Guards)
    metric: str = ""
    margin: float = 0.01

    def shadow(self, lasts: str | None = None, *, rows: int = 0) -> Rollout:
        """A stage in which the challenger scores copies of requests and answers none. It lasts a time, some rows, or both."""
        return self._with("shadow", 0, lasts, rows, 0)

    def canary(self, *percents: int, lasts: str | None = None, rows: int = 0, labels: int = 0) -> Rollout:
        """Stages in which the challenger answers a share of requests; each lasts a time, some rows of its own, some labels."""
        if not percents:
            raise Invalid("A canary needs its shares.", code="bad-loop", hint="Write .canary(5, 25, 50).")
        rising = [*(s.percent for s in self.stages), *percents]
        if any(not 0 < p < 100 for p in percents) or sorted(rising) != rising:
            raise Invalid(
                f"The canary's shares {percents} do not rise from 1 to 99.",
                code="bad-loop",
                hint="Write .canary(5, 25, 50).",
            )
        made = self
        for percent in percents:
            made = made._with("canary", percent, lasts, rows, labels)
        return made

    def guarded(self, *, errors: float = 0.01, latency: float = 3.0) -> Rollout:
        """Other hard guards: the largest share of failing requests, the largest ratio of p99 latencies."""
        return replace(self, guards=Guards(errors=errors, latency=latency))

    def judged(self, metric: str, *, margin: float) -> Rollout:
        """Another metric and margin for the paired comparison on labels that ends the rollout."""
        return replace(self, metric=metric, margin=margin)

    def plan(self) -> Plan:
        """The plan as deployment takes it."""
        return Plan(stages=self.stages, guards=self.guards, metric=self.metric, margin=self.margin)

    def _with(self, kind: Any, percent: int, lasts: str | None, rows: int, labels: int) -> Rollout:
        if lasts is None and not rows and not labels:
            lasts = "1h"
        seconds = milliseconds(lasts, f"the {kind}") / 1000 if lasts else 0.0
        stage = Stage(kind=kind, percent=percent, seconds=seconds, rows=rows, labels=labels)
        return replace(self, stages=(*self.stages, stage))


rollout = Rollout()
"""Where a rollout's declaration begins."""


@dataclass(frozen=True)
class Monitor:
    """What is watched on the loop's endpoint, and how often it may cry wolf."""

    false_alarms: str
    look: int
    rows: int


def monitor(*, false_alarms: str = "1/quarter", look: str = "1h", rows: int = 500) -> Monitor:
    """Drift and quality of what is served. `false_alarms` is a promise; a look waits for `look` and for `rows` rows."""
    from loopline.monitoring.watch import Budget

    every = milliseconds(look, "look")
    Budget.parse(false_alarms, every=every)
    if rows < FEWEST_ROWS:
        raise Invalid(f"A look at {rows} rows tells nothing.", code="bad-loop", hint=f"At least {FEWEST_ROWS} rows.")
    return Monitor(false_alarms, every, rows)


@dataclass(frozen=True)
class Retrain:
    """When the loop starts again by itself."""

    on: tuple[str, ...]
    cool_down: int
    at_least: int


def retrain(*, on: Sequence[str] = ("quality", "drift"), cool_down: str = "7d", at_least: int = 1000) -> Retrain:
    """Start again on an alert of these kinds, at most once per `cool_down`, with `at_least` new labelled rows."""
    if isinstance(on, str):
        on = [on]
    for kind in on:
        if kind not in ("quality", "drift"):
            raise Invalid(
                f"{kind!r} is nothing to retrain on.", code="bad-loop", hint=did_you_mean(kind, ["quality", "drift"])
            )
    return Retrain(tuple(on), milliseconds(cool_down, "cool_down"), at_least)


_watched, _parted = monitor, split  # `Loop` takes arguments of these names


class Loop:
    """The declared lifecycle of one model purpose: data, training, gates, rollout, monitor, retraining."""

    def __init__(
        self,
        name: str,
        *,
        data: Source,
        train: Step,
        contract: Contract | None = None,
        clean: Sequence[CleaningStep] = (),
        split: Split | None = None,
        baseline: Step | None = None,
        tune: Tune | None = None,
        gates: Sequence[Gate] = (),
        rollout: Rollout | None = None,
        monitor: Monitor | None = None,
        retrain: Retrain | None = None,
        purpose: str = "",
    ) -> None:
        self.name = check_name(name, "name of a loop")
        if not isinstance(data, Source):
            raise Invalid(
                "data wants a source.", code="bad-loop", hint='Write data=ll.source("rows.csv", label="...").'
            )
        for what, one in (("train", train), ("baseline", baseline)):
            if one is not None and not isinstance(one, Step):
                raise Invalid(f"{what} wants a step.", code="bad-loop", hint="Put @ll.step above the function.")
        for parameter in tune.space if tune else ():
            if parameter not in train.parameters:
                raise Invalid(
                    f"The tuning varies {parameter!r}, which {train.name}() does not take.",
                    code="bad-loop",
                    hint=did_you_mean(parameter, train.parameters),
                )
        self.data, self.train, self.contract, self.baseline, self.tune = data, train, contract, baseline, tune
        self.gates = tuple(gates)
        self.clean = tuple(clean)
        self.split = split or _parted()
        self.rollout = rollout or Rollout().shadow("1h").canary(5, 25, 50)
        self.monitor = monitor or _watched()
        self.retrain = retrain
        self.purpose = purpose

    def describe(self) -> dict[str, Any]:
        """The declaration as JSON values; its digest says whether two declarations are the same."""
        return {
            "name": self.name,
            "purpose": self.purpose,
            "data": msgspec.to_builtins(self.data),
            "contract": msgspec.to_builtins(self.contract) if self.contract else None,
            "clean": [msgspec.to_builtins(one) for one in self.clean],
            "split": msgspec.to_builtins(self.split),
            "train": {"name": self.train.name, "code": self.train.code, "cpu": self.train.cpu},
            "baseline": {"name": self.baseline.name, "code": self.baseline.code} if self.baseline else None,
            "tune": msgspec.to_builtins(self.tune) if self.tune else None,
            "gates": [msgspec.to_builtins(gate) for gate in self.gates],
            "rollout": msgspec.to_builtins(self.rollout.plan()),
            "monitor": msgspec.to_builtins(self.monitor),
            "retrain": msgspec.to_builtins(self.retrain) if self.retrain else None,
        }

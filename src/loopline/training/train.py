"""The whole of a training on one problem: the constant and the linear baseline, the tuning, the final trees, the thresholds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loopline.training.boosted import binned, fit_boosted
from loopline.training.linear import fit_constant, fit_linear
from loopline.training.model import Model
from loopline.training.problem import Problem
from loopline.training.records import BoostedParams, Fit, Trial, Tune
from loopline.training.threshold import Cost, choose_threshold
from loopline.training.tune import tune_boosted


@dataclass(frozen=True)
class Trained:
    """The boosted model and the baselines it has to beat, each with what it came to on validation rows."""

    model: Model
    fit: Fit
    baseline: Model
    baseline_fit: Fit
    constant: Model
    constant_fit: Fit
    params: BoostedParams
    trials: tuple[Trial, ...]


def train(
    problem: Problem,
    tune: Tune | None = None,
    *,
    params: BoostedParams | None = None,
    cost: Cost | None = None,
    trials_done: Sequence[Trial] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
    threads: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Trained:
    """Fit the baselines, tune where a tuning is declared, fit the final trees, choose thresholds for binary models.

    A tuning that was interrupted goes on from `trials_done`; `on_trial` makes each new trial durable. `params` is where the
    tuning starts, and what is fitted without one. Deterministic, but for a budget in seconds.
    """
    constant, constant_fit = fit_constant(problem)
    baseline, baseline_fit = fit_linear(problem)
    params = params or BoostedParams()
    trials: tuple[Trial, ...] = ()
    rows = binned(problem, threads=threads)
    if tune is not None:
        trial_rows = binned(problem, for_trials=True, threads=threads)
        params, trials = tune_boosted(
            tune, trial_rows, trials_done=trials_done, on_trial=on_trial, params=params, clock=clock
        )
    model, fit = fit_boosted(rows, params)
    return Trained(
        model=thresholded(problem, model, cost=cost),
        fit=fit,
        baseline=thresholded(problem, baseline, cost=cost),
        baseline_fit=baseline_fit,
        constant=constant,
        constant_fit=constant_fit,
        params=params,
        trials=trials,
    )


def thresholded(problem: Problem, model: Model, *, cost: Cost | None = None) -> Model:
    """The model with its threshold chosen on the validation rows; as it is where it needs none or they are all of one class."""
    labels = problem.validation_labels
    if model.task != "binary" or labels.min() == labels.max():
        return model
    return model.with_threshold(choose_threshold(model.predict(problem.validation), labels, cost=cost))

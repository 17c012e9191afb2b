"""Tuning by Bayesian optimisation (Optuna's TPE; Bergstra et al. 2011), seeded and resumable from recorded trials.

Each suggestion is a function of the seed, its number and the trials before it, of nothing else: a tuning that was killed goes on
from its recorded trials exactly as it would have without the interruption.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import optuna

from loopline.errors import Conflict
from loopline.training.boosted import Binned, fit_boosted
from loopline.training.records import BoostedParams, Choices, Fit, Range, Trial, Tune

_PRIME = 1_000_003


def search(
    tune: Tune,
    attempt: Callable[[dict[str, Any]], Fit],
    *,
    trials_done: Sequence[Trial] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
    first: dict[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Trial, ...]:
    """All trials, the recorded ones first. `on_trial` is called with each new one and makes it durable.

    `first` is the first set of parameters tried (known good ones; what lies outside the space is moved to its edge). The budget
    of seconds counts recorded trials too, and at least one trial is made. Raises `Conflict` where recorded trials are of another
    space.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(part) for name, part in tune.space.items()}
    study = optuna.create_study(direction="maximize")
    trials: list[Trial] = []
    for done in trials_done:
        _tell(study, done, distributions)
        trials.append(done)
    while len(trials) < tune.trials and not _spent(tune, trials):
        number = len(trials)
        if number == 0 and first is not None:
            params = {name: _inside(part, first.get(name)) for name, part in tune.space.items()}
        else:
            params = _suggest(study, tune, number, distributions)
        started = clock()
        fit = attempt(params)
        value = fit.value if math.isfinite(fit.value) else None
        trial = Trial(number=number, params=params, value=value, seconds=clock() - started, rounds=fit.rounds)
        on_trial(trial)
        _tell(study, trial, distributions)
        trials.append(trial)
    return tuple(trials)


def tune_boosted(
    tune: Tune,
    rows: Binned,
    *,
    trials_done: Sequence[Trial] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
    params: BoostedParams | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[BoostedParams, tuple[Trial, ...]]:
    """The best parameters of boosted trees found on the validation rows, and all trials; `params` are where to start from."""
    start = params or BoostedParams()
    trials = search(
        tune,
        lambda tried: fit_boosted(rows, with_params(start, tried))[1],
        trials_done=trials_done,
        on_trial=on_trial,
        first=msgspec.to_builtins(start),
        clock=clock,
    )
    found = best(trials)
    return (with_params(start, found.params) if found else start), trials


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the greatest value, of equals the earliest; None where none gave a value."""
    finite = [trial for trial in trials if trial.value is not None]
    return max(finite, key=lambda trial: (trial.value, -trial.number), default=None)


def with_params(start: BoostedParams, params: dict[str, Any]) -> BoostedParams:
    """The parameters with some of them replaced."""
    return msgspec.convert(msgspec.to_builtins(start) | params, BoostedParams)


def _suggest(study: optuna.Study, tune: Tune, number: int, distributions: dict[str, Any]) -> dict[str, Any]:
    startup = min(10, max(3, tune.trials // 3))
    study.sampler = optuna.samplers.TPESampler(seed=tune.seed * _PRIME + number, n_startup_trials=startup)
    asked = study.ask(distributions)
    params = dict(asked.params)
    # The trial is told whole by _tell, which resuming does alike; the asked one only served to make a suggestion.
    study.tell(asked, state=optuna.trial.TrialState.FAIL)
    return params


def _tell(study: optuna.Study, trial: Trial, distributions: dict[str, Any]) -> None:
    try:
        told = optuna.trial.create_trial(
            params=trial.params,
            distributions=distributions,
            value=trial.value,
            state=optuna.trial.TrialState.FAIL if trial.value is None else optuna.trial.TrialState.COMPLETE,
        )
        study.add_trial(told)
    except ValueError as error:
        raise Conflict(
            f"Trial {trial.number} was recorded for another space: {error}.",
            code="other-space",
            hint="Start the tuning anew, or declare the space as it was.",
        ) from error


def _distribution(part: Range | Choices) -> Any:
    if isinstance(part, Choices):
        return optuna.distributions.CategoricalDistribution(part.values)
    if isinstance(part.low, int) and isinstance(part.high, int):
        return optuna.distributions.IntDistribution(part.low, part.high, log=part.log)
    return optuna.distributions.FloatDistribution(float(part.low), float(part.high), log=part.log)


def _inside(part: Range | Choices, value: Any) -> Any:
    if isinstance(part, Choices):
        return value if value in part.values else part.values[0]
    if value is None:
        return part.low
    clipped = min(max(value, part.low), part.high)
    return round(clipped) if isinstance(part.low, int) and isinstance(part.high, int) else float(clipped)


def _spent(tune: Tune, trials: Sequence[Trial]) -> bool:
    return bool(trials) and tune.seconds is not None and sum(trial.seconds for trial in trials) >= tune.seconds

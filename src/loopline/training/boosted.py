"""Gradient-boosted trees by LightGBM: deterministic, stopped early on validation rows, probabilities left as they are learnt.

Classes are never reweighted, however rare: at 1:500 the probabilities stay calibrated, and a threshold (threshold.py) decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loopline.training.estimators import Boosted
from loopline.training.model import Model
from loopline.training.problem import Problem, Side, sampled
from loopline.training.records import BoostedParams, Fit
from loopline.training.threads import lightgbm, threads_for

_OBJECTIVES = {
    "binary": ("binary", "binary_logloss"),
    "multiclass": ("multiclass", "multi_logloss"),
    "regression": ("regression", "l2"),
}
_TRIAL_CELLS = 3_000_000  # features times rows in a trial; above it trials look at a sample
_FIT_CELLS = 40_000_000
_BINS = 255


@dataclass(frozen=True)
class Binned:
    """The training and validation rows of a problem, binned once for many fits."""

    problem: Problem
    train: Any
    validation: Any
    threads: int


def binned(problem: Problem, *, for_trials: bool = False, threads: int = 2) -> Binned:
    """Bin a problem's rows. For trials of a large table a sample is taken (rare classes whole, the others weighted back)."""
    _, train, validation = problem.boosted
    cells = _TRIAL_CELLS if for_trials else _FIT_CELLS
    classes = len(problem.signature.classes)
    train = sampled(train, max(2_000, cells // train.features.shape[1]), classes=classes, seed=problem.seed)
    held = sampled(validation, max(2_000, cells // 4 // train.features.shape[1]), classes=classes, seed=problem.seed)
    threads = threads_for(train.features.size, threads)
    # Row-wise histograms are what LightGBM would choose for this shape; choosing by timing would not be deterministic.
    options = {
        "max_bin": _BINS,
        "feature_pre_filter": False,
        "min_data_in_bin": 3,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    names = [f"f{place}" for place in range(train.features.shape[1])]  # LightGBM refuses JSON signs in names
    dataset = _dataset(train, options, names).construct()
    reference = lightgbm.Dataset(
        held.features, held.labels, weight=held.weights, reference=dataset, feature_name=names, params=options
    )
    return Binned(problem, dataset, reference.construct(), threads)


def fit_boosted(rows: Binned, params: BoostedParams | None = None) -> tuple[Model, Fit]:
    """Trees grown until `patience` rounds bring no better loss on validation rows, and what they came to there.

    No threshold yet. The same rows, parameters and number of threads give the same trees.
    """
    params = params or BoostedParams()
    problem = rows.problem
    task, classes = problem.signature.task, problem.signature.classes
    objective, metric = _OBJECTIVES[task]
    options = {
        "objective": objective,
        "metric": metric,
        "learning_rate": params.learning_rate,
        "num_leaves": params.leaves,
        "min_data_in_leaf": params.min_rows,
        "feature_fraction": params.columns,
        "bagging_fraction": params.rows,
        "bagging_freq": 1 if params.rows < 1 else 0,
        "lambda_l1": params.l1,
        "lambda_l2": params.l2,
        "max_bin": _BINS,
        "feature_pre_filter": False,
        "min_data_in_bin": 3,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": rows.threads,
        "seed": problem.seed,
        "verbosity": -1,
    }
    if task == "multiclass":
        options["num_class"] = len(classes)
    booster = lightgbm.train(
        options,
        rows.train,
        params.rounds,
        valid_sets=[rows.validation],
        callbacks=[lightgbm.early_stopping(params.patience, verbose=False)],
    )
    best = booster.best_iteration or booster.current_iteration()
    transform, _, validation = problem.boosted
    estimator = Boosted(booster.model_to_string(num_iteration=best))
    fit = problem.measure(estimator.score(validation.features, task, rows.threads), rounds=best)
    return Model(problem.signature, transform, estimator), fit


def _dataset(side: Side, options: dict[str, Any], names: list[str]) -> Any:
    return lightgbm.Dataset(side.features, side.labels, weight=side.weights, feature_name=names, params=options)

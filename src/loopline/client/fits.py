"""What is said of a fit: of an estimator in scikit-learn's form, and of a LightGBM booster."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from loopline.client.run import Run

IMPORTANCES = "feature_importances.json"
"""The artifact that holds how much each feature counts, by name, the most first."""

_MOST_PARAMS = 200
_LONGEST = 500
_AFTER_RECORDS = 25  # LightGBM calls back in this order; early stopping, which ends the turn, is 30

Log = Callable[[Callable[[Run], None]], Any]
"""Calls what logs with the run, where a failure must not disturb the fit."""


class EstimatorFit:
    """A call of `fit`, of scikit-learn's estimators and of LightGBM's, which are of the same form."""

    def __init__(self, fit: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.estimator: Any = given[0]
        self.name = type(self.estimator).__name__
        self._fit = fit
        self._given = given
        self._named = named
        self._rows = given[1] if len(given) > 1 else named.get("X")
        self._labels = given[2] if len(given) > 2 else named.get("y")
        self._seconds = 0.0

    def tags(self) -> dict[str, str]:
        """The class of the estimator, and the library it is from."""
        return {"estimator": self.name, "library": type(self.estimator).__module__.partition(".")[0]}

    def params(self) -> dict[str, Any]:
        """Its params, those of its parts as `part__param`, and the shape of the training rows."""
        return {**_printable(self.estimator.get_params(deep=True)), **_shape(getattr(self._rows, "shape", ()))}

    def call(self, log: Log | None = None) -> Any:
        """Does the fit. With `log`, LightGBM's evaluations are logged as they come."""
        given, named = self._given, self._named
        if log is not None and self.tags()["library"] == "lightgbm":
            given, named = _with_callback(self._fit, given, named, log)
        began = time.perf_counter()
        found = self._fit(*given, **named)
        self._seconds = time.perf_counter() - began
        return found

    def report(self, run: Run, _: Any) -> None:
        """Logs what came of it."""
        fitted = self.estimator
        run.log(fit_seconds=self._seconds)
        if hasattr(fitted, "best_params_"):
            run.params({f"best_{key}": value for key, value in _printable(fitted.best_params_).items()})
            if hasattr(fitted, "best_score_"):
                run.log(best_cv_score=fitted.best_score_)
            fitted = getattr(fitted, "best_estimator_", None)
        if fitted is not None and hasattr(fitted, "score"):
            run.log(training_score=self.estimator.score(self._rows, self._labels))
        _keep_importances(run, *_importances(fitted))


class BoosterFit:
    """A call of `lightgbm.train`."""

    name = "lightgbm.train"

    def __init__(self, train: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._train = train
        self._given = given
        self._named = named
        self._seconds = 0.0

    def tags(self) -> dict[str, str]:
        """What it makes, and the library."""
        return {"estimator": "Booster", "library": "lightgbm"}

    def params(self) -> dict[str, Any]:
        """The params of the call; the shape of the rows is known once they were read."""
        bound = inspect.signature(self._train).bind(*self._given, **self._named)
        bound.apply_defaults()
        return {**_printable(bound.arguments["params"]), "num_boost_round": bound.arguments["num_boost_round"]}

    def call(self, log: Log | None = None) -> Any:
        """Trains. With `log`, the evaluations are logged as they come."""
        given, named = self._given, self._named
        if log is not None:
            given, named = _with_callback(self._train, given, named, log)
        began = time.perf_counter()
        found = self._train(*given, **named)
        self._seconds = time.perf_counter() - began
        return found

    def report(self, run: Run, booster: Any) -> None:
        """Logs what came of it."""
        run.log(fit_seconds=self._seconds)
        if booster.best_iteration > 0:
            run.log(best_iteration=booster.best_iteration)
        rows = inspect.signature(self._train).bind(*self._given, **self._named).arguments["train_set"]
        run.params(_shape((rows.num_data(), rows.num_feature())))
        _keep_importances(run, booster.feature_name(), booster.feature_importance("gain"))


def _with_callback(
    fit: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any], log: Log
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a fit of LightGBM with one more callback, which logs the evaluations of each iteration."""

    def callback(turn: Any) -> None:
        found = {f"{rows}/{metric}": value for rows, metric, value, *_ in turn.evaluation_result_list or ()}
        if found:
            log(lambda run: run.log(found, step=turn.iteration))

    callback.order = _AFTER_RECORDS  # type: ignore[attr-defined]
    bound = inspect.signature(fit).bind(*given, **named)
    bound.arguments["callbacks"] = [*(bound.arguments.get("callbacks") or ()), callback]
    return bound.args, bound.kwargs


def _printable(given: Mapping[str, Any]) -> dict[str, Any]:
    """Params as they can be read: a part that is an object itself (an estimator, a function) by its name."""
    found = {}
    for key, value in list(given.items())[:_MOST_PARAMS]:
        if isinstance(value, float | int | str | bool | type(None)):
            found[str(key)] = value[:_LONGEST] if isinstance(value, str) else value
        elif hasattr(value, "get_params"):
            found[str(key)] = type(value).__name__
        else:
            found[str(key)] = getattr(value, "__name__", None) or str(value)[:_LONGEST]
    return found


def _shape(shape: tuple[Any, ...]) -> dict[str, int]:
    return dict(zip(("training_rows", "training_columns"), map(int, shape), strict=False))


def _importances(fitted: Any) -> tuple[Any, Any]:
    """Names of the features and how much each counts, where the estimator, or the last step of a pipeline, tells."""
    names = getattr(fitted, "feature_names_in_", None)
    if hasattr(fitted, "steps"):
        before, last = fitted[:-1], fitted.steps[-1][1]
        names = (
            before.get_feature_names_out()
            if len(fitted.steps) > 1 and hasattr(before, "get_feature_names_out")
            else names
        )
        fitted = last
    return names, getattr(fitted, "feature_importances_", None)


def _keep_importances(run: Run, names: Any, importances: Any) -> None:
    if importances is None:
        return
    numbers = [float(value) for value in importances]
    known = [str(name) for name in names] if names is not None and len(names) == len(numbers) else None
    found = dict(zip(known or (f"x{place}" for place in range(len(numbers))), numbers, strict=True))
    ordered = dict(sorted(found.items(), key=lambda one: -one[1]))
    run.keep(IMPORTANCES, json.dumps(ordered, indent=1).encode())

"""Linear models: logistic regression and ridge regression (solved by scikit-learn), and the constant one."""

from __future__ import annotations

import warnings

import numpy as np

from loopline.training.estimators import Doubles, Linear, LinearForm
from loopline.training.model import Model
from loopline.training.problem import Problem
from loopline.training.records import Fit, LinearParams

_ITERATIONS = 200


def fit_linear(problem: Problem, params: LinearParams | None = None) -> tuple[Model, Fit]:
    """A linear model of all features, without a threshold yet, and what it came to on validation rows.

    Regression is solved on the standardised label. Deterministic.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    strength = (params or LinearParams()).strength
    task, classes = problem.signature.task, problem.signature.classes
    transform, train = problem.linear
    if task == "regression":
        center, scale = train.labels.mean(), train.labels.std()
        ridge = Ridge(alpha=strength * len(train.labels), solver="cholesky")
        ridge.fit(train.features, (train.labels - center) / scale)
        coefficients = (ridge.coef_ * scale).reshape(1, -1)
        intercepts = np.array([ridge.intercept_ * scale + center])
    else:
        logistic = LogisticRegression(C=1 / (strength * len(train.labels)), max_iter=_ITERATIONS, tol=1e-3)
        with warnings.catch_warnings():
            # A baseline that stopped a little before the optimum is still one.
            warnings.simplefilter("ignore", ConvergenceWarning)
            logistic.fit(train.features, train.labels, sample_weight=train.weights)
        coefficients, intercepts = logistic.coef_, logistic.intercept_
        if task == "multiclass":
            coefficients, intercepts = _all_classes(coefficients, intercepts, logistic.classes_, len(classes))
    estimator = _estimator(coefficients, intercepts)
    model = Model(problem.signature, transform, estimator)
    return model, problem.measure(model.predict(problem.validation))


def fit_constant(problem: Problem) -> tuple[Model, Fit]:
    """The model that knows nothing but the label's mean or shares: what every other has to beat."""
    task, classes = problem.signature.task, problem.signature.classes
    transform, _ = problem.linear
    if task == "multiclass":
        counts = np.bincount(problem.train_labels.astype(np.int64), minlength=len(classes))
        intercepts = np.log((counts + 0.5) / (counts.sum() + 0.5 * len(classes)))
    else:
        mean = problem.train_labels.mean()
        intercepts = np.array([np.log(mean / (1 - mean)) if task == "binary" else mean])
    estimator = _estimator(np.zeros((len(intercepts), len(transform.names))), intercepts)
    model = Model(problem.signature, transform, estimator)
    return model, problem.measure(model.predict(problem.validation))


def _estimator(coefficients: Doubles, intercepts: Doubles) -> Linear:
    rows = np.asarray(coefficients, dtype=np.float64).tolist()
    return Linear(
        LinearForm(
            coefficients=tuple(tuple(row) for row in rows),
            intercepts=tuple(np.asarray(intercepts, dtype=np.float64).tolist()),
        )
    )


def _all_classes(coefficients: Doubles, intercepts: Doubles, seen: Doubles, k: int) -> tuple[Doubles, Doubles]:
    """One row a class, also for classes that only the validation rows have, which the model thinks next to impossible."""
    if len(intercepts) == 1:  # two classes seen: the solver gives the second's log odds alone
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.array([0.0, intercepts[0]])
    all_coefficients = np.zeros((k, coefficients.shape[1]))
    all_intercepts = np.full(k, -20.0)
    all_coefficients[seen.astype(np.int64)] = coefficients
    all_intercepts[seen.astype(np.int64)] = intercepts
    return all_coefficients, all_intercepts

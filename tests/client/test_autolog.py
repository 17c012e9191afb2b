"""`ll.autolog`: real fits of scikit-learn and LightGBM, and what stands in the workspace afterwards."""

from __future__ import annotations

import inspect
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import loopline as ll
from loopline.app import Platform
from loopline.catalog import Session
from loopline.client import autolog
from loopline.client.run import active
from loopline.tracking.records import Run

RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(200, 4))
LABELS = (ROWS[:, 0] + RNG.normal(size=200) > 0).astype(int)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A workspace of its own, with autologging on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPLINE_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LOOPLINE_CHECKPOINTS", str(tmp_path / "copies"))
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    autolog._warned.clear()
    ll.autolog()
    yield platform.session()
    ll.autolog(False)
    platform.close()
    assert active() is None


def runs(session: Session) -> list[Run]:
    """All runs, the oldest first."""
    return list(reversed(session.runs.list().runs))


def only(session: Session) -> Run:
    (found,) = runs(session)
    return found


def quiet(name: str = "mine") -> Any:
    return ll.run(name, console=False, system=None)


def importances(session: Session, run: Run) -> dict[str, float]:
    found: dict[str, float] = json.loads(session.runs.artifact(run.id, "feature_importances.json").read())
    return found


def test_a_fit_has_a_run_of_its_own(session: Session) -> None:
    model = RandomForestClassifier(n_estimators=7, max_depth=3, random_state=1).fit(ROWS, LABELS)
    run = only(session)
    assert (run.name, run.status, run.parent) == ("RandomForestClassifier", "finished", None)
    assert run.tags == {"estimator": "RandomForestClassifier", "library": "sklearn"}
    assert run.params == {
        **model.get_params(),
        "training_rows": 200,
        "training_columns": 4,
    }
    assert run.metrics["training_score"] == model.score(ROWS, LABELS)
    assert float(run.metrics["fit_seconds"]) > 0
    found = importances(session, run)
    assert found == {f"x{i}": value for i, value in enumerate(model.feature_importances_)}
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_pipeline_is_one_run(session: Session) -> None:
    with quiet() as mine:
        make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=5)).fit(ROWS, LABELS)
    run = only(session)
    assert run.id == mine.id
    assert run.tags["estimator"] == "Pipeline"
    assert run.params["randomforestclassifier"] == "RandomForestClassifier"
    assert run.params["randomforestclassifier__n_estimators"] == 5
    assert set(importances(session, run)) == {"x0", "x1", "x2", "x3"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_is_one_run_with_its_best(session: Session, jobs: int) -> None:
    with quiet():
        search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=3, n_jobs=jobs).fit(ROWS, LABELS)
    run = only(session)
    assert run.params["estimator"] == "LogisticRegression"
    assert run.params["best_C"] == search.best_params_["C"]
    assert run.metrics["best_cv_score"] == search.best_score_
    assert run.metrics["training_score"] == search.score(ROWS, LABELS)


def test_fits_in_threads_of_a_fit_are_part_of_it(session: Session) -> None:
    from joblib import parallel_config

    parts = [("a", LogisticRegression()), ("b", RandomForestClassifier(n_estimators=3)), ("c", KMeans(2))]
    with quiet(), parallel_config("threading", n_jobs=2):
        VotingClassifier(parts[:2]).fit(ROWS, LABELS)
    assert only(session).tags["estimator"] == "VotingClassifier"


def test_threads_with_runs_of_their_own_fit_at_once(session: Session) -> None:
    both = threading.Barrier(2)

    class Waiting(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Waiting:
            both.wait(30)
            return self

        def predict(self, X: Any) -> Any:
            return np.zeros(len(X), int)

    def train(name: str) -> None:
        with quiet(name):
            Waiting().fit(ROWS, LABELS)

    threads = [threading.Thread(target=train, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(run.name, run.tags["estimator"]) for run in runs(session)} == {("one", "Waiting"), ("two", "Waiting")}


def test_a_further_fit_in_a_run_is_a_child(session: Session) -> None:
    with quiet() as mine:
        LogisticRegression(C=1.0).fit(ROWS, LABELS)
        LogisticRegression(C=2.0).fit(ROWS, LABELS)
    first, second = runs(session)
    assert (first.id, first.params["C"]) == (mine.id, 1)
    assert (second.parent, second.name, second.params["C"], second.status) == (
        mine.id,
        "LogisticRegression",
        2,
        "finished",
    )


def test_what_only_transforms_is_not_logged(session: Session) -> None:
    StandardScaler().fit_transform(ROWS)
    assert runs(session) == []


def test_lightgbm_logs_each_iteration(session: Session) -> None:
    train = lightgbm.Dataset(ROWS[:150], LABELS[:150], feature_name=["age", "days", "labs", "visits"])
    evals: dict[str, Any] = {}
    booster = lightgbm.train(
        {"objective": "binary", "metric": ["auc", "binary_logloss"], "verbose": -1, "num_threads": 1, "seed": 3},
        train,
        30,
        valid_sets=[lightgbm.Dataset(ROWS[150:], LABELS[150:], reference=train)],
        valid_names=["validation"],
        callbacks=[lightgbm.record_evaluation(evals), lightgbm.early_stopping(4, verbose=False)],
    )
    run = only(session)
    assert run.name == "lightgbm.train"
    assert run.params["objective"] == "binary"
    assert run.params["metric"] == "['auc', 'binary_logloss']"
    assert (run.params["num_boost_round"], run.params["training_rows"], run.params["training_columns"]) == (30, 150, 4)
    for metric in ("auc", "binary_logloss"):
        points = session.runs.history(run.id, f"validation/{metric}")
        assert [p.value for p in points] == evals["validation"][metric]
        assert [p.step for p in points] == list(range(len(points)))
    assert run.metrics["best_iteration"] == booster.best_iteration
    gains = dict(zip(booster.feature_name(), booster.feature_importance("gain"), strict=True))
    assert importances(session, run) == gains


def test_lightgbms_estimators_log_each_iteration(session: Session) -> None:
    evals: dict[str, Any] = {}
    model = lightgbm.LGBMClassifier(n_estimators=6, num_threads=1, verbose=-1)
    model.fit(ROWS, LABELS, eval_X=(ROWS[:50],), eval_y=(LABELS[:50],), callbacks=[lightgbm.record_evaluation(evals)])
    run = only(session)
    assert run.tags == {"estimator": "LGBMClassifier", "library": "lightgbm"}
    ((name, found),) = evals.items()
    assert [p.value for p in session.runs.history(run.id, f"{name}/binary_logloss")] == found["binary_logloss"]
    assert run.metrics["training_score"] == model.score(ROWS, LABELS)


def test_a_fit_that_fails_fails_as_ever(session: Session) -> None:
    with pytest.raises(ValueError, match="Found input variables with inconsistent numbers"):
        LogisticRegression().fit(ROWS, LABELS[:5])
    run = only(session)
    assert run.status == "failed"
    assert run.message.startswith("ValueError: Found input variables")


def test_classes_made_later_are_logged(session: Session) -> None:
    class Guess(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def __init__(self, answer: int = 1) -> None:
            self.answer = answer

        def fit(self, X: Any, y: Any) -> Guess:
            self.classes_ = np.array([0, 1])
            return self

        def predict(self, X: Any) -> Any:
            return np.full(len(X), self.answer)

    clone(Guess(1)).fit(ROWS, LABELS)
    assert only(session).metrics["training_score"] == LABELS.mean()


def test_a_failure_of_the_logging_is_no_failure_of_the_fit(session: Session) -> None:
    class Odd(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Odd:
            return self

        def predict(self, X: Any) -> Any:
            raise RuntimeError("not today")

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            raise RuntimeError("no params")

    odd = Odd()
    with pytest.warns(RuntimeWarning, match="Autologging of Odd failed: no params"):
        assert odd.fit(ROWS, LABELS) is odd
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert odd.fit(ROWS, LABELS) is odd
    with quiet() as mine:
        mine.params(alpha="set by hand")
        with pytest.warns(RuntimeWarning, match="'alpha'"):
            Ridge().fit(ROWS, LABELS)
        mine.log(after=1.0)
    assert runs(session)[-1].metrics["after"] == 1.0


def _fits() -> list[Callable[..., Any]]:
    return [
        LogisticRegression.fit,
        lightgbm.LGBMModel.fit,
        lightgbm.LGBMClassifier.fit,
        lightgbm.train,
        lightgbm.engine.train,
    ]


def test_it_is_taken_off_again_and_twice_is_once(session: Session) -> None:
    wrapped = _fits()
    ll.autolog()
    assert _fits() == wrapped
    ll.autolog(False)
    ll.autolog(False)
    plain = _fits()
    assert all(fit.__wrapped__ is before for fit, before in zip(wrapped, plain, strict=True))  # type: ignore[attr-defined]
    assert "__init_subclass__" not in vars(BaseEstimator)
    LogisticRegression().fit(ROWS, LABELS)
    assert runs(session) == []
    ll.autolog()
    assert [inspect.signature(fit) for fit in _fits()] == [inspect.signature(fit) for fit in plain]

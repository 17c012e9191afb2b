"""What a training step is handed, and the model families that it can fit in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.features.records import Task
from loopline.training.boosted import Binned, binned, fit_boosted
from loopline.training.linear import fit_constant, fit_linear
from loopline.training.model import Model
from loopline.training.problem import Problem
from loopline.training.records import BoostedParams, Fit, LinearParams


class Table:
    """Training and validation rows, made ready once for many fits.

    `rows` and `validation` are the frames, `label` and `task` what is asked of them; `problem` is the prepared form.
    """

    def __init__(
        self,
        rows: pl.DataFrame,
        validation: pl.DataFrame,
        *,
        label: str,
        task: Task | None = None,
        ignore: Sequence[str] = (),
        seed: int = 0,
        threads: int = 2,
    ) -> None:
        self.rows = rows
        self.validation = validation
        self.label = label
        self.problem = Problem.of(rows, validation, label=label, task=task, ignore=ignore, seed=seed, typed=True)
        self.task = self.problem.signature.task
        self._threads = threads
        self._trial = False
        self._binned: dict[bool, Binned] = {}
        self._linear: dict[LinearParams, Model] = {}

    def for_trials(self, on: bool) -> Table:
        """This table, from now on with a sample of its rows where it is large (`on`), or with all."""
        self._trial = on
        return self

    def binned(self) -> Binned:
        """The rows as LightGBM bins them, done once."""
        if self._trial not in self._binned:
            self._binned[self._trial] = binned(self.problem, for_trials=self._trial, threads=self._threads)
        return self._binned[self._trial]

    def linear(self, params: LinearParams) -> Model:
        """The linear model of these parameters, fitted once however many trials compare themselves with it."""
        if params not in self._linear:
            self._linear[params] = fit_linear(self.problem, params)[0]
        return self._linear[params]

    def measure(self, model: Model) -> Fit:
        """What a model comes to on the validation rows."""
        return self.problem.measure(model.predict(self.validation))

    def better(self, first: Model, *others: Model) -> Model:
        """The model that comes to most on the validation rows; of equals the first."""
        return max((first, *others), key=lambda model: self.measure(model).value)


def boosted(table: Table, **params: Any) -> Model:
    """Gradient-boosted trees (LightGBM) with these parameters; see `BoostedParams`. Stops early on the validation rows."""
    return fit_boosted(table.binned(), _params(BoostedParams, params))[0]


def linear(table: Table, **params: Any) -> Model:
    """A regularised linear (regression) or logistic (classes) model."""
    return table.linear(_params(LinearParams, params))


def constant(table: Table) -> Model:
    """The simplest baseline: the same answer for every row."""
    return fit_constant(table.problem)[0]


def _params(kind: Any, given: dict[str, Any]) -> Any:
    for name in given:
        if name not in kind.__struct_fields__:
            raise Invalid(
                f"There is no parameter {name!r} of this model.",
                code="bad-parameter",
                hint=did_you_mean(name, kind.__struct_fields__),
            )
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as e:
        raise Invalid(f"A parameter cannot be taken: {e}.", code="bad-parameter") from e

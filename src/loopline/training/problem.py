"""A learning problem made ready once: fields, labels and features of training and validation rows, shared by all trials."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.errors import Invalid
from loopline.features.infer import infer
from loopline.features.labels import encode_labels, infer_task
from loopline.features.records import Dropped, Field, Signature, Task
from loopline.features.transform import TableTransform
from loopline.training.estimators import Doubles
from loopline.training.records import Fit

_LINEAR_CELLS = 20_000_000  # features times rows; a linear baseline needs no more
_MEANS = 8  # classes whose means stand for a category; more would only make the table wider


@dataclass(frozen=True)
class Side:
    """Rows of one side of the split: features float32 [n, f], labels [n] and weights [n] or None."""

    features: npt.NDArray[np.float32]
    labels: Doubles
    weights: Doubles | None = None


@dataclass(frozen=True)
class Problem:
    """Training and validation rows of one table with their task. Made by `Problem.of`."""

    label: str
    signature: Signature
    dropped: tuple[Dropped, ...]
    train: pl.DataFrame
    validation: pl.DataFrame
    train_labels: Doubles
    validation_labels: Doubles
    seed: int = 0

    @classmethod
    def of(
        cls,
        train: pl.DataFrame,
        validation: pl.DataFrame,
        *,
        label: str,
        task: Task | None = None,
        ignore: Collection[str] = (),
        fields: tuple[Field, ...] | None = None,
        seed: int = 0,
        typed: bool = False,
    ) -> Problem:
        """Look at the rows, infer task (unless given) and fields (on training rows alone) and check the labels.

        `ignore` names columns that are never features: identifiers, times, groups; `typed` is as in `infer`.
        Raises `Invalid` before anything is fitted.
        """
        for name, side in (("training", train), ("validation", validation)):
            if not side.height:
                raise Invalid(f"The {name} side of the split has no rows.", code="no-rows", hint="Give more data.")
        if label not in train.columns or label not in validation.columns:
            infer_task(
                train if label not in train.columns else validation, label
            )  # says what is wrong, and the nearest name
        # Classes are those of both sides: a rare one may be missing on either.
        task, classes = infer_task(
            pl.concat([train.select(label), validation.select(label)], how="vertical_relaxed"), label, task
        )
        train_labels = encode_labels(train, label, task, classes)
        if train_labels.min() == train_labels.max():
            raise Invalid(
                f"The label {label!r} has one value only in the training rows: there is nothing to learn.",
                code="constant-label",
                hint="Split otherwise, or give data in which it varies earlier.",
            )
        found = infer(train, label=label, ignore=ignore, typed=typed)
        return cls(
            label=label,
            signature=Signature(inputs=fields or found.fields, task=task, classes=classes),
            dropped=found.dropped,
            train=train,
            validation=validation,
            train_labels=train_labels,
            validation_labels=encode_labels(validation, label, task, classes),
            seed=seed,
        )

    @cached_property
    def boosted(self) -> tuple[TableTransform, Side, Side]:
        """The transform for trees, and the training and validation rows through it."""
        targets, suffixes = self._targets()
        transform, features = TableTransform.fit_apply(
            self.train, self.signature.inputs, targets=targets, suffixes=suffixes, seed=self.seed
        )
        held = Side(transform.apply(self.validation), self.validation_labels)
        return transform, Side(features, self.train_labels), held

    @cached_property
    def linear(self) -> tuple[TableTransform, Side]:
        """The transform for linear models, fitted on all training rows, and those (or a sample of them) through it."""
        transform = TableTransform.fit(self.train, self.signature.inputs, style="linear")
        rows = max(1_000, _LINEAR_CELLS // len(transform.names))
        places, weights = sample(self.train_labels, rows, classes=len(self.signature.classes), seed=self.seed)
        return transform, Side(transform.apply(self.train[places]), self.train_labels[places], weights)

    def _targets(self) -> tuple[Doubles, tuple[str, ...]]:
        if self.signature.task != "multiclass":
            return self.train_labels[:, None], ("",)
        codes = self.train_labels.astype(np.int64)
        classes = self.signature.classes
        counts = np.bincount(codes, minlength=len(classes))
        chosen = np.sort(np.argsort(-counts, kind="stable")[:_MEANS])
        return (codes[:, None] == chosen).astype(np.float64), tuple(f"={classes[k]}" for k in chosen)

    def measure(self, scores: Doubles, rounds: int = 0) -> Fit:
        """What scores on the validation rows come to: ROC-AUC for binary, log loss or root mean squared error negated."""
        from sklearn.metrics import log_loss, roc_auc_score

        labels = self.validation_labels
        if self.signature.task == "regression":
            return Fit(metric="neg_rmse", value=-float(np.sqrt(np.mean((scores - labels) ** 2))), rounds=rounds)
        if self.signature.task == "binary" and 0 < labels.mean() < 1:
            return Fit(metric="roc_auc", value=float(roc_auc_score(labels, scores)), rounds=rounds)
        places = range(len(self.signature.classes))
        return Fit(metric="neg_log_loss", value=-float(log_loss(labels, scores, labels=list(places))), rounds=rounds)


def sample(labels: Doubles, rows: int, *, classes: int, seed: int) -> tuple[npt.NDArray[np.int64], Doubles | None]:
    """The places of at most about `rows` rows, and their weights (None: all weigh the same).

    Rare classes stay whole; the others are thinned and weighted back, so that probabilities hold.
    """
    n = len(labels)
    if n <= rows:
        return np.arange(n), None
    rng = np.random.default_rng(seed)
    if not classes:
        return np.sort(rng.choice(n, rows, replace=False)), None
    codes = labels.astype(np.int64)
    counts = np.bincount(codes, minlength=classes)
    floor = min(rows // (2 * classes), 5_000)
    wanted = np.minimum(counts, np.maximum(floor, counts * rows // n))
    chosen = [rng.choice(np.flatnonzero(codes == k), wanted[k], replace=False) for k in range(classes)]
    places = np.sort(np.concatenate(chosen))
    return places, (counts / np.maximum(wanted, 1))[codes[places]]


def sampled(side: Side, rows: int, *, classes: int, seed: int) -> Side:
    """At most about `rows` rows of a side, as `sample` chooses them."""
    if len(side.labels) <= rows:
        return side
    places, weights = sample(side.labels, rows, classes=classes, seed=seed)
    return Side(side.features[places], side.labels[places], weights)

"""Champion and challenger on the rows that both scored and whose labels came: the paired comparison that ends a rollout."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from loopline.deployment.judge import FEWEST_LABELS
from loopline.deployment.records import Comparison, Rollout
from loopline.evaluation.catalogue import kind
from loopline.evaluation.measure import difference
from loopline.features.labels import encode_labels
from loopline.outcomes.records import Prediction
from loopline.ports.predictor import Predictor

_DEFAULT = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}


def compare(
    rollout: Rollout,
    labelled: Sequence[Prediction],
    champion: Predictor,
    challenger: Predictor,
    *,
    seed: int = 0,
) -> Comparison | None:
    """The comparison on the labelled rows of the rollout's time; None where there are too few, or of one class only.

    Both versions score all of those rows again, whichever of them answered: so every row counts for both.
    """
    rows = [p for p in labelled if p.label is not None and not p.shadow]
    if len(rows) < FEWEST_LABELS:
        return None
    frame = pl.DataFrame({"label": [str(p.label) for p in rows]})
    if champion.task == "regression":
        frame = frame.with_columns(pl.col("label").cast(pl.Float64))
    elif frame["label"].n_unique() < 2:
        return None
    truth = encode_labels(frame, "label", champion.task, champion.classes)  # type: ignore[arg-type]
    sent = pl.DataFrame([p.row for p in rows], infer_schema_length=None)
    metric = rollout.plan.metric or _DEFAULT[champion.task]
    found = difference(
        truth,
        challenger.predict(sent),
        champion.predict(sent),
        metric=metric,
        task=champion.task,
        classes=champion.classes,
        thresholds=(challenger.threshold, champion.threshold),
        seed=seed,
    )
    sign = 1.0 if kind(metric).higher_is_better else -1.0
    low, high = sorted((sign * found.low, sign * found.high))
    return Comparison(metric=metric, value=sign * found.value, low=low, high=high, rows=len(rows))

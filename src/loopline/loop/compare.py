"""Champion and challenger on the rows that both scored and whose labels came: the paired comparison that ends a rollout."""

from __future__ import annotations

import polars as pl

from loopline.deployment.judge import FEWEST_LABELS
from loopline.deployment.records import Comparison, Rollout
from loopline.evaluation.catalogue import kind
from loopline.evaluation.measure import difference
from loopline.features.labels import encode_labels
from loopline.loop.live import decoded
from loopline.ports.predictor import Predictor

_DEFAULT = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}


def compare(
    rollout: Rollout,
    labelled: pl.DataFrame,
    champion: Predictor,
    challenger: Predictor,
    *,
    seed: int = 0,
) -> Comparison | None:
    """The comparison on the labelled rows of the rollout's time; None where there are too few, or of one class only.

    `labelled` is what `live.answered` gives. Both versions score all of those rows again, whichever of them answered: so every
    row counts for both.
    """
    if labelled.height < FEWEST_LABELS:
        return None
    truths = labelled.select(pl.col("truth").alias("label"))
    if champion.task == "regression":
        truths = truths.with_columns(pl.col("label").cast(pl.Float64))
    elif truths["label"].n_unique() < 2:
        return None
    truth = encode_labels(truths, "label", champion.task, champion.classes)  # type: ignore[arg-type]
    sent = pl.DataFrame(decoded(labelled), infer_schema_length=None)
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
    return Comparison(metric=metric, value=sign * found.value, low=low, high=high, rows=labelled.height)

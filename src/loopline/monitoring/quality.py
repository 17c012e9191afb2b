"""Quality on the labels that came: a frame of answers with their truth -> metrics with intervals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from loopline.errors import Invalid
from loopline.evaluation.catalogue import kind
from loopline.evaluation.metrics import with_intervals
from loopline.evaluation.scored import scored
from loopline.monitoring.records import QualityWindow
from loopline.statistics.bootstrap import Bootstrap

FIRST = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}
"""The metric by which quality is watched, by task."""

_FEWEST = 30
_WINDOWS = 10


def window(
    name: str,
    frame: pl.DataFrame,
    *,
    task: str,
    classes: Sequence[str],
    confidence: float = 0.95,
    seed: int = 0,
) -> QualityWindow:
    """Metrics of the labelled rows of a frame (columns `at`, `score`, `label_given`, `output`, `truth`); none where too few."""
    labelled = frame.filter(pl.col("truth").is_not_null())
    metrics: dict[str, tuple[float, float, float]] = {}
    if labelled.height >= _FEWEST:
        try:
            truth: Any = labelled["truth"].cast(pl.Float64).to_numpy() if task == "regression" else labelled["truth"]
            rows = scored(
                truth,
                _predicted(labelled, task, classes),
                task=task,
                classes=classes,
                threshold=_threshold(labelled, classes) if task == "binary" else None,
            )
            found = with_intervals(rows, bootstrap=Bootstrap(seed=seed), confidence=confidence)
            metrics = {m.name: (m.value, m.low, m.high) for m in found}
        except Invalid:  # a label that is no class, or one class alone: what is undefined is left out
            metrics = {}
    return QualityWindow(
        name=name,
        start=int(frame["at"].min() or 0),  # type: ignore[arg-type]
        end=int(frame["at"].max() or 0),  # type: ignore[arg-type]
        rows=frame.height,
        labelled=labelled.height,
        metrics=metrics,
    )


def dropped(found: QualityWindow, expected: float, *, task: str) -> str | None:
    """That the watched metric is worse than expected beyond its interval, in words; None where that is not shown."""
    metric = FIRST[task]
    if metric not in found.metrics:
        return None
    value, low, high = found.metrics[metric]
    worse = high < expected if kind(metric).higher_is_better else low > expected
    if not worse:
        return None
    return f"{metric} is {value:.3f} [{low:.3f}, {high:.3f}] on {found.labelled:,} labelled rows, and {expected:.3f} was expected"


def windows(frame: pl.DataFrame, *, task: str, classes: Sequence[str]) -> tuple[QualityWindow, ...]:
    """The same over time: the rows in order, in ten parts of like size (fewer where there are few rows)."""
    parts = max(1, min(_WINDOWS, frame.height // 500))
    edges = np.linspace(0, frame.height, parts + 1).astype(int)
    return tuple(
        window(f"{place + 1}", frame[start:stop], task=task, classes=classes)
        for place, (start, stop) in enumerate(itertools.pairwise(edges))
        if stop > start
    )


def _predicted(frame: pl.DataFrame, task: str, classes: Sequence[str]) -> Any:
    if task != "multiclass":
        return frame["score"].to_numpy()
    decode = msgspec.json.decode
    return np.array([[decode(text)["probabilities"][c] for c in classes] for text in frame["output"].to_list()])


def _threshold(frame: pl.DataFrame, classes: Sequence[str]) -> float:
    """The threshold that the labels given imply: the least probability that was called positive."""
    positive = frame.filter(pl.col("label_given") == classes[1])["score"]
    return float(positive.min()) if len(positive) else 1.0  # type: ignore[arg-type]

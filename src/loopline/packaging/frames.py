"""A frame's rows as the two inputs of a graph, and a graph's output as scores: for a model and for its manifest alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loopline.features import boundary, table
from loopline.features.records import Signature
from loopline.packaging.records import Manifest
from loopline.training.model import Model

if TYPE_CHECKING:
    import polars as pl


def arrays(of: Model | Manifest | Signature, frame: pl.DataFrame, precision: type = np.float32) -> tuple[Any, Any]:
    """The frame's rows as the graph's two inputs; a cleaning takes numbers in float64."""
    fields = of.inputs if isinstance(of, Signature) else of.signature.inputs
    strings = [table.strings(frame, f).to_numpy() for f in fields if f.kind in boundary.STRING_KINDS]
    stacked = np.empty((frame.height, len(strings)), dtype=np.object_)
    for place, column in enumerate(strings):
        stacked[:, place] = column
    return table.numbers(frame, fields, precision), stacked


def scores(of: Model | Manifest, output: Any) -> Any:
    """The graph's output as float64: binary (n,) of the positive class, multiclass (n, k), regression (n,)."""
    if of.task == "binary":
        return output[:, 1].astype(np.float64)
    return (output[:, 0] if of.task == "regression" else output).astype(np.float64)

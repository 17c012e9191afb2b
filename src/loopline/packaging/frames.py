"""A frame's rows as the two inputs of a graph, and a graph's output as scores: for a model and for its manifest alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loopline.errors import Invalid
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


def check_numbers(signature: Signature, library: str) -> None:
    """Raises `Invalid` where a column is text: `library` takes numbers alone."""
    texts = [field.name for field in signature.inputs if field.kind in boundary.STRING_KINDS]
    if texts:
        raise Invalid(
            f"{library} takes numbers, and {texts[0]!r} is text.",
            code="not-numbers",
            hint="Encode it before (its codes as a column of numbers), or leave the column out.",
        )

"""What a model says of a frame's rows, as columns; and the task that workers of an executor do so by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from loopline.errors import Invalid
from loopline.packaging.predictor import BundlePredictor
from loopline.packaging.records import Opening
from loopline.ports.executor import Work
from loopline.ports.predictor import Predictor
from loopline.quality.blocks import ipc_stream

TASK = "loopline.outcomes.scored:opened"
ROWS = 50_000
"""Rows that a model is asked about at once."""
PREDICTION = "prediction"


def opened(given: bytes, folder: Path) -> Work:
    """The task: a bundle's folder, opened within the bounds that are given; pieces and what comes of them are Arrow IPC streams."""
    predictor = BundlePredictor(folder, msgspec.msgpack.decode(given, type=Opening))
    return lambda piece: ipc_stream(scored(predictor, pl.read_ipc_stream(piece)))


def columns_of(predictor: Predictor) -> dict[str, pl.DataType]:
    """The columns of scores, and their types."""
    if predictor.task == "regression":
        return {PREDICTION: pl.Float64()}
    return {PREDICTION: pl.String(), **{f"probability.{c}": pl.Float64() for c in predictor.classes}}


def scored(predictor: Predictor, block: pl.DataFrame) -> pl.DataFrame:
    """The scores of a block's rows. Raises `Invalid` for what the model cannot read, and for outputs that are no finite numbers."""
    columns = columns_of(predictor)
    empty = pl.DataFrame(schema=columns)
    return pl.concat([empty, *_parts(predictor, columns, block)])


def _parts(predictor: Predictor, columns: dict[str, pl.DataType], block: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for part in block.iter_slices(ROWS):
        if not part.height:
            continue
        output = predictor.predict(part)
        if not np.isfinite(output).all():
            raise Invalid(
                "The model gives outputs that are not finite numbers.",
                code="not-finite",
                hint="Score fewer rows to find for which.",
            )
        values: list[Any]
        if predictor.task == "regression":
            values = [output]
        else:
            chances = np.stack([1.0 - output, output], axis=1) if predictor.task == "binary" else output
            if predictor.task == "binary":
                best = (output >= (0.5 if predictor.threshold is None else predictor.threshold)).astype(np.int64)
            else:
                best = chances.argmax(axis=1)
            values = [np.array(predictor.classes, dtype=object)[best], *chances.T]
        yield pl.DataFrame(
            {
                name: pl.Series(name, list(v) if v.dtype == object else np.ascontiguousarray(v))
                for name, v in zip(columns, values, strict=True)
            },
            schema=columns,
        )

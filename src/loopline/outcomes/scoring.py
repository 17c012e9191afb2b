"""Batch scoring: what a model version says to every row of a dataset version, as the next version of a dataset of its own.

Rows are read, scored and written one block after the other, so that a table of any length takes the memory of a block. The model is
opened in the very form that serves, in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from loopline.data.records import DatasetVersion
from loopline.data.service import DatasetsService
from loopline.errors import Invalid, NotFound, did_you_mean
from loopline.ports.predictor import Predictor
from loopline.refs import check_name, parse

if TYPE_CHECKING:
    from loopline.database import Tx

ROWS = 50_000
"""Rows that a model is asked about at once."""
PREDICTION = "prediction"


class ScoresService:
    """Scores of one project; `open_model` opens a model version by its ref."""

    def __init__(self, tx: Tx, datasets: DatasetsService, open_model: Callable[[str], Predictor]) -> None:
        self.tx = tx
        self.datasets = datasets
        self.open_model = open_model

    def make(
        self, name: str, model: str, version: str = "latest", into: str | None = None, message: str = ""
    ) -> DatasetVersion:
        target = check_name(into or f"{name}.scores", "name of a dataset")
        if target == name:
            raise Invalid(
                f"{name!r} cannot be scored into itself.", code="bad-name", hint="Give another name as `into`."
            )
        named = parse(model, "model", self.tx.project)
        if named.project != self.tx.project:
            raise NotFound(f"There is no {model} in project {self.tx.project!r}.", code="no-model")
        if named.number is None:
            raise Invalid(
                f"{model} names no version by its number.", code="bad-version", hint="Give model:NAME@NUMBER."
            )
        row = self.datasets.named.row(name, version)
        source = self.datasets.named.ref(row)
        rows = self.datasets.unsealed(row)
        predictor = self.open_model(str(named))
        missing = [column for column in predictor.inputs if column not in rows.schema]
        if missing:
            raise Invalid(
                f"{source} has no column {missing[0]!r}, which {named} reads.",
                code="no-column",
                hint=did_you_mean(missing[0], rows.columns),
            )
        columns = _columns(predictor)
        for column in columns:
            if column in rows.schema:
                raise Invalid(
                    f"{source} has a column {column!r} already, where the scores would go.",
                    code="bad-column",
                    hint="Score a version without it.",
                )
        self.tx.note(inputs=[str(named)])
        return self.datasets.written.write(
            target,
            rows.mapped(lambda block: block.hstack(_scored(predictor, columns, block))),
            inputs=[source],
            facts={"model": str(named)},
            message=message or f"{source}, scored by {named}",
            labels=(),
        )


def _columns(predictor: Predictor) -> dict[str, pl.DataType]:
    """The columns of scores, and their types."""
    if predictor.task == "regression":
        return {PREDICTION: pl.Float64()}
    return {PREDICTION: pl.String(), **{f"probability.{c}": pl.Float64() for c in predictor.classes}}


def _scored(predictor: Predictor, columns: dict[str, pl.DataType], block: pl.DataFrame) -> pl.DataFrame:
    """The scores of a block's rows."""
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

"""Batch scoring: what a model version says to every row of a dataset version, as the next version of a dataset of its own.

Rows are read, scored and written one block after the other, so that a table of any length takes the memory of a few. The model is
opened in the very form that serves: for few rows in this process, for many by the workers of an executor.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from loopline.data.records import DatasetVersion
from loopline.data.service import DatasetsService
from loopline.errors import Invalid, NotFound, did_you_mean
from loopline.outcomes.scored import ROWS, TASK, columns_of, scored
from loopline.packaging.predictor import BundlePredictor
from loopline.packaging.records import Opening
from loopline.ports.executor import Executor, Handle, Workers
from loopline.quality.blocks import Blocks, ipc_stream
from loopline.refs import check_name, parse

if TYPE_CHECKING:
    from loopline.database import Tx

FEW = 200_000
"""Rows that are scored sooner than workers have started."""


class ScoresService:
    """Scores of one project; `bundle` gives the folder of a model version by its ref, `opening` says how such are opened."""

    def __init__(
        self, tx: Tx, datasets: DatasetsService, bundle: Callable[[str], Path], opening: Opening, executor: Executor
    ) -> None:
        self.tx = tx
        self.datasets = datasets
        self.bundle = bundle
        self.opening = opening
        self.executor = executor

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
        folder = self.bundle(str(named))
        predictor = BundlePredictor(folder, self.opening)
        missing = [column for column in predictor.inputs if column not in rows.schema]
        if missing:
            raise Invalid(
                f"{source} has no column {missing[0]!r}, which {named} reads.",
                code="no-column",
                hint=did_you_mean(missing[0], rows.columns),
            )
        columns = columns_of(predictor)
        for column in columns:
            if column in rows.schema:
                raise Invalid(
                    f"{source} has a column {column!r} already, where the scores would go.",
                    code="bad-column",
                    hint="Score a version without it.",
                )
        self.tx.note(inputs=[str(named)])
        with contextlib.ExitStack() as stack:
            if rows.height <= FEW:
                made = rows.mapped(lambda block: block.hstack(scored(predictor, block)))
            else:
                workers = self.executor.start(TASK, msgspec.msgpack.encode(self.opening), folder)
                stack.callback(workers.close)
                schema = pl.Schema({**rows.schema, **columns})
                made = Blocks(schema, rows.height, lambda wanted: _by(workers, rows, predictor.inputs, wanted))
            return self.datasets.written.write(
                target,
                made,
                inputs=[source],
                facts={"model": str(named)},
                message=message or f"{source}, scored by {named}",
                labels=(),
            )


def _by(workers: Workers, rows: Blocks, inputs: Sequence[str], wanted: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The wanted columns of rows and their scores, in order; each worker has a piece and the next one."""
    under_way: deque[tuple[pl.DataFrame, Handle]] = deque()

    def next_one() -> pl.DataFrame:
        part, handle = under_way.popleft()
        return part.hstack(pl.read_ipc_stream(handle.result())).select(wanted)

    for block in rows:
        for part in block.iter_slices(ROWS):
            under_way.append((part, workers.submit(ipc_stream(part.select(inputs)))))
            if len(under_way) > 2 * workers.width:
                yield next_one()
    while under_way:
        yield next_one()

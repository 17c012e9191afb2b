"""What a raw row must hold for a model whose columns are made from it by a cleaning."""

from __future__ import annotations

import polars as pl

from loopline.features.infer import described
from loopline.features.records import Field, Kind, Signature
from loopline.quality.cleaning_rows import RowCleaning

_KINDS: dict[str, Kind] = {"moment": "date", "text": "category"}


def raw_signature(frame: pl.DataFrame, signature: Signature, cleaning: RowCleaning) -> Signature:
    """The signature of raw rows: the columns that the cleaning reads, as they are in the training rows, and those of the model's
    signature that no step makes.

    `cleaning` is what the model's columns depend on (`RowCleaning.reads`). A column that it reads may be missing, since its steps
    say what then holds; only what orders a history must be given.
    """
    known = {field.name: field for field in signature.inputs}
    made = {name for step in cleaning.steps for name in step.makes}
    ordering = {cleaning.history.time} if cleaning.history else set()
    fields: list[Field] = []
    for name in frame.columns:
        if (kind := cleaning.inputs.get(name)) is not None:
            wanted: Kind = _KINDS.get(kind, kind)  # type: ignore[arg-type]
            fields.append(described(frame[name], wanted, nullable=name not in ordering))
        elif name in known and name not in made:
            fields.append(known[name])
    return Signature(inputs=tuple(fields), task=signature.task, classes=signature.classes)

"""Predictions as frames: how a segment is kept (Parquet), and how labels are joined to it."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
import polars as pl

SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "request": pl.String,
    "at": pl.Int64,
    "model": pl.String,
    "variant": pl.String,
    "shadow": pl.Boolean,
    "propensity": pl.Float64,
    "latency_us": pl.Int64,
    "status": pl.Int32,
    "error": pl.String,
    "caller": pl.String,
    "label_given": pl.String,
    "score": pl.Float64,
    "row": pl.String,
    "output": pl.String,
}
"""`score` is the probability of the positive class (the last of two), of the label given (of several), or the value.

`row` and `output` are JSON.
"""


class Logged(Protocol):
    """What the prediction log says of one answer (`serving.records.PredictionRecord` is one)."""

    id: str
    request: str
    time_ms: int
    endpoint: str
    model: str
    variant: str
    mode: Any
    propensity: float
    row: dict[str, Any] | None
    output: dict[str, Any] | None
    latency_us: int
    status: int
    error: str
    caller: str


def of_log(records: Iterable[Logged]) -> pl.DataFrame:
    """The frame of some records of one endpoint, in their order."""
    encode = msgspec.json.encode
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA}
    for r in records:
        output = r.output or {}
        score = _score(output)
        values = (
            r.id,
            r.request,
            r.time_ms,
            r.model,
            r.variant,
            r.mode == "shadow",
            r.propensity,
            r.latency_us,
            r.status,
            r.error,
            r.caller,
            None if output.get("label") is None else str(output["label"]),
            float(score) if isinstance(score, int | float) and not isinstance(score, bool) else math.nan,
            encode(r.row).decode() if r.row is not None else None,
            encode(output).decode() if r.output is not None else None,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return pl.DataFrame(columns, schema=SCHEMA)


def _score(output: dict[str, Any]) -> Any:
    by_class = output.get("probabilities")
    if isinstance(by_class, dict) and len(by_class) == 2:
        return [*by_class.values()][1]  # answered in the order of the classes: negative, positive
    return output.get("probability", output.get("value"))


def to_parquet(frame: pl.DataFrame) -> bytes:
    """The frame as one Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3)
    return buffer.getvalue()


def of_parquet(data: bytes, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The frame again, or some of its columns."""
    return pl.read_parquet(io.BytesIO(data), columns=None if columns is None else list(columns))


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The raw rows that were sent, as dicts; an empty one where it was not kept."""
    decode = msgspec.json.decode
    return [{} if text is None else decode(text) for text in frame["row"].to_list()]

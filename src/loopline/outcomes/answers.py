"""What is told of the frame of an endpoint's answers: predictions, and traffic by variant.

Such a frame has the columns of `frames.SCHEMA` (for traffic those of `COUNTED`), and `truth`, `truth_at` of its labels.
"""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl

from loopline.operations import Bytes
from loopline.outcomes.records import SHADOWED, Prediction, Traffic, VariantTraffic
from loopline.quality.blocks import ipc_stream

COUNTED = ["id", "request", "at", "model", "variant", "shadow", "latency_us", "status", "label_given", "score"]


def answered(frame: pl.DataFrame, *, variant: str | None = None, labelled: bool = False) -> pl.DataFrame:
    """The answers without the refusals; of one variant, and with a label, where that is asked for."""
    frame = frame.filter(pl.col("status") < 400)
    if variant is not None:
        frame = frame.filter(pl.col("variant") == variant)
    return frame.filter(pl.col("truth").is_not_null()) if labelled else frame


def newest(frame: pl.DataFrame, endpoint: str, limit: int) -> list[Prediction]:
    """The last rows of a frame as predictions, the last one first."""
    return [prediction(endpoint, row) for row in frame.tail(limit).reverse().to_dicts()]


def prediction(endpoint: str, row: dict[str, Any]) -> Prediction:
    """One row of a frame."""
    return Prediction(
        id=row["id"],
        endpoint=endpoint,
        model=row["model"],
        variant=row["variant"],
        at=row["at"],
        shadow=row["shadow"],
        output=msgspec.json.decode(row["output"]) if row["output"] else {},
        row=msgspec.json.decode(row["row"]) if row["row"] else {},
        label=row["truth"],
        label_at=row["truth_at"],
    )


def stream(frame: pl.DataFrame) -> Bytes:
    """A frame as an Arrow IPC stream."""
    return Bytes(media="application/vnd.apache.arrow.stream", data=ipc_stream(frame))


def traffic(frame: pl.DataFrame, endpoint: str, since: int) -> Traffic:
    """What an endpoint answered, by variant."""
    well = pl.col("status") < 400
    # By variant alone: after a promotion the champion's answers are of two versions.
    found = frame.group_by("variant", "shadow", maintain_order=True).agg(
        pl.col("model").last(),
        pl.col("request").n_unique().alias("requests"),
        well.sum().alias("rows"),
        pl.col("request").filter(~well).n_unique().alias("errors"),
        (pl.col("truth").is_not_null() & well).sum().alias("labelled"),
        pl.col("latency_us").filter(well).quantile(0.5).alias("p50"),
        pl.col("latency_us").filter(well).quantile(0.99).alias("p99"),
        pl.concat_str(pl.col("score").fill_nan(None).cast(pl.String), "label_given", ignore_nulls=True)
        .filter(well)
        .n_unique()
        .alias("distinct"),
        (pl.col("score").is_nan() | pl.col("score").is_infinite()).filter(well).sum().alias("invalid"),
    )
    return Traffic(
        endpoint=endpoint,
        since=since,
        variants={
            f"{row['variant'] or 'none'}{SHADOWED if row['shadow'] else ''}": VariantTraffic(
                model=row["model"] or "",
                requests=row["requests"],
                rows=row["rows"],
                errors=row["errors"],
                labelled=row["labelled"],
                latency_p50=row["p50"] or 0.0,
                latency_p99=row["p99"] or 0.0,
                distinct_outputs=row["distinct"],
                invalid_outputs=row["invalid"],
            )
            for row in found.to_dicts()
        },
    )

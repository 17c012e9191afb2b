"""The way back: what was answered and is labelled by now, as training rows of the next version."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from loopline.data.records import LIVE, DatasetVersion
from loopline.errors import Conflict
from loopline.loop.house import House


def base_version(house: House, name: str) -> DatasetVersion:
    """The newest version of the loop's dataset that was read from a source alone, and rests on nothing withdrawn."""
    for version in house.datasets.log(name):
        if LIVE not in version.facts and not version.unsound:
            return version
    raise Conflict(
        f"The dataset {name!r} has no version read from a source that is not withdrawn.",
        code="no-base",
        hint=f"Add one: loopline data add {name} SOURCE",
    )


def labelled_rows(house: House, name: str, base: pl.DataFrame, label: str) -> pl.DataFrame:
    """Rows that the endpoint answered and whose label is known by now, with the columns and types of `base`.

    A row without a label is not there (it is no negative); a column that was not sent is missing.
    """
    served = answered(house, name, labelled=True).filter(pl.col("row").is_not_null())
    rows = decoded(served)
    columns = {
        column: served["truth"].to_list() if column == label else [row.get(column) for row in rows]
        for column in base.columns
    }
    frame = pl.DataFrame(
        {name: pl.Series(name, values, strict=False) for name, values in columns.items()},
    )
    return frame.select(_as(frame[column], kind) for column, kind in base.schema.items())


def answered(house: House, name: str, *, since: int = 0, labelled: bool = False) -> pl.DataFrame:
    """What an endpoint answered since a time, oldest first: `frames.SCHEMA` and the labels; shadow scores left out."""
    frame = pl.read_ipc_stream(io.BytesIO(house.predictions.read(name, since=since, labelled=labelled).read()))
    return frame.filter(~pl.col("shadow"))


def decoded(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows as they were sent."""
    decode = msgspec.json.decode
    return [decode(text) for text in frame["row"].to_list()]


def training_file(house: House, name: str, label: str, path: Path) -> None:
    """Writes the rows that were served and are labelled by now to a Parquet file, as the loop's base has them."""
    version = base_version(house, name)
    base = pl.read_ipc_stream(io.BytesIO(house.datasets.read(name, str(version.version)).read()))
    labelled_rows(house, name, base, label).write_parquet(path)


def _as(series: pl.Series, kind: pl.DataType) -> pl.Series:
    if series.dtype == kind:
        return series
    if kind == pl.Boolean and series.dtype == pl.String:
        return (series.str.to_lowercase() == "true").alias(series.name)
    if isinstance(kind, pl.Date | pl.Datetime) and series.dtype == pl.String:
        return series.str.to_datetime(strict=False).cast(kind)
    return series.cast(kind, strict=False)

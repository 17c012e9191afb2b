"""The limit: polars' own description, and the counts of the categories. python profile_polars.py TABLE..."""

import sys

import polars as pl
from works import serve


def summary(frame: pl.DataFrame) -> object:
    """All that polars tells by itself."""
    frame.describe()
    return [frame[name].value_counts() for name, kind in frame.schema.items() if kind == pl.String]


frames = {name: pl.read_parquet(file) for name, file in zip(("profile", "large"), sys.argv[1:], strict=False)}
serve({name: lambda frame=frame: summary(frame) for name, frame in frames.items()})  # type: ignore[misc]

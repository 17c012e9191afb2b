"""The same 20 rules by pandera on polars, all failures told. python contract_pandera.py TABLE."""

import sys

import pandera.polars as pa
import polars as pl
from works import serve

LEVELS = [f"level {j}" for j in range(20)]
schema = pa.DataFrameSchema(
    {
        "id": pa.Column(pl.Int64, unique=True),
        "days": pa.Column(pl.Int64, pa.Check.in_range(1, 14)),
        "age": pa.Column(pl.Int64),
        **{f"n{i}": pa.Column(pl.Float64, pa.Check.in_range(-20, 120)) for i in range(8)},
        **{f"n{i}": pa.Column(pl.Float64, nullable=False) for i in range(8, 12)},
        "c0": pa.Column(pl.String, pa.Check.isin(LEVELS[:2])),
        "c1": pa.Column(pl.String, pa.Check.isin(LEVELS[:5])),
        "c2": pa.Column(pl.String, pa.Check.isin(LEVELS)),
        "c3": pa.Column(pl.String, pa.Check.str_matches(r"^level \d+$")),
        "c4": pa.Column(pl.String),
    },
    checks=pa.Check(lambda data: data.lazyframe.select(pl.col("days") < pl.col("age") + 20), name="days below age"),
)
frame = pl.read_parquet(sys.argv[1])


def check() -> int:
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as found:
        return len(found.failure_cases)
    raise AssertionError("some rows break a rule")


check()
serve({"check": check})

"""SUMMARIZE of DuckDB on tables that it holds. python profile_duckdb.py TABLE..."""

import sys

import duckdb
from works import serve

database = duckdb.connect()
for number, file in enumerate(sys.argv[1:]):
    database.execute(f"CREATE TABLE t{number} AS SELECT * FROM read_parquet(?)", [file])
serve(
    {
        name: lambda number=number: database.execute(f"SUMMARIZE t{number}").fetchall()
        for number, name in zip(range(len(sys.argv) - 1), ("profile", "large"), strict=False)
    }
)

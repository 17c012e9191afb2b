"""Run by Spark's own Python: reads Parquet files as one table and writes it again, both in the order of a column.

    python spark_tables.py FOLDER COLUMN FILE...

writes FOLDER/read.arrow (an Arrow IPC file) and FOLDER/written (Parquet).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession


def main(folder: str, column: str, *files: str) -> None:
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    table = spark.read.parquet(*files).orderBy(column)
    read = table.toArrow()
    with pa.ipc.new_file(str(Path(folder) / "read.arrow"), read.schema) as file:
        file.write_table(read)
    table.write.parquet(str(Path(folder) / "written"))
    print(spark.version)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])

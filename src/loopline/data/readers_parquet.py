"""Parquet: a footer that is looked at before anything it points to is, then read by polars."""

from __future__ import annotations

import io
import mmap
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from loopline.data.readers_packed import LARGEST
from loopline.data.readers_types import check_names
from loopline.errors import Invalid


def read_parquet(content: bytes | mmap.mmap, file: Path | None, called: str) -> pl.DataFrame:
    """The frame of a Parquet file; `file` holds the same bytes, where there is one.

    Raises `Invalid` for one that was cut off or whose footer contradicts itself, for a name twice, and for more than memory holds.
    """
    size = len(content)
    if content[:4] != b"PAR1":
        raise Invalid(
            f"{called} is named like a Parquet file but does not begin like one.",
            code="table-format",
            hint="Rename it to what it is, or write it as Parquet again.",
        )
    if size < 12 or content[size - 4 : size] != b"PAR1":
        raise Invalid(
            f"{called} is a Parquet file that was cut off: it ends after {size} bytes without its footer.",
            code="table-damaged",
            hint="Copy it again, or wait until it is written.",
        )
    unpacked = bytes(content) if file is None else b""
    try:
        with pq.ParquetFile(file or io.BytesIO(unpacked)) as opened:
            names = _footer(opened.metadata, size)
            cells = opened.metadata.num_rows * len(names)
        check_names(names, called)
        if 8 * cells > LARGEST:
            raise Invalid(
                f"{called} holds {cells:,} cells, more than fit in {LARGEST >> 30} GiB.",
                code="table-large",
                hint="Give it in parts.",
            )
        return pl.read_parquet(file or unpacked, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError, ValueError) as error:
        raise Invalid(
            f"{called} is a Parquet file, but damaged: {str(error).partition(chr(10))[0]}.",
            code="table-damaged",
            hint="Copy it again, or write it again.",
        ) from error


def _footer(metadata: Any, size: int) -> list[str]:
    """The column names in a footer; ValueError when it points beyond the file or its counts differ (polars would panic)."""
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            starts = [o for o in (chunk.dictionary_page_offset, chunk.data_page_offset) if o is not None]
            if (
                min(starts) < 0
                or max(starts) >= size
                or chunk.total_compressed_size < 0
                or min(starts) + chunk.total_compressed_size > size
            ):
                raise ValueError("its footer points beyond its end")
            flat = metadata.schema.column(column).max_repetition_level == 0
            if flat and chunk.num_values != metadata.row_group(group).num_rows:
                raise ValueError("its footer counts rows in two ways")
    if metadata.num_rows != sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)):
        raise ValueError("its footer counts rows in two ways")
    return list(metadata.schema.to_arrow_schema().names)

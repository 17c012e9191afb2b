"""Parquet: a footer that is looked at before anything it points to is, then read a block of rows at a time."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from loopline.data.readers_packed import LARGEST, Content, Reading
from loopline.data.readers_types import check_names
from loopline.errors import Invalid
from loopline.quality.blocks import Blocks

_ROWS = 1 << 17


def read_parquet(content: Content, called: str) -> Blocks:
    """The rows of a Parquet file.

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
    with _damaged(called):
        opened = pq.ParquetFile(pa.PythonFile(io.BufferedReader(Reading(content)), "r"))
        names, height = _footer(opened.metadata, size), opened.metadata.num_rows
        check_names(names, called)
        if 8 * height * len(names) > LARGEST:
            raise Invalid(
                f"{called} holds {height * len(names):,} cells, more than fit in {LARGEST >> 30} GiB.",
                code="table-large",
                hint="Give it in parts.",
            )
        empty = pl.DataFrame(pl.from_arrow(opened.schema_arrow.empty_table()))

    def read(chosen: Sequence[str]) -> Iterator[pl.DataFrame]:
        with _damaged(called):
            for batch in opened.iter_batches(_ROWS, columns=list(chosen)):
                yield pl.DataFrame(pl.from_arrow(batch.select(list(chosen))))

    return Blocks(empty.schema, height, read)


@contextlib.contextmanager
def _damaged(called: str) -> Iterator[None]:
    try:
        yield
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

"""Dataset versions as Delta tables: write one, read one back, in order.

A version of a dataset is a version of its Delta table (`tables/<project>/<name>`). It is written before the database names it:
one that was written and never named is invisible.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from loopline.data.vacuum import files_of
from loopline.errors import Invalid, Unavailable
from loopline.failpoints import failpoint

_SMALLER: dict[Any, Any] = {pl.UInt8: pl.Int16, pl.UInt16: pl.Int32, pl.UInt32: pl.Int64}


def storable(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with types that Delta Lake has: no unsigned integers, categories, times of day or columns of nothing."""
    casts = []
    for name, kind in frame.schema.items():
        if kind in _SMALLER:
            casts.append(pl.col(name).cast(_SMALLER[kind]))
        elif kind == pl.UInt64:
            if frame[name].max() is not None and int(frame[name].max()) > 2**63 - 1:  # type: ignore[arg-type]
                raise Invalid(
                    f"Column {name!r} holds integers beyond 64 bits with a sign.",
                    code="bad-column",
                    hint="Store it as text.",
                )
            casts.append(pl.col(name).cast(pl.Int64))
        elif kind in (pl.Categorical, pl.Enum, pl.Null, pl.Time):
            casts.append(pl.col(name).cast(pl.String))
        elif kind == pl.Duration:
            casts.append(pl.col(name).dt.total_microseconds())
        elif isinstance(kind, pl.Datetime) and kind.time_unit != "us":
            casts.append(pl.col(name).dt.cast_time_unit("us"))
        elif kind == pl.Object:
            raise Invalid(f"Column {name!r} holds Python objects.", code="bad-column", hint="Give plain values.")
    return frame.with_columns(casts) if casts else frame


def write(folder: Path, frame: pl.DataFrame) -> tuple[int, pa.Table]:
    """Writes the frame as the next version of the Delta table in `folder`; gives the Delta version and the Arrow table written.

    Raises `Unavailable` (code "disk-full") where there is no space; what was written is not named by anything.
    """
    table = storable(frame).to_arrow(compat_level=pl.CompatLevel.oldest())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            failpoint("data.versions.write")
            deltalake.write_deltalake(str(folder), table, mode="overwrite", schema_mode="overwrite")
            failpoint("data.versions.written")
            return deltalake.DeltaTable(str(folder)).version(), table
    except (OSError, DeltaError) as e:
        if getattr(e, "errno", None) == errno.ENOSPC or "no space left" in str(e).lower():
            raise Unavailable(
                f"There is no space left to write {frame.height:,} rows.",
                code="disk-full",
                hint="Free some space and run it again; no version was made.",
            ) from e
        raise


def restore(folder: Path, delta_version: int) -> int:
    """Makes an earlier Delta version the newest one again, by its files as they are; gives the new Delta version."""
    with _alone(folder):
        table = deltalake.DeltaTable(str(folder))
        failpoint("data.versions.restore")
        table.restore(delta_version)
        failpoint("data.versions.restored")
        return deltalake.DeltaTable(str(folder)).version()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer at a time: two would refuse each other, or take each other's version for their own."""
    descriptor = os.open(folder / "_lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read(folder: Path, delta_version: int) -> pl.DataFrame:
    """The frame of one Delta version, its rows in the order in which they were written."""
    files = files_of(folder, delta_version)
    if not files:
        table = deltalake.DeltaTable(str(folder), version=delta_version)
        return pl.DataFrame(pl.from_arrow(pa.schema(table.schema().to_arrow()).empty_table()))
    return pl.DataFrame(pl.from_arrow(pa.concat_tables([pq.read_table(folder / file) for file in files])))

"""Dataset versions as Delta tables: write one, read one back, in order.

A version of a dataset is a version of its Delta table (`tables/<project>/<name>`). It is written before the database names it:
one that was written and never named is invisible.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from loopline.data.vacuum import files_of
from loopline.errors import Invalid, Unavailable
from loopline.failpoints import failpoint

_NUMBERED = re.compile(r"part-(\d{5})-")
_MOST_FILES = 100  # of one version; from there on they are read slower than they are written anew
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
    with _space(frame.height):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            failpoint("data.versions.write")
            deltalake.write_deltalake(str(folder), table, mode="overwrite", schema_mode="overwrite")
            failpoint("data.versions.written")
            return deltalake.DeltaTable(str(folder)).version(), table


def append(folder: Path, base: int, frame: pl.DataFrame, behind: int) -> tuple[int, pa.Table]:
    """Writes the rows of the frame behind those of the Delta version `base`, which are its first `behind` ones.

    Those are written again only where their columns or types are not the same any more, or where they lie in very many
    files. Gives and raises what `write` does.
    """
    table = storable(frame).to_arrow(compat_level=pl.CompatLevel.oldest())
    with _alone(folder):
        files = files_of(folder, base)
        numbers = [int(found[1]) if (found := _NUMBERED.match(file)) else None for file in files]
        known = pa.schema(deltalake.DeltaTable(str(folder), version=base).schema().to_arrow())
        kept = len(files) < _MOST_FILES and None not in numbers and _same(known, table.schema)
        if kept:
            number = 1 + max((n for n in numbers if n is not None), default=-1)
            return _append(folder, base, files, f"part-{number:05}-{uuid.uuid4()}.parquet", table, behind)
    return write(folder, frame)


def _append(folder: Path, base: int, files: list[str], name: str, table: pa.Table, behind: int) -> tuple[int, pa.Table]:
    delta = deltalake.DeltaTable(str(folder))
    if (
        files_of(folder, delta.version()) != files
    ):  # something else was written since, and is not what these rows go behind
        delta.restore(base)
    rows = table.slice(behind)
    with _space(rows.num_rows):
        failpoint("data.versions.append")
        pq.write_table(rows, folder / name)
        made = AddAction(
            name, (folder / name).stat().st_size, {}, int(time.time() * 1000), True, f'{{"numRecords":{rows.num_rows}}}'
        )
        delta.create_write_transaction([made], "append", delta.schema())
    failpoint("data.versions.appended")
    return deltalake.DeltaTable(str(folder)).version(), table


def _same(known: pa.Schema, given: pa.Schema) -> bool:
    return known.names == given.names and all(
        _large(a) == _large(b) for a, b in zip(known.types, given.types, strict=True)
    )


def _large(kind: pa.DataType) -> pa.DataType:
    """A type of Arrow with its texts and bytes written in one of their ways."""
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary(kind) or pa.types.is_binary_view(kind) else kind


def restore(folder: Path, delta_version: int) -> int:
    """Makes an earlier Delta version the newest one again, by its files as they are; gives the new Delta version."""
    with _alone(folder):
        table = deltalake.DeltaTable(str(folder))
        failpoint("data.versions.restore")
        table.restore(delta_version)
        failpoint("data.versions.restored")
        return deltalake.DeltaTable(str(folder)).version()


@contextlib.contextmanager
def _space(rows: int) -> Iterator[None]:
    """Says that the disk is full where it is."""
    try:
        yield
    except (OSError, DeltaError) as e:
        if getattr(e, "errno", None) == errno.ENOSPC or "no space left" in str(e).lower():
            raise Unavailable(
                f"There is no space left to write {rows:,} rows.",
                code="disk-full",
                hint="Free some space and run it again; no version was made.",
            ) from e
        raise


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
        return schema(folder, delta_version)
    return pl.DataFrame(pl.from_arrow(pa.concat_tables([pq.read_table(folder / file) for file in files])))


def schema(folder: Path, delta_version: int) -> pl.DataFrame:
    """A frame of the columns of one Delta version, without rows."""
    table = deltalake.DeltaTable(str(folder), version=delta_version)
    return pl.DataFrame(pl.from_arrow(pa.schema(table.schema().to_arrow()).empty_table()))

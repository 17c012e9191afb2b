"""Dataset versions as Delta tables: write one, read one back, in order.

A version of a dataset is a version of its Delta table (`tables/<project>/<name>`). It is written before the database names it:
one that was written and never named is invisible.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import queue
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions
from polars.io.plugins import register_io_source

from loopline.data.vacuum import files_of
from loopline.errors import Invalid, Unavailable
from loopline.failpoints import failpoint
from loopline.hashing import digest_columns
from loopline.quality.blocks import Blocks, ahead

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


class File(NamedTuple):
    """A Parquet file in the folder of a Delta table that no Delta version names yet."""

    path: Path
    rows: int
    schema: pa.Schema


def save(folder: Path, rows: Blocks, seen: Callable[[pl.DataFrame], None] = lambda _: None, number: int = 0) -> File:
    """Writes rows to a file of their own in `folder`, which nothing names; `seen` is handed each block on its way.

    `number` is the place of the file among those of a version. Raises `Unavailable` (code "disk-full") where there is no space.
    """
    schema = storable(rows.empty)
    path = folder / f"part-{number:05}-{uuid.uuid4()}.parquet"
    handed: queue.Queue[pl.DataFrame | None] = queue.Queue(1)

    def blocks(*_: Any) -> Iterator[pl.DataFrame]:
        while (block := handed.get()) is not None:
            yield block

    def hand(block: pl.DataFrame | None) -> None:
        while not written.done():
            with contextlib.suppress(queue.Full):
                handed.put(block, timeout=1)
                break

    with _space(rows.height), ThreadPoolExecutor(1) as thread:
        folder.mkdir(parents=True, exist_ok=True)
        failpoint("data.versions.save")
        source = register_io_source(blocks, schema=schema.schema)
        written = thread.submit(lambda: source.sink_parquet(path, compression="snappy", sync_on_close="all"))
        try:
            # All of them in this thread: each of polars' own that reads a block keeps the memory that it took.
            try:
                for block in rows:
                    seen(block)
                    hand(storable(block))
            finally:
                hand(None)
                written.result()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return File(path, rows.height, schema.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)


def write(folder: Path, file: File) -> int:
    """Makes a file, as it was saved, the next version of the Delta table in `folder`; gives the Delta version."""
    with _alone(folder), _space(file.rows), _named(folder, file):
        schema, action = deltalake.Schema.from_arrow(file.schema), _action(file)
        failpoint("data.versions.write")
        if not deltalake.DeltaTable.is_deltatable(str(folder)):
            create_table_with_add_actions(str(folder), schema, [action])
        else:
            delta = deltalake.DeltaTable(str(folder))
            if any(pa.types.is_timestamp(kind) and kind.tz is None for kind in file.schema.types):
                _allow_local_times(delta)
            delta.create_write_transaction([action], "overwrite", schema)
        failpoint("data.versions.written")
        return deltalake.DeltaTable(str(folder)).version()


def _allow_local_times(delta: deltalake.DeltaTable) -> None:
    """Times without a zone are a feature that a Delta table must name, and is made with only where it has some from the start."""
    if "timestampNtz" not in (delta.protocol().reader_features or ()):
        failpoint("data.versions.feature")
        delta.alter.add_feature(deltalake.TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)


def next_number(folder: Path, base: int, schema: pl.Schema) -> int | None:
    """The place of a file behind those of the Delta version `base`; None where rows of this schema cannot go behind them.

    That is where their columns or types are not the same, and where they lie in very many files.
    """
    files = files_of(folder, base)
    numbers = [int(found[1]) if (found := _NUMBERED.match(file)) else None for file in files]
    known = pa.schema(deltalake.DeltaTable(str(folder), version=base).schema().to_arrow())
    given = storable(pl.DataFrame(schema=schema)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    if len(files) >= _MOST_FILES or None in numbers or not _same(known, given):
        return None
    return 1 + max((n for n in numbers if n is not None), default=-1)


def append(folder: Path, base: int, file: File) -> int:
    """Puts the rows of a file, as it was saved, behind those of the Delta version `base`; gives the Delta version."""
    with _alone(folder), _space(file.rows), _named(folder, file):
        delta = deltalake.DeltaTable(str(folder))
        if files_of(folder, delta.version()) != files_of(folder, base):
            delta.restore(base)  # something else was written since, and is not what these rows go behind
        failpoint("data.versions.append")
        delta.create_write_transaction([_action(file)], "append", delta.schema())
        failpoint("data.versions.appended")
        return deltalake.DeltaTable(str(folder)).version()


def _action(file: File) -> AddAction:
    size, now = file.path.stat().st_size, int(time.time() * 1000)
    return AddAction(file.path.name, size, {}, now, True, f'{{"numRecords":{file.rows}}}')


def digest(schema: pl.Schema, files: Sequence[Path]) -> str:
    """The digest of the rows of Parquet files, one behind the other, read a column and a row group at a time.

    `schema` is that of the rows as they came; they are stored, and digested, as `storable`.
    """
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(pq.ParquetFile(file)) for file in files]
        fields = storable(pl.DataFrame(schema=schema)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        thread = stack.enter_context(ThreadPoolExecutor(1))

        def column(place: int) -> Iterator[pa.Array]:
            name, kind = fields[place].name, fields[place].type
            for file in opened:
                for group in range(file.num_row_groups):
                    for piece in file.read_row_group(group, columns=[name], use_threads=False).column(name).chunks:
                        yield piece if _large(piece.type) == _large(kind) else piece.cast(kind)

        rows = sum(file.metadata.num_rows for file in opened)
        return digest_columns(fields, rows, lambda place: ahead(column(place), thread), _full(opened, len(fields)))


def _full(files: Sequence[pq.ParquetFile], columns: int) -> set[int]:
    """The places of the columns that lack no value, as far as the files themselves say so."""
    full = set(range(columns))
    for file in files:
        for group in (file.metadata.row_group(place) for place in range(file.num_row_groups)):
            if group.num_columns != columns:  # one of them is nested
                return set()
            said = {place: group.column(place).statistics for place in full}
            full = {
                place for place, one in said.items() if one is not None and one.has_null_count and not one.null_count
            }
    return full


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
def _named(folder: Path, file: File) -> Iterator[None]:
    """Removes the file where the table did not come to name it."""
    try:
        yield
    except BaseException:
        table = str(folder)
        there = deltalake.DeltaTable.is_deltatable(table)
        if not there or file.path.name not in files_of(folder, deltalake.DeltaTable(table).version()):
            file.path.unlink()
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


def stored(folder: Path, delta_version: int) -> Blocks:
    """The rows of one Delta version, in the order in which they were written."""
    files = [folder / file for file in files_of(folder, delta_version)]
    empty = schema(folder, delta_version)

    def read(names: Sequence[str]) -> Iterator[pl.DataFrame]:
        for file in files:
            with pq.ParquetFile(file) as opened:
                for group in range(opened.num_row_groups):
                    rows = pl.DataFrame(pl.from_arrow(opened.read_row_group(group, columns=names).select(names)))
                    yield rows.cast({name: kind for name, kind in empty.schema.items() if name in names})

    return Blocks(empty.schema, sum(pq.read_metadata(file).num_rows for file in files), read)


def read(folder: Path, delta_version: int) -> pl.DataFrame:
    """The frame of one Delta version, its rows in the order in which they were written."""
    return stored(folder, delta_version).frame()


def schema(folder: Path, delta_version: int) -> pl.DataFrame:
    """A frame of the columns of one Delta version, without rows."""
    table = deltalake.DeltaTable(str(folder), version=delta_version)
    return pl.DataFrame(pl.from_arrow(pa.schema(table.schema().to_arrow()).empty_table()))

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from loopline.data.cutting import AVERAGE, Hashed, cut
from loopline.data.pieces import Pieces
from loopline.data.vacuum import files_of
from loopline.errors import Invalid, Unavailable
from loopline.failpoints import failpoint
from loopline.ports.files import sync_folder
from loopline.quality.blocks import Blocks
from loopline.quality.profile_frame import row_hashes

_NUMBERED = re.compile(r"part-(\d{5})-")
_MOST_FILES = 100  # of little rows in one version; from there on they are read slower than they are written anew
_LEAST_STORED = 4 << 20  # bytes of a file that is none of those
_SMALLER: dict[Any, Any] = {pl.UInt8: pl.Int16, pl.UInt16: pl.Int32, pl.UInt32: pl.Int64}


def storable(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with types that Delta Lake has: no unsigned integers, categories, times of day or columns of nothing."""
    casts = []
    for name, kind in frame.schema.items():
        if "\0" in name:
            raise Invalid(f"The name of column {name!r} holds a NUL.", code="bad-column", hint="Rename it.")
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
    """A Parquet file of some rows in the folder of a Delta table."""

    path: Path
    rows: int


class Saved(NamedTuple):
    """Files with rows, in their order, that no Delta version names yet."""

    files: list[File]
    schema: pa.Schema

    @property
    def paths(self) -> list[Path]:
        """Where they are."""
        return [file.path for file in self.files]

    @property
    def rows(self) -> int:
        """Of all of them."""
        return sum(file.rows for file in self.files)

    def remove(self) -> None:
        """Removes them."""
        for path in self.paths:
            path.unlink(missing_ok=True)


def arrow(frame: pl.DataFrame) -> pa.Table:
    """A storable frame in the types of Arrow by which it is stored, and digested."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def save(
    folder: Path,
    rows: Blocks,
    seen: Callable[[pl.DataFrame, pl.Series], None] = lambda _, __: None,
    written: Callable[[pl.DataFrame], None] = lambda _: None,
    number: int = 0,
) -> Saved:
    """Writes rows to files of their own in `folder`, which nothing names.

    `seen` is handed each block on its way with a hash of each of its rows, `written` all rows as they are stored, in pieces.

    They are cut where their content says so (`cutting`). A piece that a file in the folder holds already is that file, under one
    more name. `number` is the place of the first file among those of a version. Raises `Unavailable` (code "disk-full") where there
    is no space.
    """
    empty = storable(rows.empty)
    saved = Saved([], arrow(empty).schema)

    def blocks() -> Iterator[Hashed]:
        for block in rows:
            stored = storable(block)
            hashes = row_hashes(stored)
            seen(block, hashes)
            yield Hashed(stored, hashes)

    def take(piece: Hashed) -> None:
        written(piece.rows)
        saved.files.append(File(pieces.kept(piece, number + len(saved.files)), piece.rows.height))

    with _space(rows.height), contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        failpoint("data.versions.save")
        pieces = Pieces(folder)
        stack.callback(saved.remove)
        with ThreadPoolExecutor(1) as thread:
            # Rows are read in this thread: each of polars' own that reads a block keeps the memory that it took.
            taken = thread.submit(lambda: None)
            for piece in cut(blocks(), Hashed(empty, row_hashes(empty))):
                taken.result()  # so that two pieces are in memory, and no more
                taken = thread.submit(take, piece)
            taken.result()
        sync_folder(folder)
        stack.pop_all()
    return saved


def check_names(columns: Iterable[str]) -> None:
    """Raises `Invalid` for names that differ in their case alone: to Delta, and to Spark and SQL behind it, they are one."""
    known: dict[str, str] = {}
    for name in columns:
        other = known.setdefault(name.lower(), name)
        if other != name:
            raise Invalid(
                f"The columns {other!r} and {name!r} differ in their case alone, and a table takes them for one.",
                code="table-names",
                hint="Give each a name of its own; or write them alike where they are one.",
            )


def write(folder: Path, saved: Saved) -> int:
    """Makes files, as they were saved, the next version of the Delta table in `folder`; gives the Delta version."""
    with _alone(folder), _space(saved.rows), _named(folder, saved):
        schema, actions = deltalake.Schema.from_arrow(saved.schema), _actions(saved)
        failpoint("data.versions.write")
        if not deltalake.DeltaTable.is_deltatable(str(folder)):
            create_table_with_add_actions(str(folder), schema, actions)
        else:
            delta = deltalake.DeltaTable(str(folder))
            if any(pa.types.is_timestamp(kind) and kind.tz is None for kind in saved.schema.types):
                _allow_local_times(delta)
            delta.create_write_transaction([*actions], "overwrite", schema)
        failpoint("data.versions.written")
        return deltalake.DeltaTable(str(folder)).version()


def _allow_local_times(delta: deltalake.DeltaTable) -> None:
    """Times without a zone are a feature that a Delta table must name, and is made with only where it has some from the start."""
    if "timestampNtz" not in (delta.protocol().reader_features or ()):
        failpoint("data.versions.feature")
        delta.alter.add_feature(deltalake.TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)


def next_number(folder: Path, base: int, schema: pl.Schema) -> int | None:
    """The place of a file behind those of the Delta version `base`; None where rows of this schema cannot go behind them.

    That is where their columns or types are not the same, and where they lie in very many files that hold little each.
    """
    table = deltalake.DeltaTable(str(folder), version=base)
    files, held = files_of(folder, base), pa.table(table.get_add_actions())
    numbers = [int(found[1]) if (found := _NUMBERED.match(file)) else None for file in files]
    known = pa.schema(table.schema().to_arrow())
    given = arrow(storable(pl.DataFrame(schema=schema))).schema
    stored, rows = (sum(n or 0 for n in held[name].to_pylist()) for name in ("size_bytes", "num_records"))
    full = max(stored // _LEAST_STORED, 8 * rows * len(known) // AVERAGE)  # files that would be there anyway
    if len(files) >= _MOST_FILES + full or None in numbers or not _same(known, given):
        return None
    return 1 + max((n for n in numbers if n is not None), default=-1)


def append(folder: Path, base: int, saved: Saved) -> int:
    """Puts the rows of files, as they were saved, behind those of the Delta version `base`; gives the Delta version."""
    with _alone(folder), _space(saved.rows), _named(folder, saved):
        delta = deltalake.DeltaTable(str(folder))
        if files_of(folder, delta.version()) != files_of(folder, base):
            delta.restore(base)  # something else was written since, and is not what these rows go behind
        failpoint("data.versions.append")
        delta.create_write_transaction([*_actions(saved)], "append", delta.schema())
        failpoint("data.versions.appended")
        return deltalake.DeltaTable(str(folder)).version()


def _actions(saved: Saved) -> list[AddAction]:
    now = int(time.time() * 1000)
    return [
        AddAction(path.name, path.stat().st_size, {}, now, True, f'{{"numRecords":{rows}}}')
        for path, rows in saved.files
    ]


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
    except (OSError, DeltaError, pl.exceptions.PolarsError) as e:
        if getattr(e, "errno", None) == errno.ENOSPC or "no space left" in str(e).lower():
            raise Unavailable(
                f"There is no space left to write {rows:,} rows.",
                code="disk-full",
                hint="Free some space and run it again; no version was made.",
            ) from e
        raise


@contextlib.contextmanager
def _named(folder: Path, saved: Saved) -> Iterator[None]:
    """Removes the files where the table did not come to name them."""
    try:
        yield
    except BaseException:
        table = str(folder)
        there = deltalake.DeltaTable.is_deltatable(table)
        if not there or saved.paths[0].name not in files_of(folder, deltalake.DeltaTable(table).version()):
            saved.remove()
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

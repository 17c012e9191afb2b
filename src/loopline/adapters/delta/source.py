"""A Delta table that somebody else writes, as a source of rows: one version, what was appended since, or all of it each time.

The table is only read. What was appended is seen by the log: a commit that adds files and takes none away. A commit that takes rows
away or writes them anew is told, and nothing behind it is taken; one that only moves rows (OPTIMIZE) is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from loopline.adapters.delta import log
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused, Unavailable
from loopline.ports.source import Piece, Position

_STORE = {"allow_http": "true", "connect_timeout": "10s", "timeout": "15m", "max_retries": "4", "retry_timeout": "60s"}


class DeltaSource:
    """A table by its address: the path of its folder, or `delta+s3://bucket/table` with access as that of `s3://`.

    It grows by what is appended. `version=N` is that version for good; with `whole=True` each reading is the newest one.
    """

    def __init__(self, address: str, *, version: int | None = None, whole: bool = False, **access: str) -> None:
        self._name = address
        self._uri = address.removeprefix("delta+")
        remote = "://" in self._uri
        if remote and not re.match(r"s3://[^/@:]+/.", self._uri):
            raise Invalid(
                f"{address.rpartition('@')[2]} names no table.",
                code="bad-source",
                hint="For example delta+s3://bucket/table; access is by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        self._access = {**_STORE, **{f"aws_{key}": value for key, value in access.items()}} if remote else {}
        self._version = version
        self._whole = whole or version is not None

    @property
    def name(self) -> str:
        """The address as it was given."""
        return self._name

    @property
    def grows(self) -> bool:
        """Whether what is appended goes behind; else it is a version, or the newest one each time."""
        return not self._whole

    @property
    def once(self) -> bool:
        """Never: it stays where it is."""
        return False

    def read(self, after: Position | None) -> Iterator[Piece]:
        """A piece a file of the table, its rows in the types of the table.

        Raises `Conflict` where the log cannot lead on: code "source-changed" where rows that were taken were changed or removed, or
        another table stands there; "delta-log-gone" where the owner removed the log; "delta-vacuumed" where the owner removed the
        files of a version. Raises `NotFound` where there is no such table or version, `Invalid` (code "delta-feature") for what
        cannot be read.
        """
        table = self._table(self._version)
        log.check(table, self._name)
        place = pyarrow.fs.PyFileSystem(DeltaStorageHandler(self._uri, self._access or None))
        schema = pa.schema(table.schema().to_arrow())
        known = str(table.metadata().id)
        if after is not None and after["table"] != known and not self._whole:
            raise Conflict(
                f"Another table stands at {self._name} since it was read.",
                code="source-changed",
                hint="Add it as a dataset of its own, or collect it with --option whole=true.",
            )
        if self._whole:
            end = {"table": known, "version": table.version()}
            if after != end:
                yield from self._pieces(place, schema, log.files(table), {**end, "of": "version"}, end)
            return
        reached = table.version() if after is None else int(after["version"])
        if after is None or after.get("of") == "version":
            begun = table if after is None else self._table(reached)
            end = {"table": known, "version": reached}
            yield from self._pieces(place, schema, log.files(begun), {**end, "of": "version"}, end, after)
        elif after.get("of") == "commit":
            reached -= 1
        for version in range(reached + 1, table.version() + 1):
            try:
                done = log.committed(place, version, self._name)
            except (OSError, UnicodeDecodeError) as e:
                raise _failed(e, self._name) from e
            if done.rewrote:
                raise Conflict(
                    f"Commit {version} of {self._name} ({done.operation or 'unnamed'}) changed or removed rows that were taken.",
                    code="source-changed",
                    hint="Collect it with --option whole=true: the whole table each time.",
                )
            end = {"table": known, "version": version}
            yield from self._pieces(place, schema, done.added, {**end, "of": "commit"}, end, after)

    def done(self, position: Position) -> None:
        """Nothing: the table is somebody else's."""

    def close(self) -> None:
        """Nothing: no file is held open."""

    def _pieces(
        self,
        place: pyarrow.fs.FileSystem,
        schema: pa.Schema,
        files: Sequence[log.Added],
        within: Position,
        end: Position,
        after: Position | None = None,
    ) -> Iterator[Piece]:
        """The files behind a position that stands within them; else all of them."""
        start = 0
        if after is not None and {key: after.get(key) for key in within} == within:
            start = [file.path for file in files].index(after["file"]) + 1
        for number, file in enumerate(files[start:], start + 1):
            position = end if number == len(files) else {**within, "file": file.path}
            rows = self._rows(place, schema, file, int(end["version"]))
            yield Piece(name=f"{self._name}#{file.path}", position=position, rows=rows)

    def _rows(self, place: pyarrow.fs.FileSystem, schema: pa.Schema, file: log.Added, version: int) -> pa.Table:
        """The rows of a file, with all columns of the table."""
        if "://" in file.path or file.path.startswith("/") or ".." in file.path.split("/"):
            raise Invalid(
                f"{self._name} names a file outside of itself: {file.path}.",
                code="source-outside",
                hint="Let its owner copy the table (a deep clone).",
            )
        try:
            with place.open_input_file(file.path) as opened, pq.ParquetFile(opened) as parquet:
                read = parquet.read()
        except FileNotFoundError as e:
            raise Conflict(
                f"Files of version {version} of {self._name} are gone ({file.path}): its owner vacuumed it.",
                code="delta-vacuumed",
                hint="Take a later version, or collect it with --option whole=true.",
            ) from e
        except (OSError, pa.ArrowException) as e:
            raise _failed(e, f"{file.path} of {self._name}") from e
        columns = []
        for field in schema:
            if field.name in file.partition:
                # An empty text is a missing value too, says the protocol ("Partition Value Serialization").
                value = pa.scalar(file.partition[field.name] or None, pa.string())
                column = pa.repeat(value, read.num_rows)
            elif field.name in read.schema.names:
                column = read.column(field.name)
            else:
                column = pa.nulls(read.num_rows, field.type)
            try:
                columns.append(pc.cast(column, field.type))
            except pa.ArrowException as e:
                raise Invalid(
                    f"Column {field.name!r} of {file.path} of {self._name} is no {field.type}, as the table says.",
                    code="source-schema",
                    hint="Let its owner look at it.",
                ) from e
        return pa.table(columns, schema=schema)

    def _table(self, version: int | None) -> DeltaTable:
        try:
            return DeltaTable(self._uri, version=version, storage_options=self._access or None)
        except TableNotFoundError as e:
            raise self._none() from e
        except (DeltaError, OSError, ValueError) as e:
            if isinstance(e, DeltaError) and version is not None:
                newest = self._table(None).version()
                raise NotFound(
                    f"{self._name} has no version {version} (its newest is {newest}), or its log does not reach back to it.",
                    code="no-version",
                    hint="Name a later one, or none.",
                ) from e
            if "No files in log segment" in str(e) or "not a Delta table" in str(e):
                raise self._none() from e
            raise _failed(e, self._name) from e

    def _none(self) -> NotFound:
        return NotFound(
            f"There is no Delta table at {self._name}.",
            code="no-object",
            hint="Name the folder that holds its _delta_log.",
        )


def _failed(error: Any, name: str) -> LooplineError:
    """What a failure means; what a store says is told by its code alone."""
    said = str(error)
    named = re.search(r"<Code>(\w+)</Code>", said) or re.search(r"status code: (\d+)", said)
    code = named[1] if named else ""
    if code in ("AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "401", "403"):
        return Refused(
            f"The store lets nobody read {name} so ({code}).",
            code="foreign-refusal",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or the options of the same meaning.",
        )
    if isinstance(error, pa.ArrowInvalid | pa.ArrowNotImplementedError):
        return Invalid(
            f"{name} is damaged, or no Parquet file: {said.partition(chr(10))[0][:200]}.",
            code="source-damaged",
            hint="Let its owner look at it.",
        )
    if isinstance(error, DeltaError) and not code:
        return Invalid(
            f"{name} cannot be read: {said.partition(chr(10))[0][:200]}.",
            code="delta-feature",
            hint="Let its owner write it without what is named, or give it as Parquet files.",
        )
    return Unavailable(
        f"{name} cannot be read{f' ({code})' if code else ''}: the store does not answer as it should.",
        code="source-away",
        hint="Look at the endpoint (AWS_ENDPOINT_URL), then run it again.",
    )

"""What a Delta table's log tells: the files of a version, and those that a commit added (the protocol's PROTOCOL.md, "Actions")."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from loopline.errors import Conflict, Invalid

_READ = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "columnMapping", "deletionVectors"}
"""Features of a table that files are read with; of the last two only that they may be used, not that they are."""


class Added(NamedTuple):
    """A file of a table, and the values of the columns that it was partitioned by, as texts."""

    path: str
    partition: dict[str, str | None]


class Commit(NamedTuple):
    """What one commit did to the rows: the files that it added, and whether it took rows away."""

    operation: str
    added: tuple[Added, ...]
    rewrote: bool


def files(table: DeltaTable) -> list[Added]:
    """The files of the table's version, in the order in which they were written."""
    actions = pa.table(table.get_add_actions())
    rows = actions.select([c for c in ("path", "modification_time", "partition") if c in actions.schema.names])
    found = sorted(rows.to_pylist(), key=lambda row: (row["modification_time"], row["path"]))
    return [
        Added(unquote(row["path"]), {k: _text(v) for k, v in (row.get("partition") or {}).items()}) for row in found
    ]


def committed(place: pyarrow.fs.FileSystem, version: int, name: str) -> Commit:
    """What a commit did. Raises `Conflict` (code "delta-log-gone") where the log does not reach back to it any more."""
    try:
        with place.open_input_stream(f"_delta_log/{version:020}.json") as file:
            lines = file.read().decode().splitlines()
    except FileNotFoundError as e:
        raise Conflict(
            f"What commit {version} of {name} did is not told any more: its owner removed that part of the log.",
            code="delta-log-gone",
            hint="Collect it with --option whole=true: the whole table each time.",
        ) from e
    operation, added, rewrote = "", [], False
    try:
        actions = [_action(line) for line in lines if line.strip()]
    except ValueError as e:
        raise Invalid(
            f"Commit {version} of {name} cannot be read: {e}.", code="source-damaged", hint="Let its owner look at it."
        ) from e
    for action in actions:
        operation = action.get("commitInfo", {}).get("operation", operation)
        add, remove = action.get("add"), action.get("remove")
        if add is not None and add.get("dataChange", True):
            check_vector(add.get("deletionVector"), name)
            added.append(Added(unquote(add["path"]), dict(add.get("partitionValues") or {})))
        rewrote = rewrote or (remove is not None and remove.get("dataChange", True))
    return Commit(operation, tuple(sorted(added)), rewrote)


def check(table: DeltaTable, name: str) -> None:
    """Raises `Invalid` (code "delta-feature") where the table uses what files cannot be read without, and names it."""
    features = set(table.protocol().reader_features or ())
    mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    unread = sorted(features - _READ) + ["columnMapping"] * mapped
    if unread:
        raise Invalid(
            f"{name} is written with {', '.join(unread)}, which is not read here.",
            code="delta-feature",
            hint="Let its owner write it without, or give it as Parquet files.",
        )
    if "deletionVectors" in features:
        try:
            vectors = table.deletion_vectors().read_all().num_rows
        except DeltaError:
            vectors = 1
        check_vector(vectors or None, name)


def check_vector(vector: object, name: str) -> None:
    """Raises `Invalid` (code "delta-feature") where there is a deletion vector: rows of a file that are deleted."""
    if vector is not None:
        raise Invalid(
            f"{name} has deletionVectors: rows that are deleted, but stand in its files.",
            code="delta-feature",
            hint="Let its owner write them out: REORG TABLE ... APPLY (PURGE).",
        )


def _action(line: str) -> dict[str, Any]:
    found = json.loads(line)
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

"""The online store: the features of all entities at one moment, in one SQLite file that is whole and never changes."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import polars as pl

from loopline.errors import Invalid
from loopline.failpoints import failpoint
from loopline.features.definitions import FeatureView
from loopline.ports.blobs import BlobStore

_ROWS = 10_000


def write_online(path: Path, entities: pl.Series, features: pl.DataFrame) -> None:
    """Writes the file: one row an entity, its features as JSON in the order of the columns.

    It is not synced: the store that takes it does that, and until then nothing names it.
    """
    encode = msgspec.json.Encoder().encode
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode = OFF")
        file.execute("PRAGMA synchronous = OFF")
        file.execute('CREATE TABLE features (entity TEXT PRIMARY KEY, "values" BLOB NOT NULL) WITHOUT ROWID')
        file.execute("BEGIN")
        for start in range(0, len(entities), _ROWS):
            part = features.slice(start, _ROWS)
            values = [encode(row) for row in part.iter_rows()] if part.width else []
            file.executemany(
                "INSERT INTO features VALUES (?, ?)", zip(entities[start : start + _ROWS], values, strict=True)
            )
        failpoint("features.online.before_commit")
        file.execute("COMMIT")


class Online:
    """The features of a view as they were at one moment, to be looked up by entity: what serving asks.

    `view` is the definition, `digest` the blob. Opened once and shared between threads; it stays what it is, also when a newer one
    is made. `close` it at the end.
    """

    def __init__(self, view: FeatureView, blobs: BlobStore, digest: str) -> None:
        self.columns = tuple(one.name for one in view.features)
        self._unknown = {one.name: 0 if one.by == "count" else None for one in view.features}
        self._turn = threading.Lock()
        path = blobs.path(digest)
        if path is not None:
            self._file = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
        else:
            self._file = sqlite3.connect(":memory:", check_same_thread=False)
            self._file.deserialize(blobs.read(digest))

    def get(self, entities: Sequence[Any]) -> list[dict[str, Any]]:
        """The features of each entity, by their names; of an unknown one what no event comes to: counts of 0, the others missing.

        Dates are ISO texts, as in JSON. Raises `Invalid` for an entity that is no text or whole number.
        """
        found = []
        for entity in entities:
            if isinstance(entity, bool) or not isinstance(entity, str | int):
                raise Invalid(f"{entity!r} is no entity.", code="bad-entity", hint="Give a text or a whole number.")
            with self._turn:
                row = self._file.execute('SELECT "values" FROM features WHERE entity = ?', (str(entity),)).fetchone()
            values = self._unknown if row is None else dict(zip(self.columns, msgspec.json.decode(row[0]), strict=True))
            found.append(dict(values))
        return found

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()

"""Pieces of rows as Parquet files of a folder, each kept once: the same rows again are the same file under one more name.

A name says its place in a version, and (behind a mark of its own) the digest of its rows: `part-00003-<uuid>-<digest>.parquet`.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from loopline.failpoints import failpoint
from loopline.hashing import digest_table
from loopline.ports.files import removed_on_error

_NAME = re.compile(r"part-\d+-[0-9a-f-]{36}-([0-9a-f]{64})\.parquet")


class Pieces:
    """The pieces that a folder has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = {found[1]: path for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))}

    def kept(self, rows: pl.DataFrame, number: int) -> Path:
        """A file, on the disk for good, that holds these rows, under a new name; its name is not."""
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        digest = _digest(table)
        path = self._folder / f"part-{number:05}-{uuid.uuid4()}-{digest}.parquet"
        if (there := self._known.get(digest)) is None or not _linked(there, path, table.schema, digest):
            self._write(rows, path)
        self._known[digest] = path
        return path

    def _write(self, rows: pl.DataFrame, path: Path) -> None:
        """Under the name that says what is in it only once it is whole."""
        aside = self._folder / f"{uuid.uuid4()}.parquet"
        with removed_on_error(aside):
            rows.lazy().sink_parquet(aside, compression="snappy", sync_on_close="all")
            failpoint("data.pieces.before_rename")
            aside.rename(path)


def _linked(there: Path, path: Path, schema: pa.Schema, digest: str) -> bool:
    """Whether a file has one more name now. Not where it is gone, does not hold what it says, or there are no links."""
    try:
        os.utime(there)  # whoever removes old files leaves it
        if _digest(pq.read_table(there).cast(schema)) != digest:
            return False
        failpoint("data.pieces.before_link")
        path.hardlink_to(there)
    except (OSError, pa.ArrowException):
        return False
    return True


def _digest(table: pa.Table) -> str:
    return digest_table(table).partition(":")[2]

"""Pieces of rows as Parquet files of a folder, each kept once: the same rows again are the same file under one more name.

A name says its place in a version, and (behind a mark of its own) a digest of its columns and of the hashes of its rows, by which
they are looked for: `part-00003-<uuid>-<digest>.parquet`. What is found is the same only where each of its values is.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from loopline.data.cutting import Hashed
from loopline.failpoints import failpoint
from loopline.hashing import digest_bytes
from loopline.ports.files import removed_on_error

_NAME = re.compile(r"part-\d+-[0-9a-f-]{36}-([0-9a-f]{64})\.parquet")


class Pieces:
    """The pieces that a folder has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = {found[1]: path for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))}

    def kept(self, piece: Hashed, number: int) -> Path:
        """A file, on the disk for good, that holds these rows, under a new name; its name is not."""
        digest = _digest(piece)
        path = self._folder / f"part-{number:05}-{uuid.uuid4()}-{digest}.parquet"
        if (there := self._known.get(digest)) is None or not _linked(there, path, piece.rows):
            self._write(piece.rows, path)
        self._known[digest] = path
        return path

    def _write(self, rows: pl.DataFrame, path: Path) -> None:
        """Under the name that says what is in it only once it is whole."""
        aside = self._folder / f"{uuid.uuid4()}.parquet"
        with removed_on_error(aside):
            rows.lazy().sink_parquet(aside, compression="snappy", sync_on_close="all")
            failpoint("data.pieces.before_rename")
            aside.rename(path)


def _linked(there: Path, path: Path, rows: pl.DataFrame) -> bool:
    """Whether a file has one more name now. Not where it is gone, does not hold these rows, or there are no links."""
    try:
        os.utime(there)  # whoever removes old files leaves it
        if not _holds(there, rows):
            return False
        failpoint("data.pieces.before_link")
        path.hardlink_to(there)
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError):
        return False
    return True


def _holds(file: Path, rows: pl.DataFrame) -> bool:
    """Whether a file has these very rows; one NaN is as good as another, and 0.0 as -0.0."""
    found = pl.DataFrame(pl.from_arrow(pq.read_table(file)))
    return found.columns == rows.columns and found.cast(rows.schema).equals(rows)


def _digest(piece: Hashed) -> str:
    columns = [[name, str(kind)] for name, kind in piece.rows.schema.items()]
    return digest_bytes(msgspec.json.encode(columns) + piece.hashes.to_numpy().tobytes()).partition(":")[2]

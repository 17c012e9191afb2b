"""What is left of a window that was looked at, once its rows are gone: a digest of each, by which they are known again."""

from __future__ import annotations

import msgspec
import polars as pl
from blake3 import blake3

_BYTES = 16


class Marks(msgspec.Struct, frozen=True):
    """The columns of the rows with their types, and the rows' digests."""

    columns: dict[str, str]
    rows: list[bytes]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Marks:
        """Those of some rows."""
        return cls({name: str(kind) for name, kind in rows.schema.items()}, sorted(set(_digests(rows))))

    def among(self, rows: pl.DataFrame) -> pl.Series:
        """Which of other rows are of these. None is, where a column is not there in its type: then no row is known again."""
        if any(str(rows.schema.get(name)) != kind for name, kind in self.columns.items()):
            return pl.repeat(False, rows.height, eager=True)
        known = set(self.rows)
        return pl.Series([digest in known for digest in _digests(rows.select(*self.columns))], dtype=pl.Boolean)


def _digests(rows: pl.DataFrame) -> list[bytes]:
    return [blake3(line).digest(_BYTES) for line in rows.write_ndjson().encode().splitlines()]

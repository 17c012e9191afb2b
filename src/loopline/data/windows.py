"""Sealed windows of a dataset: what of it nobody reads, and how the next window stays a new one.

A window is the test side of a split. While it is closed its rows are left out wherever the dataset is read, in whichever version
they stand. A later split may make training rows of them (a retraining learns from all that is past): then the window is opened,
that is on record, and it is evidence no more. Rows that were looked at before and stand in a new window again bring their looks
along, also where the window is gone in which that was (`window_marks`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import polars as pl
import sqlalchemy as sa

from loopline.data.tables import dataset_versions, looks
from loopline.data.window_marks import Marks
from loopline.database import Tx
from loopline.errors import Invalid, Refused
from loopline.ports.blobs import BlobStore
from loopline.statistics.records import MOST_LOOKS
from loopline.store.service import Store

_C = dataset_versions.c


def check_evidence(row: Any, ref: str, look: int) -> None:
    """Raises `Refused` where a window is no evidence any more: its rows can be learned from, or it was looked at too often."""
    if row.opened is not None:
        raise Refused(
            f"The window {ref} is opened: rows of it stand in {row.opened}, where models learn from them.",
            code="window-opened",
            hint="Measure on the newest test side; `loopline data split` makes one.",
        )
    if look > MOST_LOOKS:
        raise Refused(
            f"The window {ref} was looked at {MOST_LOOKS} times: it is used up, and proves nothing any more.",
            code="window-spent",
            hint="Split a newer version: `loopline data split` seals a new window.",
        )


class Windows:
    """The windows that splits of one dataset have sealed. `read` gives the rows of a version by its row in the table."""

    def __init__(self, tx: Tx, blobs: BlobStore, name: str, read: Callable[[Any], pl.DataFrame]) -> None:
        self.tx = tx
        self.blobs = blobs
        self.name = f"{name}.test"
        self._read = read
        self._frames: dict[int, pl.DataFrame] = {}

    def all(self) -> Sequence[Any]:
        """The rows of all of them, oldest first."""
        mine = (_C.project == self.tx.project) & (_C.name == self.name) & _C.sealed
        return self.tx.rows(sa.select(dataset_versions).where(mine).order_by(_C.version))

    def check_columns(self, columns: Collection[str], called: str, label: str | None) -> None:
        """Raises `Invalid` (code "other-kind") where rows of these columns cannot be held against a closed window.

        The label alone tells no rows apart.
        """
        for window in self.all():
            theirs = [column["name"] for column in window.columns]
            if window.opened is None and not set(theirs).intersection(columns) - {label}:
                raise self._other(window, theirs, called)

    def readable(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame without the rows of windows that are closed."""
        for window in self.all():
            if window.opened is None:
                rows, on = self._beside(window, frame)
                frame = frame.join(rows, on=on, how="anti", nulls_equal=True, maintain_order="left")
        return frame

    def looked_at(self) -> list[Any]:
        """The windows at which somebody looked."""
        query = sa.select(looks.c.version).where(looks.c.project == self.tx.project, looks.c.name == self.name)
        seen = {row.version for row in self.tx.rows(query.distinct())}
        return [window for window in self.all() if window.version in seen]

    def spent(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows of the frame were looked at in a window."""
        spent = pl.repeat(False, frame.height, eager=True)
        for window in self.looked_at():
            spent = spent | self._held(window, frame)
        return spent

    def shared(self, test: pl.DataFrame) -> list[int]:
        """The windows that were looked at and hold rows of this one, too."""
        return [window.version for window in self.looked_at() if self._held(window, test).any()]

    def open(self, sides: Sequence[pl.DataFrame], ref: str, kept: int) -> None:
        """Opens the windows whose rows stand in these sides, but for the one of version `kept`; `ref` names who has them now."""
        for window in self.all():
            if window.opened is None and window.version != kept and any(self._held(window, s).any() for s in sides):
                place = (_C.project == self.tx.project) & (_C.name == self.name) & (_C.version == window.version)
                self.tx.execute(sa.update(dataset_versions).where(place).values(opened=ref))

    def mark(self, window: Any) -> None:
        """Keeps of an opened window, whose rows go, by what they are known again."""
        kept = self.blobs.put([msgspec.json.encode(Marks.of(self._read(window)))])
        Store(self.tx, self.blobs).retain(kept.digest, self._marked(window))

    def _marked(self, window: Any) -> str:
        return self.tx.ref("data", self.name, f"marks-{window.version}")

    def _held(self, window: Any, frame: pl.DataFrame) -> pl.Series:
        """Which rows of the frame stand in a window."""
        if window.purged is not None:
            (digest,) = Store(self.tx, self.blobs).of(self._marked(window))
            return msgspec.json.decode(self.blobs.read(digest), type=Marks).among(frame)
        rows, on = self._beside(window, frame)
        marked = frame.select(on).join(
            rows.with_columns(pl.lit(True).alias("_held")), on=on, how="left", nulls_equal=True, maintain_order="left"
        )
        return marked["_held"].fill_null(False)

    def _beside(self, window: Any, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
        """The different rows of a window and the columns by which they are the frame's."""
        if window.version not in self._frames:
            self._frames[window.version] = self._read(window)
        rows = self._frames[window.version]
        on = [column for column, kind in frame.schema.items() if rows.schema.get(column) == kind]
        if not on:
            raise self._other(window, rows.columns, "What is read")
        return rows.select(on).unique(), on

    def _other(self, window: Any, columns: Sequence[str], called: str) -> Invalid:
        kept, names = self.tx.ref("data", self.name, window.version), ", ".join(columns[:5])
        return Invalid(
            f"{called} holds other things than {kept}, which is kept for evaluation: none of its columns are there ({names}"
            f"{', ...' if len(columns) > 5 else ''}).",
            code="other-kind",
            hint="Give it a name of its own: a dataset, and a loop, is of one kind of rows from version to version.",
        )

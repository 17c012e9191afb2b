"""What the contract of a dataset asks of other datasets, and which versions of them answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from loopline.data.named import Named
from loopline.errors import NotFound, did_you_mean
from loopline.ports.blobs import BlobStore
from loopline.quality.contract_beyond import Beyond
from loopline.quality.profile import Profile


class Asked:
    """`beyond` is what a contract is checked with; `refs` are the versions that were read, for the record."""

    def __init__(self, named: Named, blobs: BlobStore, readable: Callable[[Any], pl.DataFrame]) -> None:
        self._named = named
        self._blobs = blobs
        self._readable = readable
        self.refs: list[str] = []
        self.beyond = Beyond(now=named.tx.now, column=self._column, profile=self._profile)

    def _row(self, ref: str) -> Any:
        """The version that a ref names. Raises `NotFound`, and `Refused` for one that is sealed or withdrawn."""
        row = self._named.of_ref(ref)
        self._named.check_open(row)
        self._named.check_sound([row])
        self._named.check_there(row)
        if (read := self._named.ref(row)) not in self.refs:
            self.refs.append(read)
        return row

    def _column(self, ref: str, name: str) -> pl.Series:
        frame = self._readable(self._row(ref))
        if name not in frame.columns:
            raise NotFound(
                f"{ref} has no column {name!r}.", code="column-not-found", hint=did_you_mean(name, frame.columns)
            )
        return frame[name]

    def _profile(self, ref: str) -> Profile:
        return Profile.from_json(self._blobs.read(self._row(ref).profile)).freeze()

"""Versions that are cleaned: made from another one by declared steps, with what was learned and done kept beside them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import polars as pl

from loopline.data.maturity import READ, Readable, stretches_of, with_read
from loopline.data.named import Named
from loopline.data.quarantine import all_held
from loopline.data.records import Cleaned
from loopline.data.written import Written
from loopline.errors import NotFound
from loopline.hashing import canonical_json
from loopline.ports.blobs import BlobStore
from loopline.quality.blocks import Blocks
from loopline.quality.cleaning import Cleaning
from loopline.quality.cleaning_records import CleaningReport
from loopline.quality.cleaning_steps import steps as read_steps


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    made_from: str
    fitted_on: str
    steps: tuple[dict[str, Any], ...]
    fitted: dict[str, Any]
    report: CleaningReport


class CleanedVersions:
    """The cleaned versions of one project; `readable` gives what a version has to learn from."""

    def __init__(self, named: Named, written: Written, blobs: BlobStore, readable: Callable[[Any], Readable]) -> None:
        self.named = named
        self.written = written
        self.blobs = blobs
        self._readable = readable

    def make(
        self,
        name: str,
        version: str,
        steps: Sequence[dict[str, Any]],
        *,
        fit: str | None,
        label: str | None,
        keep: Collection[str],
        message: str,
    ) -> Cleaned:
        """Cleans a version, by what the rows of `fit` teach or its own; those are the only ones of which some are set aside."""
        declared = read_steps([*steps])
        row = self.named.row(name, version)
        taught = row if fit is None else self.named.of_ref(fit)
        for one in (row, taught):
            self.named.check_open(one)
            self.named.check_sound([one])
        source, lesson = self.named.ref(row), self.named.ref(taught)
        came, teach = self._readable(row), self._readable(taught)
        keep = {*keep, *(one.time for one in teach.labels)}
        hidden = {*filter(None, [label]), *(one.column for one in teach.labels)}
        fitted = Cleaning.fit(teach.frame, declared, keep=sorted(keep), hidden=sorted(hidden))
        done = fitted.apply(came.frame, training=source == lesson)
        if not done.kept.height:
            raise all_held(source, f"{name}.clean", done.report.aside, "the bounds of its cleaning")
        kept = _Kept(
            made_from=source,
            fitted_on=lesson,
            steps=tuple(msgspec.to_builtins(step) for step in declared),
            fitted=fitted.to_dict(),
            report=done.report,
        )
        made = self.written.write(
            f"{name}.clean",
            Blocks.of(done.kept),
            quarantined=Blocks.of(done.aside),
            broken=done.report.aside,
            cleaning=canonical_json(kept),
            inputs=list(dict.fromkeys([source, lesson])),
            facts=row.facts,
            message=message or f"{source}, cleaned",
            labels=came.labels,
            read=stretches_of(with_read(came.frame, came.read)[READ][done.places]),
        )
        return self.of(self.named.of_ref(made.ref))

    def of(self, row: Any) -> Cleaned:
        """How a version was cleaned; what was learned of columns about a person is left out. Raises `NotFound` where it was not."""
        kept = self._kept(row)
        personal = self.named.personal(row.name)
        told = Cleaning.from_dict(kept.fitted)
        learned = [
            {"step": step.word, "columns": step.reads}
            if personal.intersection(step.reads)
            else msgspec.to_builtins(step)
            for step in told.steps
        ]
        fields = {field: getattr(kept, field) for field in kept.__struct_fields__}
        return Cleaned(ref=self.named.ref(row), **(fields | {"fitted": {**kept.fitted, "steps": learned}}))

    def cleaned(self, row: Any, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows as they came to a version, cleaned as its own were; as they are where it was not cleaned."""
        return Cleaning.from_dict(self._kept(row).fitted).apply(rows).kept if row.cleaning else rows

    def _kept(self, row: Any) -> _Kept:
        ref = self.named.ref(row)
        if not row.cleaning:
            raise NotFound(
                f"{ref} was not cleaned.",
                code="no-cleaning",
                hint=f"Clean it: loopline data clean {row.name}@{row.version} --with FILE.toml",
            )
        self.named.check_there(row)
        return msgspec.json.decode(self.blobs.read(row.cleaning), type=_Kept)

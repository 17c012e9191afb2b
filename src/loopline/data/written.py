"""The rows of dataset versions: written once as Delta tables and named in the database, read back in their order."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl
import sqlalchemy as sa

from loopline.data import versions
from loopline.data.entered import Entered
from loopline.data.maturity import Stretches, check_labels, kept, with_read
from loopline.data.named import Named
from loopline.data.reconcile import widened
from loopline.data.records import DatasetVersion, LabelColumn, Vacuumed, VersionFiles
from loopline.data.tables import dataset_contracts, dataset_versions
from loopline.data.vacuum import files_of, vacuum
from loopline.database import Tx
from loopline.errors import Conflict, Refused
from loopline.hashing import TableDigest
from loopline.ports.blobs import BlobStore
from loopline.quality.blocks import Blocks
from loopline.quality.contract import Contract
from loopline.quality.profile_blocks import BlockProfiler
from loopline.quality.profile_frame import row_hashes
from loopline.quality.profile_records import Profile
from loopline.store.service import Store

log = logging.getLogger("loopline.data")


class _Made(NamedTuple):
    """All rows of a version to be, and the files that were written of them, or (`appended`) of those behind earlier ones."""

    rows: Blocks
    saved: versions.Saved
    digest: str
    profile: Profile
    appended: bool


class Written(Entered):
    """The dataset versions of one project, as they are written; `tables` is the folder of the Delta tables."""

    def __init__(self, tx: Tx, blobs: BlobStore, tables: Path, named: Named) -> None:
        super().__init__(tx, blobs, named)
        self.tables = tables

    def rows(self, row: Any) -> pl.DataFrame:
        """The rows of a version. Raises `Invalid` for one of files, as whatever reads rows does."""
        self.named.check_table(row)
        return versions.read(self.folder(row.name), row.delta_version)

    def stored(self, row: Any) -> Blocks:
        """The rows of a version, read in blocks."""
        self.named.check_table(row)
        return versions.stored(self.folder(row.name), row.delta_version)

    def files(self, row: Any) -> VersionFiles:
        """The files that hold the rows of a version, in their order."""
        self.named.check_table(row)
        folder = self.folder(row.name).absolute()
        return VersionFiles(
            ref=self.named.ref(row),
            files=tuple(str(folder / file) for file in files_of(folder, row.delta_version)),
            rows=row.rows,
            table=str(folder),
            delta_version=row.delta_version,
        )

    def rows_read(self, row: Any) -> pl.DataFrame:
        """The rows of a version with the moment at which each was read, in the column `maturity.READ`."""
        return with_read(self.rows(row), row.read)

    def schema(self, row: Any) -> pl.DataFrame:
        """A frame of the columns of a version, without rows."""
        self.named.check_table(row)
        return versions.schema(self.folder(row.name), row.delta_version)

    def quarantined(self, row: Any) -> pl.DataFrame:
        """The rows of a version that its contract held back."""
        self.named.check_there(row)
        return versions.read(self.folder(row.name, quarantine=True), row.quarantine_delta_version)

    def labels(self, name: str) -> tuple[LabelColumn, ...]:
        """The columns of labels that the newest version of a dataset has."""
        newest = self.named.newest(name)
        return () if newest is None else self.labels_of(newest)

    def labels_of(self, row: Any) -> tuple[LabelColumn, ...]:
        """The columns of labels of a version."""
        return msgspec.convert(row.labels, tuple[LabelColumn, ...])

    def folder(self, name: str, *, quarantine: bool = False) -> Path:
        """Where the Delta table of a dataset, or of its quarantine, is."""
        return self.tables / self.tx.project / (f"{name}.quarantine" if quarantine else name)

    def write(
        self,
        name: str,
        rows: Blocks,
        *,
        inputs: Sequence[str],
        facts: dict[str, str],
        message: str,
        quarantined: Blocks | None = None,
        broken: dict[str, int] | None = None,
        warned: dict[str, int] | None = None,
        contract: Contract | None = None,
        cleaning: bytes = b"",
        source: str = "",
        sealed: bool = False,
        shares: Sequence[int] = (),
        noted: str = "content",
        behind: Any = None,
        labels: Sequence[LabelColumn] | None = None,
        read: Stretches | None = None,
        by_hand: bool = True,
    ) -> DatasetVersion:
        """Makes rows the next version of a dataset. The same content as the newest version, told alike, is that one.

        `behind` is the row of a version that these rows go behind. `labels` are the columns of labels; None: those of the newest
        version. `read` says when the rows were read, those of `behind` not among them; None: now. Not `by_hand`: nobody says that
        a withdrawal was a mistake, so the content of a withdrawn version is `Refused`.
        Raises `Conflict` (code "dataset-moved"), before anything is named, where another call made a version meanwhile that
        they would not go behind.
        """
        versions.check_names(rows.columns)
        known = self.named.newest(name) if behind is not None else None
        labels = self.labels(name) if labels is None else labels
        check_labels(rows.empty, labels)
        read = [[rows.height, self.tx.now]] if read is None else read
        read = [*behind.read, *read] if behind is not None else [*read]
        made = self._save(name, rows, behind)
        said = {
            "digest": made.digest,
            "contract": contract.digest if contract is not None else "",
            "cleaning": self.blobs.put([cleaning]).digest if cleaning else "",
            "source": source,
            "sealed": sealed,
            "labels": kept(made.rows, read, labels),
            "manifest": "",
        }
        if (same := self.same(name, said)) is not None:
            made.saved.remove()
            return self.again(same, inputs)
        bad = self._withdrawn(name, made.digest)
        if bad is not None and by_hand:
            facts = {**facts, "again": f"the rows of {self.named.ref(bad)}, which is withdrawn ({bad.withdrawn})"}
        elif bad is not None:
            made.saved.remove()
            raise Refused(
                f"These rows are those of {self.named.ref(bad)} again, which is withdrawn ({bad.withdrawn}).",
                code="data-withdrawn",
                hint="Mend what they come from; where the withdrawal was a mistake, add it by hand: "
                f"loopline data add {name} SOURCE",
            )
        summary = self.blobs.put([made.profile.to_json()])
        delta_version = (
            versions.append(self.folder(name), behind.delta_version, made.saved)
            if made.appended
            else versions.write(self.folder(name), made.saved)
        )
        held = quarantined.height if quarantined is not None else 0
        beside = None
        if quarantined is not None and held:
            folder = self.folder(name, quarantine=True)
            beside = versions.write(folder, versions.save(folder, quarantined))
        self.tx.alone(f"data:{name}")
        if known is not None and self.named.newest(name).version != known.version:
            raise moved(name)
        if contract is not None:
            self._keep(contract)
        return self.enter(
            name,
            inputs,
            said,
            noted,
            delta_version=delta_version,
            quarantine_delta_version=beside,
            files=0,
            bytes=0,
            rows=made.rows.height,
            columns=[{"name": f.name, "type": str(f.type)} for f in made.saved.schema],
            shares=[*shares],
            quarantined=held,
            broken=broken or {},
            warned=warned or {},
            profile=summary.digest,
            facts=facts,
            message=message,
            read=read,
        )

    def _save(self, name: str, rows: Blocks, behind: Any) -> _Made:
        """Writes rows to files that nothing names yet, in one pass with their profile and their digest.

        What is `behind` is not written again, and its profile is that of its version, where the rows can go behind its files.
        """
        folder, number = self.folder(name), None
        whole, before = rows, Blocks.of(rows.empty)
        if behind is not None:
            before = versions.stored(folder, behind.delta_version).mapped(lambda block: widened(block, rows.schema))
            number = versions.next_number(folder, behind.delta_version, rows.schema)
            whole = rows.behind(before)
        fresh, done = whole if number is None else rows, 0
        digest = TableDigest(versions.arrow(versions.storable(rows.empty)).schema)

        def seen(block: pl.DataFrame, hashes: pl.Series) -> None:
            nonlocal done
            profiler.add(block, hashes)
            done += block.height
            log.debug("writing %s: %s of %s rows", name, f"{done:,}", f"{fresh.height:,}")

        def stored(piece: pl.DataFrame) -> None:
            digest.add(versions.arrow(piece))

        with contextlib.closing(BlockProfiler(rows.empty)) as profiler:
            for block in before.mapped(versions.storable) if number is not None else ():
                profiler.repeat(row_hashes(block))
                stored(block)
            saved = versions.save(folder, fresh, seen, stored, number or 0)
            summary = profiler.profile()
        if number is not None:
            merged = Profile.from_json(self.blobs.read(behind.profile)).merge(summary)
            summary = msgspec.structs.replace(merged, duplicates=summary.duplicates)  # which are of all rows
        return _Made(whole, saved, digest.digest(), summary, appended=number is not None)

    def restore(self, row: Any, message: str) -> DatasetVersion:
        """Makes the content of an earlier version the next one; no row is written again."""
        self.named.check_there(row)
        ref = self.named.ref(row)
        said = {name: getattr(row, name) for name in ("digest", "contract", "cleaning", "labels", "manifest")} | {
            "source": "",
            "sealed": False,
        }
        newest = self.named.newest(row.name)
        if newest.version == row.version:
            return self.again(newest, [ref])
        if (same := self.same(row.name, said)) is not None:
            return self.again(same, [ref])
        again = None if row.manifest else versions.restore(self.folder(row.name), row.delta_version)
        return self.enter(
            row.name,
            [ref],
            said,
            "content",
            objects=Store(self.tx, self.blobs).of(ref) if row.manifest else (),
            delta_version=again,
            quarantine_delta_version=None,
            files=row.files,
            bytes=row.bytes,
            rows=row.rows,
            columns=row.columns,
            shares=[],
            quarantined=0,
            broken={},
            warned={},
            profile=row.profile,
            facts=row.facts,
            read=row.read,
            message=message or f"restored from {ref}",
        )

    def unneeded(self, going: Collection[tuple[str, int]]) -> tuple[Vacuumed, Callable[[], None]]:
        """The files of the project's tables that no version needs but those `going` (by name and number), and what removes them."""
        c = dataset_versions.c
        named: dict[str, set[int]] = {}
        query = sa.select(c.name, c.version, c.delta_version, c.quarantine_delta_version)
        for row in self.tx.rows(query.where(c.project == self.tx.project, c.emptied.is_(None))):
            if (row.name, row.version) in going:
                continue
            if row.delta_version is not None:
                named.setdefault(row.name, set()).add(row.delta_version)
            if row.quarantine_delta_version is not None:
                named.setdefault(f"{row.name}.quarantine", set()).add(row.quarantine_delta_version)
        home = self.tables / self.tx.project
        folders = sorted(home.iterdir()) if home.is_dir() else []

        def each(*, dry_run: bool) -> list[Vacuumed]:
            return [vacuum(folder, named.get(folder.name, ()), self.tx.now, dry_run=dry_run) for folder in folders]

        def remove() -> None:
            each(dry_run=False)

        found = each(dry_run=True)
        total = {field: sum(getattr(one, field) for one in found) for field in Vacuumed.__struct_fields__}
        return Vacuumed(**total), remove

    def _keep(self, contract: Contract) -> None:
        row = {"project": self.tx.project, "digest": contract.digest, "body": msgspec.to_builtins(contract)}
        self.tx.upsert(dataset_contracts, ("project", "digest"), row)

    def _withdrawn(self, name: str, digest: str) -> Any:
        """The newest withdrawn version with this content, or None."""
        c = dataset_versions.c
        same = (c.project == self.tx.project, c.name == name, c.digest == digest, c.withdrawn.is_not(None))
        return self.tx.first(sa.select(dataset_versions).where(*same).order_by(c.version.desc()).limit(1))


def moved(name: str) -> Conflict:
    """What a call is told that another one was faster than."""
    return Conflict(
        f"Another call made a version of {name} meanwhile; nothing of this one was kept.",
        code="dataset-moved",
        hint=f"Do it again, behind that one: loopline data log {name}",
    )

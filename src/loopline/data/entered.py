"""Versions of datasets as the database names them, whatever their content is. What reads tables is not loaded for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from loopline.data.manifest import Manifest
from loopline.data.named import Named
from loopline.data.records import DatasetVersion
from loopline.data.tables import dataset_versions
from loopline.database import Tx
from loopline.errors import Invalid
from loopline.ports.blobs import BlobStore
from loopline.store.service import Store


class Entered:
    """The dataset versions of one project, as they are entered."""

    def __init__(self, tx: Tx, blobs: BlobStore, named: Named) -> None:
        self.tx = tx
        self.blobs = blobs
        self.named = named

    def write_files(
        self, name: str, kept: str, manifest: Manifest, *, facts: dict[str, str], message: str
    ) -> DatasetVersion:
        """Makes what a manifest says, which is kept under its digest, the next version; the caller retains its objects."""
        said = {
            "digest": kept,
            "contract": "",
            "cleaning": "",
            "source": "",
            "sealed": False,
            "labels": [],
            "manifest": kept,
        }
        return self.enter(
            name,
            [],
            said,
            "content",
            delta_version=None,
            quarantine_delta_version=None,
            files=len(manifest.files),
            bytes=manifest.size,
            rows=0,
            columns=[],
            shares=[],
            quarantined=0,
            broken={},
            warned={},
            profile="",
            facts=facts,
            message=message,
            read=[],
        )

    def enter(
        self,
        name: str,
        inputs: Sequence[str],
        said: dict[str, Any],
        noted: str,
        objects: Iterable[str] = (),
        **values: Any,
    ) -> DatasetVersion:
        """Names what is written as the next version, unless another call brought the same meanwhile. `objects`: of its files."""
        self.tx.alone(f"data:{name}")
        if (same := self.same(name, said)) is not None:
            return self.again(same, inputs)
        newest = self.named.newest(name)
        version = 1 if newest is None else newest.version + 1
        ref = self.tx.ref("data", name, version)
        self.tx.execute(
            dataset_versions.insert().values(
                project=self.tx.project,
                name=name,
                version=version,
                inputs=[*inputs],
                created=self.tx.now,
                creator=self.tx.principal,
                **said,
                **values,
            )
        )
        needed = filter(None, (values["profile"], said["cleaning"], said["manifest"], *objects))
        Store(self.tx, self.blobs).retain_all(needed, ref)
        digests = {noted: said["digest"]} | ({"contract": said["contract"]} if said["contract"] else {})
        self.tx.note(inputs=[*inputs, *filter(None, [said["source"]])], outputs=[ref], digests=digests)
        return self.named.record(self.named.row(name, str(version)))

    def same(self, name: str, said: dict[str, Any]) -> Any:
        """The newest version, where it is not withdrawn and all this is said of it already."""
        newest = self.named.newest(name)
        if newest is not None and bool(newest.manifest) != bool(said["manifest"]):
            raise Invalid(
                f"{name} is a dataset of {'files' if newest.manifest else 'tables'}, and stays one.",
                code="other-kind",
                hint="Give what you add another name.",
            )
        if newest is None or newest.withdrawn is not None:
            return None
        return newest if all(getattr(newest, key) == value for key, value in said.items()) else None

    def again(self, row: Any, inputs: Sequence[str]) -> DatasetVersion:
        """The version that holds the same already."""
        read = [ref for ref in (*inputs, row.source) if ref and ref != self.named.ref(row)]
        self.tx.note(inputs=read, outputs=[self.named.ref(row)])
        return self.named.record(row)

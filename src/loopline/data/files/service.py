"""The verbs of datasets of files, within one transaction."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from loopline.data.entered import Entered
from loopline.data.files.pack import packed, unpacked
from loopline.data.manifest import FilesDiff, Manifest, decode, difference
from loopline.data.named import Named
from loopline.data.records import DatasetVersion, FilesVersion
from loopline.data.verbs import FilesVerbs
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound
from loopline.hashing import digest_bytes, digest_chunks
from loopline.operations import Body, Bytes
from loopline.ports.blobs import BlobStore, check_digest
from loopline.ports.files import disk_errors
from loopline.refs import check_name
from loopline.store.service import Store

_LARGEST_PACK = 64 << 20
"""Bytes that are handed out at once."""

_LARGEST_MANIFEST = 1 << 30


class FilesService(FilesVerbs):
    """Versions of files: each a manifest and the objects that it names; `scratch` is a folder for uploads under way."""

    def __init__(self, tx: Tx, blobs: BlobStore, scratch: Path) -> None:
        self.tx = tx
        self.blobs = blobs
        self.named = Named(tx)
        self.entered = Entered(tx, blobs, self.named)
        self.scratch = scratch
        self.store = Store(tx, blobs)

    def missing(self, name: str, digests: tuple[str, ...]) -> tuple[str, ...]:
        check_name(name, "name of a dataset")
        known = self._known(digests)
        return tuple(digest for digest in digests if digest not in known or not self.blobs.exists(digest))

    def put(self, name: str, objects: Body) -> int:
        check_name(name, "name of a dataset")
        self.scratch.mkdir(parents=True, exist_ok=True)
        with disk_errors(self.scratch), tempfile.TemporaryDirectory(prefix="objects-", dir=self.scratch) as folder:
            files, place = dict[str, Path](), Path(folder)
            for digest, data in unpacked(objects.chunks()):
                if digest not in files:
                    files[digest] = file = place / digest.partition(":")[2]
                    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
                    try:
                        while data:  # a write may take a part only
                            data = data[os.write(out, data) :]
                    finally:
                        os.close(out)
            self.blobs.take_all(files)
        self.tx.write()
        self.store.retain_all(files, self._upload(name))
        self.tx.count = len(files)
        return len(files)

    def add(self, name: str, manifest: Body, message: str = "", facts: dict[str, str] | None = None) -> DatasetVersion:
        check_name(name, "name of a dataset")
        data, size = [], 0
        for chunk in manifest.chunks():
            data.append(chunk)
            size += len(chunk)
            if size > _LARGEST_MANIFEST:
                raise Invalid("The manifest is larger than 1 GiB.", code="bad-manifest", hint="Add fewer files.")
        read = decode(b"".join(data))
        objects = read.objects()
        if missing := objects.keys() - self._known(objects):
            raise Conflict(
                f"{len(missing):,} objects of the manifest are not kept for {name}, such as {min(missing)}.",
                code="objects-missing",
                hint="Add the folder again: what is missing is sent.",
            )
        kept = self.blobs.put([read.encoded()]).digest
        version = self.entered.write_files(name, kept, read, facts=facts or {}, message=message)
        for digest, there in self.store.retain_all(objects, version.ref).items():
            if there != objects[digest]:
                self._check_undamaged(digest)
                raise Invalid(
                    f"{digest} has {there:,} bytes, and the manifest says {objects[digest]:,}.",
                    code="bad-manifest",
                    hint="Add the folder again.",
                )
        self.store.hand_over(objects, self._upload(name))
        return version

    def open(self, name: str, version: str = "latest") -> FilesVersion:
        row = self.named.row(name, version)
        self.named.check_files(row)
        self.tx.note(inputs=[self.named.ref(row)])
        path = self.blobs.path(row.manifest)
        return FilesVersion(
            ref=self.named.ref(row),
            version=row.version,
            manifest=self._manifest(row.manifest),
            store=str(path.absolute().parents[1]) if path is not None else "",
        )

    def objects(self, name: str, version: str, digests: tuple[str, ...]) -> Bytes:
        row = self.named.row(name, version)
        self.named.check_files(row)
        ref = self.named.ref(row)
        ours, size = self._manifest(row.manifest).objects(), 0
        for digest in digests:
            check_digest(digest)
            if digest not in ours:
                raise NotFound(f"{ref} has no object {digest}.", code="no-object")
            size += ours[digest]
        if size > _LARGEST_PACK:
            raise Invalid(
                f"These objects have {size:,} bytes.",
                code="bad-limit",
                hint=f"Ask for {_LARGEST_PACK:,} bytes at once.",
            )
        data = packed((digest, self._whole(digest, row)) for digest in digests)
        self.tx.write()
        self.tx.note(inputs=[ref])
        return Bytes(media="application/octet-stream", data=data)

    def diff(self, name: str, version: str, to: str = "latest") -> FilesDiff:
        sides = [self.named.row(name, version), self.named.of_ref(to) if ":" in to else self.named.row(name, to)]
        for row in sides:
            self.named.check_files(row)
        refs = (self.named.ref(sides[0]), self.named.ref(sides[1]))
        self.tx.note(inputs=list(dict.fromkeys(refs)))
        return difference(self._manifest(sides[0].manifest), self._manifest(sides[1].manifest), refs)

    def _manifest(self, digest: str) -> Manifest:
        data = self.blobs.read(digest)
        if digest_bytes(data) != digest:
            raise Conflict(
                f"The manifest {digest} is damaged.", code="blob-damaged", hint="Restore the file from a backup."
            )
        return decode(data)

    def _check_undamaged(self, digest: str) -> None:
        """Raises `Conflict` where an object holds other bytes; it is removed, so that it can be sent again."""
        if digest_chunks(self.blobs.chunks(digest)) != digest:
            self.blobs.delete(digest)
            raise Conflict(
                f"The object {digest} was damaged in the store, and is removed there.",
                code="objects-missing",
                hint="Add the folder again: it is sent then, and mended in all versions.",
            )

    def _whole(self, digest: str, row: Any) -> bytes:
        """The bytes of an object of a version. Raises `Conflict` (code "blob-damaged") where they are not what they were."""
        data = self.blobs.read(digest) if self.blobs.exists(digest) else b""
        if digest_bytes(data) != digest:
            files = self._manifest(row.manifest).files
            held = next(file.path for file in files if digest in (one.digest for one in file.objects))
            raise Conflict(
                f"{held} of {self.named.ref(row)} is damaged in the store: {digest} is gone or holds other bytes.",
                code="blob-damaged",
                hint="Add a folder that holds the file as it was, then check out again; `loopline doctor` looks through all.",
            )
        return data

    def _known(self, digests: tuple[str, ...] | dict[str, int]) -> set[str]:
        """Those that this project has: of a dataset of its own, or sent to it. Nothing is told of what others have."""
        for digest in digests:
            check_digest(digest)
        return self.store.among(digests, ("data", "upload"))

    def _upload(self, name: str) -> str:
        """Who needs what was sent, until a version does or a day has passed."""
        return self.tx.ref("upload", name)

"""Files that come in parts: begun, brought part by part in whatever order, joined, or given up.

Parts lie in a folder of their own and are nothing of the run, nor in the store, until they are joined: so nobody reads through an
upload what was not sent to it. An upload that gets no part for a day is removed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from blake3 import blake3

from loopline.errors import Conflict, Invalid, NotFound
from loopline.failpoints import failpoint
from loopline.hashing import digest_chunks
from loopline.operations import Body
from loopline.ports.blobs import check_digest
from loopline.ports.files import TEMPORARY, disk_errors, removed_on_error, write_whole
from loopline.tracking import reading
from loopline.tracking.artifacts import Artifacts
from loopline.tracking.paths import check_path
from loopline.tracking.records import Artifact, Part, Upload

KEPT_MILLISECONDS = 24 * 3_600_000
"""How long an upload is kept after its last part."""

_MOST_PARTS = 10_000
_PIECE = 1 << 20
_RECORD = "upload.json"


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder of parts is of; `done`: the file that they were joined to."""

    project: str
    upload: Upload
    done: Artifact | None = None


class Uploads(Artifacts):
    """The part of the runs' service that takes files in parts, into folders in `uploads`."""

    uploads: Path

    def start_upload(self, run: str, path: str, parts: int) -> Upload:
        check_path(path)
        if not 0 <= parts <= _MOST_PARTS:
            raise Invalid(
                f"A file cannot come in {parts:,} parts.",
                code="bad-parts",
                hint=f"Send at most {_MOST_PARTS:,} of them.",
            )
        row = reading.row_of(self.tx, run)
        upload = Upload(id=secrets.token_hex(16), run=row.id, path=path, parts=parts, created=self.tx.now)
        self._write(_Begun(project=self.tx.project, upload=upload))
        return upload

    def put_part(self, run: str, upload: str, number: int, content: Body) -> Part:
        begun = self._begun(run, upload)
        if begun.done is not None:
            raise Conflict(f"The upload {upload} is complete.", code="upload-complete", hint="Begin another one.")
        if not 1 <= number <= begun.upload.parts:
            raise Invalid(
                f"The upload {upload} has no part {number}.",
                code="bad-parts",
                hint=f"It was begun with {begun.upload.parts} parts, which count from 1.",
            )
        folder = self.uploads / upload
        aside = folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            with disk_errors(folder), removed_on_error(aside):
                if content.path is not None and content.spooled:
                    file, digest = content.path, content.spooled
                else:
                    with aside.open("xb") as written:
                        for piece in content.chunks():
                            written.write(piece)
                    with aside.open("rb") as written:
                        file, digest = aside, digest_chunks(iter(lambda: written.read(_PIECE), b""))
                size = file.stat().st_size
                failpoint("tracking.upload.before_rename")
                os.replace(file, _file(folder, number, digest))
        except FileNotFoundError as e:  # given up meanwhile
            raise _missing(upload) from e
        return Part(upload=upload, number=number, digest=digest, size=size)

    def complete_upload(self, run: str, upload: str, parts: tuple[str, ...], path: str | None = None) -> Artifact:
        begun = self._begun(run, upload, path)
        if begun.done is not None:
            return begun.done
        if len(parts) != begun.upload.parts:
            raise Invalid(
                f"{len(parts)} parts are named, and the upload {upload} has {begun.upload.parts}.",
                code="missing-part",
                hint="Name the digest of each part, in their order.",
            )
        folder = self.uploads / upload
        files = [_file(folder, number, digest) for number, digest in enumerate(parts, 1)]
        for number, file in enumerate(files, 1):
            if not file.is_file() or file.is_symlink():
                raise _part_missing(upload, number)
        blob = self.blobs.put(_joined(upload, files))
        kept = self._keep(reading.held(self.tx, run), begun.upload.path, blob)

        def settle() -> None:
            self._write(msgspec.structs.replace(begun, done=kept))  # asked again, it answers the same
            for file in folder.glob("[0-9]*"):
                file.unlink(missing_ok=True)

        self.tx.after_commit.append(settle)
        return kept

    def abort_upload(self, run: str, upload: str, path: str | None = None) -> None:
        self._begun(run, upload, path)
        shutil.rmtree(self.uploads / upload, ignore_errors=True)

    def _begun(self, run: str, upload: str, path: str | None = None) -> _Begun:
        """The record of an upload to this very run, and to this path of it. Raises `NotFound` and `Invalid`."""
        row = reading.row_of(self.tx, run)
        if not re.fullmatch(r"[0-9a-f]{32}", upload) or (self.uploads / upload).is_symlink():
            raise _missing(upload)
        try:
            begun = msgspec.json.decode((self.uploads / upload / _RECORD).read_bytes(), type=_Begun)
        except FileNotFoundError as e:
            raise _missing(upload) from e
        if (begun.project, begun.upload.run) != (self.tx.project, row.id):
            raise _missing(upload)
        if path not in (None, begun.upload.path):
            raise Invalid(
                f"The upload {upload} was begun for the file {begun.upload.path!r}, and not for {path!r}.",
                code="upload-of-another",
                hint="Name the path that it was begun for, or begin another upload.",
            )
        return begun

    def _write(self, begun: _Begun) -> None:
        write_whole(self.uploads / begun.upload.id / _RECORD, msgspec.json.encode(begun), mode=0o600)


def expire(uploads: Path, now: int) -> None:
    """Removes the uploads that got no part for a day, at a time in milliseconds since 1970."""
    for folder in uploads.glob("*"):
        with suppress(FileNotFoundError):  # given up by a call meanwhile
            if folder.stat().st_mtime_ns // 1_000_000 < now - KEPT_MILLISECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _file(folder: Path, number: int, digest: str) -> Path:
    return folder / f"{number:05}-{check_digest(digest)}"


def _joined(upload: str, files: list[Path]) -> Iterator[bytes]:
    """The bytes of all parts; what is not as it was sent is told before the last of it is given."""
    for number, file in enumerate(files, 1):
        state = blake3()
        try:
            with file.open("rb") as part:
                while piece := part.read(_PIECE):
                    state.update(piece)
                    yield piece
        except FileNotFoundError as e:  # joined or given up by another call meanwhile
            raise _part_missing(upload, number) from e
        if state.hexdigest() != file.name.partition("-")[2]:
            raise _part_missing(upload, number)


def _missing(upload: str) -> NotFound:
    return NotFound(
        f"There is no upload {upload[:64]!r} to this run.",
        code="no-upload",
        hint="It was given up, or got no part for a day: begin another one.",
    )


def _part_missing(upload: str, number: int) -> Invalid:
    return Invalid(
        f"Part {number} of the upload {upload} is not here as it is named.",
        code="missing-part",
        hint="Send it again, and name the digest that is answered.",
    )

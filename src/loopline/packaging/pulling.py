"""A registered model version as a folder of its own, with the signature under which the registry keeps it."""

from __future__ import annotations

import os
import tempfile
from hashlib import sha256
from pathlib import Path

import msgspec

from loopline.errors import Conflict, NotFound, Refused
from loopline.failpoints import failpoint
from loopline.packaging.manifest import SIGNATURES, read_manifest
from loopline.packaging.signed import Signed, keep_signature, statement_of
from loopline.packaging.signing import verified
from loopline.ports.files import disk_errors, sync_folder
from loopline.registry.bundle_tar import unpack
from loopline.registry.records import ModelVersion
from loopline.registry.verbs import ModelsVerbs


def pull(models: ModelsVerbs, name: str, version: int | str, into: Path) -> ModelVersion:
    """Fetches a registered version, by number or alias, into a new folder; gives the version.

    Needs nothing but the verbs, so it works over HTTP as well. What comes is held against the signed statement, file by file;
    the folder appears whole or not at all. Of a version that holds files and no bundle it has these files, and no signature.
    Raises `Conflict` where the folder exists, and for a version that is not registered; `NotFound` for one that says only where
    its files are; `Refused` where what came is not what was signed.
    """
    record = models.show(name, version)
    if record.status != "registered":
        raise Conflict(
            f"{record.ref} is {record.status}: only a registered version is served.",
            code="not-registered",
            hint="" if record.status == "withdrawn" else f"loopline models register {name}@{record.version}",
        )
    if not record.forms:
        raise NotFound(
            f"{record.ref} holds no files: it only says where they are.",
            code="no-files",
            hint=f"`loopline models show {name}@{record.version}` has what it says.",
        )
    if into.exists():
        raise Conflict(f"{into} exists already.", code="bundle-exists", hint="Name a folder that is not there yet.")
    signed = msgspec.convert(models.signature(name, record.version), Signed)
    files = statement_of(verified(signed.envelope, signed.public_key))
    into.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(into), tempfile.TemporaryDirectory(prefix=".pulled-", dir=into.parent) as aside:
        whole = Path(aside) / "bundle"
        sizes = unpack(models.bundle(name, record.version).chunks(), whole)
        came = {file: sha256((whole / file).read_bytes()).hexdigest() for file in sizes}
        if came != files:
            wrong = min(f for f in {**files, **came} if files.get(f) != came.get(f))
            raise Refused(
                f"{wrong!r} of {record.ref} is not what was signed.",
                code="bundle-changed",
                hint=f"loopline models verify {name}@{record.version}",
                file=wrong,
            )
        if record.servable:
            read_manifest(whole)
            keep_signature(whole, signed)
        for path in [*(whole / file for file in sizes), *(whole / SIGNATURES).glob("*")]:
            with path.open("rb") as file:
                failpoint("packaging.pull.before_sync")
                os.fsync(file.fileno())
        failpoint("packaging.pull.before_rename")
        whole.rename(into)
        sync_folder(into.parent)
    return record

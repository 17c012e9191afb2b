"""A registered model version as a folder of its own, with the signature under which the registry keeps it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
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

_ASIDE = ".pulled-"
_LOCK = "lock"
_BEGINS = 60.0
"""Seconds that a folder may be without its lock: one that is being made has none yet."""


def pull(models: ModelsVerbs, name: str, version: int | str, into: Path) -> ModelVersion:
    """Fetches a registered version, by number or alias, into a new folder; gives the version.

    Needs nothing but the verbs, so it works over HTTP as well. What comes is held against the signed statement, file by file;
    the folder appears whole or not at all. Of a version that holds files and no bundle it has these files, and no signature.
    Raises `Conflict` where the folder exists, and for a version that is not registered; `NotFound` for one that says only where
    its files are; `Refused` where what came is not what was signed.
    """
    record = models.show(name, version)
    check_registered(record)
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
    sweep(into.parent)
    with disk_errors(into), tempfile.TemporaryDirectory(prefix=_ASIDE, dir=into.parent) as aside, _locked(Path(aside)):
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


def check_registered(record: ModelVersion) -> None:
    """Raises `Conflict` for a version that is a draft, or was withdrawn."""
    if record.status != "registered":
        why = f" ({record.reason})" if record.status == "withdrawn" and record.reason else ""
        raise Conflict(
            f"{record.ref} is {record.status}{why}: only a registered version is served.",
            code="not-registered",
            hint="" if record.status == "withdrawn" else f"loopline models register {record.name}@{record.version}",
        )


def sweep(folder: Path) -> None:
    """Removes what a killed `pull` left in a folder; what one that runs is at is let be: it holds a lock."""
    for aside in folder.glob(f"{_ASIDE}*"):
        with contextlib.suppress(OSError):  # it goes away by itself this moment
            try:
                with (aside / _LOCK).open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except FileNotFoundError:
                if time.time() - aside.stat().st_mtime < _BEGINS:
                    continue
            shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _locked(aside: Path) -> Iterator[None]:
    with (aside / _LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

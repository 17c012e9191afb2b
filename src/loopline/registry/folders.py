"""Bundles as folders on this machine, as workers open them."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.errors import Conflict, Unavailable
from loopline.failpoints import failpoint
from loopline.hashing import digest_file
from loopline.registry.versions import Versions

log = logging.getLogger("loopline.registry")


def folder(versions: Versions, row: Any, under: Path, checked: set[Path]) -> Path:
    """The folder of a version's bundle below `under`; written where it is not there yet.

    It is named by the bundle's digest and appears whole. A folder that is not in `checked` is held against the registry first,
    written anew where it is damaged, and added. Every file is checked as it is written; who opens the folder later checks it
    again (`packaging.manifest.read_manifest`). Raises `Conflict` for a version of plain files, which nothing can run.
    """
    ref = versions.tx.ref("model", row.name, row.version)
    if not row.task:
        raise Conflict(
            f"{ref} holds files, not a bundle, and so cannot be served or evaluated.",
            code="not-a-bundle",
            hint="Make a bundle of the model (loopline models package) and send it: loopline models push.",
        )
    place = under / str(row.bundle).partition(":")[2]
    if place.is_dir():
        if place in checked or _holds(place, row.forms):
            checked.add(place)
            return place
        log.warning("The bundle of %s in %s is damaged; it is fetched anew from the registry.", ref, place)
    under.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=under) as aside:
        whole = Path(aside) / "bundle"
        for name, data in versions.files(row).items():
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            (whole / name).write_bytes(data)
        shutil.rmtree(place, ignore_errors=True)
        failpoint("registry.folder.before_rename")
        with contextlib.suppress(OSError):  # another program was first: its folder holds the same
            whole.rename(place)
    if not place.is_dir():
        raise Unavailable(f"The bundle of {ref} cannot be written to {under}.", code="bundle-unwritten")
    checked.add(place)
    return place


def _holds(place: Path, forms: Mapping[str, str]) -> bool:
    """Whether a folder holds these files, by their digests, and no other."""
    found = {p.relative_to(place).as_posix(): p for p in place.rglob("*") if p.is_symlink() or not p.is_dir()}
    try:
        return found.keys() == forms.keys() and not any(
            path.is_symlink() or digest_file(path) != forms[name] for name, path in found.items()
        )
    except OSError:
        return False

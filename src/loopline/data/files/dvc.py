"""DVC's files: `NAME.dvc` beside a remote in a folder (`files/md5/ab/cdef...`), read into a version and written from one.

The layout is that of DVC 3: a file is named by its MD5, and a folder by a JSON list of its files' MD5 and path, whose own MD5 ends
with ".dir".
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopline.data.files.adding import add
from loopline.data.files.checkout import checkout
from loopline.data.manifest import unfit
from loopline.errors import Conflict, Invalid, NotFound
from loopline.failpoints import failpoint
from loopline.ports.files import TEMPORARY, disk_errors, removed_on_error, write_whole

if TYPE_CHECKING:
    from loopline.data.records import DatasetVersion
    from loopline.data.verbs import FilesVerbs

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_SMALL = 1 << 20


def import_dvc(files: FilesVerbs, name: str, file: Path, remote: Path, *, message: str = "") -> DatasetVersion:
    """Makes what a `.dvc` file names the next version of a dataset; `remote` is a folder that `dvc push` has filled.

    Each file is held against its MD5. Raises `Invalid` for what is no `.dvc` file or leaves its folder, `NotFound` for what the
    remote has not, `Conflict` for what is damaged there.
    """
    out = _read(file)
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="loopline-dvc-") as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        for path, md5 in _listed(out, remote):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch(remote, md5, target)
        return add(
            files, name, folder, states=Path(scratch) / "states", message=message, facts={"dvc": str(out["md5"])}
        )


def export_dvc(files: FilesVerbs, name: str, version: str, file: Path, remote: Path) -> int:
    """Writes a version as a `.dvc` file and puts its files into a remote, for `dvc pull`; gives how many files.

    Raises `Invalid` for a version with links or empty folders, which DVC cannot tell.
    """
    import yaml

    held = files.open(name, version).manifest
    if odd := [*(link.path for link in held.links), *held.folders]:
        raise Invalid(
            f"DVC has no links and no empty folders: {odd[0]} cannot be told.",
            code="not-in-dvc",
            hint="Add a version without them.",
        )
    with disk_errors(remote), tempfile.TemporaryDirectory(prefix="loopline-dvc-") as scratch:
        folder = Path(scratch) / "files"
        checkout(files, name, version, folder, states=Path(scratch) / "states")
        listed = []
        for one in held.files:
            md5 = _md5(folder / one.path)
            _put(remote, md5, folder / one.path)
            listed.append({"md5": md5, "relpath": one.path})
        # DVC's own text of it, byte for byte: its MD5 is the name.
        listing = _json(sorted(listed, key=lambda entry: entry["relpath"]))
        whole = Path(scratch) / "listing"
        whole.write_bytes(listing)
        digest = hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
        _put(remote, digest, whole)
    said = {"md5": digest, "size": held.size, "nfiles": len(held.files), "hash": "md5", "path": file.stem}
    write_whole(file, yaml.safe_dump({"outs": [said]}, sort_keys=False, allow_unicode=True).encode())
    return len(held.files)


def _read(file: Path) -> dict[str, Any]:
    """The one output that a `.dvc` file names."""
    import yaml

    try:
        if file.stat().st_size > _SMALL:
            raise _bad(file, "it is too large")
        said = yaml.safe_load(file.read_bytes())
        (out,) = said["outs"]
        fits = isinstance(out["path"], str) and _MD5.fullmatch(out["md5"])
    except OSError as e:
        raise NotFound(f"{file} cannot be read: {e.strerror}.", code="no-file", hint="Name the .dvc file.") from e
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as e:
        raise _bad(file, "it names no one output with its MD5") from e
    if not fits or unfit(out["path"]) is not None or "/" in out["path"]:
        raise _bad(file, "it names no one output with its MD5")
    return dict(out)


def _listed(out: dict[str, Any], remote: Path) -> list[tuple[str, str]]:
    """The files of an output: their paths and MD5s."""
    md5 = out["md5"]
    if not md5.endswith(".dir"):
        return [(out["path"], md5)]
    place = _object(remote, md5)
    data = place.read_bytes()
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
        raise _damaged(place)
    try:
        entries = msgspec.json.decode(data, type=list[dict[str, Any]])
        found = [(str(entry["relpath"]), str(entry["md5"])) for entry in entries]
    except (msgspec.DecodeError, KeyError) as e:
        raise _bad(place, "it is no list of files") from e
    for path, one in found:
        if unfit(path) is not None or not _MD5.fullmatch(one) or one.endswith(".dir"):
            raise _bad(place, f"{path[:200]!r} is no file of it")
    return found


def _fetch(remote: Path, md5: str, target: Path) -> None:
    place = _object(remote, md5)
    with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, _SMALL)
    if _md5(target) != md5:
        raise _damaged(place)


def _object(remote: Path, md5: str) -> Path:
    place = remote / "files" / "md5" / md5[:2] / md5[2:]
    if place.is_symlink() or not place.is_file():
        raise NotFound(f"The remote {remote} has no {md5}.", code="no-dvc-object", hint="Fill it: dvc push")
    return place


def _put(remote: Path, md5: str, file: Path) -> None:
    place = remote / "files" / "md5" / md5[:2] / md5[2:]
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")
    with removed_on_error(temporary):
        shutil.copyfile(file, temporary)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        failpoint("data.export_dvc.before_rename")
        os.replace(temporary, place)


def _md5(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value, sort_keys=True).encode()


def _bad(file: Path, why: str) -> Invalid:
    return Invalid(f"{file} cannot be taken: {why}.", code="bad-dvc-file", hint="It is what `dvc add` writes.")


def _damaged(place: Path) -> Conflict:
    return Conflict(f"{place} is damaged: its MD5 is another one.", code="dvc-damaged", hint="Push it again: dvc push")

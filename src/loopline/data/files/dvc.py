"""DVC's files: `NAME.dvc` beside a remote in a folder (`files/md5/ab/cdef...`), read into a version and written from one.

The layout is that of DVC 3, of its cache as of its remotes: a file is named by its MD5, and a folder by a JSON list of its files'
MD5 and path, whose own MD5 ends with ".dir".
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopline.data.files.adding import add
from loopline.data.files.checkout import checkout
from loopline.data.files.dvc_repository import cache_of, places_of
from loopline.data.manifest import unfit
from loopline.errors import Conflict, Invalid, NotFound
from loopline.failpoints import failpoint
from loopline.ports.files import TEMPORARY, disk_errors, removed_on_error, write_whole

if TYPE_CHECKING:
    from loopline.data.records import DatasetVersion
    from loopline.data.verbs import FilesVerbs

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_SMALL = 1 << 20


def import_dvc(
    files: FilesVerbs, name: str, file: Path, remote: Path | None = None, *, message: str = ""
) -> DatasetVersion:
    """Makes what a `.dvc` file names the next version of a dataset; `remote` is a folder that `dvc push` has filled.

    Without one it is read from where the file's repository keeps it: its cache, or its default remote. Each file is held against
    its MD5. Raises `Invalid` for what is no `.dvc` file or leaves its folder, `NotFound` for what is not there, `Conflict` for what
    is damaged there.
    """
    out = _read(file)
    places = (remote,) if remote is not None else places_of(file)
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="loopline-dvc-") as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        for path, md5 in _listed(out, places):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch(places, md5, target)
            if out.get("isexec") is True:
                target.chmod(0o755)
        return add(
            files, name, folder, states=Path(scratch) / "states", message=message, facts={"dvc": str(out["md5"])}
        )


def export_dvc(files: FilesVerbs, name: str, version: str, file: Path, remote: Path | None = None) -> tuple[Path, int]:
    """Writes a version as a `.dvc` file and puts its files into a remote, for `dvc pull`; gives where they are, and how many.

    Without a `remote` they go into the cache of the file's repository, for `dvc checkout` and `dvc push`. A version of one file
    that is called as the `.dvc` file is, is that file, else a folder. Raises `Invalid` for one with links or empty folders, which
    DVC cannot tell.
    """
    import yaml

    held = files.open(name, version).manifest
    place = remote if remote is not None else cache_of(file)
    if odd := [*(link.path for link in held.links), *held.folders]:
        raise Invalid(
            f"DVC has no links and no empty folders: {odd[0]} cannot be told.",
            code="not-in-dvc",
            hint="Add a version without them.",
        )
    with disk_errors(place), tempfile.TemporaryDirectory(prefix="loopline-dvc-") as scratch:
        folder = Path(scratch) / "files"
        checkout(files, name, version, folder, states=Path(scratch) / "states")
        listed = []
        for one in held.files:
            md5 = _md5(folder / one.path)
            _put(place, md5, folder / one.path)
            listed.append({"md5": md5, "relpath": one.path})
        said: dict[str, Any]
        if [one["relpath"] for one in listed] == [file.stem]:
            executable = {"isexec": True} if held.files[0].executable else {}
            said = {"md5": listed[0]["md5"], "size": held.size, **executable, "hash": "md5", "path": file.stem}
        else:
            # DVC's own text of it, byte for byte: its MD5 is the name.
            listing = _json(sorted(listed, key=lambda entry: entry["relpath"]))
            whole = Path(scratch) / "listing"
            whole.write_bytes(listing)
            digest = hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
            _put(place, digest, whole)
            said = {"md5": digest, "size": held.size, "nfiles": len(listed), "hash": "md5", "path": file.stem}
    write_whole(file, yaml.safe_dump({"outs": [said]}, sort_keys=False, allow_unicode=True).encode())
    return place, len(listed)


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


def _listed(out: dict[str, Any], places: Sequence[Path]) -> list[tuple[str, str]]:
    """The files of an output: their paths and MD5s."""
    md5 = out["md5"]
    if not md5.endswith(".dir"):
        return [(out["path"], md5)]
    place = _object(places, md5)
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


def _fetch(places: Sequence[Path], md5: str, target: Path) -> None:
    place = _object(places, md5)
    with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, _SMALL)
    if _md5(target) != md5:
        raise _damaged(place)


def _object(places: Sequence[Path], md5: str) -> Path:
    for one in places:
        place = one / "files" / "md5" / md5[:2] / md5[2:]
        if place.is_file() and not place.is_symlink():
            return place
    raise NotFound(
        f"There is no {md5} in {' or '.join(map(str, places))}.",
        code="no-dvc-object",
        hint="Bring it into the cache (dvc fetch), or into a remote that is a folder (dvc push).",
    )


def _put(home: Path, md5: str, file: Path) -> None:
    place = home / "files" / "md5" / md5[:2] / md5[2:]
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")
    with removed_on_error(temporary):
        shutil.copyfile(file, temporary)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o444)  # as DVC keeps what it may link
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

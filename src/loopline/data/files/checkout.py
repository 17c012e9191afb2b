"""A version of files as a folder: whole objects are linked, read-only; chunked ones are put together."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopline.data.files.pack import unpacked
from loopline.data.files.scan import Found, scan, stamp
from loopline.data.files.state import State, changes, is_file, now, read_state, write_state
from loopline.data.manifest import File, Manifest, check, parents
from loopline.errors import Conflict
from loopline.failpoints import failpoint
from loopline.ports.files import TEMPORARY, disk_errors, removed_on_error
from loopline.store.local import placed

if TYPE_CHECKING:
    from loopline.data.verbs import FilesVerbs

_BATCH = 16 << 20
_FETCHED = f"{TEMPORARY}objects"


class CheckedOut(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkout did: files placed, those that were there already, and what of the version before was removed."""

    ref: str
    folder: str
    placed: int
    same: int
    removed: int
    bytes: int


def checkout(
    files: FilesVerbs,
    name: str,
    version: str,
    folder: Path,
    *,
    states: Path,
    force: bool = False,
    writable: bool = False,
) -> CheckedOut:
    """Makes a folder hold a version, by the verbs of a session. What else is in it stays.

    It can be ended anywhere and done again: a file is whole under its name, or not there. Raises `Conflict` (code
    "checkout-changed", nothing is written) where files were changed by hand, unless it is forced.
    """
    opened = files.open(name, version)
    wanted = opened.manifest
    check(wanted)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        begun = now()
        plan = _Plan(folder, wanted, scan(folder), read_state(states, folder), writable)
        if plan.foreign and not force:
            some = ", ".join(sorted(plan.foreign)[:10])
            more = f" and {len(plan.foreign) - 10:,} more" if len(plan.foreign) > 10 else ""
            raise Conflict(
                f"In {folder} what is not as in a version would be lost: {some}{more}.",
                code="checkout-changed",
                hint="Add the folder as a version first, or check out with --force.",
            )
        plan.clear()
        stores = _fetched(files, name, str(opened.version), folder, Path(opened.store), plan.place)
        for file in plan.place:
            _place(folder / file.path, file, stores, writable)
        for link in wanted.links:
            if plan.found.links.get(link.path) != link:
                failpoint("data.checkout.before_link")
                os.symlink(link.target, folder / link.path)
        for path in wanted.folders:
            (folder / path).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / _FETCHED, ignore_errors=True)
    stamps = {file.path: stamp((folder / file.path).lstat()) for file in wanted.files}
    failpoint("data.checkout.before_state")
    write_state(states, folder, State(ref=opened.ref, manifest=wanted, stamps=stamps, time=begun))
    return CheckedOut(
        ref=opened.ref,
        folder=str(folder),
        placed=len(plan.place),
        same=len(wanted.files) - len(plan.place),
        removed=plan.gone,
        bytes=sum(file.size for file in plan.place),
    )


class _Plan:
    """What is to be done to a folder: `place` are files that are not there as they should be, `foreign` what nobody has kept."""

    def __init__(self, folder: Path, wanted: Manifest, found: Found, known: State | None, writable: bool) -> None:
        self.folder, self.wanted, self.found = folder, wanted, found
        self.gone = 0
        before = known.manifest if known is not None else Manifest()
        changed, stamps = changes(known, folder, found, known.unchanged()) if known is not None else (set(), {})
        old = {file.path: file for file in before.files if file.path in stamps}  # as they were kept
        target = {file.path: file for file in wanted.files}
        links = {link.path: link for link in wanted.links}
        self.place = [file for file in wanted.files if not self._is_there(file, old.get(file.path), writable)]
        above = parents((*target, *links, *wanted.folders))
        mine = {*old, *(link.path for link in before.links if found.links.get(link.path) == link)}
        leaves = {*found.files, *found.links, *found.odd}
        replaced = {file.path for file in self.place}
        wrong = {
            path
            for path in leaves
            if path in replaced
            or path in above
            or path in wanted.folders
            or (path in links and found.links.get(path) != links[path])
            or (path in target and path not in found.files)
        }
        stale = {path for path in (*old, *changed, *(link.path for link in before.links)) if path in leaves} - {
            *target, *links
        }  # fmt: skip
        inside = {path for path in leaves if any(up in target or up in links for up in parents([path]))}
        blocked = {
            path for path in found.folders if any(up in target or up in links for up in (path, *parents([path])))
        }
        self.remove = wrong | stale | inside
        self.foreign = self.remove - mine
        # A kept file whose bytes are those that are wanted needs other rights only.
        self.foreign -= {path for path in self.foreign if path in target and self._same_bytes(target[path])}
        self.empty = blocked | {path for path in before.folders if path in found.folders and path not in wanted.folders}

    def clear(self) -> None:
        """Removes what is in the way, and what only the version before had; makes the folders."""
        placed_anew = {file.path for file in self.place}
        for path in sorted(self.remove):
            failpoint("data.checkout.before_remove")
            (self.folder / path).unlink()
            self.gone += path not in placed_anew
        for path in self.found.left:
            left = self.folder / path
            if left.name != _FETCHED:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        emptied = {*parents((*self.remove, *self.empty)), *self.empty} - parents(
            (*(f.path for f in self.wanted.files), *(link.path for link in self.wanted.links), *self.wanted.folders)
        )
        for path in sorted(emptied, reverse=True):
            with contextlib.suppress(OSError):  # something else is in it
                (self.folder / path).rmdir()
        for path in sorted(parents((*(f.path for f in self.place), *(link.path for link in self.wanted.links)))):
            (self.folder / path).mkdir(exist_ok=True)

    def _is_there(self, file: File, kept: File | None, writable: bool) -> bool:
        there = self.found.files.get(file.path)
        if there is None or bool(there.st_mode & 0o100) != file.executable:
            return False
        if writable and not there.st_mode & 0o200:  # it may be the store's own
            return False
        return kept.digest == file.digest if kept is not None else self._same_bytes(file)

    def _same_bytes(self, file: File) -> bool:
        there = self.found.files.get(file.path)
        return there is not None and is_file(self.folder / file.path, file, there)


def _fetched(
    files: FilesVerbs, name: str, version: str, folder: Path, store: Path, place: Iterable[File]
) -> tuple[Path, ...]:
    """Where the objects of the files are: in the store where it is on this machine, the others fetched from the platform."""
    here = folder / _FETCHED
    stores = (store, here)
    wanted = {part.digest: part.size for file in place for part in file.objects}
    missing = [(digest, size) for digest, size in wanted.items() if _object(stores, digest, size) is None]
    for some in _batches(missing):
        asked = tuple(some)
        for digest, data in unpacked([files.objects(name, version, asked).read()]):
            path = placed(here, digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = here / f"{TEMPORARY}{os.getpid()}"
            with removed_on_error(temporary):
                temporary.unlink(missing_ok=True)
                with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
                    file.write(data)
                failpoint("data.checkout.fetched")
                os.replace(temporary, path)
    return stores


def _batches(objects: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for digest, length in objects:
        some.append(digest)
        size += length
        if size >= _BATCH:
            yield some
            some, size = [], 0
    if some:
        yield some


def _object(stores: Iterable[Path], digest: str, size: int) -> Path | None:
    for store in stores:
        path = placed(store, digest)
        try:
            found = path.lstat()
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_size == size:
            return path
    return None


def _place(path: Path, file: File, stores: tuple[Path, ...], writable: bool) -> None:
    """Puts a file under its name, whole. Nothing is there."""
    parts = [_there(stores, part.digest, part.size) for part in file.objects]
    if not (file.chunks or writable or file.executable):
        try:
            failpoint("data.checkout.before_place")
            os.link(parts[0], path)
            return
        except OSError as e:
            if e.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
                raise
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")
    mode = (0o644 if writable else 0o444) | (0o111 if file.executable else 0)
    with removed_on_error(temporary):
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as out:
            for part in parts:
                failpoint("data.checkout.write")
                with part.open("rb", buffering=0) as source:
                    _copy(source.fileno(), out.fileno())
            os.fchmod(out.fileno(), mode)
        failpoint("data.checkout.before_rename")
        os.rename(temporary, path)


def _there(stores: tuple[Path, ...], digest: str, size: int) -> Path:
    found = _object(stores, digest, size)
    if found is None:
        raise Conflict(
            f"The object {digest} is missing or damaged.",
            code="object-missing",
            hint="`loopline doctor` compares the store with what refers to it.",
        )
    return found


def _copy(source: int, target: int) -> None:
    """All bytes of an open file behind those of another, by the system itself."""
    while os.sendfile(target, source, None, 1 << 30):
        pass

"""Manifests: what a version of files holds, by path. What one says is checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from loopline.errors import Invalid
from loopline.hashing import digest_bytes
from loopline.ports.blobs import check_digest

WHOLE = 1 << 20
"""A file of fewer bytes is kept as one object; any other is cut into chunks where its content says so."""

LARGEST = 4 << 20
"""Bytes of the largest object: no chunk is longer."""

_NOWHERE = frozenset(("", ".", ".."))


class Chunk(msgspec.Struct, frozen=True):
    """A part of a large file, which is kept as an object of its own."""

    digest: str
    size: int


class File(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of a version: `digest` is of all its bytes, `chunks` are its parts in their order (none: it is kept whole)."""

    path: str
    size: int
    digest: str
    executable: bool = False
    chunks: tuple[Chunk, ...] = ()

    @property
    def objects(self) -> tuple[Chunk, ...]:
        """What is kept of it, in its order."""
        return self.chunks or (Chunk(self.digest, self.size),)


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A symbolic link that points to something inside of its folder."""

    path: str
    target: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that a folder holds, each sorted by path; `folders` are those with nothing in them."""

    files: tuple[File, ...] = ()
    links: tuple[Link, ...] = ()
    folders: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """Of what it says: the same for the same content."""
        return digest_bytes(self.encoded())

    def encoded(self) -> bytes:
        """Its one JSON text."""
        return msgspec.json.encode(self)

    def objects(self) -> dict[str, int]:
        """The sizes of all objects that it needs, by digest."""
        return {part.digest: part.size for file in self.files for part in file.objects}


class FilesDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What changed from one version of files to another one, by path."""

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    same: int
    """How many files, links and empty folders are in both, alike."""


def decode(data: bytes) -> Manifest:
    """The manifest of its JSON text. Raises `Invalid` (code "bad-manifest") on one that is none or that `check` refuses."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest, strict=True)
    except msgspec.DecodeError as e:
        raise _bad(f"it cannot be read: {e}") from e
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Raises `Invalid` where it could write outside of its folder, or does not fit together."""
    for file in manifest.files:
        _check_file(file)
    for link in manifest.links:
        if not _stays(link):
            raise _bad(f"the link {link.path!r} points outside, to {link.target!r}")
    leaves: set[str] = set()
    for path in (*(f.path for f in manifest.files), *(link.path for link in manifest.links), *manifest.folders):
        if (why := unfit(path)) is not None:
            raise _bad(f"{path[:200]!r} {why}")
        if path in leaves:
            raise _bad(f"{path!r} is there twice")
        leaves.add(path)
    for folder in parents(leaves):
        if folder in leaves:
            raise _bad(f"{folder!r} is a folder and something else")
    for paths in ([f.path for f in manifest.files], [link.path for link in manifest.links], list(manifest.folders)):
        if paths != sorted(paths):
            raise _bad("its paths are not sorted")


def unfit(path: str) -> str | None:
    """Why a path cannot be one of a version; None where it can."""
    parts = path.split("/")
    if "\0" in path or not _NOWHERE.isdisjoint(parts):
        return "is no path inside of a folder"
    try:
        long = len(path.encode()) > 255  # few are, and each is asked
        if long and (any(len(part.encode()) > 255 for part in parts) or len(path) > 4096):
            return "is too long"
    except UnicodeEncodeError:
        return "is not UTF-8"
    if ".git" in path.casefold().split("/"):
        return "is of a Git repository, which is no data"
    return None


def points_inside(path: str, target: str) -> bool:
    """Whether a link stays inside of its folder, whatever other links it goes through: it climbs first, and not too far."""
    parts = target.split("/")
    up = 0
    while up < len(parts) and parts[up] in ("..", "."):
        up += 1
    climbed = parts[:up].count("..")
    return (
        bool(target) and not target.startswith("/") and ".." not in parts[up:] and climbed <= path.count("/")
    )  # fmt: skip


def parents(paths: Iterable[str]) -> set[str]:
    """All folders that the paths are in, at any depth."""
    found: set[str] = set()
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in found:
            found.add(path)
    return found


def difference(before: Manifest, after: Manifest, names: tuple[str, str]) -> FilesDiff:
    """What changed from one manifest to another one."""
    old, new = _content(before), _content(after)
    changed = sorted(path for path in old.keys() & new.keys() if old[path] != new[path])
    return FilesDiff(
        before=names[0],
        after=names[1],
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(changed),
        same=len(old.keys() & new.keys()) - len(changed),
    )


def _content(manifest: Manifest) -> dict[str, tuple[str, str]]:
    return {
        **{file.path: (file.digest, "executable" if file.executable else "file") for file in manifest.files},
        **{link.path: (link.target, "link") for link in manifest.links},
        **dict.fromkeys(manifest.folders, ("", "folder")),
    }


def _check_file(file: File) -> None:
    check_digest(file.digest)
    for part in file.chunks:
        check_digest(part.digest)
    sizes = [part.size for part in file.objects]
    fits = sum(sizes) == file.size and all(0 <= size <= LARGEST for size in sizes)
    if not fits or (not file.chunks and file.size >= WHOLE):
        raise _bad(f"the parts of {file.path!r} do not come to its {file.size:,} bytes")


def _stays(link: Link) -> bool:
    return "\0" not in link.target and points_inside(link.path, link.target)


def _bad(why: str) -> Invalid:
    return Invalid(f"This is no manifest of files: {why}.", code="bad-manifest", hint="Add the folder again.")

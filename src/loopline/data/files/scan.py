"""What is in a folder, as it is now: regular files with their stat, links that stay inside, folders with nothing in them."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from loopline.data.manifest import Link, points_inside, unfit
from loopline.errors import Invalid, LooplineError, Refused
from loopline.ports.files import TEMPORARY


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds, by path.

    `odd` is what cannot be kept, with the error that says why; `left` is what checkouts that were ended have left in it.
    """

    files: dict[str, os.stat_result]
    links: dict[str, Link]
    folders: tuple[str, ...]
    odd: dict[str, LooplineError]
    left: tuple[str, ...]


def scan(root: Path) -> Found:
    """Looks through a folder, following no link. Raises `Invalid` for a folder that cannot be read.

    Odd is what is no file (a socket, a device), a link to the outside, or has a name that cannot be kept.
    """
    files: dict[str, os.stat_result] = {}
    links: dict[str, Link] = {}
    folders: list[str] = []
    odd: dict[str, LooplineError] = {}
    left: list[str] = []
    waiting = [""]
    while waiting:
        place = waiting.pop()
        empty = True
        for entry in _entries(root, place):
            empty = False
            path = f"{place}/{entry.name}" if place else entry.name
            if entry.name.startswith(TEMPORARY):
                left.append(path)
            elif entry.is_symlink():
                links[path] = link = Link(path=path, target=os.readlink(entry))
                if not points_inside(path, link.target):
                    odd[path] = _outside(root, link)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            else:
                files[path] = found = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    odd[path] = Refused(
                        f"{root / path} is {_KINDS.get(stat.S_IFMT(found.st_mode), 'no file')}, which cannot be kept.",
                        code="not-a-file",
                        hint="Move it out of the folder.",
                    )
        if empty and place:
            folders.append(place)
    for path in (*files, *links, *folders):
        if (why := unfit(path)) is not None:
            odd[path] = _misnamed(root, path, why)
    return Found(
        files={path: there for path, there in files.items() if path not in odd},
        links={path: link for path, link in links.items() if path not in odd},
        folders=tuple(path for path in folders if path not in odd),
        odd=odd,
        left=tuple(left),
    )


def collisions(paths: Iterable[str]) -> list[tuple[str, ...]]:
    """Paths that are one and the same where upper and lower case are."""
    alike: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        alike[path.casefold()].append(path)
    return [tuple(same) for same in alike.values() if len(same) > 1]


def stamp(found: os.stat_result) -> tuple[int, int, int]:
    """By what a file that has not changed is known again: its size, when it was changed (nanoseconds), its inode."""
    return found.st_size, found.st_mtime_ns, found.st_ino


def unreadable(path: Path | str, why: OSError) -> Invalid:
    """What is told of a file or folder that cannot be read."""
    return Invalid(
        f"{path} cannot be read: {why.strerror}.", code="unreadable-file", hint="Give yourself access, or move it away."
    )


_KINDS = {
    stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device",
}  # fmt: skip


def _entries(root: Path, place: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(root / place) as entries:
            yield from entries
    except OSError as e:
        raise unreadable(root / place, e) from e


def _outside(root: Path, link: Link) -> Refused:
    return Refused(
        f"{root / link.path} is a link to {link.target}, and only one that stays inside of the folder can be kept.",
        code="link-outside",
        hint="Put the file itself there, or a relative link that does not leave the folder.",
    )


def _misnamed(root: Path, path: str, why: str) -> Invalid:
    said = str(root / path).encode("utf-8", "backslashreplace").decode()
    return Invalid(
        f"{said} cannot be kept: its name {why}.",
        code="bad-file-name",
        hint="Give it another name, or move it away.",
    )

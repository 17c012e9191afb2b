"""A file, the files of a folder, or those of a pattern, as a source of rows.

One file is a whole table. A folder and a pattern grow: each file is taken once, in the order of names, and what comes later goes
behind (a link to another one of them is that one); `whole=True` takes all files anew whenever one of them changed. Names that begin
with a dot or an underscore, and those that end in .tmp or .part, are not looked at: programs write there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from loopline.errors import Conflict, Invalid, NotFound, did_you_mean
from loopline.ports.source import Piece, Position

_UNFINISHED = (".tmp", ".part")
_PATTERN = frozenset("*?[")


def is_pattern(address: str) -> bool:
    """Whether an address names files by a pattern (`visits/*.csv`) and no file is called just so."""
    return not _PATTERN.isdisjoint(address) and not Path(address).exists()


class FolderSource:
    """Files by their path, that of a folder above them, or a pattern; `**` in a pattern goes down through folders.

    Raises `NotFound` where there is none, `Invalid` (code "source-outside") for a link that leads out of the folder.
    """

    def __init__(self, address: str, *, whole: bool = False) -> None:
        self._address = address
        path = Path(address)
        if is_pattern(address):
            parts = path.parts
            fixed = next(i for i, part in enumerate(parts) if not _PATTERN.isdisjoint(part))
            self._root, self._pattern = Path(*parts[:fixed]), str(Path(*parts[fixed:]))
        elif path.is_dir():
            self._root, self._pattern = path, "**/*"
        else:
            self._root, self._pattern = path.parent, ""
        self._file = path
        self._whole = whole

    @property
    def name(self) -> str:
        """The path as it was given."""
        return self._address

    @property
    def grows(self) -> bool:
        """Whether later files go behind; of one file never."""
        return bool(self._pattern) and not self._whole

    @property
    def once(self) -> bool:
        """Never: it stays where it is."""
        return False

    def read(self, after: Position | None) -> Iterator[Piece]:
        """A piece a file. Raises `Conflict` (code "source-changed") where a file that was taken has changed since."""
        taken: dict[str, list[int]] = dict((after or {}).get("files", {}))
        files = {str(file.relative_to(self._root)): _state(file) for file in self._files()}
        if not self.grows:
            if files == taken:
                return
            taken = {}
        for name, state in files.items():
            if taken.get(name, state) != state:
                raise Conflict(
                    f"{name} of {self._address} was taken, and has changed since.",
                    code="source-changed",
                    hint="Give what is new as a file of its own; or add it again with --option whole=true, which reads all anew.",
                )
        for name in [name for name in files if name not in taken]:
            taken = {**taken, name: files[name]}
            yield Piece(name=name, position={"files": taken}, file=self._root / name)

    def done(self, position: Position) -> None:
        """Nothing: files stay as they are."""

    def close(self) -> None:
        """Nothing: no file is held open."""

    def _files(self) -> list[Path]:
        if not self._pattern:
            if not self._file.is_file():
                there = [one.name for one in self._root.iterdir() if one.is_file()] if self._root.is_dir() else []
                beside = f" {did_you_mean(self._file.name, there)}" if there else ""
                raise NotFound(
                    f"There is no file {self._address}.",
                    code="no-file",
                    hint=f"Looked in {self._root.absolute()}.{beside}",
                )
            return [self._file]
        if not self._root.is_dir():
            raise NotFound(f"There is no folder {self._root}.", code="no-file", hint="Look at its name.")
        within, real = self._root.resolve(), dict[Path, list[Path]]()
        for path in sorted(path for path in self._root.glob(self._pattern) if self._meant(path)):
            target = Path(os.path.realpath(path))
            if not target.is_relative_to(within):
                raise Invalid(
                    f"{path.relative_to(self._root)} in {self._root} is a link that leads out of the folder.",
                    code="source-outside",
                    hint="Copy what it leads to into the folder, or collect it by its own address.",
                )
            if path.is_file():
                real.setdefault(target, []).append(path)
        # Each once: by its own name where that is meant, too, and not by that of a link to it or to its folder.
        found = sorted(
            min(paths, key=lambda path: (within / path.relative_to(self._root) != target, path.is_symlink(), path))
            for target, paths in real.items()
        )
        if not found:
            raise NotFound(
                f"There is no file in {self._address}.",
                code="no-file",
                hint="Names that begin with . or _ and that end in .tmp or .part are not looked at.",
            )
        return found

    def _meant(self, path: Path) -> bool:
        names = path.relative_to(self._root).parts
        there = path.is_file() or path.is_symlink()
        return there and not path.name.endswith(_UNFINISHED) and not any(n.startswith((".", "_")) for n in names)


def _state(file: Path) -> list[int]:
    """What tells whether a file is as it was: its size, and when it was written (microseconds)."""
    stat = os.stat(file)
    return [stat.st_size, stat.st_mtime_ns // 1000]

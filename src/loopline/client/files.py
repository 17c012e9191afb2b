"""Which files an artifact is: the one that is named, or those of a folder but for what nobody means to give away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from loopline.errors import Invalid, NotFound
from loopline.settings import WORKSPACE
from loopline.tracking.masking import secret_file
from loopline.tracking.paths import check_path

_VERSION_CONTROL = frozenset({".git", ".svn", ".hg"})
_MOST_NAMED = 5


class Chosen(NamedTuple):
    """Files, each with the path that it has in the run, and what of the folder is not among them: paths and why."""

    files: list[tuple[Path, str]]
    left_out: list[tuple[str, str]]

    def told(self) -> str:
        """What is left out, in one line."""
        named = ", ".join(f"{name} ({why})" for name, why in self.left_out[:_MOST_NAMED])
        more = len(self.left_out) - _MOST_NAMED
        return f"{len(self.left_out)} left out: {named}" + (f" and {more} more" if more > 0 else "")


def chosen(path: str | Path, name: str | Path | None, workspace: Path) -> Chosen:
    """The files of an artifact at `path`, which is to be called `name` (else as it is called there).

    Of a folder, workspaces, version control, environments of Python, caches, names that say secrets, and links to folders are
    left out. Raises `NotFound` (code "no-file"); `Invalid` (code "private-file") where what is named is itself of these.
    """
    if not isinstance(path, str | Path) or not isinstance(name, str | Path | None):
        raise Invalid(
            f"An artifact cannot be of {path!r} and {name!r}.",
            code="bad-arguments",
            hint='Give a path and perhaps a name: run.artifact("roc.png", "plots/roc.png").',
        )
    source = Path(path)
    try:
        target = source.resolve()
    except (OSError, RuntimeError, ValueError) as e:  # a link to itself; a zero byte
        raise Invalid(f"{str(path)!r} cannot be a path: {e}.", code="bad-arguments", hint="Look at the path.") from e
    kept = check_path(target.name if name is None else name.as_posix() if isinstance(name, Path) else name)
    if not (source.is_dir() or source.is_file()):
        raise NotFound(f"There is no file {source}.", code="no-file", hint=f"Looked for it from {Path.cwd()}.")
    own = workspace.resolve()
    if why := _private(source, own) or _private(target, own) or _around(target, own):
        raise Invalid(
            f"{source} is not kept as an artifact: {why}.",
            code="private-file",
            hint="If others may see it, copy it to a place and a name that say so, and give that.",
        )
    found = _below(source, kept, own) if source.is_dir() else Chosen([(source, kept)], [])
    for _, place in found.files:
        check_path(place)
    return found


def _below(source: Path, kept: str, workspace: Path) -> Chosen:
    found = Chosen([], [])

    def leave(path: str | Path, why: str) -> None:
        found.left_out.append((Path(path).relative_to(source).as_posix(), why))

    for above, folders, files in os.walk(source, onerror=lambda e: leave(e.filename, "cannot be read")):
        inner = []
        for folder in (Path(above, name) for name in sorted(folders)):
            if why := "a link to a folder" if folder.is_symlink() else _private(folder, workspace) or _no_work(folder):
                leave(folder, why)
            else:
                inner.append(folder.name)
        folders[:] = inner
        for file in (Path(above, name) for name in sorted(files)):
            why = _private(file, workspace)
            if file.is_symlink() and not why:
                target = file.resolve() if file.exists() else None
                why = (_private(target, workspace) or _around(target, workspace)) if target else "a broken link"
            if why or not file.is_file():
                leave(file, why or "no file")
            else:
                found.files.append((file, f"{kept}/{file.relative_to(source).as_posix()}"))
    found.files.sort()
    return found


def _private(path: Path, workspace: Path) -> str:
    """Why a file or folder is not for others to see, by itself; empty where it is."""
    if path.name == WORKSPACE or path == workspace or (path / "loopline.db").is_file() or _same(path, workspace):
        return "a workspace, with its keys"
    if path.name in _VERSION_CONTROL:
        return "version control"
    return "its name says that it holds secrets" if secret_file(path.name) else ""


def _around(path: Path, workspace: Path) -> str:
    """Why what is in the folders above a path is not for others to see; a folder's name alone says nothing then."""
    for above in path.parents:
        why = _private(above, workspace)
        if why and not secret_file(above.name):
            return f"it is within {above} ({why})"
    return ""


def _no_work(folder: Path) -> str:
    if (folder / "pyvenv.cfg").is_file():
        return "an environment of Python"
    return "a cache" if folder.name == "__pycache__" else ""


def _same(path: Path, workspace: Path) -> bool:
    return path.is_dir() and workspace.is_dir() and path.samefile(workspace)

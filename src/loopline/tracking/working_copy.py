"""The state of the code that runs: the commit (Git) or revision (Subversion) of its working copy, and a patch of what differs.

The patch applied to a clean checkout of that commit gives the same tree again: `git apply code/patch.diff`, or `svn patch`. It
holds new files, too, where the version control does not ignore them. Large files, and those whose names say that they hold
secrets, are left out and named.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from loopline.hashing import digest_bytes
from loopline.tracking.masking import secret_file
from loopline.tracking.paths import escaped

LARGEST_PATCH = 1 << 20
"""Bytes of a patch that is kept, and of a file that may be part of it."""

_MOST_NAMED = 100
_SECONDS = 10


class WorkingCopy(NamedTuple):
    """What is known of the code. `facts` are JSON values for a run's environment; `patch` is empty where nothing differs.

    The facts are, as far as there is a working copy: `commit` and `branch`, or `revision`; `remote`, without what it says of
    users and passwords; `dirty`: whether anything differs; `patch`: the digest of the patch; `left_out`: files that differ and
    are not in it.
    """

    facts: dict[str, Any]
    patch: bytes


def working_copy(folder: Path) -> WorkingCopy:
    """The state of the working copy that `folder` is in, of Git or of Subversion; without facts where it is in none.

    A version control that is broken, slow or not installed is the same as no working copy: it never fails.
    """
    for place in (folder.absolute(), *folder.absolute().parents):
        if (place / ".git").exists():
            return _git(place) or WorkingCopy({}, b"")
        if (place / ".svn").is_dir():
            return _subversion(place) or WorkingCopy({}, b"")
    return WorkingCopy({}, b"")


def commit_of(folder: Path) -> dict[str, str]:
    """The `commit` of the Git working copy that a folder is in, and whether files that it tracks differ (`dirty`: yes or no).

    Nothing where it is in none; as `working_copy`, it never fails.
    """
    told = _ask_git(folder, "status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=no")
    entries = told.split(b"\0") if told else []
    head = next((os.fsdecode(e).split(" ")[2] for e in entries if e.startswith(b"# branch.oid ")), "(initial)")
    if head == "(initial)":
        return {}
    return {"commit": head, "dirty": "yes" if any(e and not e.startswith(b"#") for e in entries) else "no"}


def ignored(folder: Path) -> bool:
    """Whether nothing in a folder would be added to a Git repository: it is in none, or Git ignores it."""
    if _ask_git(folder, "rev-parse", "--git-dir") is None:
        return True
    return _ask_git(folder.parent, "check-ignore", "--quiet", "--", folder.name) is not None


def _git(root: Path) -> WorkingCopy | None:
    told = _ask_git(
        root,
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--no-renames",
        "--untracked-files=all",
        "--ignore-submodules=dirty",
    )
    if told is None:
        return None
    heads: dict[str, str] = {}
    changed: list[str] = []
    unknown: list[str] = []
    for entry in map(os.fsdecode, told.split(b"\0")):
        match entry[:1]:
            case "#":
                _, name, value = entry.split(" ", 2)
                heads[name] = escaped(value)
            case "1":
                changed.append(entry.split(" ", 8)[8])
            case "u":
                changed.append(entry.split(" ", 10)[10])
            case "?":
                unknown.append(entry[2:])
    if heads.get("branch.oid", "(initial)") == "(initial)":
        return None
    facts: dict[str, Any] = {"commit": heads["branch.oid"]}
    if heads.get("branch.head", "(detached)") != "(detached)":
        facts["branch"] = heads["branch.head"]
    remote = _ask_git(root, "config", "--get", "remote.origin.url")
    if remote:
        facts["remote"] = _without_user(remote.decode(errors="replace").strip())
    wanted = [name for name in unknown if _belongs(root, name)]
    hidden = [name for name in changed if not _belongs(root, name)]
    patch = _git_patch(root, wanted, hidden) if wanted or len(hidden) < len(changed) else b""
    return _with_patch(facts, patch, [*changed, *unknown], [*hidden, *(n for n in unknown if n not in set(wanted))])


def _git_patch(root: Path, wanted: list[str], hidden: list[str]) -> bytes | None:
    """The difference to the commit, with the new files `wanted` and without `hidden`; None where it cannot be had."""
    diff = (
        *("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "-c", "diff.relative=false"),
        *(
            "diff",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--no-renames",
            "--binary",
            "--ignore-submodules=dirty",
        ),
        *("HEAD", "--", ".", *(f":(top,exclude,literal){name}" for name in hidden)),
    )
    if not wanted:
        return _ask_git(root, *diff)
    # New files become part of a difference once an index says that they will be added: one of our own, beside the user's,
    # with a place of its own for the objects that Git writes then. Nothing of the user's repository is touched.
    places = _ask_git(root, "rev-parse", "--git-path", "index", "--git-path", "objects")
    if places is None:
        return None
    index, objects = (root / os.fsdecode(line) for line in places.splitlines())
    with tempfile.TemporaryDirectory(prefix="loopline-") as aside:
        own = Path(aside, "index")
        if index.exists():
            own.write_bytes(index.read_bytes())
        Path(aside, "objects").mkdir()
        environment = {
            "GIT_INDEX_FILE": str(own),
            "GIT_OBJECT_DIRECTORY": str(Path(aside, "objects")),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        add = ("--literal-pathspecs", "add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
        given = b"\0".join(map(os.fsencode, wanted))
        if _ask_git(root, *add, environment=environment, stdin=given) is None:
            return None
        return _ask_git(root, *diff, environment=environment)


def _subversion(root: Path) -> WorkingCopy | None:
    told = _ask_svn(root, "info", ".")
    mixed = _answer(["svnversion", "--no-newline", "."], root)
    states = _ask_svn(root, "status", "--ignore-externals", ".")
    if told is None or mixed is None or states is None:
        return None
    info = dict(line.split(": ", 1) for line in told.decode(errors="replace").splitlines() if ": " in line)
    # svnversion says "4168:4181MS" of files of several revisions, some of them modified: the letters are told by `dirty`.
    facts: dict[str, Any] = {
        "revision": mixed.decode().rstrip("MSP") or info.get("Revision", ""),
        "remote": _without_user(info.get("URL", "")),
    }
    changed: list[str] = []
    unknown: list[str] = []
    for line in states.decode(errors="surrogateescape").splitlines():
        name = line[8:]
        if line[:1] == "?":
            unknown += _files(root, name)
        elif name and (line[0] not in " XI>" or line[1:2] not in (" ", "")):
            changed.append(name)
    hidden = [name for name in changed if not _belongs(root, name)]
    shown = [name for name in changed if _belongs(root, name)]
    # A folder that was added brings all its files, those that are hidden, too; so where some are, files are named one by one.
    targets = [name for name in shown if not (root / name).is_dir()] if hidden else ["."]
    diff = _ask_svn(root, "diff", "--git", "--internal-diff", *targets)
    added = {name: text for name in unknown if (text := _as_added(root, name)) is not None}
    patch = None if diff is None else (diff if targets else b"") + b"".join(added.values())
    return _with_patch(facts, patch, [*changed, *unknown], [*hidden, *(n for n in unknown if n not in added)])


def _as_added(root: Path, name: str) -> bytes | None:
    """A new file as a patch that adds it, where it is text (Subversion's `diff` knows none that are not added yet)."""
    if not _belongs(root, name):
        return None
    try:
        content = Path(root, name).read_bytes()
        content.decode()
    except (OSError, UnicodeDecodeError):
        return None
    path = os.fsencode(name)
    head = b"Index: %s\n%s\ndiff --git a/%s b/%s\nnew file mode 100644\n" % (path, b"=" * 67, path, path)
    if not content:
        return head
    lines = content.split(b"\n")
    end = b"" if lines[-1] == b"" else b"\n\\ No newline at end of file\n"
    lines = lines if lines[-1] else lines[:-1]
    count = b"+1" if len(lines) == 1 else b"+1,%d" % len(lines)
    marks = b"--- a/%s\t(nonexistent)\n+++ b/%s\t(working copy)\n@@ -0,0 %s @@\n" % (path, path, count)
    return head + marks + b"\n".join(b"+" + line for line in lines) + (end or b"\n")


def _with_patch(facts: dict[str, Any], patch: bytes | None, differ: list[str], left_out: Iterable[str]) -> WorkingCopy:
    facts["dirty"] = bool(differ)
    if patch is None or len(patch) > LARGEST_PATCH:
        patch, left_out = b"", differ
    if patch:
        facts["patch"] = digest_bytes(patch)
    # Names are bytes on the disk; JSON carries text.
    if named := sorted(os.fsencode(name).decode(errors="replace") for name in left_out):
        facts["left_out"] = [
            *named[:_MOST_NAMED],
            *([f"and {len(named) - _MOST_NAMED} more"] if named[_MOST_NAMED:] else []),
        ]
    return WorkingCopy(facts, patch)


def _belongs(root: Path, name: str) -> bool:
    """Whether a file that differs is to be part of the patch: small, no folder, and nothing secret by its name."""
    if any(map(secret_file, Path(name).parts)):
        return False
    try:
        found = os.lstat(root / name)
    except FileNotFoundError:
        return True  # it was removed, which is a difference as well
    except OSError:
        return False
    return found.st_size <= LARGEST_PATCH and not name.endswith("/")


def _files(root: Path, name: str) -> list[str]:
    """The files of something new: of a folder all below it, but for those which say themselves that they are no code.

    These are environments of Python, caches and workspaces: the tools that make them put a `.gitignore` of "*" there.
    """
    place = root / name
    if place.is_symlink() or not place.is_dir():
        return [name]
    found: list[str] = []
    for above, folders, files in os.walk(place):
        if "pyvenv.cfg" in files or (".gitignore" in files and _ignores_all(Path(above, ".gitignore"))):
            folders.clear()
        else:
            folders[:] = sorted(set(folders) - {"__pycache__"})
            found += sorted(str(Path(above, file).relative_to(root)) for file in files)
    return found


def _ignores_all(file: Path) -> bool:
    try:
        return "*" in file.read_text(errors="replace").split()
    except OSError:
        return False


def _without_user(url: str) -> str:
    """An address without user, password and query. The form of ssh, `git@host:path`, holds no password and stays."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if "://" not in url:
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _ask_git(
    root: Path, *arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> bytes | None:
    # No hooks, no pagers, no locks taken; and of this very repository, whatever the variables of a calling git say.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    return _answer(command, root, environment, stdin)


def _ask_svn(root: Path, command: str, *arguments: str) -> bytes | None:
    return _answer(["svn", command, "--non-interactive", *arguments], root)


def _answer(
    command: list[str], folder: Path, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> bytes | None:
    """What a program prints; None where it is not there, fails or takes too long."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**kept, "LC_ALL": "C.UTF-8", **(environment or {})},
            input=stdin,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

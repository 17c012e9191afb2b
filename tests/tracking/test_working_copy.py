"""The state of the code: in real working copies of Git and Subversion, from which the very same tree is made again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loopline.hashing import digest_bytes
from loopline.tracking.working_copy import LARGEST_PATCH, working_copy

needs_subversion = pytest.mark.skipif(shutil.which("svnadmin") is None, reason="Subversion's programs are not on PATH")


def ask(folder: Path, *command: str, stdin: bytes = b"") -> str:
    locale = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, env=locale, input=stdin).stdout.decode()


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    return ask(folder, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments, stdin=stdin)


def tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """All files below a folder: bytes, and whether they can be executed; those of the version control apart."""
    return {
        str(file.relative_to(folder)): (file.read_bytes(), os.access(file, os.X_OK))
        for file in folder.rglob("*")
        if file.is_file() and not {".git", ".svn"} & set(file.relative_to(folder).parts)
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A working copy of Git with one commit."""
    root = tmp_path / "repository"
    (root / "src").mkdir(parents=True)
    git(root, "init", "-q", "-b", "trunk")
    (root / "a.py").write_text("one\n")
    (root / "src" / "b.py").write_text("".join(f"line {i}\n" for i in range(50)))
    (root / "gone.py").write_text("gone\n")
    (root / "picture.bin").write_bytes(bytes(range(256)))
    (root / ".gitignore").write_text("ignored/\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_a_folder_that_is_none_has_no_facts(tmp_path: Path) -> None:
    assert working_copy(tmp_path) == ({}, b"")
    git(tmp_path, "init", "-q")
    assert working_copy(tmp_path) == ({}, b""), "no commit yet"
    shutil.rmtree(tmp_path / ".git")
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert working_copy(tmp_path) == ({}, b""), "a broken one"


def test_a_clean_working_copy_is_its_commit(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://ann:t0ken@example.org/team/code.git?key=1")
    found = working_copy(repository / "src")
    assert found.patch == b""
    assert found.facts == {
        "commit": git(repository, "rev-parse", "HEAD").strip(),
        "branch": "trunk",
        "remote": "https://example.org/team/code.git",
        "dirty": False,
    }
    git(repository, "checkout", "-q", "--detach")
    git(repository, "remote", "set-url", "origin", "git@example.org:team/code.git")
    found = working_copy(repository)
    assert "branch" not in found.facts
    assert found.facts["remote"] == "git@example.org:team/code.git"


def _everything(root: Path) -> None:
    (root / "a.py").write_text("two\nand no end of line")
    (root / "src" / "b.py").write_text("".join(f"line {i}\n" for i in range(50) if i % 7))
    (root / "gone.py").unlink()
    (root / "picture.bin").write_bytes(bytes(reversed(range(256))))
    (root / "new folder").mkdir()
    (root / "new folder" / "nëw file.py").write_text("print(1)\n")
    (root / "new folder" / "new.bin").write_bytes(b"\0\1\2" * 99)
    (root / "empty.py").touch()
    (root / "tool.sh").write_text("#!/bin/sh\n")
    (root / "tool.sh").chmod(0o755)
    (root / "staged.py").write_text("staged\n")
    git(root, "add", "staged.py")


def _only_new(root: Path) -> None:
    (root / "new.py").write_text("new\n")


def _only_removed(root: Path) -> None:
    (root / "gone.py").unlink()


def _odd_settings(root: Path) -> None:
    for key in ("diff.noprefix", "diff.mnemonicPrefix", "diff.relative", "color.ui"):
        git(root, "config", key, "always" if key == "color.ui" else "true")
    git(root, "config", "status.showUntrackedFiles", "no")
    git(root, "config", "diff.external", "/bin/false")
    _everything(root)


@pytest.mark.parametrize("change", [_everything, _only_new, _only_removed, _odd_settings])
def test_git_apply_gives_the_same_tree(repository: Path, change: Callable[[Path], None], tmp_path: Path) -> None:
    change(repository)
    before = git(repository, "status", "--porcelain", "--untracked-files=all")
    objects = sorted((repository / ".git" / "objects").rglob("*"))
    found = working_copy(repository / "src")
    assert found.facts["dirty"] is True
    assert found.facts["patch"] == digest_bytes(found.patch)
    assert "left_out" not in found.facts
    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(repository), str(again))
    git(again, "checkout", "-q", found.facts["commit"])
    git(again, "apply", "-", stdin=found.patch)
    assert tree(again) == tree(repository)
    assert git(repository, "status", "--porcelain", "--untracked-files=all") == before, "the user's index is as it was"
    assert sorted((repository / ".git" / "objects").rglob("*")) == objects, "nothing is written to the repository"


def test_another_change_is_another_patch(repository: Path) -> None:
    clean = working_copy(repository)
    (repository / "a.py").write_text("two\n")
    two = working_copy(repository).facts["patch"]
    (repository / "a.py").write_text("three\n")
    assert working_copy(repository).facts["patch"] != two
    (repository / "a.py").write_text("one\n")
    assert working_copy(repository) == clean


def test_a_secret_is_left_out_and_named(repository: Path) -> None:
    (repository / "server.pem").write_text("key of yesterday\n")
    git(repository, "add", "-f", "server.pem")
    git(repository, "commit", "-q", "-m", "by mistake")
    (repository / "server.pem").write_text("key of today\n")
    for name in (
        ".env",
        ".env.local",
        "id_rsa",
        "credentials.json",
        "src/.netrc",
        "[a].key",
        "token.json",
        "service-account.json",
    ):
        (repository / name).write_text("password\n")
    for name in ("id_mapping.py", "tokenizer.py", "environment.py"):
        (repository / name).write_text("harmless\n")
    found = working_copy(repository)
    assert found.facts["left_out"] == [
        ".env", ".env.local", "[a].key", "credentials.json", "id_rsa", "server.pem", "service-account.json", "src/.netrc",
        "token.json",
    ]  # fmt: skip
    assert b"password" not in found.patch
    assert b"key of" not in found.patch
    assert all(name in found.patch for name in (b"id_mapping.py", b"tokenizer.py", b"environment.py"))


def test_what_is_too_large_is_left_out_and_named(repository: Path) -> None:
    (repository / "data.csv").write_bytes(b"x" * (LARGEST_PATCH + 1))
    (repository / "a.py").write_text("two\n")
    found = working_copy(repository)
    assert found.facts["left_out"] == ["data.csv"]
    assert b"a.py" in found.patch
    for number in range(3):
        (repository / f"half{number}.txt").write_bytes(os.urandom(LARGEST_PATCH // 4).hex().encode())
    found = working_copy(repository)
    assert found.patch == b""
    assert "patch" not in found.facts
    assert found.facts["left_out"] == ["a.py", "data.csv", "half0.txt", "half1.txt", "half2.txt"]


def test_a_repository_within_a_repository_is_named(repository: Path) -> None:
    (repository / "vendor").mkdir()
    git(repository / "vendor", "init", "-q")
    (repository / "vendor" / "c.py").write_text("c\n")
    git(repository / "vendor", "add", ".")
    git(repository / "vendor", "commit", "-q", "-m", "c")
    assert working_copy(repository).facts["left_out"] == ["vendor/"]


def test_another_repository_of_a_calling_git_is_not_taken(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / "index"))
    (repository / "new.py").write_text("new\n")
    assert b"new.py" in working_copy(repository).patch


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A working copy of Subversion at its first revision."""
    ask(tmp_path, "svnadmin", "create", "served")
    root = tmp_path / "checkout"
    ask(tmp_path, "svn", "checkout", "-q", f"file://{tmp_path}/served", str(root))
    (root / "src").mkdir()
    (root / "src" / "a.py").write_text("one\ntwo\n")
    (root / "gone.py").write_text("gone\n")
    (root / "picture.bin").write_bytes(bytes(range(256)))
    (root / "secret.toml").write_text("a = 1\n")
    ask(root, "svn", "add", "-q", "src", "gone.py", "picture.bin", "secret.toml")
    ask(root, "svn", "commit", "-q", "-m", "first")
    ask(root, "svn", "update", "-q")
    return root


@needs_subversion
def test_svn_patch_gives_the_same_tree(checkout: Path, tmp_path: Path) -> None:
    clean = working_copy(checkout / "src")
    served = f"file://{tmp_path}/served"
    assert clean == ({"revision": "1", "remote": served, "dirty": False}, b"")
    (checkout / "src" / "a.py").write_text("one\nTWO\nthree, and no end of line")
    (checkout / "picture.bin").write_bytes(bytes(reversed(range(256))))
    ask(checkout, "svn", "delete", "-q", "gone.py")
    (checkout / "added@2.py").write_text("added\n")
    ask(checkout, "svn", "add", "-q", "added@2.py@")
    (checkout / "new").mkdir()
    (checkout / "new" / "nëw.py").write_text("new\nfile\n")
    (checkout / "new" / "short.py").write_text("no end of line")
    (checkout / "new" / "empty.py").touch()
    found = working_copy(checkout / "src")
    assert found.facts == {**clean.facts, "dirty": True, "patch": digest_bytes(found.patch)}
    ask(tmp_path, "svn", "checkout", "-q", "-r", found.facts["revision"], served, "again")
    (tmp_path / "code.diff").write_bytes(found.patch)
    ask(tmp_path / "again", "svn", "patch", str(tmp_path / "code.diff"))
    assert tree(tmp_path / "again") == tree(checkout)


@needs_subversion
def test_secrets_and_bytes_that_subversion_does_not_know_are_left_out(checkout: Path) -> None:
    (checkout / "secret.toml").write_text("a = 'password'\n")
    (checkout / "src" / "a.py").write_text("changed\n")
    (checkout / "added").mkdir()
    (checkout / "added" / "b.py").write_text("in a new folder\n")
    (checkout / "added" / "server.key").write_text("password\n")
    ask(checkout, "svn", "add", "-q", "added")
    (checkout / ".env").write_text("password\n")
    (checkout / "model.bin").write_bytes(b"\xff\0")
    found = working_copy(checkout)
    assert found.facts["left_out"] == [".env", "added/server.key", "model.bin", "secret.toml"]
    assert b"+in a new folder" in found.patch
    assert b"password" not in found.patch
    assert b"+changed" in found.patch


@needs_subversion
def test_a_mixed_working_copy_names_its_revisions(checkout: Path) -> None:
    (checkout / "src" / "a.py").write_text("second\n")
    ask(checkout, "svn", "commit", "-q", "-m", "second")
    assert working_copy(checkout).facts["revision"] == "1:2"


@needs_subversion
def test_folders_that_are_no_code_are_no_difference(checkout: Path) -> None:
    clean = working_copy(checkout)
    for folder, sign, text in ((".loopline", ".gitignore", "*\n"), ("env", "pyvenv.cfg", "home = x\n")):
        (checkout / folder / "deep").mkdir(parents=True)
        (checkout / folder / sign).write_text(text)
        (checkout / folder / "deep" / "file.txt").write_text("large\n")
    assert working_copy(checkout) == clean

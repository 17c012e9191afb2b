"""`loopline data add --files|checkout|status|diff|import-dvc|export-dvc` as people type them, also inside a Git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Git repository with one commit and a folder of files."""
    folder = tmp_path / "repository"
    (folder / "scans").mkdir(parents=True)
    (folder / "scans" / "a.txt").write_text("a")
    (folder / "scans" / "b.bin").write_bytes(bytes(2 << 20))
    (folder / "code.py").write_text("print(1)\n")
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for words in (("init", "-q"), ("add", "code.py"), (*name, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def asked(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_folder_goes_there_and_back(bare: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.txt").write_text("a")
    (source / "B.txt").write_text("b")
    assert "Added data:scans@1: 2 files" in bare("data", "add", "scans", str(source), "--files").out
    assert "The same content" in bare("data", "add", "scans", str(source), "--files").out
    assert "Nothing differs" in bare("data", "status", str(source)).out
    (source / "a.txt").write_text("more")
    assert "changed  a.txt" in bare("data", "status", str(source), code=1).out
    assert bare("data", "add", "scans", str(source), "--files", "--json").json["version"] == 2
    assert "changed  a.txt" in bare("data", "diff", "scans@1").out
    assert bare("data", "diff", "scans@1", "--json").json["changed"] == ["a.txt"]
    assert "2 files placed" in bare("data", "checkout", "scans@1", str(target)).out
    assert (target / "a.txt").read_text() == "a"
    assert "2 files" in bare("data", "log", "scans").out
    assert "2, " in bare("data", "show", "scans").out
    (target / "a.txt").unlink()
    (target / "a.txt").write_text("mine")
    refused = bare("data", "checkout", "scans@2", str(target), code=2)
    assert "a.txt" in refused.err
    bare("data", "checkout", "scans@2", str(target), "--force")
    assert "is of files, and no table" in bare("data", "profile", "scans", code=2).err
    assert "one folder" in bare("data", "add", "scans", str(source), str(target), "--files", code=2).err


def test_git_keeps_the_code_and_the_version_its_commit(bare: Any, repository: Path) -> None:
    facts = bare("data", "add", "scans", str(repository / "scans"), "--files", "--json").json["facts"]
    assert facts == {"commit": asked(repository, "rev-parse", "HEAD"), "dirty": "no"}
    assert (repository / ".gitignore").read_text() == "/scans\n"
    bare("data", "checkout", "scans@1", str(repository / "again"))
    asked(repository, "add", "-A")
    assert asked(repository, "ls-files").split() == [".gitignore", "code.py"]
    assert (repository / ".gitignore").read_text() == "/scans\n/again\n"
    (repository / "code.py").write_text("print(2)\n")
    (repository / "scans" / "a.txt").write_text("other")
    again = bare("data", "add", "scans", str(repository / "scans"), "--files", "--json").json
    assert (again["version"], again["facts"]["dirty"]) == (2, "yes")
    assert (repository / ".gitignore").read_text() == "/scans\n/again\n"


def test_a_table_has_the_commit_of_where_it_was_added(
    bare: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    commit = asked(repository, "rev-parse", "HEAD")
    (repository / "visits.csv").write_text("id,days\n1,2\n")
    assert bare("data", "add", "visits", "visits.csv", "--json").json["facts"]["commit"] == commit
    (repository / "code.py").write_text("print(2)\n")
    (repository / "visits.csv").write_text("id,days\n1,3\n")
    bare("data", "sync", "visits")
    facts = bare("data", "show", "visits@2", "--json").json["facts"]
    assert (facts["commit"], facts["dirty"]) == (commit, "yes")
    assert f"at {commit[:10]} and changes" in bare("data", "log", "visits").out


def test_dvcs_files_there_and_back(bare: Any, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.txt").write_text("a")
    bare("data", "add", "scans", str(source), "--files")
    remote, file = tmp_path / "remote", tmp_path / "scans.dvc"
    assert "1 files of scans" in bare("data", "export-dvc", "scans", str(file), "--remote", str(remote)).out
    assert "Added data:again@1" in bare("data", "import-dvc", "again", str(file), "--remote", str(remote)).out
    assert (
        bare("data", "show", "again", "--json").json["digest"] == bare("data", "show", "scans", "--json").json["digest"]
    )

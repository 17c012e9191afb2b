"""DVC, the program itself: what it pushes is a version, and what a version is written to it pulls."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers import environment

from loopline.app import Platform
from loopline.catalog import Session
from loopline.data.files.adding import add
from loopline.data.files.checkout import checkout
from loopline.data.files.dvc import export_dvc, import_dvc

pytestmark = pytest.mark.systems

Run = Callable[..., str]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    yield platform.session()
    platform.close()


@pytest.fixture
def dvc(tmp_path: Path) -> Run:
    """DVC in a folder of its own, with a remote beside it."""
    program = environment("dvc==3.67.1").with_name("dvc")
    (tmp_path / "work").mkdir()

    def run(*words: str) -> str:
        done = subprocess.run([program, *words], cwd=tmp_path / "work", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init", "--no-scm")
    run("remote", "add", "-d", "shared", str(tmp_path / "remote"))
    return run


def filled(folder: Path) -> Path:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "x.txt").write_text("x")
    (folder / "a.txt").write_text("sorted before a/ or behind it")
    (folder / "a" / "b" / "\u00fc 1.bin").write_bytes(bytes(range(256)) * 9000)
    (folder / "none").write_bytes(b"")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_what_dvc_pushed_is_a_version(session: Session, dvc: Run, tmp_path: Path) -> None:
    folder = filled(tmp_path / "work" / "scans")
    (tmp_path / "work" / "one.bin").write_bytes(b"one")
    dvc("add", "scans", "one.bin")
    dvc("push")
    version = import_dvc(session.files, "scans", tmp_path / "work" / "scans.dvc", tmp_path / "remote")
    assert (version.files, version.facts["dvc"][-4:]) == (4, ".dir")
    checkout(session.files, "scans", "1", tmp_path / "out", states=tmp_path / "states")
    assert content(tmp_path / "out") == content(folder)
    import_dvc(session.files, "one", tmp_path / "work" / "one.bin.dvc", tmp_path / "remote")
    checkout(session.files, "one", "1", tmp_path / "single", states=tmp_path / "states")
    assert content(tmp_path / "single") == {"one.bin": b"one"}


def test_dvc_pulls_what_a_version_is_written_to(session: Session, dvc: Run, tmp_path: Path) -> None:
    folder = filled(tmp_path / "in")
    add(session.files, "scans", folder, states=tmp_path / "states")
    export_dvc(session.files, "scans", "1", tmp_path / "work" / "scans.dvc", tmp_path / "remote")
    dvc("pull")
    assert content(tmp_path / "work" / "scans") == content(folder)
    assert "up to date" in dvc("status")
    written = (tmp_path / "work" / "scans.dvc").read_text()
    dvc("add", "scans")  # what DVC itself says of the same folder is the same
    assert (tmp_path / "work" / "scans.dvc").read_text() == written


def test_a_repository_says_itself_where_its_files_are(session: Session, dvc: Run, tmp_path: Path) -> None:
    work = tmp_path / "work"
    filled(work / "scans")
    dvc("add", "scans")
    assert import_dvc(session.files, "scans", work / "scans.dvc").files == 4  # out of the cache
    dvc("push")
    dvc("config", "--local", "cache.dir", "../another")
    assert import_dvc(session.files, "pushed", work / "scans.dvc").digest == session.datasets.show("scans").digest


def test_what_is_written_into_a_repository_dvc_checks_out_and_pushes(
    session: Session, dvc: Run, tmp_path: Path
) -> None:
    folder, work = filled(tmp_path / "in"), tmp_path / "work"
    add(session.files, "scans", folder, states=tmp_path / "states")
    export_dvc(session.files, "scans", "1", work / "scans.dvc")
    dvc("checkout")
    assert content(work / "scans") == content(folder)
    dvc("push")
    assert "in sync" in dvc("status", "--cloud")


def test_one_file_comes_back_as_that_file(session: Session, dvc: Run, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "one.sh").write_bytes(b"#!/bin/sh\n")
    (work / "one.sh").chmod(0o755)
    dvc("add", "one.sh")
    written = (work / "one.sh.dvc").read_text()
    import_dvc(session.files, "one", work / "one.sh.dvc")
    export_dvc(session.files, "one", "1", work / "one.sh.dvc")
    assert (work / "one.sh.dvc").read_text() == written

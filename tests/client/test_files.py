"""Which files an artifact is made of: never what nobody means to give away."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import loopline as ll
from loopline.app import Platform
from loopline.catalog import Session
from loopline.client.run import Run
from loopline.errors import Invalid


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("LOOPLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def session(folder: Path) -> Iterator[Session]:
    """A workspace with keys, by a name of its own, within the folder."""
    platform = Platform.open(workspace=folder / "house")
    yield platform.session()
    platform.close()


def begin(folder: Path) -> Run:
    return ll.run("kept", workspace=folder / "house", console=False, system=None)


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"this is {name}\n")


def kept(session: Session, run: Run) -> list[str]:
    return [found.path for found in session.runs.artifacts(run.id)]


def test_a_folder_is_kept_without_workspaces_secrets_and_what_is_no_work(folder: Path, session: Session) -> None:
    write("roc.png", "deep/more.txt", "deep/.env", "token.json", "server.pem", ".git/config", "deep/.svn/wc.db")
    write("venv/pyvenv.cfg", "venv/lib/x.py", "__pycache__/x.pyc", "other/loopline.db", "other/keys/1.txt")
    write(".loopline/journals/1.journal", "secrets/a.txt")
    assert list(folder.glob("house/keys/*.pem")), "the key is there to be taken"
    with begin(folder) as run, pytest.warns(RuntimeWarning) as told:
        run.artifact(".", "all")
    assert kept(session, run) == ["all/deep/more.txt", "all/roc.png"]
    (warning,) = told
    assert warning.filename == __file__
    assert "'.': 11 left out: .git (version control), .loopline (a workspace, with its keys), " in str(warning.message)
    assert str(warning.message).endswith(" and 6 more.")


def test_links_are_followed_to_files_only_and_named(folder: Path, session: Session) -> None:
    write("a.txt", "plots/b.txt", ".env")
    os.symlink("../a.txt", "plots/a.txt")
    os.symlink("nowhere", "plots/broken")
    os.symlink("../plots", "plots/again")
    os.symlink("../.env", "plots/harmless.txt")
    os.symlink("../house/loopline.db", "plots/rows.txt")
    os.mkfifo("plots/pipe")
    with begin(folder) as run, pytest.warns(RuntimeWarning) as told:
        run.artifact("plots")
    assert kept(session, run) == ["plots/a.txt", "plots/b.txt"]
    message = str(told[0].message)
    for part in (
        "5 left out",
        "again (a link to a folder)",
        "broken (a broken link)",
        "harmless.txt (its name says that it holds secrets)",
        "pipe (no file)",
        "rows.txt (it is within ",
    ):
        assert part in message


@pytest.mark.parametrize(
    "path", [".env", "harmless.txt", "house", "house/keys", "house/loopline.db", "linked/loopline.db", ".git/config"]
)
def test_what_is_not_for_others_is_refused_where_it_is_named(folder: Path, session: Session, path: str) -> None:
    write(".env", ".git/config")
    os.symlink(".env", "harmless.txt")
    os.symlink("house", "linked")
    with begin(folder) as run, pytest.raises(Invalid, match="is not kept") as told:
        run.artifact(path, "it")
    assert (told.value.code, kept(session, run)) == ("private-file", [])
    assert "copy it" in told.value.hint


def test_what_is_kept_whole_says_nothing_and_a_path_can_name_it(folder: Path, session: Session) -> None:
    write("plots/a.txt", "secrets/b.txt")
    os.symlink("plots", "linked")
    with begin(folder) as run, warnings.catch_warnings():
        warnings.simplefilter("error")
        run.artifact(Path("plots"), Path("x", "y"))
        run.artifact("linked", "z")
        run.artifact("secrets/b.txt")
    assert kept(session, run) == ["b.txt", "x/y/a.txt", "z/a.txt"]


def test_a_warning_that_is_an_error_comes_before_anything_is_kept(folder: Path, session: Session) -> None:
    write("plots/a.txt", "plots/.env")
    with begin(folder) as run, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning):
            run.artifact("plots")
    assert kept(session, run) == []

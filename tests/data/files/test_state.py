"""The status of folders: what has not changed is not read, and nothing that has is missed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.data.conftest import Place
from tests.data.files.test_adding import added, filled

from loopline.data.files import state
from loopline.data.files.state import read_state, status
from loopline.errors import NotFound


def seen(place: Place, folder: Path) -> state.Status:
    return status(place.platform.settings.workspace / "folders", folder)


def aged(folder: Path) -> Path:
    """The folder with files of long ago."""
    for number, file in enumerate(sorted(f for f in folder.rglob("*") if f.is_file() and not f.is_symlink())):
        os.utime(file, (number, number))
    return folder


def test_each_kind_of_change_is_told(place: Place, tmp_path: Path) -> None:
    folder = aged(filled(tmp_path / "in"))
    added(place, folder)
    assert seen(place, folder).clean
    assert seen(place, folder).same == 8
    (folder / "new").write_text("x")
    (folder / "a" / "none").unlink()
    (folder / "large.bin").write_bytes(b"short")
    (folder / "a" / "run.sh").chmod(0o644)
    (folder / "a" / "link").unlink()
    (folder / "a" / "link").symlink_to("again")
    found = seen(place, folder)
    assert found.added == ("new",)
    assert found.removed == ("a/none",)
    assert found.changed == ("a/link", "a/run.sh", "large.bin")
    assert found.same == 4


def test_what_has_not_changed_is_not_read(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = aged(filled(tmp_path / "in"))
    added(place, folder)
    monkeypatch.setattr(state, "digest_now", lambda path: pytest.fail(f"{path} was read"))
    assert seen(place, folder).clean


def test_a_change_in_the_second_of_the_look_is_seen(place: Place, tmp_path: Path) -> None:
    """The rule of Git's index: same size, same time, same inode, and yet another content."""
    folder = aged(filled(tmp_path / "in"))
    file = folder / "one.txt"
    added(place, folder)
    known = read_state(place.platform.settings.workspace / "folders", folder)
    assert known is not None
    os.utime(file, ns=(known.time, known.time))
    added(place, folder)  # now it is known with a time of that second, or of one before the look
    later = read_state(place.platform.settings.workspace / "folders", folder)
    assert later is not None
    os.utime(file, ns=(later.time, later.time))
    marks = later.stamps | {"one.txt": (3, later.time, file.stat().st_ino)}
    state.write_state(
        place.platform.settings.workspace / "folders", folder, state.State(
            ref=later.ref, manifest=later.manifest, stamps=marks, time=later.time
        ),
    )  # fmt: skip
    with file.open("r+") as same:
        same.write("two")
    os.utime(file, ns=(later.time, later.time))
    assert seen(place, folder).changed == ("one.txt",)


def test_the_same_bytes_with_another_time_are_no_change(place: Place, tmp_path: Path) -> None:
    folder = aged(filled(tmp_path / "in"))
    added(place, folder)
    os.utime(folder / "one.txt", (50, 50))
    assert seen(place, folder).clean


@pytest.mark.parametrize("damage", ["lost", "cut", "other"])
def test_a_lost_state_costs_a_reading_alone(place: Place, tmp_path: Path, damage: str) -> None:
    folder = aged(filled(tmp_path / "in"))
    added(place, folder)
    (file,) = (place.platform.settings.workspace / "folders").iterdir()
    file.unlink() if damage == "lost" else file.write_bytes(file.read_bytes()[:-9] if damage == "cut" else b"\x01")
    with pytest.raises(NotFound) as caught:
        seen(place, folder)
    assert caught.value.code == "no-folder-state"
    assert added(place, folder).version == 1
    assert seen(place, folder).clean


def test_a_folder_that_is_gone_is_told(place: Place, tmp_path: Path) -> None:
    folder = filled(tmp_path / "in")
    added(place, folder)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(NotFound):
        seen(place, folder)

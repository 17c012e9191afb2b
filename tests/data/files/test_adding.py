"""Folders as versions: what is kept, what is sent, what is refused by name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.conftest import Place

from loopline import failpoints
from loopline.app import Platform
from loopline.data.files import adding
from loopline.data.files.adding import add
from loopline.data.manifest import LARGEST, File, Manifest
from loopline.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from loopline.hashing import digest_bytes, digest_file
from loopline.operations import Body


def filled(folder: Path) -> Path:
    """A folder of small and large, empty and executable files, with a link and an empty folder."""
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "one.txt").write_text("one")
    (folder / "a" / "none").write_bytes(b"")
    (folder / "a" / "deep" / "ünï\n.bin").write_bytes(b"\0\1")
    (folder / "a" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "a" / "run.sh").chmod(0o755)
    (folder / "a" / "again").write_text("one")
    (folder / "large.bin").write_bytes(noise(3 << 20))
    (folder / "a" / "link").symlink_to("../one.txt")
    return folder


def noise(size: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def added(place: Place | Platform, folder: Path, name: str = "images", **more: Any) -> Any:
    platform = place.platform if isinstance(place, Place) else place
    states = platform.settings.workspace / "folders"
    return add(platform.session().files, name, folder, states=states, **more)


def test_a_folder_is_a_version_whole(either: Platform, tmp_path: Path) -> None:
    folder = filled(tmp_path / "in")
    version = added(either, folder, message="first")
    assert (version.ref, version.files, version.rows) == ("data:images@1", 6, 0)
    assert version.bytes == sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
    found = either.session().files.open("images").manifest
    assert {f.path: f.digest for f in found.files} == {
        str(f.relative_to(folder)): digest_file(f) for f in folder.rglob("*") if f.is_file() and not f.is_symlink()
    }
    assert [f.path for f in found.files if f.executable] == ["a/run.sh"]
    assert [(link.path, link.target) for link in found.links] == [("a/link", "../one.txt")]
    assert found.folders == ("empty",)
    large = next(f for f in found.files if f.path == "large.bin")
    assert len(large.chunks) > 1
    assert b"".join(either.blobs.read(c.digest) for c in large.chunks) == (folder / "large.bin").read_bytes()
    (entry, *_) = either.session().ledger.entries(operation="files.add")
    assert entry.outputs == ("data:images@1",)


def test_the_same_folder_again_is_the_same_version(place: Place, tmp_path: Path) -> None:
    folder = filled(tmp_path / "in")
    first = added(place, folder)
    assert added(place, folder) == first
    (folder / "one.txt").write_text("two")
    assert added(place, folder).version == 2
    found = place.session.files.diff("images", "1")
    assert (found.added, found.removed, found.changed) == ((), (), ("one.txt",))
    assert [v.version for v in place.session.datasets.log("images")] == [2, 1]


def test_a_change_of_a_large_file_costs_about_its_size(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    data = bytearray(noise(64 << 20))
    (folder / "large").write_bytes(data)
    added(place, folder)
    before = place.session.store.usage().bytes
    at, length = 20 << 20, len(data) // 100
    data[at : at + length] = noise(length + 1000, seed=2)  # longer than it was: all behind it moves
    (folder / "large").write_bytes(data)
    added(place, folder)
    assert place.session.store.usage().bytes - before < 0.12 * len(data)


def test_what_is_there_is_not_sent_again(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "in")
    added(place, folder)
    monkeypatch.setattr(adding._Sender, "send", lambda *_: pytest.fail("an unchanged file was read"))
    for file in [f for f in folder.rglob("*") if f.is_file()]:  # long enough ago to be trusted
        os.utime(file, (1, 1))
    with pytest.raises(pytest.fail.Exception):  # the times are others: all is read
        added(place, folder)
    monkeypatch.undo()
    added(place, folder)
    sent = len(place.session.ledger.entries(operation="files.put"))
    monkeypatch.setattr(adding._Sender, "send", lambda *_: pytest.fail("an unchanged file was read"))
    assert added(place, folder).version == 1
    assert len(place.session.ledger.entries(operation="files.put")) == sent


def test_what_another_project_has_is_sent_all_the_same(place: Place, tmp_path: Path) -> None:
    """Whether somebody else has some bytes is not to be found out, and knowing a digest gives nobody its bytes."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    added(place, folder)
    digest = digest_bytes(b"secret")
    place.session.projects.create("clinic")
    there = place.platform.session(project="clinic").files
    assert there.missing("mine", (digest,)) == (digest,)
    assert place.session.files.missing("other", (digest,)) == ()
    manifest = Manifest(files=(File(path="secret", size=6, digest=digest),))
    with pytest.raises(Conflict) as caught:
        there.add("mine", Body(manifest.encoded()))
    assert caught.value.code == "objects-missing"
    with pytest.raises(NotFound):
        place.session.datasets.show("mine")
    assert add(there, "mine", folder, states=tmp_path / "elsewhere" / "folders").files == 1


def test_what_was_sent_and_never_named_goes_after_a_day(place: Place, tmp_path: Path) -> None:
    from loopline.data.files.pack import packed

    place.session.files.put("images", Body(packed([(digest_bytes(b"x"), b"x")])))
    assert place.session.files.missing("images", (digest_bytes(b"x"),)) == ()
    path = place.platform.blobs.path(digest_bytes(b"x"))
    os.utime(path, (1, 1))
    place.session.store.sweep()
    assert path.exists()
    place.clock.forward(seconds=25 * 3600)
    place.session.store.sweep()
    place.session.store.sweep()
    assert not path.exists()


def test_objects_of_versions_stay(place: Place, tmp_path: Path) -> None:
    folder = filled(tmp_path / "in")
    added(place, folder)
    place.session.datasets.withdraw("images", "1", "wrong")
    for blob in list(place.platform.blobs.list()):
        os.utime(place.platform.blobs.path(blob.digest), (1, 1))
    place.clock.forward(seconds=48 * 3600)
    swept = place.session.store.sweep()
    assert swept.removed == 0
    for file in place.session.files.open("images", "1").manifest.files:
        assert all(place.platform.blobs.exists(part.digest) for part in file.objects)


def test_a_restored_version_keeps_its_objects(place: Place, tmp_path: Path) -> None:
    folder = filled(tmp_path / "in")
    added(place, folder)
    (folder / "one.txt").write_text("two")
    added(place, folder)
    found = place.session.datasets.restore("images", "1")
    assert (found.version, found.files) == (3, 6)
    assert place.session.files.diff("images", "1", "3").same == 8


@pytest.mark.parametrize(
    ("make", "kind", "code"),
    [
        (lambda f: (f / "out").symlink_to("../../etc"), Refused, "link-outside"),
        (lambda f: (f / "out").symlink_to(f / "one.txt"), Refused, "link-outside"),
        (lambda f: os.mkfifo(f / "out"), Refused, "not-a-file"),
        (lambda f: os.open(os.fsencode(f) + b"/out\xff", os.O_CREAT), Invalid, "bad-file-name"),
        (lambda f: (f / "out" / ".git").mkdir(parents=True), Invalid, "bad-file-name"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(
    place: Place, tmp_path: Path, make: Any, kind: type[Exception], code: str
) -> None:
    folder = filled(tmp_path / "in")
    make(folder)
    with pytest.raises(kind, match="out") as caught:
        added(place, folder)
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert place.session.datasets.list() == []


def test_a_socket_is_refused_by_name(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "in")
    monkeypatch.chdir(folder)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("plug")
        with pytest.raises(Refused, match=r"plug is a socket"):
            added(place, folder)


def test_a_file_that_cannot_be_read_is_told(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "in")
    genuine = os.open

    def denied(path: Any, *rest: Any, **named: Any) -> int:
        if str(path).endswith("one.txt"):  # root may read everything
            raise PermissionError(13, "Permission denied", str(path))
        return genuine(path, *rest, **named)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(Invalid, match=r"one\.txt cannot be read: Permission denied"):
        added(place, folder)
    assert place.session.datasets.list() == []


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_changes_while_it_is_read_is_told(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    folder = filled(tmp_path / "in")
    victim = folder / ("large.bin" if large else "one.txt")
    reading = adding._large if large else adding._small

    def read(*given: Any) -> Any:
        victim.write_bytes(victim.read_bytes() + b"more")
        return reading(*given)

    monkeypatch.setattr(adding, reading.__name__, read)
    with pytest.raises(Conflict, match="changed while it was read"):
        added(place, folder)
    assert place.session.datasets.list() == []


def test_a_full_disk_names_no_version(place: Place, tmp_path: Path) -> None:
    folder = filled(tmp_path / "in")
    failpoints.arm("store.take_all.before_rename=ENOSPC@2")
    try:
        with pytest.raises(Unavailable) as caught:
            added(place, folder)
    finally:
        failpoints.arm("")
    assert caught.value.code == "disk-full"
    assert place.session.datasets.list() == []
    assert added(place, folder).files == 6


def test_names_that_differ_in_case_alone_are_told(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("Readme", "README", "other"):
        (folder / name).write_text(name)
    assert "differ in upper and lower case" in added(place, folder).facts["case"]


def test_nothing_at_all_is_a_version_too(place: Place, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert added(place, tmp_path / "in").files == 0


def test_a_folder_that_is_none_or_holds_the_workspace_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        added(place, tmp_path / "nowhere")
    with pytest.raises(Invalid) as caught:
        added(place, tmp_path)
    assert caught.value.code == "workspace-inside"


def test_a_dataset_is_of_files_or_of_tables(place: Place, tmp_path: Path) -> None:
    folder = filled(tmp_path / "in")
    added(place, folder)
    place.add(20)
    with pytest.raises(Invalid, match="visits is a dataset of tables"):
        added(place, folder, name="visits")
    with pytest.raises(Invalid, match="images is a dataset of files"):
        place.session.datasets.add("images", Body(b"a,b\n1,2\n", name="x.csv"))
    datasets = place.session.datasets
    for call in (
        lambda: datasets.read("images"),
        lambda: datasets.files("images"),
        lambda: datasets.profile("images"),
        lambda: datasets.profile("images", full=True),
        lambda: datasets.suggest("images"),
        lambda: datasets.diff("images", "1"),
        lambda: datasets.split("images", "x"),
        lambda: datasets.clean("images", ({"step": "clip", "columns": ["x"]},)),
        lambda: datasets.labels("images"),
        lambda: datasets.add("images", Body(b"a,b\n1,2\n", name="x.csv"), onto="1"),
        lambda: place.session.inbox.post("images", Body(b"a,b\n1,2\n", name="x.csv")),
    ):
        with pytest.raises(Invalid) as caught:
            call()
        assert caught.value.code in ("no-table", "other-kind")
    with pytest.raises(Invalid) as caught:
        place.session.files.open("visits")
    assert caught.value.code == "no-files"
    datasets.vacuum()
    assert datasets.quarantine("images").rows == 0


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, LARGEST, 9 << 20])
def test_files_of_any_size_are_kept_whole(place: Place, tmp_path: Path, size: int) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").write_bytes(bytes(size))  # zeros: nowhere a cut by content
    added(place, tmp_path / "in")
    (found,) = place.session.files.open("images").manifest.files
    assert (found.size, bool(found.chunks)) == (size, size >= 1 << 20)
    assert sum(part.size for part in found.objects) == size


def test_a_manifest_that_lies_about_a_size_names_no_version(place: Place) -> None:
    from loopline.data.files.pack import packed

    digest = digest_bytes(b"abc")
    place.session.files.put("images", Body(packed([(digest, b"abc")])))
    manifest = Manifest(files=(File(path="x", size=5, digest=digest),))
    with pytest.raises(Invalid, match="3 bytes, and the manifest says 5"):
        place.session.files.add("images", Body(manifest.encoded()))
    assert place.session.datasets.list() == []


def test_files_are_added_without_what_reads_tables(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from loopline.app import Platform; from loopline.data.files.adding import add;"
        "here = Path(sys.argv[1]); p = Platform.open(workspace=here / 'w', checkpoints=str(here / 'c'));"
        "print(add(p.session().files, 'images', here / 'in', states=here / 's').ref);"
        "print({'polars', 'pyarrow', 'deltalake', 'scipy'} & set(sys.modules)); p.close()"
    )
    filled(tmp_path / "in")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["data:images@1", "set()"]

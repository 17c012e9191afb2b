"""Versions as folders: linked, put together, kept as they were, and never written over what nobody has kept."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.data.conftest import Place
from tests.data.files.test_adding import added, filled, noise

from loopline import failpoints
from loopline.api.server import ApiServer
from loopline.client import connect
from loopline.data.files.adding import add
from loopline.data.files.checkout import checkout
from loopline.data.files.state import status
from loopline.data.manifest import File, Link, Manifest
from loopline.data.records import FilesVersion
from loopline.errors import Conflict, Invalid, NotFound, Unavailable
from loopline.hashing import digest_bytes
from loopline.ports.files import TEMPORARY


def out(place: Place, folder: Path, ref: str = "images", version: str = "latest", **more: Any) -> Any:
    states = place.platform.settings.workspace / "folders"
    return checkout(place.session.files, ref, version, folder, states=states, **more)


def seen(place: Place, folder: Path) -> Any:
    return status(place.platform.settings.workspace / "folders", folder)


def content(folder: Path) -> dict[str, Any]:
    return {
        str(p.relative_to(folder)): os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


def test_a_checkout_is_the_folder_that_was_added(place: Place, tmp_path: Path) -> None:
    source, target = filled(tmp_path / "in"), tmp_path / "out"
    added(place, source)
    found = out(place, target)
    assert (found.placed, found.same, found.removed) == (6, 0, 0)
    assert content(target) == content(source)
    assert seen(place, target).clean
    assert seen(place, source).clean
    again = out(place, target)
    assert (again.placed, again.same) == (0, 6)


def test_whole_files_are_links_that_cannot_be_written(place: Place, tmp_path: Path) -> None:
    added(place, filled(tmp_path / "in"))
    target = tmp_path / "out"
    out(place, target)
    path = place.platform.blobs.path(digest_bytes(b"one"))
    assert os.path.samefile(target / "one.txt", path)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in target.rglob("*") if p.is_file()}
    assert modes["one.txt"] == modes["large.bin"] == 0o444
    assert modes["run.sh"] == 0o555


def test_writable_files_are_copies(place: Place, tmp_path: Path) -> None:
    added(place, filled(tmp_path / "in"))
    target = tmp_path / "out"
    out(place, target)
    out(place, target, writable=True)
    path = place.platform.blobs.path(digest_bytes(b"one"))
    assert not os.path.samefile(target / "one.txt", path)
    (target / "one.txt").write_text("mine")
    assert path.read_bytes() == b"one"
    assert seen(place, target).changed == ("one.txt",)
    assert stat.S_IMODE((target / "a" / "run.sh").stat().st_mode) == 0o755


def test_another_version_takes_the_place_of_the_first(place: Place, tmp_path: Path) -> None:
    source, target = filled(tmp_path / "in"), tmp_path / "out"
    first = content(source)
    added(place, source)
    out(place, target)
    (source / "one.txt").unlink()
    (source / "one.txt").mkdir()  # a folder where a file was
    (source / "one.txt" / "x").write_text("x")
    (source / "a" / "deep" / "ünï\n.bin").unlink()
    (source / "a" / "deep").rmdir()
    (source / "a" / "deep").write_text("a file where a folder was")
    (source / "a" / "link").unlink()
    (source / "a" / "link").symlink_to("again")
    added(place, source)
    (target / "mine.txt").write_text("nobody else's")
    out(place, target)
    assert content(target) == content(source) | {"mine.txt": b"nobody else's"}
    out(place, target, version="1")
    assert content(target) == first | {"mine.txt": b"nobody else's"}


@pytest.mark.parametrize(
    "change",
    [
        lambda f: _write(f / "one.txt", "mine"),
        lambda f: _write(f / "added.txt", "mine"),  # where the newer version has a file
        lambda f: (f / "added.txt").mkdir() or (f / "added.txt" / "deep").write_text("mine"),
        lambda f: (f / "added.txt").symlink_to("one.txt"),
        lambda f: (f / "new").symlink_to("/tmp"),
    ],
)
def test_what_was_changed_by_hand_is_not_lost(place: Place, tmp_path: Path, change: Callable[[Path], object]) -> None:
    source, target = filled(tmp_path / "in"), tmp_path / "out"
    added(place, source)
    out(place, target, writable=True)
    for name in ("one.txt", "added.txt"):
        _write(source / name, "newer")
    (source / "new").mkdir()
    (source / "new" / "x").write_text("x")
    added(place, source)
    change(target)
    before = content(target)
    with pytest.raises(Conflict) as caught:
        out(place, target)
    assert caught.value.code == "checkout-changed"
    assert content(target) == before, "nothing is written where something is refused"
    out(place, target, force=True)
    assert content(target) == content(source)


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)


def test_a_checkout_writes_through_no_link(place: Place, tmp_path: Path) -> None:
    source, target, outside = filled(tmp_path / "in"), tmp_path / "out", tmp_path / "outside"
    added(place, source)
    outside.mkdir()
    target.mkdir()
    (target / "a").symlink_to("../outside")
    with pytest.raises(Conflict) as caught:
        out(place, target)
    assert caught.value.code == "checkout-changed"
    assert list(outside.iterdir()) == []


class Lying:
    """A server that hands out a manifest of its own."""

    def __init__(self, manifest: Manifest, store: Path) -> None:
        self.manifest, self.store = manifest, store

    def open(self, name: str, version: str) -> FilesVersion:
        return FilesVersion(ref="data:x@1", version=1, manifest=self.manifest, store=str(self.store))


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(files=(File(path="../evil", size=1, digest=digest_bytes(b"x")),)),
        Manifest(files=(File(path="/evil", size=1, digest=digest_bytes(b"x")),)),
        Manifest(links=(Link(path="l", target="../outside"),)),
        Manifest(files=(File(path="l/evil", size=1, digest=digest_bytes(b"x")),), links=(Link(path="l", target="m"),)),
        Manifest(files=(File(path=".git/hooks/x", size=1, digest=digest_bytes(b"x")),)),
    ],
)
def test_a_manifest_that_leaves_the_folder_is_refused_by_who_checks_out(tmp_path: Path, manifest: Manifest) -> None:
    target = tmp_path / "out"
    with pytest.raises(Invalid):
        checkout(Lying(manifest, tmp_path), "x", "1", target, states=tmp_path / "s")  # type: ignore[arg-type]
    assert not target.exists()
    assert not (tmp_path / "evil").exists()


def test_a_full_disk_leaves_no_half_file(place: Place, tmp_path: Path) -> None:
    added(place, filled(tmp_path / "in"))
    failpoints.arm("data.checkout.write=ENOSPC@2")
    try:
        with pytest.raises(Unavailable):
            out(place, tmp_path / "out")
    finally:
        failpoints.arm("")
    assert not (tmp_path / "out" / "large.bin").exists()
    assert not list((tmp_path / "out").rglob(f"{TEMPORARY}*"))
    out(place, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "in")


def test_an_object_that_is_cut_short_in_the_store_is_told(place: Place, tmp_path: Path) -> None:
    added(place, filled(tmp_path / "in"))
    path = place.platform.blobs.path(digest_bytes(b"one"))
    path.chmod(0o644)
    path.write_bytes(b"")
    with pytest.raises(Conflict, match=r"a/again of data:images@1 is damaged in the store") as caught:
        out(place, tmp_path / "out")
    assert caught.value.code == "blob-damaged"
    assert not (tmp_path / "out" / "one.txt").exists()


@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_what_is_damaged_in_the_store_is_mended_by_who_has_it(place: Place, tmp_path: Path, damage: str) -> None:
    added(place, filled(tmp_path / "in"))
    path = place.platform.blobs.path(digest_bytes(b"one"))
    if damage == "gone":
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(b"")
        with pytest.raises(Conflict, match="was damaged in the store, and is removed there") as caught:
            added(place, tmp_path / "in")
        assert caught.value.code == "objects-missing"
    added(place, tmp_path / "in")
    out(place, tmp_path / "out", version="1")
    assert (tmp_path / "out" / "one.txt").read_text() == "one"


def test_a_withdrawn_version_can_still_be_looked_at(place: Place, tmp_path: Path) -> None:
    added(place, filled(tmp_path / "in"))
    place.session.datasets.withdraw("images", "1", "wrong labels")
    with pytest.raises(NotFound):
        out(place, tmp_path / "out")  # the newest that is not withdrawn: there is none
    out(place, tmp_path / "out", version="1")
    assert content(tmp_path / "out") == content(tmp_path / "in")


def test_that_somebody_reads_files_is_on_record(place: Place, tmp_path: Path) -> None:
    added(place, filled(tmp_path / "in"))
    out(place, tmp_path / "out")
    (entry,) = place.session.ledger.entries(operation="files.open")
    assert entry.inputs == ("data:images@1",)


class Elsewhere:
    """The verbs of a server on another machine, whose store is not at hand."""

    def __init__(self, files: Any) -> None:
        self.objects = files.objects
        self.files = files

    def open(self, name: str, version: str) -> FilesVersion:
        return msgspec.structs.replace(self.files.open(name, version), store="/nowhere")


def test_over_http_it_is_the_same(place: Place, tmp_path: Path) -> None:
    source, target = filled(tmp_path / "in"), tmp_path / "out"
    (source / "more.bin").write_bytes(noise(40 << 20))
    states = tmp_path / "states"
    with ApiServer(place.platform) as server, connect(server.url) as remote:
        version = add(remote.files, "images", source, states=states)
        assert version.files == 7
        failpoints.arm("data.checkout.fetched=ENOSPC@9")
        with pytest.raises(Unavailable):
            checkout(Elsewhere(remote.files), "images", "1", target, states=states)  # type: ignore[arg-type]
        failpoints.arm("")
        checkout(Elsewhere(remote.files), "images", "1", target, states=states)  # type: ignore[arg-type]
        assert content(target) == content(source)
        assert not list(target.rglob(f"{TEMPORARY}*"))
        assert not (target / "one.txt").stat().st_mode & 0o222
        other = remote.files.objects
        with pytest.raises(NotFound):
            other("images", "1", (digest_bytes(b"something else"),))

"""The laws of the blobs port, on the folder and in memory; what the folder adds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loopline import failpoints
from loopline.errors import Conflict, Unavailable
from loopline.ports.blobs import BlobStore
from loopline.store.local import LocalBlobs
from loopline.store.service import verify
from loopline.testing.blobs import BlobStoreLaws
from loopline.testing.memory import MemoryBlobs


class TestLocal(BlobStoreLaws):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobStore:
        return LocalBlobs(tmp_path / "blobs")


class TestMemory(BlobStoreLaws):
    @pytest.fixture
    def blobs(self) -> BlobStore:
        return MemoryBlobs()


class TestSyncedOneByOne(BlobStoreLaws):
    """On a system without syncfs."""

    @pytest.fixture
    def blobs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
        monkeypatch.setattr("ctypes.CDLL", lambda *named, **more: object())
        return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def local(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.mark.parametrize(
    "place",
    ["store.put.create", "store.put.write", "store.put.write@2", "store.put.before_sync", "store.put.before_rename"],
)
def test_a_full_disk_leaves_nothing_half_written(local: LocalBlobs, place: str) -> None:
    name, _, hit = place.partition("@")
    failpoints.arm(f"{name}=ENOSPC@{hit or 1}")
    try:
        with pytest.raises(Unavailable) as caught:
            local.put([b"one", b"two"])
    finally:
        failpoints.arm("")
    assert caught.value.code == "disk-full"
    assert "space" in caught.value.hint
    assert [p for p in local.folder.rglob("*") if p.is_file()] == []
    assert local.read(local.put([b"one", b"two"]).digest) == b"onetwo"


def test_a_failing_disk_says_so(local: LocalBlobs) -> None:
    failpoints.arm("store.put.before_sync=EIO")
    try:
        with pytest.raises(Unavailable, match="failed"):
            local.put([b"x"])
    finally:
        failpoints.arm("")


@pytest.mark.parametrize("taken", [False, True])
def test_damaged_bytes_are_told_and_mended_by_the_same_bytes(local: LocalBlobs, tmp_path: Path, taken: bool) -> None:
    digest = local.put([b"precious"]).digest
    verify(local, digest)
    path = local.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"precioux")
    with pytest.raises(Conflict) as caught:
        verify(local, digest)
    assert caught.value.code == "blob-damaged"
    if taken:
        (tmp_path / "again").write_bytes(b"precious")
        local.take(tmp_path / "again", digest)
    else:
        local.put([b"precious"])
    verify(local, digest)


def test_a_file_that_is_there_already_waits_for_no_disk(local: LocalBlobs, tmp_path: Path) -> None:
    digest = local.put([b"precious"]).digest
    os.utime(local.path(digest), (0, 0))
    (tmp_path / "again").write_bytes(b"precious")
    failpoints.arm("store.take.before_sync=EIO")
    try:
        taken = local.take(tmp_path / "again", digest)
    finally:
        failpoints.arm("")
    assert taken.time > 0, "it is young again, and no sweep takes it"
    assert not (tmp_path / "again").exists()


def test_blobs_are_read_only_files(local: LocalBlobs) -> None:
    assert local.path(local.put([b"x"]).digest).stat().st_mode & 0o222 == 0


def test_tidy_takes_what_a_killed_put_left_and_no_writing_one(local: LocalBlobs) -> None:
    left, writing = local.folder / ".writing-1-a", local.folder / ".writing-2-b"
    left.write_bytes(b"half")
    writing.write_bytes(b"half")
    os.utime(left, (0, 0))
    digest = local.put([b"whole"]).digest
    assert local.tidy() == 1
    assert not left.exists()
    assert writing.exists()
    assert [blob.digest for blob in local.list()] == [digest]

"""The conformance suite of the blobs port (needs pytest).

class TestMine(BlobStoreLaws):
    @pytest.fixture
    def blobs(self, tmp_path):
        return MyBlobs(tmp_path)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopline.errors import Invalid, NotFound
from loopline.hashing import digest_bytes
from loopline.ports.blobs import BlobStore

ABSENT = digest_bytes(b"never put")
NO_DIGESTS = (
    "", "blake3:", "blake3:../../etc/passwd", "../" * 8 + "etc/passwd", "sha256:" + 64 * "0", "blake3:" + 63 * "0",
    "blake3:" + 64 * "G", "blake3:" + 64 * "A", "blake3:" + 64 * "0" + "\n", "blake3:" + 62 * "0" + "/x", 64 * "0",
)  # fmt: skip


class BlobStoreLaws:
    """Every `BlobStore` passes these; a subclass gives the fixture `blobs`, an empty store."""

    @pytest.mark.parametrize(
        "pieces", [[], [b""], [b"a"], [b"ab", b"", b"c"], [bytes(range(256)) * 9000, b"\0" * 70_000]]
    )
    def test_what_was_put_is_read(self, blobs: BlobStore, pieces: list[bytes]) -> None:
        whole = b"".join(pieces)
        put = blobs.put(iter(pieces))
        assert (put.digest, put.size) == (digest_bytes(whole), len(whole))
        assert blobs.read(put.digest) == whole
        assert b"".join(blobs.chunks(put.digest)) == whole
        assert blobs.exists(put.digest)
        assert blobs.stat(put.digest).size == len(whole)
        path = blobs.path(put.digest)
        assert path is None or path.read_bytes() == whole

    @pytest.mark.parametrize(("start", "stop"), [(0, 4), (3, 7), (6, None), (10, None), (12, 20), (4, 4), (8, 100)])
    def test_a_range_is_read_as_a_slice(self, blobs: BlobStore, start: int, stop: int | None) -> None:
        put = blobs.put([b"0123456789"])
        assert blobs.read(put.digest, start, stop) == b"0123456789"[start:stop]

    def test_a_failing_put_leaves_nothing(self, blobs: BlobStore) -> None:
        def breaking() -> Iterator[bytes]:
            yield b"half"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            blobs.put(breaking())
        assert list(blobs.list()) == []
        assert not blobs.exists(digest_bytes(b"half"))
        assert blobs.tidy(0) == 0

    def test_put_again_is_the_same_blob_and_young(self, blobs: BlobStore) -> None:
        first = blobs.put([b"same"])
        again = blobs.put([b"sa", b"me"])
        assert again.digest == first.digest
        assert again.time >= first.time
        assert [blob.digest for blob in blobs.list()] == [first.digest]

    @pytest.mark.parametrize("known", [False, True])
    def test_a_file_that_is_taken_is_a_blob_and_gone(self, blobs: BlobStore, tmp_path: Path, known: bool) -> None:
        file, digest = tmp_path / "written", digest_bytes(b"taken")
        if known:
            blobs.put([b"taken"])
        file.write_bytes(b"taken")
        file.chmod(0o444)
        taken = blobs.take(file, digest)
        assert (taken.digest, taken.size) == (digest, 5)
        assert blobs.stat(digest) == taken
        assert blobs.read(digest) == b"taken"
        assert not file.exists()

    def test_many_files_are_taken_known_ones_too(self, blobs: BlobStore, tmp_path: Path) -> None:
        contents = [bytes([n]) * (n + 1) for n in range(40)]
        files = {digest_bytes(content): tmp_path / str(n) for n, content in enumerate(contents)}
        for content, file in zip(contents, files.values(), strict=True):
            file.write_bytes(content)
        blobs.put([contents[3]])
        blobs.take_all(files)
        assert [blobs.read(digest) for digest in files] == contents
        assert {blob.digest for blob in blobs.list()} == files.keys()
        assert not any(file.exists() for file in files.values())
        blobs.take_all({})

    def test_delete(self, blobs: BlobStore) -> None:
        kept, gone = blobs.put([b"kept"]), blobs.put([b"gone"])
        blobs.delete(gone.digest)
        blobs.delete(gone.digest)
        assert not blobs.exists(gone.digest)
        assert [blob.digest for blob in blobs.list()] == [kept.digest]
        with pytest.raises(NotFound):
            blobs.read(gone.digest)

    def test_delete_leaves_what_was_put_since(self, blobs: BlobStore) -> None:
        put = blobs.put([b"young"])
        assert not blobs.delete(put.digest, put.time)
        assert blobs.exists(put.digest)
        assert blobs.delete(put.digest, put.time + 1)
        assert not blobs.exists(put.digest)
        assert not blobs.delete(put.digest)

    def test_a_blob_put_while_others_delete_it_is_there_when_put_returns(self, blobs: BlobStore) -> None:
        """A blob is old when two collectors find it, and put again meanwhile: what is young is left by both."""
        lost: list[int] = []
        for turn in range(30):
            old = blobs.put([b"same"])
            while blobs.stat(blobs.put([b"clock"]).digest).time <= old.time:
                pass  # the clock of the store goes on
            collectors = [
                threading.Thread(target=lambda old=old: blobs.delete(old.digest, old.time + 1)) for _ in range(2)
            ]
            for collector in collectors:
                collector.start()
            blobs.put([b"same"])
            for collector in collectors:
                collector.join()
            if not blobs.exists(old.digest):
                lost.append(turn)
        assert lost == []

    def test_what_is_absent_is_not_found(self, blobs: BlobStore) -> None:
        assert not blobs.exists(ABSENT)
        blobs.delete(ABSENT)
        for method in (blobs.read, blobs.chunks, blobs.stat, blobs.path):
            with pytest.raises(NotFound) as caught:
                method(ABSENT)
            assert ABSENT in caught.value.message

    @pytest.mark.parametrize("text", NO_DIGESTS)
    def test_no_digest_is_refused(self, blobs: BlobStore, tmp_path: Path, text: str) -> None:
        for method in (blobs.read, blobs.chunks, blobs.stat, blobs.path, blobs.exists, blobs.delete):
            with pytest.raises(Invalid):
                method(text)
        file = tmp_path / "written"
        file.write_bytes(b"taken")
        with pytest.raises(Invalid):
            blobs.take(file, text)
        assert file.exists()

    def test_list_tells_size_and_time(self, blobs: BlobStore) -> None:
        put = {blobs.put([bytes([n]) * n]) for n in range(1, 30)}
        assert {(b.digest, b.size) for b in blobs.list()} == {(b.digest, b.size) for b in put}
        assert all(b.time > 1_500_000_000_000 for b in blobs.list())

"""A blob store in memory: quick, and it keeps the laws."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from loopline.hashing import digest_bytes
from loopline.ports.blobs import Blob, check_digest, missing
from loopline.ports.clock import Clock, SystemClock


class MemoryBlobs:
    """A `BlobStore` that forgets at the end of the process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self._bytes: dict[str, bytes] = {}
        self._times: dict[str, int] = {}
        self._alone = threading.Lock()

    def put(self, chunks: Iterable[bytes]) -> Blob:
        data = b"".join(chunks)
        digest = digest_bytes(data)
        with self._alone:
            self._bytes[digest], self._times[digest] = data, self.clock.now()
            return self.stat(digest)

    def take(self, file: Path, digest: str) -> Blob:
        check_digest(digest)
        blob = self.put([file.read_bytes()])
        file.unlink()
        return blob

    def take_all(self, files: Mapping[str, Path]) -> None:
        for digest, file in files.items():
            self.take(file, digest)

    def read(self, digest: str, start: int = 0, stop: int | None = None) -> bytes:
        return self._found(digest)[start:stop]

    def chunks(self, digest: str) -> Iterator[bytes]:
        return iter([self._found(digest)])

    def stat(self, digest: str) -> Blob:
        return Blob(digest, len(self._found(digest)), self._times[digest])

    def exists(self, digest: str) -> bool:
        check_digest(digest)
        return digest in self._bytes

    def delete(self, digest: str, before: int | None = None) -> bool:
        check_digest(digest)
        with self._alone:
            if digest not in self._bytes or (before is not None and self._times[digest] >= before):
                return False
            del self._bytes[digest], self._times[digest]
            return True

    def list(self) -> Iterator[Blob]:
        with self._alone:
            return iter([self.stat(digest) for digest in self._bytes])

    def tidy(self, older_than: float = 3600.0) -> int:
        return 0

    def path(self, digest: str) -> None:
        self._found(digest)

    def _found(self, digest: str) -> bytes:
        check_digest(digest)
        if digest not in self._bytes:
            raise missing(digest)
        return self._bytes[digest]

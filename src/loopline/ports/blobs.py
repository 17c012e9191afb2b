"""Blobs as a port: content-addressed bytes, in a folder, in memory or in an object store.

The laws, which `loopline.testing.blobs` checks on every implementation:

1. What `put` returned for some bytes is their digest (`hashing.digest_bytes`); `read` of it gives these bytes, also in another
   process and after a crash.
2. A blob is whole or not there: a `put` that fails, or is killed, leaves nothing that `exists`, `stat`, `read` or `list` shows.
3. `put` of bytes that are there already changes nothing but makes the blob young again (`stat` and `list` tell its time), so that a
   sweep does not take it from under somebody who has just put it.
4. `delete` of a blob that is not there is no error. After it has deleted one, `exists` is false and `read` raises `NotFound`.
   With `before`, it leaves a blob that was put at that time or later, and no `put` comes between its look and its deed.
5. A text that is no digest is refused with `Invalid` by every method, whatever it looks like.
6. No room raises `Unavailable` with code "disk-full".
7. `take` and `take_all` keep the bytes of files as `put` does, and they are gone from where they were.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from loopline.errors import Invalid, NotFound

_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")


class Blob(msgspec.Struct, frozen=True):
    """A blob that is there: its digest, its size in bytes, and when it was put last (milliseconds since 1970-01-01 UTC)."""

    digest: str
    size: int
    time: int


class BlobStore(Protocol):
    """Keeps bytes under their digest. See the laws above."""

    def put(self, chunks: Iterable[bytes]) -> Blob:
        """Keeps the bytes of all chunks, one after the other; they are durable when it returns."""
        ...

    def take(self, file: Path, digest: str) -> Blob:
        """Keeps the bytes of a file that was written for this alone, and read-only, under the digest that they have.

        Where the store is on the same disk they are not written again.
        """
        ...

    def take_all(self, files: Mapping[str, Path]) -> None:
        """As `take`, for many files by their digests: all are durable when it returns."""
        ...

    def read(self, digest: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from `start` to `stop` (exclusive; the end where it is None or beyond). Raises `NotFound`."""
        ...

    def chunks(self, digest: str) -> Iterator[bytes]:
        """All bytes, a piece at a time, in constant memory. Raises `NotFound`, before the first piece."""
        ...

    def stat(self, digest: str) -> Blob:
        """Its size, and when it was put last. Raises `NotFound`."""
        ...

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        ...

    def delete(self, digest: str, before: int | None = None) -> bool:
        """Removes the blob where it is there and, with `before`, was put before that time; whether it did."""
        ...

    def list(self) -> Iterator[Blob]:
        """All blobs, in no order."""
        ...

    def tidy(self, older_than: float = 3600.0) -> int:
        """Removes what killed puts left, where nothing was written to it for some seconds; gives how many."""
        ...

    def path(self, digest: str) -> Path | None:
        """The file that holds the blob, never to be written to, or None where it is no local file. Raises `NotFound`."""
        ...


def check_digest(text: str) -> str:
    """The hex part of a digest. Raises `Invalid` where it is none (so no path can be smuggled in)."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise Invalid(
            f"{str(text)[:100]!r} is not a blob's digest.",
            code="bad-digest",
            hint="A digest is 'blake3:' and 64 hexadecimal digits.",
        )
    return text[7:]


def missing(digest: str) -> NotFound:
    """The error for a blob that is not there."""
    return NotFound(
        f"The store has no blob {digest}.",
        code="blob-not-found",
        hint="`loopline doctor` compares the store with what refers to it.",
    )

"""Packs: many objects one behind the other, as they travel.

Each is its BLAKE3 digest (32 bytes), its size (8 bytes, little-endian), and its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from blake3 import blake3

from loopline.data.manifest import LARGEST
from loopline.errors import Invalid
from loopline.ports.blobs import check_digest

HEAD = 40
"""Bytes that stand before an object's own."""


def packed(objects: Iterable[tuple[str, bytes | memoryview]]) -> bytes:
    """The pack of some objects, each with its digest."""
    parts: list[bytes | memoryview] = []
    for digest, data in objects:
        parts += head(digest, len(data)), data
    return b"".join(parts)


def head(digest: str, size: int) -> bytes:
    """What stands before an object."""
    return bytes.fromhex(check_digest(digest)) + size.to_bytes(8, "little")


def unpacked(chunks: Iterable[bytes]) -> Iterator[tuple[str, memoryview]]:
    """The objects of a pack, in constant memory; each has the digest that it claims. Raises `Invalid` (code "bad-pack")."""
    source, held = iter(chunks), memoryview(b"")

    def take(size: int) -> memoryview:
        nonlocal held
        parts = []
        while size > len(held):
            parts.append(held)
            size -= len(held)
            held = memoryview(next(source, b""))
            if not held:
                raise _bad("it ends too early")
        parts.append(held[:size])
        held = held[size:]
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    while True:
        if not held:
            held = memoryview(next(source, b""))
            if not held:
                return
        begin = take(HEAD)
        size = int.from_bytes(begin[32:], "little")
        if size > LARGEST:
            raise _bad(f"an object of {size:,} bytes is too large")
        data, claimed = take(size), begin[:32].hex()
        if blake3(data).hexdigest() != claimed:
            raise _bad(f"the bytes of {claimed} are not what it says")
        yield f"blake3:{claimed}", data


def _bad(why: str) -> Invalid:
    return Invalid(f"This is no pack of objects: {why}.", code="bad-pack", hint="Send it again.")

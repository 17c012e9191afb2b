"""What the store hands out."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """How much the store holds."""

    blobs: int
    bytes: int
    unreferenced: int
    unreferenced_bytes: int


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep removed (or would, where it only looks), and what it left because it is young."""

    removed: int
    bytes: int
    young: int
    temporary: int


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that something refers to and that is missing or not what its digest says."""

    digest: str
    kind: str
    owners: tuple[str, ...]
    message: str

"""Records of the loop room: loops as declared, and the runs that were asked for."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

RequestStatus = Literal["asked", "running", "promoted", "challenging", "refused", "waiting", "failed", "withdrawn"]


class LoopRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A loop on record: where its file is, what it declares, and the digest of that."""

    ref: str
    name: str
    path: str
    declaration: dict[str, Any]
    digest: str
    declared: int


class LoopRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a loop that was asked for: by an alert (once for each), or by a person."""

    id: str
    loop: str
    reason: str
    alert: str
    """The ref of the alert that asked; empty: a person."""
    status: RequestStatus
    asked: int
    ended: int | None
    message: str
    """What it came to; while it is `asked`: what it waits for."""


class Heeded(msgspec.Struct, frozen=True, kw_only=True):
    """What the controller made of new alerts: the runs asked for, and why others were not."""

    asked: tuple[LoopRequest, ...]
    passed_over: tuple[str, ...]

"""What can be asked of the loop room."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.loop.records import Heeded, LoopRecord, LoopRequest, RequestStatus
from loopline.operations import operation


class LoopsVerbs(Protocol):
    """Loops as declared, and the runs that were asked for."""

    @operation("PUT /projects/{project}/loops/{name}", action="run")
    def declare(self, name: str, path: str, declaration: dict[str, Any]) -> LoopRecord:
        """Put a loop's declaration on record, so that a running platform can watch and start it."""
        ...

    @operation("GET /projects/{project}/loops", action="read")
    def list(self) -> list[LoopRecord]:
        """All loops of the project."""
        ...

    @operation("GET /projects/{project}/loops/{name}", action="read")
    def show(self, name: str) -> LoopRecord:
        """One loop with its declaration."""
        ...

    @operation("POST /projects/{project}/loops/{name}/requests", action="run")
    def request(self, name: str, reason: str = "") -> LoopRequest:
        """Ask the running platform to run a loop again, on what is known by now.

        It waits for nothing but a rollout that is under way. What an alert asked for and has not begun is withdrawn for it.
        """
        ...

    @operation("GET /projects/{project}/loops/requests", action="read")
    def requests(self, status: RequestStatus | None = None, limit: int = 50) -> tuple[LoopRequest, ...]:
        """The newest runs that were asked for."""
        ...

    @operation("POST /projects/{project}/loops/heed", action="run", prepares=True)
    def heed(self) -> Heeded:
        """Ask for the runs that new alerts call for, each alert once, by what its loop declares (cool-down and enough labels)."""
        ...

    @operation("POST /projects/{project}/loops/requests/{request}/status", action="run")
    def settle(self, request: str, status: RequestStatus, message: str = "") -> LoopRequest:
        """Record that an asked run has begun, what it waits for or came to; or withdraw one that has not begun."""
        ...

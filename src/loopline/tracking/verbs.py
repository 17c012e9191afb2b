"""What can be asked about runs."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.operations import Body, Bytes, operation
from loopline.tracking.records import Artifact, Ending, Logged, Point, Run, RunKind, RunPage, RunStatus


class RunsVerbs(Protocol):
    """Runs: parameters, metric points, artifacts, inputs and outputs of each execution."""

    @operation("POST /projects/{project}/runs", action="run")
    def create(
        self,
        name: str,
        kind: RunKind = "run",
        parent: str | None = None,
        params: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        inputs: tuple[str, ...] = (),
        environment: dict[str, Any] | None = None,
    ) -> Run:
        """Start a run, with what is known of it already."""
        ...

    @operation("POST /projects/{project}/runs/{run}/metrics", action="run", record="digest", prepares=True)
    def log(self, run: str, metrics: list[Point]) -> Logged:
        """Add metric points to a run; once answered, they are on the disk.

        The same batch sent again (same points, with their times) is kept once.
        """
        ...

    @operation("POST /projects/{project}/runs/{run}/params", action="run")
    def params(self, run: str, params: dict[str, Any]) -> Run:
        """Set params of a run. A param has one value for good: the same again is fine, another is refused."""
        ...

    @operation("POST /projects/{project}/runs/{run}/tags", action="run")
    def tag(self, run: str, tags: dict[str, str]) -> Run:
        """Set or replace tags of a run; an empty text removes one."""
        ...

    @operation("POST /projects/{project}/runs/{run}/finish", action="run")
    def finish(self, run: str, status: Ending = "finished", outputs: tuple[str, ...] = (), message: str = "") -> Run:
        """End a run, with the refs that it made."""
        ...

    @operation("GET /projects/{project}/runs/{run}", action="read")
    def show(self, run: str) -> Run:
        """Show a run with its params, tags and the last value of each metric."""
        ...

    @operation("GET /projects/{project}/runs", action="read")
    def list(
        self,
        name: str | None = None,
        kind: RunKind | None = None,
        status: RunStatus | None = None,
        parent: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> RunPage:
        """List runs, newest first, a page at a time."""
        ...

    @operation("GET /projects/{project}/runs/{run}/metrics/{key:path}", action="read")
    def history(self, run: str, key: str) -> tuple[Point, ...]:
        """Show all points of one metric of a run, by step and time."""
        ...

    @operation("PUT /projects/{project}/runs/{run}/artifacts/{path:path}", action="run", prepares=True)
    def put_artifact(self, run: str, path: str, content: Body) -> Artifact:
        """Keep a file with a run, under a path of its own; the same bytes are stored once."""
        ...

    @operation("GET /projects/{project}/runs/{run}/artifacts", action="read")
    def artifacts(self, run: str) -> tuple[Artifact, ...]:
        """List the files of a run."""
        ...

    @operation("GET /projects/{project}/runs/{run}/artifacts/{path:path}", action="read")
    def artifact(self, run: str, path: str) -> Bytes:
        """Fetch a file of a run."""
        ...

"""What can be asked of the pipeline room."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.operations import operation
from loopline.pipeline.records import PipelineRun, Status, StepRun


class PipelinesVerbs(Protocol):
    """Runs of pipelines and the journal of their steps."""

    @operation("POST /projects/{project}/pipelines/{name}/runs", action="run")
    def start(self, name: str, key: str, reason: str = "") -> PipelineRun:
        """Start a run of a pipeline, or take up the one of the same key that was never ended.

        `key` is the digest of all that the run depends on. Raises `Conflict` where an unfinished run has another key.
        """
        ...

    @operation("POST /projects/{project}/pipelines/runs/{run}/steps/{step}", action="run")
    def step(
        self, run: str, step: str, key: str, outputs: dict[str, Any], seconds: float, cached: bool = False
    ) -> StepRun:
        """Record that a step is done and what it gave; from then on it is not done again for this key."""
        ...

    @operation("GET /projects/{project}/pipelines/{name}/steps/{step}/{key}", action="read")
    def known(self, name: str, step: str, key: str) -> StepRun | None:
        """What a step of this pipeline gave for this key in any run, if it was ever done."""
        ...

    @operation("POST /projects/{project}/pipelines/runs/{run}/end", action="run")
    def end(self, run: str, status: Status, message: str = "") -> PipelineRun:
        """End a run as finished, failed or stopped."""
        ...

    @operation("GET /projects/{project}/pipelines/runs/{run}", action="read")
    def show(self, run: str) -> PipelineRun:
        """One run with its steps, in the order in which they ended."""
        ...

    @operation("GET /projects/{project}/pipelines/runs", action="read")
    def list(self, name: str | None = None, limit: int = 50) -> list[PipelineRun]:
        """The newest runs."""
        ...

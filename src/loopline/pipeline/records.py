"""Records of the pipeline room."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Status = Literal["running", "finished", "failed", "stopped"]


class StepRun(msgspec.Struct, frozen=True, kw_only=True):
    """One finished step of a pipeline's run: what it was keyed by and the refs and small values it gave."""

    step: str
    key: str
    outputs: dict[str, Any]
    cached: bool
    seconds: float
    at: int


class PipelineRun(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a pipeline. An unfinished one is taken up again by the next start of the same pipeline."""

    ref: str
    id: str
    name: str
    key: str
    status: Status
    reason: str
    started: int
    ended: int | None
    message: str
    steps: tuple[StepRun, ...]
    resumed: bool = False

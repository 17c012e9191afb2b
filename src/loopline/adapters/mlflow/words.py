"""MLflow's words for what a run holds, in ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Ended = Literal["finished", "failed", "killed"]

ENDINGS: Mapping[str, Ended | None] = {
    "RUNNING": None,
    "SCHEDULED": None,
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "killed",
}
"""How a run ended, by its status; None: it goes on."""

LARGEST = 2**63


def about(tags: Mapping[str, str]) -> dict[str, Any]:
    """What MLflow keeps in tags and has a place of its own here: `note`, `parent` and `environment`."""
    found: dict[str, Any] = {"note": tags.get("mlflow.note.content", "")}
    found["parent"] = tags.get("mlflow.parentRunId") or None
    code = {"commit": tags.get("mlflow.source.git.commit"), "branch": tags.get("mlflow.source.git.branch")}
    found["environment"] = {name: value for name, value in code.items() if value}
    return found


def left(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that stay tags."""
    return {key: value for key, value in tags.items() if key not in ("mlflow.note.content", "mlflow.parentRunId")}

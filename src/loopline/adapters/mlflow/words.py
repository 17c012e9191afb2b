"""MLflow's words for what a run holds, in ours."""

from __future__ import annotations

import re
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

MODEL_ENDINGS: Mapping[str, Ended | None] = {
    "LOGGED_MODEL_PENDING": None,
    "LOGGED_MODEL_READY": "finished",
    "LOGGED_MODEL_UPLOAD_FAILED": "failed",
}
"""The same of a logged model."""

DELETED = "Deleted_Internal"
"""The stage of a version that is deleted, and kept in a folder nevertheless."""

_RUN = r"[0-9a-f]{32}|[0-9A-HJKMNP-TV-Z]{26}"
_IN_RUN = re.compile(rf"(?:runs:/|.*?/)(?P<run>{_RUN})/(?:artifacts/)?(?P<path>.+)")
_IN_MODEL = re.compile(r"models:/(?P<bare>m-\w+)|.*/models/(?P<model>m-\w+)/artifacts/?")


def origin(*places: str) -> tuple[str, str] | None:
    """The source of the run or logged model that has the files of a version, and the folder within; of the first URI that tells."""
    for place in places:
        if found := _IN_MODEL.fullmatch(place):
            return found["bare"] or found["model"], ""
        if found := _IN_RUN.fullmatch(place):
            return found["run"], found["path"].rstrip("/")
    return None


def staged(tags: Mapping[str, str], stage: str | None) -> dict[str, str]:
    """The tags of a version, its stage among them."""
    return {**tags, **({"mlflow.stage": stage} if stage not in (None, "", "None") else {})}


def typed(tags: Mapping[str, str], kind: str | None) -> dict[str, str]:
    """The tags of a logged model, its type among them, where MLflow's clients find it again."""
    return {**tags, **({"loopline.model_type": kind} if kind else {})}


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

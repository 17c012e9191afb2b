"""The names that a filter may use, and what kind of value each takes."""

from __future__ import annotations

from typing import Literal, get_args

from loopline.tracking.records import RunKind, RunStatus
from loopline.tracking.search.tree import Field, Group

Takes = Literal["text", "number", "either", "time", "duration", "word", "run", "ref"]
"""`either`: a number, or a text in quotes. `word`: one of `WORDS`. `run`: an id. `ref`: a printed name."""

ATTRIBUTES: dict[str, tuple[str, Takes]] = {
    "id": ("id", "run"),
    "name": ("name", "text"),
    "kind": ("kind", "word"),
    "status": ("status", "word"),
    "created": ("created", "time"),
    "ended": ("ended", "time"),
    "deleted": ("deleted", "time"),
    "duration": ("duration", "duration"),
    "creator": ("creator", "text"),
    "user": ("creator", "text"),
    "message": ("message", "text"),
    "note": ("note", "text"),
    "group": ("group", "text"),
    "parent": ("parent", "run"),
    # MLflow's names for the same
    "run_id": ("id", "run"),
    "run_name": ("name", "text"),
    "start_time": ("created", "time"),
    "end_time": ("ended", "time"),
    "user_id": ("creator", "text"),
}

EXTERNAL = ("name", "digest", "context")
"""What is asked of data that a run read elsewhere."""

WORDS: dict[str, tuple[str, ...]] = {"kind": get_args(RunKind), "status": get_args(RunStatus)}

GROUPS: dict[str, Group] = {
    "attributes": "attributes",
    "attribute": "attributes",
    "attr": "attributes",
    "run": "attributes",
    "params": "params",
    "param": "params",
    "parameters": "params",
    "parameter": "params",
    "metrics": "metrics",
    "metric": "metrics",
    "tags": "tags",
    "tag": "tags",
    "external": "external",
}

REFS: dict[str, Field] = {
    "inputs": Field("inputs", ""),
    "input": Field("inputs", ""),
    "datasets": Field("inputs", "data"),
    "dataset": Field("inputs", "data"),
    "outputs": Field("outputs", ""),
    "output": Field("outputs", ""),
    "models": Field("outputs", "model"),
    "model": Field("outputs", "model"),
}

_TAKES: dict[Group, Takes] = {
    "params": "either",
    "metrics": "number",
    "tags": "text",
    "external": "text",
    "inputs": "ref",
    "outputs": "ref",
}
_BY_ATTRIBUTE = dict(ATTRIBUTES.values())


def takes(field: Field) -> Takes:
    """What kind of value is compared with a field."""
    return _BY_ATTRIBUTE[field.key] if field.group == "attributes" else _TAKES[field.group]


def suggestions() -> list[str]:
    """The names that a field may begin with."""
    return [*ATTRIBUTES, *(f"{group}.KEY" for group in ("params", "metrics", "tags")), *REFS]

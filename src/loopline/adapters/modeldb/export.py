"""Runs out of saved answers of ModelDB 2's REST interface: `getExperimentRunsInProject`, `...InExperiment`, `findExperimentRuns`.

ModelDB had no program that exports; its answers as JSON hold all that it kept of runs but for the bytes of artifacts. Messages are
those of protos/public/modeldb/ExperimentRunService.proto, in protobuf's JSON form (64-bit numbers as texts), with names either
as declared or in camelCase. docs/import-export.md has the mapping.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from loopline.errors import Invalid
from loopline.ports.foreign_runs import ForeignPoint, ForeignRun, Unread

_LARGEST = 512 << 20  # bytes of a file
_LATEST = 253_402_300_799_999
_MOST = 2**63
_LEFT = {
    "features": "names of features",
    "versioned_inputs": "inputs in a repository of ModelDB",
    "code_version_from_blob": "code versions in a repository of ModelDB",
}
"""Fields of a run that have no place here."""


class ModeldbExport:
    """The runs of a JSON file, or of all such files in a folder. Raises `Invalid` where there is none."""

    system = "modeldb"

    def __init__(self, place: Path) -> None:
        files = [place] if place.is_file() else sorted(place.glob("*.json")) if place.is_dir() else []
        self._files = [path for path in files if path.is_file() and not path.is_symlink()]
        if not self._files:
            raise Invalid(
                f"There are no answers of ModelDB in {place}.",
                code="bad-import",
                hint="Give a JSON file, or a folder of some, that hold what getExperimentRunsInProject answered.",
            )

    def runs(self) -> Iterator[ForeignRun | Unread]:
        seen: set[str] = set()
        for path in self._files:
            try:
                told = _told(path)
            except (OSError, ValueError, RecursionError) as e:
                yield Unread(path.name, str(e)[:300])
                continue
            for place, one in enumerate(told):
                try:
                    run = _run(one)
                except (KeyError, TypeError, ValueError, AttributeError) as e:
                    yield Unread(f"{path.name}, run {place + 1}", f"it is none of ModelDB's: {e!r}"[:300])
                    continue
                if run.source not in seen:  # pages may overlap
                    seen.add(run.source)
                    yield run


def _told(path: Path) -> list[Any]:
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"it has {path.stat().st_size:,} bytes; ask ModelDB for smaller pages")
    found = _snake(json.loads(path.read_bytes()))
    runs = found.get("experiment_runs") if isinstance(found, dict) else None
    if not isinstance(runs, list):
        raise ValueError("it has no experiment_runs")
    return runs


def _snake(value: Any) -> Any:
    """The same with the names of fields as they are declared."""
    if isinstance(value, dict):
        return {re.sub(r"(?<=[a-z0-9])([A-Z])", lambda c: "_" + c[1].lower(), k): _snake(v) for k, v in value.items()}
    return [_snake(one) for one in value] if isinstance(value, list) else value


def _run(one: dict[str, Any]) -> ForeignRun:
    created = _time(one.get("start_time")) or _time(one.get("date_created"))
    ended = _time(one.get("end_time")) or _time(one.get("date_updated")) or created
    tags = {str(tag): "true" for tag in one.get("tags", ())}
    tags |= {key: _text(value) for key, value in _pairs(one.get("attributes", ()))}
    for field in ("project_id", "owner", "job_id", "code_version"):
        if one.get(field):
            tags[f"modeldb.{field}"] = str(one[field])
    points = [ForeignPoint(key, 0, ended, float(value)) for key, value in _pairs(one.get("metrics", ()))]
    observed, others = _observations(one.get("observations", ()), ended)
    names = [str(artifact["key"]) for part in ("artifacts", "datasets") for artifact in one.get(part, ())]
    left = [f"the bytes of {', '.join(names)}, which ModelDB's answers do not hold"] if names else []
    left += [f"{others} observations that are no numbers"] if others else []
    left += [words for field, words in _LEFT.items() if one.get(field)]
    return ForeignRun(
        source=str(one["id"]),
        name=str(one.get("name") or one["id"]),
        created=created,
        ended=max(created, ended),
        note=str(one.get("description") or ""),
        group=str(one.get("experiment_id") or ""),
        parent=str(one["parent_id"]) if one.get("parent_id") else None,
        params=dict(_pairs(one.get("hyperparameters", ()))),
        tags=tags,
        environment=_code(one.get("code_version_snapshot") or {}),
        points=partial(iter, [*points, *observed]),
        left_out=tuple(left),
    )


def _pairs(given: Any) -> Iterator[tuple[str, Any]]:
    for one in given:
        yield str(one["key"]), one.get("value")


def _observations(given: Any, ended: int) -> tuple[list[ForeignPoint], int]:
    """Observations as points, by epoch or else by their order, and how many are none."""
    points: list[ForeignPoint] = []
    counts: dict[str, int] = {}
    others = 0
    for one in given:
        said: dict[str, Any] = one.get("attribute") or {}
        value, key = said.get("value", ""), str(said.get("key", ""))
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not key or (math.isnan(number) and str(value) != "NaN"):
            others += 1
            continue
        epoch = one.get("epoch_number")
        step = int(epoch) if isinstance(epoch, int | float) and abs(epoch) < _MOST else counts.get(key, 0)
        counts[key] = counts.get(key, 0) + 1
        points.append(ForeignPoint(key, step, _time(one.get("timestamp")) or ended, number))
    return points, others


def _code(snapshot: dict[str, Any]) -> dict[str, Any]:
    git = snapshot.get("git_snapshot") or {}
    found = {"commit": git.get("hash"), "remote": git.get("repo")}
    dirty = {"TRUE": True, "FALSE": False}.get(str(git.get("is_dirty")))
    return {key: value for key, value in {**found, "dirty": dirty}.items() if value not in (None, "")}


def _time(value: Any) -> int:
    time = int(value or 0)
    if not 0 <= time <= _LATEST:
        raise ValueError(f"{time} is no time in milliseconds")
    return time


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

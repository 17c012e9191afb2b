"""Runs out of a folder `mlruns/`, as MLflow's file store writes it. It is only read, and MLflow is not needed for it.

    <experiment>/meta.yaml                      name, lifecycle_stage
    <experiment>/<run>/meta.yaml                run_id, run_name, status, start_time, end_time, lifecycle_stage, ...
    <experiment>/<run>/params|tags/<key>        the value; a key with slashes is a file in folders
    <experiment>/<run>/metrics/<key>            lines: time in milliseconds, value, step
    <experiment>/<run>/artifacts/...            files

    <experiment>/<run>/inputs/<id>/meta.yaml    which of the experiment's datasets/<id>/meta.yaml it read
    <experiment>/models/m-<id>/...              a logged model, like a run; its metrics name the run and the data
    models/<name>/meta.yaml, version-<n>/...    registered models with their aliases, versions and tags

Deleted experiments (`.trash`), runs and models are left out. Symbolic links are not followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from loopline.adapters.mlflow import words
from loopline.errors import Invalid
from loopline.ports.foreign_runs import (
    ForeignDataset,
    ForeignFile,
    ForeignMeasure,
    ForeignModel,
    ForeignPoint,
    ForeignRun,
    ForeignVersion,
    Unread,
)

_LONGEST = 1 << 20  # bytes of a meta.yaml, of a param or of a tag
_LONGEST_LINE = 4096
_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_NUMBER = re.compile(rb"[+-]?\d{1,20}")


class MlflowFolder:
    """The runs of a folder. Raises `Invalid` where it is none of MLflow's."""

    system = "mlflow"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not folder.is_dir() or not any(_experiments(folder)):
            raise Invalid(
                f"{folder} holds no experiments of MLflow.",
                code="bad-import",
                hint="Give the folder `mlruns` itself: the one with a folder for each experiment, which has a meta.yaml.",
            )

    def runs(self) -> Iterator[ForeignRun | Unread]:
        for experiment in _experiments(self._folder):
            try:
                about = _meta(experiment / "meta.yaml")
            except (OSError, ValueError, yaml.YAMLError, RecursionError) as e:
                yield Unread(experiment.name, f"its meta.yaml cannot be read: {_said(e)}")
                yield from (
                    Unread(place.name, f"its experiment {experiment.name} was refused") for place in _held(experiment)
                )
                continue
            if about.get("lifecycle_stage") == "deleted":
                continue
            for place in _held(experiment):
                read = _logged if place.parent.name == "models" else _run
                if (one := read(place, _group(about, experiment.name))) is not None:
                    yield one

    def models(self) -> Iterator[ForeignModel | Unread]:
        for place in _folders(self._folder / "models") if (self._folder / "models").is_dir() else ():
            try:
                about = _meta(place / "meta.yaml")
                yield ForeignModel(
                    name=str(about.get("name") or place.name),
                    description=str(about.get("description") or ""),
                    tags=_texts(place / "tags"),
                    aliases={alias: int(text) for alias, text in _texts(place / "aliases").items()},
                    versions=tuple(_versions(place)),
                )
            except (OSError, ValueError, yaml.YAMLError, RecursionError) as e:
                yield Unread(f"models/{place.name}", _said(e))


def _experiments(folder: Path) -> Iterator[Path]:
    for place in _folders(folder):
        if place.name not in ("models", ".trash") and (place / "meta.yaml").is_file():
            yield place


def _held(experiment: Path) -> Iterator[Path]:
    """The folders of an experiment's runs, and then of its logged models."""
    for place in _folders(experiment):
        if (place / "meta.yaml").is_file():
            yield place
    if (experiment / "models").is_dir():
        yield from _folders(experiment / "models")


def _folders(place: Path) -> Iterator[Path]:
    with os.scandir(place) as found:
        names = sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    for name in names:
        yield place / name


def _group(about: dict[str, Any], name: str) -> str:
    said = str(about.get("name") or name)
    return "" if said == "Default" else said


def _run(place: Path, group: str) -> ForeignRun | Unread | None:
    """A run; None where it is deleted."""
    try:
        about = _meta(place / "meta.yaml")
        if about.get("lifecycle_stage") == "deleted":
            return None
        tags = _texts(place / "tags")
        said = about.get("status", 3)
        status = _STATUS.get(said, "") if isinstance(said, int) else str(said)
        created, ended = about.get("start_time"), about.get("end_time")
        if status not in words.ENDINGS or not isinstance(created, int) or not isinstance(ended, int | None):
            raise ValueError(f"the status {said!r}, start_time {created!r} and end_time {ended!r} are none of MLflow's")
        source = str(about.get("run_id") or about.get("run_uuid") or place.name)
        return ForeignRun(
            source=source,
            name=str(about.get("run_name") or tags.get("mlflow.runName") or source),
            created=created,
            status=words.ENDINGS[status],
            ended=ended,
            group=group,
            params=dict(_texts(place / "params")),
            tags=words.left(tags),
            points=partial(_points, place / "metrics"),
            files=partial(_artifacts, place / "artifacts"),
            datasets=tuple(_datasets(place)),
            left_out=_left_out(place),
            **words.about(tags),
        )
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as e:
        return Unread(place.name, _said(e))


def _logged(place: Path, group: str) -> ForeignRun | Unread | None:
    """A logged model; None where it is deleted."""
    try:
        about = _meta(place / "meta.yaml")
        if about.get("lifecycle_stage") == "deleted":
            return None
        status, created, ended = (about.get(key) for key in ("status", "creation_timestamp", "last_updated_timestamp"))
        names = dict(enumerate(words.MODEL_ENDINGS, 1))
        if status not in names or not isinstance(created, int) or not isinstance(ended, int):
            raise ValueError(f"the status {status!r} and its times {created!r} and {ended!r} are none of MLflow's")
        return ForeignRun(
            source=str(about.get("model_id") or place.name),
            kind="model",
            name=str(about.get("name") or place.name),
            created=created,
            status=words.MODEL_ENDINGS[names[status]],
            ended=ended,
            group=group,
            parent=str(about["source_run_id"]) if about.get("source_run_id") else None,
            params=dict(_texts(place / "params")),
            tags=words.typed(_texts(place / "tags"), about.get("model_type")),
            files=partial(_artifacts, place / "artifacts"),
            measures=tuple(_measures(place / "metrics")),
        )
    except (OSError, ValueError, yaml.YAMLError, RecursionError, Invalid) as e:
        return Unread(place.name, _said(e))


def _measures(place: Path) -> Iterator[ForeignMeasure]:
    """Lines of a logged model's metrics: time, value, step, the run that measured it, and the name and digest of the data."""
    for key, path in _files(place):
        for number, line in enumerate(_read(path).splitlines(), 1):
            said = line.split(" ")
            if len(said) < 4:
                raise ValueError(f"line {number} of the metric {key!r} names no run")
            point = _point(key, (" ".join(said[:3]) + "\n").encode(), f"line {number} of the metric {key!r}")
            yield ForeignMeasure(said[3], point, " ".join(said[4:-1]), said[-1] if len(said) > 5 else "")


def _versions(model: Path) -> Iterator[ForeignVersion]:
    for place in _folders(model):
        if re.fullmatch(r"version-\d{1,9}", place.name):
            about = _meta(place / "meta.yaml")
            if about.get("current_stage") != words.DELETED:
                yield _version(place, about)


def _version(place: Path, about: dict[str, Any]) -> ForeignVersion:
    origin, kept = str(about.get("source") or ""), str(about.get("storage_location") or "")
    return ForeignVersion(
        number=int(about["version"] if "version" in about else place.name.removeprefix("version-")),
        run=str(about.get("run_id") or ""),
        origin=origin,
        files=words.origin(origin, kept),
        description=str(about.get("description") or ""),
        tags=words.staged(_texts(place / "tags"), about.get("current_stage")),
    )


def _datasets(place: Path) -> Iterator[ForeignDataset]:
    """The data that a run read."""
    for read in _folders(place / "inputs") if (place / "inputs").is_dir() else ():
        link = _meta(read / "meta.yaml")
        if link.get("source_type") == "DATASET":
            id = str(link["source_id"])
            if not re.fullmatch(r"\w{1,64}", id):
                raise ValueError(f"{id[:60]!r} is no id of a dataset")
            about = _meta(place.parent / "datasets" / id / "meta.yaml")
            given = {name: str(about.get(name) or "") for name in ForeignDataset._fields if name != "context"}
            yield ForeignDataset(**given, context=str((link.get("tags") or {}).get("mlflow.data.context", "")))


def _meta(path: Path) -> dict[str, Any]:
    """A meta.yaml: names and plain values. Raises ValueError where it is something else."""
    text = _read(path)
    if "&" in text and re.search(r"(?:^|\s)&\w", text):
        raise ValueError("it has anchors, which MLflow does not write")
    found = yaml.safe_load(text)
    if not isinstance(found, dict):
        raise ValueError("it holds no names and values")
    return found


def _read(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name} is no plain file")
    if path.stat().st_size > _LONGEST:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes; MLflow writes no such")
    text = path.read_text(encoding="utf-8")
    if "\0" in text:
        raise ValueError(f"{path.name} holds NUL, which no text here can")
    return text


def _texts(place: Path) -> dict[str, str]:
    """Keys and values of a folder with a file each."""
    return {key: _read(path).removesuffix("\n") for key, path in _files(place)}


def _files(place: Path) -> Iterator[tuple[str, Path]]:
    """The plain files below a folder by their path in it, in order; no link is followed, and none taken for a file."""
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(place).as_posix(), path


def _points(place: Path) -> Iterator[ForeignPoint]:
    for key, path in _files(place):
        with path.open("rb") as lines:
            number = 0
            while (line := lines.readline(_LONGEST_LINE)).endswith(b"\n") or len(line) == _LONGEST_LINE:
                number += 1
                yield _point(key, line, f"line {number} of the metric {key!r}")


def _point(key: str, line: bytes, where: str) -> ForeignPoint:
    """A point of a line: time, value and (since MLflow 1.0) step; MLflow 3 adds the dataset it was measured on."""
    words_ = line.split()
    try:
        if not line.endswith(b"\n") or len(words_) < 2:
            raise ValueError("it is no time, value and step")
        if any(_NUMBER.fullmatch(word) is None for word in (words_[0], *words_[2:3])):
            raise ValueError("time and step are no whole numbers")
        time, step = int(words_[0]), int(words_[2]) if len(words_) > 2 else 0
        if not (0 <= time < words.LARGEST and -words.LARGEST <= step < words.LARGEST):
            raise ValueError("time or step are out of range")
        return ForeignPoint(key, step, time, float(words_[1]))
    except ValueError as e:
        raise Invalid(
            f"In {where} stands {line[:60]!r}: {e}.",
            code="bad-import",
            hint="Mend or remove the line, and import again.",
        ) from e


def _artifacts(place: Path) -> Iterator[ForeignFile]:
    for path, file in _files(place):
        yield ForeignFile(path, file.stat().st_size, file)


def _left_out(place: Path) -> tuple[str, ...]:
    told: list[str] = []
    if cut := [key for key, path in _files(place / "metrics") if _is_cut(path)]:
        told.append(f"the last line of {', '.join(cut)}, which is cut off: its program was killed as it wrote")
    links = sum(
        Path(folder, name).is_symlink() for folder, within, names in os.walk(place) for name in (*within, *names)
    )
    return (*told, f"{links} symbolic links") if links else tuple(told)


def _is_cut(path: Path) -> bool:
    """Whether the last line of a metric is not whole."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() not in (b"", b"\n")


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

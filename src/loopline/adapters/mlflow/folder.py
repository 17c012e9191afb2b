"""Runs out of a folder `mlruns/`, as MLflow's file store writes it. It is only read, and MLflow is not needed for it.

    <experiment>/meta.yaml                      name, lifecycle_stage
    <experiment>/<run>/meta.yaml                run_id, run_name, status, start_time, end_time, lifecycle_stage, ...
    <experiment>/<run>/params|tags/<key>        the value; a key with slashes is a file in folders
    <experiment>/<run>/metrics/<key>            lines: time in milliseconds, value, step
    <experiment>/<run>/artifacts/...            files

Deleted experiments (`.trash`) and runs are left out, as are registered models. Symbolic links are not followed.
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
from loopline.ports.foreign_runs import ForeignFile, ForeignPoint, ForeignRun, Unread

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
                continue
            if about.get("lifecycle_stage") == "deleted":
                continue
            for place in _folders(experiment):
                if (place / "meta.yaml").is_file():
                    one = _run(place, _group(about, experiment.name))
                    if one is not None:
                        yield one


def _experiments(folder: Path) -> Iterator[Path]:
    for place in _folders(folder):
        if place.name not in ("models", ".trash") and (place / "meta.yaml").is_file():
            yield place


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
            left_out=_left_out(place),
            **words.about(tags),
        )
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as e:
        return Unread(place.name, _said(e))


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
    told = []
    for name, what in (("inputs", "dataset inputs"), ("outputs", "links to models")):
        count = sum(1 for _ in _folders(place / name)) if (place / name).is_dir() else 0
        if count:
            told.append(f"{count} {what}")
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

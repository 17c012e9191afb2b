"""Runs out of folders of event files: each folder that has some is a run, as for TensorBoard.

Scalars are metrics, in either form that writers have used (`simple_value`, and tensors of the plugin "scalars"); hyperparameters
are params; texts and images are files. Histograms, audio, graphs and what else plugins write have no place: they are counted.
TensorBoard does not say how a run ended; unless its hyperparameters do, it is finished.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from google.protobuf.message import DecodeError

from loopline.adapters.tensorboard.messages import ONEOF, Event, HParams
from loopline.adapters.tensorboard.records import Damage, read
from loopline.errors import Invalid
from loopline.ports.foreign_runs import ForeignFile, ForeignPoint, ForeignRun, Unread

_EVENTS = "tfevents"
_ENDED: dict[int, Literal["finished", "failed"]] = {1: "finished", 2: "failed"}
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 6: "i1", 5: "<i2", 9: "<i8", 10: "?", 19: "<f2"}
_STRINGS = 7
_LATEST = 253_402_300_799_999
_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif"}


class TensorboardFolder:
    """The runs below a folder, or the one of a single event file. Raises `Invalid` where there is none."""

    system = "tensorboard"

    def __init__(self, place: Path) -> None:
        self._root = place.parent if place.is_file() else place
        self._found = {self._root: [place]} if place.is_file() else _folders(place)
        if not self._found:
            raise Invalid(
                f"There are no event files below {place}.",
                code="bad-import",
                hint="Their names hold `tfevents`; give the folder that TensorBoard is started with (--logdir).",
            )

    def runs(self) -> Iterator[ForeignRun | Unread]:
        for folder, files in self._found.items():
            within = folder.relative_to(self._root).as_posix()
            name = self._root.absolute().name if within == "." else within
            yield _run(f"{name}/{files[0].name}", name, files)


def _folders(root: Path) -> dict[Path, list[Path]]:
    """The event files below a folder, by the folder they are in; links are not followed."""
    found: dict[Path, list[Path]] = {}
    for folder, within, names in os.walk(root):
        within.sort()
        files = [Path(folder, name) for name in sorted(names) if _EVENTS in name]
        if files := [path for path in files if path.is_file() and not path.is_symlink()]:
            found[Path(folder)] = files
    return found


@dataclass
class _Seen:
    """What the first reading of a run finds."""

    first: float = math.inf
    last: float = -math.inf
    params: dict[str, Any] = field(default_factory=dict)
    status: Literal["finished", "failed"] = "finished"
    others: Counter[str] = field(default_factory=Counter)
    damages: list[str] = field(default_factory=list)


def _run(source: str, name: str, files: Sequence[Path]) -> ForeignRun | Unread:
    seen = _Seen()
    for path in files:
        for event in _events(path, seen.damages):
            if math.isfinite(event.wall_time):
                seen.first, seen.last = min(seen.first, event.wall_time), max(seen.last, event.wall_time)
            _see(event, seen)
    if not math.isfinite(seen.first):
        return Unread(source, "; ".join(seen.damages) or "it holds no events")
    told = [f"{count} of {what}" for what, count in sorted(seen.others.items())]
    return ForeignRun(
        source=source,
        name=name,
        created=_milliseconds(seen.first),
        ended=_milliseconds(seen.last),
        status=seen.status,
        params=seen.params,
        points=partial(_points, files),
        files=partial(_files, files),
        left_out=(*seen.damages, *told),
    )


def _events(path: Path, damages: list[str]) -> Iterator[Any]:
    """The events of a file, as far as it can be read; what ends it before its end is noted."""
    for record in read(path):
        if isinstance(record, Damage):
            damages.append(f"{path.name} from byte {record.at} on: {record.why}")
            return
        event = Event()
        try:
            event.ParseFromString(record)
        except DecodeError:
            damages.append(f"{path.name}: a record that is no event, and all that follows")
            return
        yield event


def _see(event: Any, seen: _Seen) -> None:
    """Takes params and the end out of an event, and counts what has no place here."""
    for part in ("graph_def", "meta_graph_def", "tagged_run_metadata"):
        if event.HasField(part):
            seen.others[part] += 1
    for value in event.summary.value:
        plugin = value.metadata.plugin_data
        if plugin.plugin_name == "hparams":
            _see_hparams(plugin.content, seen)
        elif _scalar(value) is None and not list(_contents(value)):
            form = next((form for form in ONEOF if value.HasField(form)), "nothing")
            seen.others[plugin.plugin_name or {"histo": "histograms"}.get(form, form)] += 1


def _see_hparams(content: bytes, seen: _Seen) -> None:
    said = HParams()
    try:
        said.ParseFromString(content)
    except DecodeError:
        seen.others["hparams"] += 1
        return
    for one in said.session_start_info.hparams:
        kind = one.value.WhichOneof("kind")
        if kind in ("number_value", "string_value", "bool_value"):
            seen.params[one.key] = getattr(one.value, kind)
    seen.status = _ENDED.get(said.session_end_info.status, seen.status)


def _points(files: Sequence[Path]) -> Iterator[ForeignPoint]:
    for path in files:
        for event in _events(path, []):
            for value in event.summary.value:
                if (number := _scalar(value)) is not None:
                    yield ForeignPoint(value.tag, event.step, _milliseconds(event.wall_time), number)


def _scalar(value: Any) -> float | None:
    """The number of a scalar, in its old form or as a tensor; None where it is something else."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if not value.HasField("tensor") or value.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    tensor = value.tensor
    for numbers in (tensor.float_val, tensor.double_val, tensor.int_val, tensor.int64_val, tensor.bool_val):
        if numbers:
            return float(numbers[0]) if len(numbers) == 1 else None
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None or len(tensor.tensor_content) != np.dtype(dtype).itemsize:
        return None
    return float(np.frombuffer(tensor.tensor_content, dtype)[0])


def _contents(value: Any) -> Iterator[tuple[str, bytes]]:
    """The texts and pictures of a value: their kind and their bytes."""
    plugin, tensor = value.metadata.plugin_data.plugin_name, value.tensor
    if value.HasField("image"):
        yield "images", value.image.encoded_image_string
    elif value.HasField("tensor") and tensor.dtype == _STRINGS:
        if plugin == "images":
            yield from (("images", one) for one in tensor.string_val[2:])  # behind width and height
        elif plugin == "text":
            yield "text", b"\n\n".join(tensor.string_val)


def _files(files: Sequence[Path]) -> Iterator[ForeignFile]:
    taken: Counter[str] = Counter()
    for path in files:
        for event in _events(path, []):
            for value in event.summary.value:
                for kind, content in _contents(value):
                    name = f"{kind}/{_plain(value.tag)}/{event.step}"
                    taken[name] += 1
                    again = f"-{taken[name]}" if taken[name] > 1 else ""
                    opened = partial(_opened, content)
                    yield ForeignFile(f"{name}{again}.{_ending(kind, content)}", len(content), opened)


def _opened(content: bytes) -> IO[bytes]:
    return BytesIO(content)


def _plain(tag: str) -> str:
    """A tag as a path that stays below its run."""
    parts = (re.sub(r"[^\w.+=@,() -]", "_", part).strip(" .") for part in tag.split("/"))
    return "/".join(part[:100] for part in parts if part) or "untitled"


def _ending(kind: str, content: bytes) -> str:
    if kind == "text":
        return "md"
    return next((ending for begins, ending in _KINDS.items() if content.startswith(begins)), "bin")


def _milliseconds(seconds: float) -> int:
    return min(max(0, round(seconds * 1000)), _LATEST) if math.isfinite(seconds) else 0
